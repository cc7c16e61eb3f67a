//! What only shows over TCP: framing, cut connections, time-outs, answers that come before the body was read, the end of the server.

use std::time::Duration;

use bytes::Bytes;
use registry_core::testing::{Fault, Op};
use registry_core::{Digest, ErrorKind};
use registry_http::{HttpOptions, ServeOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::images::{IMAGE, bytes, image, push_tagged};
use crate::support::wire::Server;
use crate::support::{Answer, Fixture, content};

async fn begin(fixture: &Fixture) -> String {
    fixture.begin("a").await
}

/// Where an upload stands, once it stands there: what a cut connection left is written down a moment later.
async fn stands_at(fixture: &Fixture, location: &str, range: &str) {
    let mut last = String::new();
    for _ in 0..200 {
        fixture.get(location).await.assert(204).header("range").clone_into(&mut last);
        if last == range {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the upload stands at {last}, not {range}");
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let digest = fixture.push("a", "x").await;
    let location = begin(&fixture).await;
    let mut wire = server.connect().await;
    let head = wire.ask(&format!("HEAD /v2/a/blobs/{digest} HTTP/1.1")).await;
    assert_eq!(head.assert(200).header("content-length"), "1");
    let missing = wire.ask("HEAD /v2/a/manifests/none HTTP/1.1").await;
    missing.assert(404);
    let status = wire.ask(&format!("GET {location} HTTP/1.1")).await;
    assert_eq!(status.assert(204).maybe("content-length"), None, "RFC 9110, section 8.6");
    let unchanged = wire.ask(&format!("GET /v2/a/blobs/{digest} HTTP/1.1\nif-none-match: *")).await;
    assert_eq!(unchanged.assert(304).maybe("content-length"), None);
    let deleted = wire.ask(&format!("DELETE /v2/a/blobs/{digest} HTTP/1.1")).await;
    assert_eq!(deleted.assert(202).header("content-length"), "0");
    let base = wire.ask("GET /v2/ HTTP/1.1").await;
    assert_eq!(base.assert(200).body, "{}");
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_their_order() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let (x, y) = (fixture.push("a", "x").await, fixture.push("a", "y").await);
    let mut wire = server.connect().await;
    let location = begin(&fixture).await;
    wire.head(&format!("GET /v2/a/blobs/{x} HTTP/1.1")).await;
    wire.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: 2")).await;
    wire.write("ab").await;
    wire.head(&format!("GET /v2/a/blobs/{y} HTTP/1.1")).await;
    assert_eq!(wire.answer(false).await.assert(200).body, "x");
    assert_eq!(wire.answer(false).await.assert(202).header("range"), "0-1");
    assert_eq!(wire.answer(false).await.assert(200).body, "y");
}

/// The connection ended in the middle of an answer that announced more, or before it: nobody takes that for the blob.
#[track_caller]
fn is_torn(seen: &[u8], blob: &[u8]) {
    let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") else {
        return assert!(seen.is_empty());
    };
    let (head, body) = (String::from_utf8_lossy(&seen[..end]), &seen[end + 4..]);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains(&format!("content-length: {}", blob.len())), "{head}");
    assert!(body.len() < blob.len());
}

#[tokio::test]
async fn a_pull_that_breaks_off_in_the_store_ends_the_connection_before_its_length() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let bytes = content(1 << 20);
    let digest = fixture.push("a", bytes.clone()).await;
    for fault in [Fault::Cut(500_000), Fault::Truncate(500_000), Fault::Cut(0)] {
        fixture.faults.fail_next(Op::Read, fault);
        let mut wire = server.connect().await;
        wire.head(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await;
        is_torn(&wire.rest().await, &bytes);
    }
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await.assert(200).body, bytes);
}

#[tokio::test]
async fn stored_bytes_that_rotted_are_never_served_as_complete() {
    let fixture = Fixture::build(HttpOptions::default(), |builder| builder.verify_reads(registry_core::VerifyReads::Always));
    let server = Server::start(fixture.router.clone()).await;
    let bytes = content(1 << 20);
    let digest = fixture.push("a", bytes.clone()).await;
    fixture.faults.damage(&digest, registry_core::testing::Damage::Flip(1000));
    let mut wire = server.connect().await;
    wire.head(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await;
    is_torn(&wire.rest().await, &bytes);
    fixture.head(&format!("/v2/a/blobs/{digest}")).await.assert(404);
    for range in ["bytes=0-9", "bytes=5000-", "bytes=-10"] {
        let part = wire_range(&server, &digest, range).await;
        assert!(part.starts_with(b"HTTP/1.1 404"), "{range}: parts of it cannot be checked: {}", String::from_utf8_lossy(&part));
    }
    fixture.push("a", bytes.clone()).await;
    assert_eq!(fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await.assert(200).body, bytes, "pushing again heals");
}

/// All that comes in answer to a range.
async fn wire_range(server: &Server, digest: &Digest, range: &str) -> Vec<u8> {
    let mut wire = server.connect().await;
    wire.head(&format!("GET /v2/a/blobs/{digest} HTTP/1.1\nconnection: close\nrange: {range}")).await;
    wire.rest().await
}

#[tokio::test]
async fn rotten_bytes_are_not_served_as_complete_to_those_who_ask_for_them_by_a_range_of_all() {
    let bytes = content(1 << 20);
    for range in ["bytes=0-", "bytes=0-1048575", "bytes=-1048576", "bytes=0-9999999"] {
        let fixture = Fixture::build(HttpOptions::default(), |builder| builder.verify_reads(registry_core::VerifyReads::Always));
        let server = Server::start(fixture.router.clone()).await;
        let digest = fixture.push("a", bytes.clone()).await;
        assert!(wire_range(&server, &digest, range).await.ends_with(&bytes), "{range}");
        fixture.faults.damage(&digest, registry_core::testing::Damage::Flip(1000));
        let seen = wire_range(&server, &digest, range).await;
        let body = seen.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| seen.len() - end - 4);
        assert!(body < bytes.len(), "{range}: {body}");
        let again = wire_range(&server, &digest, "bytes=0-9").await;
        assert!(again.starts_with(b"HTTP/1.1 404"), "{range}: {}", String::from_utf8_lossy(&again));
    }
}

#[tokio::test]
async fn a_manifest_that_finds_no_memory_is_refused_and_its_connection_ends_cleanly() {
    let options = HttpOptions::default().with_body_memory(300_000);
    let fixture = Fixture::build(options, |builder| builder.max_manifest_size(300_000));
    let server = Server::start(fixture.router.clone()).await;
    let lines = "PUT /v2/a/manifests/x HTTP/1.1\ncontent-length: 300000";
    let mut stalling = server.connect().await;
    stalling.head(lines).await;
    stalling.write(content(299_999)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut wire = server.connect().await;
    wire.head(lines).await;
    wire.write(content(299_999)).await;
    wire.answer(false).await.assert_error(503, "UNAVAILABLE");
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_whatever_went_before_it() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let location = begin(&fixture).await;
    let long = format!("GET /v2/ HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(70_000));
    let many = format!("GET /v2/ HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: y\r\n".repeat(200));
    for head in [&long, &many] {
        for before in [false, true] {
            let mut wire = server.connect().await;
            if before {
                // The read buffer is large from here on.
                wire.request(&format!("PATCH {location} HTTP/1.1"), &content(8 << 20)).await.assert(202);
            }
            wire.write(head).await;
            assert_eq!(wire.answer_head().await.0, 431);
            assert!(wire.is_closed().await);
        }
    }
    let mut wire = server.connect().await;
    wire.ask(&format!("GET /v2/ HTTP/1.1\nx-long: {}", "x".repeat(60_000))).await.assert(200);
}

#[tokio::test]
async fn a_head_and_the_beginning_of_its_body_may_come_together() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let mut wire = server.connect().await;
    let body = content(3 << 20);
    for _ in 0..3 {
        let location = begin(&fixture).await;
        let mut all = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        all.extend_from_slice(&body);
        wire.write(all).await;
        assert_eq!(wire.answer(false).await.assert(202).header("range"), format!("0-{}", body.len() - 1));
    }
}

#[tokio::test]
async fn what_is_spoken_is_seen_however_small_the_pieces_are() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    for method in ["GET", "PRI", "P"] {
        let mut wire = server.connect().await;
        for byte in format!("{method} /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").bytes() {
            wire.write([byte]).await;
            tokio::task::yield_now().await;
        }
        wire.answer(false).await.assert(if method == "GET" { 200 } else { 405 });
    }
    let mut wire = server.connect().await;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        wire.write([*byte]).await;
        tokio::task::yield_now().await;
    }
    let mut frame = [0; 5];
    wire.stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn a_client_that_stalls_gets_408_and_its_upload_keeps_what_came() {
    let fixture = Fixture::with(HttpOptions::default().with_body_idle_timeout(Duration::from_millis(200)));
    let server = Server::start(fixture.router.clone()).await;
    let location = begin(&fixture).await;
    let mut wire = server.connect().await;
    wire.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: 100")).await;
    wire.write("0123456789").await;
    wire.answer(false).await.assert_error(408, "BLOB_UPLOAD_INVALID");
    assert!(wire.is_closed().await);
    stands_at(&fixture, &location, "0-9").await;
    let mut wire = server.connect().await;
    let digest = Digest::sha256(b"0123456789abc");
    let answer = wire.request(&format!("PUT {location}?digest={digest} HTTP/1.1\ncontent-range: 10-12"), b"abc").await;
    answer.assert(201);
}

#[tokio::test]
async fn what_a_client_sent_before_its_connection_was_cut_is_kept() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    for chunked in [false, true] {
        let location = begin(&fixture).await;
        let mut wire = server.connect().await;
        let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 1000" };
        wire.head(&format!("PATCH {location} HTTP/1.1\n{framing}")).await;
        if chunked {
            wire.chunk(b"0123456789").await;
        } else {
            wire.write("0123456789").await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(wire);
        stands_at(&fixture, &location, "0-9").await;
    }
}

#[tokio::test]
async fn a_client_that_ends_its_side_early_is_told_and_its_upload_keeps_what_came() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let location = begin(&fixture).await;
    let mut wire = server.connect().await;
    wire.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: 1000")).await;
    wire.write("0123456789").await;
    wire.stream.shutdown().await.unwrap();
    stands_at(&fixture, &location, "0-9").await;
    let digest = Digest::sha256(b"x");
    let mut wire = server.connect().await;
    wire.head(&format!("PUT /v2/a/manifests/x HTTP/1.1\ncontent-type: {IMAGE}\ncontent-length: 1000")).await;
    wire.write("{}").await;
    wire.stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fixture.get("/v2/a/manifests/x").await.assert(404);
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(404);
}

#[tokio::test]
async fn chunks_with_broken_framing_are_400_and_nothing_is_kept() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let location = begin(&fixture).await;
    let mut wire = server.connect().await;
    wire.head(&format!("PATCH {location} HTTP/1.1\ntransfer-encoding: chunked")).await;
    wire.chunk(b"0123456789").await;
    wire.write("zz\r\nnonsense\r\n").await;
    wire.answer(false).await.assert_error(400, "BLOB_UPLOAD_INVALID");
    assert!(wire.is_closed().await);
    stands_at(&fixture, &location, "0-0").await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_only_if_its_bytes_are_wanted() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let location = begin(&fixture).await;
    let digest = Digest::sha256(b"0123");
    let mut wire = server.connect().await;
    wire.head(&format!("PUT {location}?digest={digest} HTTP/1.1\nexpect: 100-continue\ncontent-length: 4")).await;
    assert_eq!(wire.answer_head().await.0, 100);
    wire.write("0123").await;
    wire.answer(false).await.assert(201);
    for uri in [format!("/v2/a/blobs/uploads/0000?digest={digest}"), format!("/v2/A/blobs/uploads/0000?digest={digest}")] {
        let mut wire = server.connect().await;
        wire.head(&format!("PUT {uri} HTTP/1.1\nexpect: 100-continue\ncontent-length: 4")).await;
        let (status, _) = wire.answer_head().await;
        assert!(status.is_client_error(), "{status}");
    }
    let mut wire = server.connect().await;
    wire.head("PUT /v2/a/manifests/x HTTP/1.1\nexpect: 100-continue\ncontent-length: 99999999").await;
    wire.answer(false).await.assert_error(413, "MANIFEST_INVALID");
}

/// Requests that are refused for their head, each with a body that nobody reads.
async fn refused(fixture: &Fixture) -> Vec<(String, u16)> {
    let location = begin(fixture).await;
    let digest = Digest::sha256(b"x");
    vec![
        (format!("PATCH /v2/a/blobs/uploads/0000 HTTP/1.1\nx-case: 1; {digest}"), 404),
        (format!("PUT /v2/a/blobs/uploads/0000?digest={digest} HTTP/1.1"), 404),
        (format!("PUT {location}?digest=x HTTP/1.1"), 400),
        ("POST /v2/A/blobs/uploads/ HTTP/1.1".to_owned(), 400),
        ("PUT /v2/ HTTP/1.1".to_owned(), 405),
        ("PUT /v2/nowhere HTTP/1.1".to_owned(), 404),
        (format!("PATCH {location} HTTP/1.1\ncontent-range: x"), 400),
        ("POST /v2/a/blobs/uploads/ HTTP/1.1".to_owned(), 202),
    ]
}

#[tokio::test]
async fn after_an_answer_that_came_before_the_body_the_connection_goes_on() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let body = content(3 << 20);
    let mut wire = server.connect().await;
    for (lines, status) in refused(&fixture).await {
        let answer = wire.request(&lines, &body).await;
        answer.assert(status);
        wire.ask("GET /v2/ HTTP/1.1").await.assert(200);
        wire.chunked(&lines, &[&body[..10], &body[10..1 << 20], &body[1 << 20..]]).await.assert(status);
        wire.ask("GET /v2/ HTTP/1.1").await.assert(200);
    }
}

#[tokio::test]
async fn a_client_that_sends_much_more_than_is_read_gets_its_answer_and_no_reset() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let body = content(1 << 20);
    for (lines, status) in refused(&fixture).await {
        let wire = server.connect().await;
        let (mut read, mut write) = wire.stream.into_split();
        let head = format!("{lines}\nhost: x\ncontent-length: 10000000000\n\n").replace('\n', "\r\n");
        let body = body.clone();
        let sender = tokio::spawn(async move {
            write.write_all(head.as_bytes()).await.unwrap();
            while write.write_all(&body).await.is_ok() {}
        });
        // A client that sends all it has before it looks.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut seen = Vec::new();
        let mut space = vec![0; 4096];
        while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
            let n = tokio::time::timeout(Duration::from_secs(10), read.read(&mut space)).await.unwrap().expect("an answer and no reset");
            assert!(n > 0, "the connection ended without an answer");
            seen.extend_from_slice(&space[..n]);
        }
        assert!(seen.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", String::from_utf8_lossy(&seen));
        tokio::time::timeout(Duration::from_secs(10), sender).await.expect("the server closes").unwrap();
    }
}

#[tokio::test]
async fn a_client_that_stops_sending_once_it_is_answered_sees_a_clean_end() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    for (lines, status) in refused(&fixture).await {
        let mut wire = server.connect().await;
        wire.head(&format!("{lines}\ncontent-length: 10000000000")).await;
        // More than is read of a body that nobody wants, so that bytes are left when the connection ends.
        wire.write(vec![7; 12 << 20]).await;
        wire.answer(false).await.assert(status);
        assert!(wire.is_closed().await, "{lines}");
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_word_is_closed() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.router.clone(), ServeOptions::default().with_header_timeout(Duration::from_millis(200))).await;
    for said in ["", "PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nhost: x\r\n"] {
        let mut wire = server.connect().await;
        wire.write(said).await;
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), wire.stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{said:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.router.clone(), ServeOptions::default().with_keep_alive(Duration::from_millis(200))).await;
    let mut wire = server.connect().await;
    wire.ask("GET /v2/ HTTP/1.1").await.assert(200);
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_client_that_takes_nothing_in_is_given_up() {
    let fixture = Fixture::new();
    let options = ServeOptions::default().with_write_idle_timeout(Duration::from_millis(300));
    let server = Server::with(fixture.router.clone(), options).await;
    let digest = fixture.push("a", vec![7; 64 << 20]).await;
    let mut wire = server.connect().await;
    wire.head(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), wire.stream.read_to_end(&mut rest)).await.expect("it ends");
    assert!(end.is_err() || rest.len() < 64 << 20, "the blob must not be complete");
}

#[tokio::test]
async fn a_slow_reader_that_takes_something_in_is_served_to_the_end() {
    let fixture = Fixture::new();
    let options = ServeOptions::default().with_write_idle_timeout(Duration::from_millis(500));
    let server = Server::with(fixture.router.clone(), options).await;
    let bytes = Bytes::from(vec![7; 24 << 20]);
    let digest = fixture.push("a", bytes.clone()).await;
    let mut wire = server.connect().await;
    wire.head(&format!("GET /v2/a/blobs/{digest} HTTP/1.1\nconnection: close")).await;
    let (mut all, mut space) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match wire.stream.read(&mut space).await.unwrap() {
            0 => break,
            n => all.extend_from_slice(&space[..n]),
        }
        // Slow in all, but never so long without taking anything in.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(all.ends_with(&bytes));
}

#[tokio::test]
async fn where_all_connections_are_busy_more_wait_for_their_turn() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.router.clone(), ServeOptions::default().with_max_connections(1)).await;
    let location = begin(&fixture).await;
    let mut first = server.connect().await;
    first.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: 10")).await;
    first.write("01234").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut second = server.connect().await;
    second.head("GET /v2/ HTTP/1.1").await;
    let early = tokio::time::timeout(Duration::from_millis(300), second.stream.readable()).await;
    assert!(early.is_err(), "it waits");
    first.write("56789").await;
    first.answer(false).await.assert(202);
    second.answer(false).await.assert(200);
}

#[tokio::test]
async fn whoever_has_idled_longest_makes_room_for_others() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.router.clone(), ServeOptions::default().with_max_connections(3)).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut wire = server.connect().await;
        wire.ask("GET /v2/ HTTP/1.1").await.assert(200);
        tokio::time::sleep(Duration::from_millis(20)).await;
        idle.push(wire);
    }
    idle[0].ask("GET /v2/ HTTP/1.1").await.assert(200);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut one_more = server.connect().await;
    one_more.ask("GET /v2/ HTTP/1.1").await.assert(200);
    assert!(idle[1].is_closed().await, "the first of the others has been busy since");
    idle[0].ask("GET /v2/ HTTP/1.1").await.assert(200);
    idle[2].ask("GET /v2/ HTTP/1.1").await.assert(200);
    // One that never says a word is the first to go.
    let _silent = server.connect().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _other = server.connect().await;
    one_more.ask("GET /v2/ HTTP/1.1").await.assert(200);
}

#[tokio::test]
async fn a_stopping_server_ends_what_it_began_and_takes_nothing_new() {
    let fixture = Fixture::new();
    let mut server = Server::start(fixture.router.clone()).await;
    let address = server.address;
    let location = begin(&fixture).await;
    let mut idle = server.connect().await;
    idle.ask("GET /v2/ HTTP/1.1").await.assert(200);
    let mut busy = server.connect().await;
    busy.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: 10")).await;
    busy.write("01234").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop();
    assert!(idle.is_closed().await);
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused).await.expect("no new connections");
    busy.write("56789").await;
    assert_eq!(busy.answer(false).await.assert(202).header("range"), "0-9");
    assert!(busy.is_closed().await);
    drop((idle, busy));
    server.ended().await;
}

#[tokio::test]
async fn a_stopping_server_does_not_wait_longer_than_its_deadline() {
    let fixture = Fixture::new();
    let options = ServeOptions::default().with_shutdown_deadline(Duration::from_millis(300));
    let mut server = Server::with(fixture.router.clone(), options).await;
    let location = begin(&fixture).await;
    let mut stuck = server.connect().await;
    stuck.head(&format!("PATCH {location} HTTP/1.1\ncontent-length: 10")).await;
    stuck.write("01234").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop();
    server.ended().await;
    stands_at(&fixture, &location, "0-4").await;
}

#[tokio::test]
async fn http_2_is_served_by_prior_knowledge() {
    use http_body_util::{BodyExt as _, Full};
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = async |method: &str, uri: String, body: Bytes| {
        let request = http::Request::builder().method(method).uri(format!("http://registry.test{uri}")).body(Full::new(body)).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body, broken: false }
    };
    let bytes = content(5 << 20);
    let digest = Digest::sha256(&bytes);
    let begun = send("POST", "/v2/a/blobs/uploads/".to_owned(), Bytes::new()).await;
    let location = begun.assert(202).header("location").to_owned();
    assert_eq!(send("PATCH", location.clone(), bytes.clone()).await.assert(202).header("range"), format!("0-{}", bytes.len() - 1));
    send("PUT", "/v2/a/blobs/uploads/0000?digest=x".to_owned(), bytes.clone()).await.assert(400);
    send("PUT", format!("{location}?digest={digest}"), Bytes::new()).await.assert(201);
    assert_eq!(send("GET", format!("/v2/a/blobs/{digest}"), Bytes::new()).await.assert(200).body, bytes);
    drop(sender);
    connection.abort();
}

#[tokio::test]
async fn a_client_that_hangs_up_during_its_last_request_has_pushed_all_the_same() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let manifest = bytes(&image(&fixture, "a", "x").await);
    fixture.faults.set_plan(
        registry_core::testing::FaultPlan::new(1).with_latency(Duration::from_millis(200), Duration::from_millis(201)).only([Op::Put]),
    );
    let mut wire = server.connect().await;
    wire.head(&format!("PUT /v2/a/manifests/x HTTP/1.1\ncontent-type: {IMAGE}\ncontent-length: {}", manifest.len())).await;
    wire.write(&manifest).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(wire);
    fixture.get("/v2/a/manifests/x").await.assert(404);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if fixture.head("/v2/a/manifests/x").await.status == 200 {
            return;
        }
    }
    panic!("the manifest is there in the end");
}

#[tokio::test]
async fn a_store_that_is_down_is_503_over_the_same_connection_until_it_is_back() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let digest = fixture.push("a", "x").await;
    push_tagged(&fixture, "a", "v1").await;
    let mut wire = server.connect().await;
    fixture.faults.set_plan(registry_core::testing::FaultPlan::down().with_kind(ErrorKind::Unavailable));
    wire.ask(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await.assert_error(503, "UNAVAILABLE");
    wire.request(&format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1"), b"x").await.assert_error(503, "UNAVAILABLE");
    wire.ask("GET /v2/a/manifests/v1 HTTP/1.1").await.assert(200);
    fixture.faults.heal();
    assert_eq!(wire.ask(&format!("GET /v2/a/blobs/{digest} HTTP/1.1")).await.assert(200).body, "x");
}
