//! The server on PostgreSQL: two of them, each with a data directory of its own, over one database and one zone.

use registry_core::Digest;
use registry_core::testing::Rng;

use crate::http::{begin_upload, push_blob};
use crate::process::Server;
use crate::tools::skip;

/// A schema of this test's own, dropped at its end.
struct Schema {
    url: String,
    name: String,
}

impl Schema {
    fn new() -> Option<Self> {
        let Ok(url) = std::env::var("REGISTRY_TEST_POSTGRES") else {
            skip("the server on PostgreSQL", "REGISTRY_TEST_POSTGRES is not set");
            return None;
        };
        Some(Self { url, name: format!("registry_{}", registry_core::random_id()) })
    }

    async fn drop_it(&self) {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.name)).await.unwrap();
    }
}

#[tokio::test]
async fn two_servers_share_a_postgresql_database_and_a_zone() {
    let Some(schema) = Schema::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("url");
    std::fs::write(&url, &schema.url).unwrap();
    let zone = format!("name=shared,path={}", dir.path().join("zone").display());
    let start = |data: &str| {
        let url = url.to_str().unwrap();
        Server::start(&dir.path().join(data), &["--metadata-url-file", url, "--metadata-schema", &schema.name, "--zone", &zone])
    };
    let mut servers = [start("one"), start("two")];
    let content = Rng::new(1).bytes(1_000_000);
    let digest = Digest::sha256(&content);
    let location = begin_upload(&servers[0].client(), "app").await.unwrap();
    servers[0].client().send("PATCH", &location, &[], &content[..400_000]).await.expect(202);
    assert_eq!(servers[1].client().get(&location).await.expect(204).offset(), 400_000);
    let path = format!("{location}?digest={digest}");
    servers[1].client().send("PUT", &path, &[("Content-Range", "400000-999999")], &content[400_000..]).await.expect(201);
    assert!(servers[0].client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == content);
    let small = push_blob(&servers[0].client(), "app", b"small").await.unwrap();
    assert_eq!(servers[1].client().get(&format!("/v2/app/blobs/{small}")).await.expect(200).body, b"small");
    assert!(!dir.path().join("one/registry.db").exists());
    for server in &mut servers {
        server.stop();
    }
    schema.drop_it().await;
}
