//! A stop lets what is in progress end, takes nothing new, and can be made short.

use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_core::testing::Rng;
use rustix::process::Signal;

use crate::http::{Client, begin_upload};
use crate::process::Server;

/// Until nobody listens any more.
async fn refused(client: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.begin("GET", "/v2/", &[], Some(0)).await.is_ok() {
        assert!(Instant::now() < deadline, "it still takes connections");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stop_in_the_middle_of_an_upload_lets_it_end_and_takes_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for signal in [Signal::TERM, Signal::INT] {
        let content = Rng::new(signal.as_raw() as u64).bytes(3 << 20);
        let mut server = Server::start(&data, &["--admin", "127.0.0.1:0"]);
        let (client, admin) = (server.client(), server.admin());
        let location = begin_upload(&client, "app").await.unwrap();
        let mut patch = client.begin("PATCH", &location, &[], Some(content.len() as u64)).await.unwrap();
        patch.write(&content[..1 << 20]).await.unwrap();
        server.signal(signal);
        refused(&client).await;
        assert_eq!(admin.get("/readyz").await.expect(503).text(), "stopping\n");
        admin.get("/healthz").await.expect(200);
        tokio::time::sleep(Duration::from_millis(300)).await;
        patch.write(&content[1 << 20..]).await.unwrap();
        assert_eq!(patch.finish("PATCH").await.unwrap().expect(202).offset(), content.len() as u64);
        assert!(server.wait(Duration::from_secs(20)).success(), "{}", server.log());

        // The upload goes on after the restart.
        let server = Server::start(&data, &[]);
        let digest = Digest::sha256(&content);
        server.client().send("PUT", &format!("{location}?digest={digest}"), &[], b"").await.expect(201);
        assert_eq!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body, content);
    }
}

#[tokio::test]
async fn a_client_that_never_ends_cannot_keep_the_server_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &["--shutdown-timeout", "500ms"]);
    let location = begin_upload(&server.client(), "app").await.unwrap();
    let mut patch = server.client().begin("PATCH", &location, &[], Some(1 << 20)).await.unwrap();
    patch.write(b"no more than this").await.unwrap();
    let begin = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait(Duration::from_secs(20)).success());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // And the database was closed in order: everything is in its main file.
    assert!(!data.join("registry.db-wal").exists() || data.join("registry.db-wal").metadata().unwrap().len() == 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"), &["--shutdown-timeout", "10m"]);
    let location = begin_upload(&server.client(), "app").await.unwrap();
    let mut patch = server.client().begin("PATCH", &location, &[], Some(1 << 20)).await.unwrap();
    patch.write(b"no more than this").await.unwrap();
    server.signal(Signal::TERM);
    refused(&server.client()).await;
    server.signal(Signal::INT);
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(130));
}
