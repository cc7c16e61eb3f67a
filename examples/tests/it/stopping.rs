//! A stop lets what is in progress end, takes nothing new, and can be made short.

use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_core::testing::Rng;
use rustix::process::Signal;

use crate::http::{Client, Started, begin_upload};
use crate::process::Server;

/// Until nobody listens any more.
async fn refused(client: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.begin("GET", "/v2/", &[], Some(0)).await.is_ok() {
        assert!(Instant::now() < deadline, "it still takes connections");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Begins an upload and sends the first of its bytes; returns once the server is at work on them.
async fn half_pushed(server: &Server, first: &[u8], length: usize) -> (String, Started) {
    let location = begin_upload(&server.client(), "app").await.unwrap();
    let mut patch = server.client().begin("PATCH", &location, &[], Some(length as u64)).await.unwrap();
    patch.write(first).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server.admin().get("/metrics").await.expect(200).text().contains("registry_http_requests_in_flight 1\n") {
        assert!(Instant::now() < deadline, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (location, patch)
}

#[tokio::test]
async fn a_stop_in_the_middle_of_an_upload_lets_it_end_and_takes_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for signal in [Signal::TERM, Signal::INT] {
        let content = Rng::new(signal.as_raw() as u64).bytes(3 << 20);
        let mut server = Server::start(&data, &["--admin", "127.0.0.1:0"]);
        let (client, admin) = (server.client(), server.admin());
        let (location, mut patch) = half_pushed(&server, &content[..1 << 20], content.len()).await;
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
    let mut server = Server::start(&data, &["--shutdown-timeout", "500ms", "--admin", "127.0.0.1:0"]);
    let (_, _patch) = half_pushed(&server, b"no more than this", 1 << 20).await;
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
    let mut server = Server::start(&dir.path().join("data"), &["--shutdown-timeout", "10m", "--admin", "127.0.0.1:0"]);
    let (_, _patch) = half_pushed(&server, b"no more than this", 1 << 20).await;
    server.signal(Signal::TERM);
    refused(&server.client()).await;
    server.signal(Signal::INT);
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(130));
}
