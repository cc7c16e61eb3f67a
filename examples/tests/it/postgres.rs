//! The server on PostgreSQL: two of them, each with a data directory of its own, over one database, and over one zone or two.

use registry_core::Digest;
use registry_core::testing::Rng;

use crate::http::{begin_upload, push_blob};
use crate::process::Server;
use crate::tools::skip;
use crate::zones::{QUICK, blobs, eventually, metric, push_image};

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

#[tokio::test]
async fn two_servers_each_close_to_another_zone_share_a_postgresql_database() {
    let Some(schema) = Schema::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("url");
    std::fs::write(&url, &schema.url).unwrap();
    let place = |zone: &str| dir.path().join(zone);
    let zones = ["boston", "frankfurt"].map(|zone| format!("name={zone},path={}", place(zone).display()));
    let start = |closest: &str| {
        let url = url.to_str().unwrap();
        let database = ["--metadata-url-file", url, "--metadata-schema", &schema.name];
        let zones = ["--zone", &zones[0], "--zone", &zones[1], "--storage-preference", closest, "--admin", "127.0.0.1:0"];
        Server::start(&dir.path().join(format!("data-{closest}")), &[&database[..], &zones, &QUICK].concat())
    };
    let mut servers = [start("boston"), start("frankfurt")];
    let images = [push_image(&servers[0].client(), "app", "v1", b"one").await, push_image(&servers[1].client(), "app", "v2", b"two").await];
    eventually("both zones have all of it", || blobs(&place("boston")).len() == 5 && blobs(&place("frankfurt")).len() == 5);
    assert_eq!(blobs(&place("boston")), blobs(&place("frankfurt")));
    for (server, closest) in servers.iter().zip(["boston", "frankfurt"]) {
        for (tag, image) in ["v1", "v2"].iter().zip(&images) {
            assert_eq!(server.client().get(&format!("/v2/app/manifests/{tag}")).await.expect(200).text(), *image);
        }
        for layer in [b"one", b"two"] {
            let digest = Digest::sha256(layer);
            assert_eq!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body, layer);
        }
        let reads = metric(server, &format!("registry_replication_reads_total{{zone=\"{closest}\"}}")).await;
        assert!(reads >= 2.0, "each reads from the zone that is close to it: {reads}");
    }
    // One of them is gone: the other does what is left to do.
    servers[0].kill();
    push_image(&servers[1].client(), "app", "v3", b"three").await;
    eventually("the first zone has the third image", || blobs(&place("boston")).len() == 7);
    servers[1].stop();
    schema.drop_it().await;
}
