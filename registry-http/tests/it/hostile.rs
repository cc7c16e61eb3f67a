//! Clients that want the server to fall over: it stays within its memory, and serves the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_http::ServeOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::images::IMAGE;
use crate::support::wire::Server;
use crate::support::{Fixture, content};

/// Somebody else is served, and soon.
async fn others_are_served(server: &Server) {
    let begun = Instant::now();
    let mut wire = server.connect().await;
    wire.ask("GET /v2/ HTTP/1.1").await.assert(200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn heads_that_come_byte_by_byte_are_given_up() {
    let fixture = Fixture::new();
    let options = ServeOptions::default().with_header_timeout(Duration::from_millis(500)).with_keep_alive(Duration::from_millis(500));
    let server = Server::with(fixture.router.clone(), options).await;
    let slow: Vec<_> = (0..50)
        .map(|n| {
            let address = server.address;
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                if n % 2 == 0 {
                    // One request is answered, the next never ends.
                    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                }
                let begun = Instant::now();
                while stream.write_all(b"X").await.is_ok() && begun.elapsed() < Duration::from_secs(10) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                begun.elapsed()
            })
        })
        .collect();
    others_are_served(&server).await;
    for one in slow {
        assert!(one.await.unwrap() < Duration::from_secs(5), "it was cut off");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_or_have_too_many_fields_are_refused() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    for bomb in [
        format!("GET /v2/ HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET /v2/ HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(50_000)),
        format!("GET /v2/{} HTTP/1.1\r\nhost: a\r\n\r\n", "a/".repeat(1 << 19)),
        format!("GET /v2/ HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", "a.".repeat(200_000)),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(bomb.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("it is closed");
        let status = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || status.starts_with("HTTP/1.1 431") || status.starts_with("HTTP/1.1 414"), "{status}");
        others_are_served(&server).await;
    }
}

#[tokio::test]
async fn json_that_is_deep_or_hostile_is_refused_and_nothing_else_happens() {
    let fixture = Fixture::new();
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    for bomb in [
        deep("[", "]", 2_000_000),
        deep("{\"a\":", "}", 600_000),
        format!("{{\"schemaVersion\":2,\"mediaType\":\"{IMAGE}\",\"config\":{}}}", deep("[", "]", 1_000_000)),
        format!("{{\"schemaVersion\":2,\"mediaType\":\"{IMAGE}\",\"layers\":[{}]}}", "{},".repeat(1_000_000)),
        format!("{{\"schemaVersion\":{}}}", "9".repeat(3_000_000)),
        format!("{{\"schemaVersion\":2,\"annotations\":{{{}\"z\":\"z\"}}}}", "\"a\":\"b\",".repeat(400_000)),
    ] {
        let answer = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, bomb).await;
        assert!(matches!(answer.status.as_u16(), 400 | 413), "{answer:?}");
    }
    fixture.get("/v2/").await.assert(200);
    fixture.get("/v2/a/manifests/v1").await.assert(404);
}

/// As many as two processes of this machine can have, each with both ends here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_keep_nobody_out() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.router.clone(), ServeOptions::default().with_max_connections(200)).await;
    let bytes = content(3 << 20);
    let digest = fixture.push("a", bytes.clone()).await;
    // A push and a pull are under way all the time.
    let location = fixture.begin("a").await;
    let mut push = server.connect().await;
    push.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: {}", bytes.len())).await;
    push.write(&bytes[..1 << 20]).await;
    let mut pull = server.connect().await;
    let (stop, expected) = (Arc::new(AtomicBool::new(false)), bytes.clone());
    let pulls = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut pulls = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = pull.ask(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await;
                assert_eq!(answer.assert(200).body, expected);
                pulls += 1;
            }
            pulls
        }
    });
    let mut idle = std::collections::VecDeque::new();
    for n in 0..10_000 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if n % 3 == 0 {
            stream.write_all(b"GET /v2/ HT").await.unwrap();
        }
        idle.push_back(stream);
        // More than a process may have open by default would be the client's own end.
        if idle.len() > 300 {
            idle.pop_front();
        }
        if n % 1000 == 0 {
            others_are_served(&server).await;
        }
    }
    push.write(&bytes[1 << 20..]).await;
    assert_eq!(push.answer(false).await.assert(202).header("range"), format!("0-{}", bytes.len() - 1));
    stop.store(true, Ordering::Relaxed);
    assert!(pulls.await.unwrap() > 3, "on one connection");
    let finished = fixture.request("PUT", &format!("{location}?digest={}", Digest::sha256(&bytes))).send().await;
    finished.assert(201);
}
