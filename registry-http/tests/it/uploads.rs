//! Every way to push a blob.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::{Algorithm, Digest};
use registry_http::HttpOptions;

use crate::support::{Answer, Fixture, content, pieces};

fn uploading(answer: &Answer, status: u16, range: &str) -> String {
    answer.assert(status);
    assert_eq!(answer.header("range"), range);
    let location = answer.header("location").to_owned();
    assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location}");
    assert!(location.ends_with(answer.header("docker-upload-uuid")), "{location}");
    location
}

/// A 201 whose location gives the bytes back.
async fn pushed(fixture: &Fixture, answer: &Answer, digest: &Digest, bytes: &[u8]) {
    answer.assert(201);
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(answer.header("content-length"), "0");
    let blob = fixture.get_and_head(answer.header("location")).await;
    assert_eq!(blob.assert(200).body, bytes);
    assert_eq!(blob.header("docker-content-digest"), digest.to_string());
}

#[tokio::test]
async fn an_upload_begins_with_a_location_and_nothing_in_it() {
    let fixture = Fixture::new();
    for uri in ["/v2/a/blobs/uploads/", "/v2/a/blobs/uploads"] {
        let answer = fixture.request("POST", uri).send().await;
        let location = uploading(&answer, 202, "0-0");
        assert_eq!(answer.header("content-length"), "0");
        assert_eq!(answer.maybe("oci-chunk-min-length"), None, "chunks may be of any size");
        uploading(&fixture.get_and_head(&location).await, 204, "0-0");
    }
}

#[tokio::test]
async fn a_blob_is_pushed_in_one_post() {
    let fixture = Fixture::new();
    for algorithm in Algorithm::ALL {
        for bytes in [Bytes::new(), Bytes::from_static(b"{}"), content(100_000)] {
            let digest = Digest::of(algorithm, &bytes);
            let uri = format!("/v2/a/blobs/uploads/?digest={digest}");
            let answer = fixture.request("POST", &uri).header("content-length", &bytes.len().to_string()).body(bytes.clone()).send().await;
            pushed(&fixture, &answer, &digest, &bytes).await;
            fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert(202);
            let answer = fixture.request("POST", &uri.replace(':', "%3A")).body(pieces(&[&bytes])).send().await;
            pushed(&fixture, &answer, &digest, &bytes).await;
        }
    }
}

#[tokio::test]
async fn a_post_whose_content_has_another_digest_is_400_and_leaves_nothing() {
    let fixture = Fixture::new();
    for algorithm in Algorithm::ALL {
        let digest = Digest::of(algorithm, b"right");
        let uri = format!("/v2/a/blobs/uploads/?digest={digest}");
        fixture.request("POST", &uri).body("wrong").send().await.assert_error(400, "DIGEST_INVALID");
        fixture.request("POST", &uri).send().await.assert_error(400, "DIGEST_INVALID");
        fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert_error(404, "BLOB_UNKNOWN");
    }
    for digest in ["sha256:notadigest", "md5:00", "x"] {
        fixture
            .request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"))
            .body("x")
            .send()
            .await
            .assert_error(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn an_upload_may_announce_its_algorithm() {
    let fixture = Fixture::new();
    let bytes = content(5000);
    for (announced, used) in
        [("sha512", Algorithm::Sha512), ("sha256", Algorithm::Sha256), ("sha512", Algorithm::Sha256), ("sha256", Algorithm::Sha512)]
    {
        let begun = fixture.request("POST", &format!("/v2/a/blobs/uploads/?digest-algorithm={announced}")).send().await;
        let location = uploading(&begun, 202, "0-0");
        uploading(&fixture.request("PATCH", &location).body(bytes.clone()).send().await, 202, "0-4999");
        let digest = Digest::of(used, &bytes);
        let answer = fixture.request("PUT", &format!("{location}?digest={digest}")).send().await;
        pushed(&fixture, &answer, &digest, &bytes).await;
    }
    fixture.request("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5").send().await.assert_error(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_blob_is_pushed_by_post_and_put() {
    let fixture = Fixture::new();
    for algorithm in Algorithm::ALL {
        for bytes in [Bytes::new(), content(100_000)] {
            for chunked in [false, true] {
                let digest = Digest::of(algorithm, &bytes);
                let location = fixture.begin("a").await;
                let body =
                    if chunked { pieces(&[&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]]) } else { Body::from(bytes.clone()) };
                let answer = fixture.request("PUT", &format!("{location}?digest={digest}")).body(body).send().await;
                pushed(&fixture, &answer, &digest, &bytes).await;
                fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert(202);
            }
        }
    }
}

#[tokio::test]
async fn a_blob_is_pushed_by_one_streamed_patch_and_an_empty_put() {
    let fixture = Fixture::new();
    for algorithm in Algorithm::ALL {
        for bytes in [Bytes::new(), content(300_000)] {
            let digest = Digest::of(algorithm, &bytes);
            let location = fixture.begin("a").await;
            let cut = bytes.len() / 3;
            let answer = fixture.request("PATCH", &location).body(pieces(&[&bytes[..cut], b"", &bytes[cut..]])).send().await;
            let location = uploading(&answer, 202, &format!("0-{}", bytes.len().saturating_sub(1)));
            let answer = fixture.request("PUT", &format!("{location}?digest={digest}")).header("content-length", "0").send().await;
            pushed(&fixture, &answer, &digest, &bytes).await;
            fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert(202);
        }
    }
}

/// Pushes in three chunks, the last of them with the PUT or not; before each, if so wished, one that is out of order.
async fn chunked(algorithm: Algorithm, last_by_put: bool, out_of_order: bool) {
    let fixture = Fixture::new();
    let bytes = content(300_000);
    let digest = Digest::of(algorithm, &bytes);
    let mut location = fixture.begin("a").await;
    for (start, end) in [(0, 100_000), (100_000, 200_000), (200_000, 300_000)] {
        let is_last = last_by_put && end == 300_000;
        let method = if is_last { "PUT" } else { "PATCH" };
        let uri = if is_last { format!("{location}?digest={digest}") } else { location.clone() };
        let range = format!("0-{}", usize::max(start, 1) - 1);
        if out_of_order {
            for wrong in [start + 1, start + 100_000, start / 2].into_iter().filter(|wrong| *wrong != start) {
                let wrong_end = usize::min(wrong + 50_000, 300_000).max(wrong + 1);
                let chunk = content(wrong_end)[wrong..wrong_end].to_vec();
                let answer =
                    fixture.request(method, &uri).header("content-range", &format!("{wrong}-{}", wrong_end - 1)).body(chunk).send().await;
                answer.assert_error(416, "BLOB_UPLOAD_INVALID");
                uploading(&answer, 416, &range);
                uploading(&fixture.get(&location).await, 204, &range);
            }
        }
        let chunk = bytes.slice(start..end);
        let answer = fixture.request(method, &uri).header("content-range", &format!("{start}-{}", end - 1)).body(chunk).send().await;
        if is_last {
            return pushed(&fixture, &answer, &digest, &bytes).await;
        }
        location = uploading(&answer, 202, &format!("0-{}", end - 1));
        uploading(&fixture.get(&location).await, 204, &format!("0-{}", end - 1));
    }
    let answer = fixture.request("PUT", &format!("{location}?digest={digest}")).send().await;
    pushed(&fixture, &answer, &digest, &bytes).await;
}

#[tokio::test]
async fn a_blob_is_pushed_in_chunks() {
    for algorithm in Algorithm::ALL {
        chunked(algorithm, false, false).await;
    }
}

#[tokio::test]
async fn the_last_chunk_may_come_with_the_put() {
    for algorithm in Algorithm::ALL {
        chunked(algorithm, true, false).await;
    }
}

#[tokio::test]
async fn an_out_of_order_chunk_is_416_and_the_upload_lives() {
    for algorithm in Algorithm::ALL {
        chunked(algorithm, false, true).await;
    }
}

#[tokio::test]
async fn an_out_of_order_last_chunk_in_the_put_is_416_and_the_upload_lives() {
    for algorithm in Algorithm::ALL {
        chunked(algorithm, true, true).await;
    }
}

#[tokio::test]
async fn a_chunk_of_an_empty_upload_that_does_not_begin_at_zero_is_416() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let digest = Digest::sha256(b"x");
    for (method, uri) in [("PATCH", location.clone()), ("PUT", format!("{location}?digest={digest}"))] {
        let answer = fixture.request(method, &uri).header("content-range", "1-1").body("x").send().await;
        uploading(&answer, 416, "0-0");
    }
    uploading(&fixture.get(&location).await, 204, "0-0");
    fixture.request("PUT", &format!("{location}?digest={digest}")).body("x").send().await.assert(201);
}

#[tokio::test]
async fn content_ranges_are_read_in_the_forms_that_clients_send() {
    let fixture = Fixture::new();
    for form in ["5-9", "bytes 5-9/*", "bytes 5-9/10", "bytes=5-9"] {
        let location = fixture.begin("a").await;
        fixture.request("PATCH", &location).header("content-range", "0-4").body("01234").send().await.assert(202);
        uploading(&fixture.request("PATCH", &location).header("content-range", form).body("56789").send().await, 202, "0-9");
    }
    let location = fixture.begin("a").await;
    uploading(&fixture.request("PATCH", &location).header("content-range", "0--1").send().await, 202, "0-0");
}

#[tokio::test]
async fn a_malformed_content_range_is_400_and_the_upload_lives() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let digest = Digest::sha256(b"01234");
    for range in ["", "x", "5", "9-5", "-4", "0-4-", "bytes", "0-99999999999999999999"] {
        for (method, uri) in [("PATCH", location.clone()), ("PUT", format!("{location}?digest={digest}"))] {
            fixture
                .request(method, &uri)
                .header("content-range", range)
                .body("01234")
                .send()
                .await
                .assert_error(400, "BLOB_UPLOAD_INVALID");
        }
    }
    let twice =
        fixture.request("PATCH", &location).header("content-range", "0-4").header("content-range", "5-9").body("01234").send().await;
    twice.assert_error(400, "BLOB_UPLOAD_INVALID");
    uploading(&fixture.get(&location).await, 204, "0-0");
}

#[tokio::test]
async fn a_content_range_that_contradicts_the_content_length_is_400_and_nothing_is_kept() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let digest = Digest::sha256(b"01234");
    for (method, uri) in [("PATCH", location.clone()), ("PUT", format!("{location}?digest={digest}"))] {
        for range in ["0-3", "0-5"] {
            let request = fixture.request(method, &uri).header("content-range", range).header("content-length", "5");
            request.body("01234").send().await.assert_error(400, "SIZE_INVALID");
        }
    }
    uploading(&fixture.get(&location).await, 204, "0-0");
}

#[tokio::test]
async fn a_body_longer_or_shorter_than_its_content_range_is_400_and_nothing_is_kept() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    uploading(&fixture.request("PATCH", &location).body("abc").send().await, 202, "0-2");
    let digest = Digest::sha256(b"abc01234");
    for (method, uri) in [("PATCH", location.clone()), ("PUT", format!("{location}?digest={digest}"))] {
        for range in ["3-4", "3-12"] {
            let answer = fixture.request(method, &uri).header("content-range", range).body(pieces(&[b"01", b"234"])).send().await;
            answer.assert_error(400, "SIZE_INVALID");
            uploading(&fixture.get(&location).await, 204, "0-2");
        }
    }
    let answer = fixture
        .request("PUT", &format!("{location}?digest={digest}"))
        .header("content-range", "3-7")
        .body(pieces(&[b"01", b"234"]))
        .send()
        .await;
    pushed(&fixture, &answer, &digest, b"abc01234").await;
}

#[tokio::test]
async fn a_body_longer_than_its_content_length_is_400_and_nothing_is_kept() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let answer = fixture.request("PATCH", &location).header("content-length", "3").body(pieces(&[b"01", b"234"])).send().await;
    answer.assert_error(400, "SIZE_INVALID");
    uploading(&fixture.get(&location).await, 204, "0-0");
    let digest = Digest::sha256(b"01234");
    let uri = format!("/v2/a/blobs/uploads/?digest={digest}");
    fixture
        .request("POST", &uri)
        .header("content-length", "3")
        .body(pieces(&[b"01", b"234"]))
        .send()
        .await
        .assert_error(400, "SIZE_INVALID");
    fixture.request("POST", &uri).header("content-length", "9").body(pieces(&[b"01", b"234"])).send().await.assert(400);
    fixture.request("POST", &uri).header("content-length", "x").body("01234").send().await.assert_error(400, "SIZE_INVALID");
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(404);
}

#[tokio::test]
async fn what_came_of_a_body_that_was_cut_off_is_kept() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let cut = || {
        Body::from_stream(futures_util::stream::iter([
            Ok(Bytes::from_static(b"01")),
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        ]))
    };
    fixture.request("PATCH", &location).body(cut()).send().await.assert_error(400, "BLOB_UPLOAD_INVALID");
    uploading(&fixture.get(&location).await, 204, "0-1");
    let digest = Digest::sha256(b"01012");
    fixture.request("PUT", &format!("{location}?digest={digest}")).body(cut()).send().await.assert_error(400, "BLOB_UPLOAD_INVALID");
    uploading(&fixture.get(&location).await, 204, "0-3");
    let answer = fixture.request("PUT", &format!("{location}?digest={digest}")).header("content-range", "4-4").body("2").send().await;
    pushed(&fixture, &answer, &digest, b"01012").await;
}

#[tokio::test]
async fn a_body_that_ends_before_its_content_length_is_not_taken_for_whole() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let short = fixture.request("PATCH", &location).header("content-length", "10").body(pieces(&[b"01", b"234"])).send().await;
    short.assert_error(400, "BLOB_UPLOAD_INVALID");
    uploading(&fixture.get(&location).await, 204, "0-4");
    let digest = Digest::sha256(b"01234x");
    let put =
        fixture.request("PUT", &format!("{location}?digest={digest}")).header("content-length", "2").body(pieces(&[b"x"])).send().await;
    put.assert_error(400, "BLOB_UPLOAD_INVALID");
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(404);
    uploading(&fixture.get(&location).await, 204, "0-5");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_answered_408_and_what_came_is_kept() {
    let fixture = Fixture::with(HttpOptions::default().with_body_idle_timeout(Duration::from_secs(60)));
    let location = fixture.begin("a").await;
    let stalling = || {
        Body::from_stream(
            futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"01"))]).chain(futures_util::stream::pending()),
        )
    };
    let start = tokio::time::Instant::now();
    let message = |answer: Answer| {
        answer.assert_error(408, "BLOB_UPLOAD_INVALID");
        answer.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(message(fixture.request("PATCH", &location).body(stalling()).send().await), "the body stalled; what arrived is kept");
    assert_eq!(start.elapsed().as_secs(), 60);
    uploading(&fixture.get(&location).await, 204, "0-1");
    let digest = Digest::sha256(b"01012");
    fixture.request("PUT", &format!("{location}?digest={digest}")).body(stalling()).send().await.assert_error(408, "BLOB_UPLOAD_INVALID");
    uploading(&fixture.get(&location).await, 204, "0-3");
    // Where it goes straight to the blob nothing is kept, and nothing is said of it.
    let straight = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(message(fixture.request("POST", &straight).body(stalling()).send().await), "the body stalled");
    let fresh = fixture.begin("a").await;
    assert_eq!(message(fixture.request("PUT", &format!("{fresh}?digest={digest}")).body(stalling()).send().await), "the body stalled");
    uploading(&fixture.get(&fresh).await, 204, "0-0");
    fixture.request("PUT", &format!("{location}?digest={digest}")).body("2").send().await.assert(201);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_keeps_sending_is_not_cut_off() {
    let fixture = Fixture::with(HttpOptions::default().with_body_idle_timeout(Duration::from_secs(60)));
    let location = fixture.begin("a").await;
    let slow = futures_util::stream::iter(0..20).then(|_| async {
        tokio::time::sleep(Duration::from_secs(59)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
    });
    let answer = fixture.request("PATCH", &location).body(Body::from_stream(slow)).send().await;
    uploading(&answer, 202, "0-19");
}

#[tokio::test]
async fn a_wrong_digest_in_the_put_is_400_and_the_upload_lives() {
    for algorithm in Algorithm::ALL {
        let fixture = Fixture::new();
        let location = fixture.begin("a").await;
        fixture.request("PATCH", &location).body("01234").send().await.assert(202);
        let wrong = Digest::of(algorithm, b"x");
        fixture.request("PUT", &format!("{location}?digest={wrong}")).send().await.assert_error(400, "DIGEST_INVALID");
        for digest in ["sha256:notadigest", "md5:00", "", "sha256"] {
            fixture.request("PUT", &format!("{location}?digest={digest}")).send().await.assert_error(400, "DIGEST_INVALID");
        }
        fixture.request("PUT", &location).send().await.assert_error(400, "DIGEST_INVALID");
        fixture.get(&format!("/v2/a/blobs/{wrong}")).await.assert(404);
        uploading(&fixture.get(&location).await, 204, "0-4");
        let right = Digest::of(algorithm, b"01234");
        let answer = fixture.request("PUT", &format!("{location}?digest={right}")).send().await;
        pushed(&fixture, &answer, &right, b"01234").await;
    }
}

#[tokio::test]
async fn a_wrong_digest_in_a_put_with_bytes_keeps_none_of_them() {
    for algorithm in Algorithm::ALL {
        let fixture = Fixture::new();
        let location = fixture.begin("a").await;
        fixture.request("PATCH", &location).body("01234").send().await.assert(202);
        let (wrong, right) = (Digest::of(algorithm, b"x"), Digest::of(algorithm, b"0123456789"));
        for range in [Some("5-9"), None] {
            let mut request = fixture.request("PUT", &format!("{location}?digest={wrong}"));
            if let Some(range) = range {
                request = request.header("content-range", range);
            }
            request.body("56789").send().await.assert_error(400, "DIGEST_INVALID");
            uploading(&fixture.get(&location).await, 204, "0-4");
        }
        fixture.get(&format!("/v2/a/blobs/{wrong}")).await.assert(404);
        let request = fixture.request("PUT", &format!("{location}?digest={right}")).header("content-range", "5-9");
        pushed(&fixture, &request.body("56789").send().await, &right, b"0123456789").await;
        let fresh = fixture.begin("a").await;
        fixture.request("PUT", &format!("{fresh}?digest={wrong}")).body("fresh").send().await.assert_error(400, "DIGEST_INVALID");
        uploading(&fixture.get(&fresh).await, 204, "0-0");
        let digest = Digest::of(algorithm, b"fresh");
        let answer = fixture.request("PUT", &format!("{fresh}?digest={digest}")).body("fresh").send().await;
        pushed(&fixture, &answer, &digest, b"fresh").await;
    }
}

#[tokio::test]
async fn a_put_that_is_repeated_because_its_answer_was_lost_is_201_again() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    fixture.request("PATCH", &location).body("01234").send().await.assert(202);
    let digest = Digest::sha256(b"01234");
    for _ in 0..2 {
        let answer = fixture.request("PUT", &format!("{location}?digest={digest}")).send().await;
        pushed(&fixture, &answer, &digest, b"01234").await;
    }
    fixture.get(&location).await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.request("PATCH", &location).body("x").send().await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_put_that_is_repeated_with_its_bytes_is_201_again() {
    let fixture = Fixture::new();
    let digest = Digest::sha256(b"01234");
    for range in [None, Some("0-4"), Some("3-4")] {
        let location = fixture.begin("a").await;
        let start = range.map_or(0, |range| range[..1].parse().unwrap());
        if start > 0 {
            fixture.request("PATCH", &location).body("012").send().await.assert(202);
        }
        for _ in 0..2 {
            let mut request = fixture.request("PUT", &format!("{location}?digest={digest}"));
            if let Some(range) = range {
                request = request.header("content-range", range);
            }
            let answer = request.body(&"01234"[start..]).send().await;
            pushed(&fixture, &answer, &digest, b"01234").await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_upload_is_gone() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    fixture.request("PATCH", &location).body("01234").send().await.assert(202);
    let answer = fixture.delete(&location).await;
    assert!(answer.assert(204).body.is_empty());
    let digest = Digest::sha256(b"01234");
    fixture.get_and_head(&location).await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.delete(&location).await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.request("PATCH", &location).body("x").send().await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.request("PUT", &format!("{location}?digest={digest}")).send().await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    let stolen = location.replace("/v2/a/", "/v2/b/");
    fixture.get(&stolen).await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.request("PATCH", &stolen).body("x").send().await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.delete(&stolen).await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    fixture.get(&location).await.assert(204);
    for id in ["..", "%2e%2e", "0", "x".repeat(200).as_str()] {
        fixture.get(&format!("/v2/a/blobs/uploads/{id}")).await.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_repository_that_has_it() {
    for algorithm in Algorithm::ALL {
        let fixture = Fixture::new();
        let digest = Digest::of(algorithm, b"shared");
        fixture.request("POST", &format!("/v2/from/here/blobs/uploads/?digest={digest}")).body("shared").send().await.assert(201);
        let answer = fixture.request("POST", &format!("/v2/a/blobs/uploads/?mount={digest}&from=from%2Fhere")).send().await;
        pushed(&fixture, &answer, &digest, b"shared").await;
        fixture.delete(&format!("/v2/from/here/blobs/{digest}")).await.assert(202);
        fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(200);
    }
}

#[tokio::test]
async fn a_blob_is_mounted_from_anywhere_if_no_repository_is_named() {
    let fixture = Fixture::new();
    let digest = fixture.push("somewhere", "shared").await;
    for from in ["", "&from="] {
        let answer = fixture.request("POST", &format!("/v2/a/blobs/uploads/?mount={digest}{from}")).send().await;
        pushed(&fixture, &answer, &digest, b"shared").await;
        fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert(202);
    }
}

#[tokio::test]
async fn what_cannot_be_mounted_becomes_an_upload() {
    let fixture = Fixture::new();
    let digest = fixture.push("b", "shared").await;
    let missing = Digest::of(Algorithm::Sha512, b"missing");
    for query in [format!("mount={digest}&from=c"), format!("mount={missing}&from=b"), format!("mount={missing}")] {
        uploading(&fixture.request("POST", &format!("/v2/a/blobs/uploads/?{query}")).send().await, 202, "0-0");
    }
    let answer = fixture.request("POST", &format!("/v2/a/blobs/uploads/?mount={missing}")).send().await;
    let location = uploading(&answer, 202, "0-0");
    let answer = fixture.request("PUT", &format!("{location}?digest={missing}")).body("missing").send().await;
    pushed(&fixture, &answer, &missing, b"missing").await;
}

#[tokio::test]
async fn a_mount_of_nonsense_is_400() {
    let fixture = Fixture::new();
    let digest = fixture.push("b", "shared").await;
    fixture.request("POST", "/v2/a/blobs/uploads/?mount=sha256:notadigest&from=b").send().await.assert_error(400, "DIGEST_INVALID");
    fixture.request("POST", &format!("/v2/a/blobs/uploads/?mount={digest}&from=../b")).send().await.assert_error(400, "NAME_INVALID");
    fixture.request("POST", &format!("/v2/a/blobs/uploads/?mount={digest}&from=b&from=c")).send().await.assert_error(400, "NAME_INVALID");
}

#[tokio::test]
async fn of_two_racing_chunks_exactly_one_wins() {
    for _ in 0..20 {
        let fixture = Fixture::new();
        let location = fixture.begin("a").await;
        let send = |byte: u8| fixture.request("PATCH", &location).header("content-range", "0-9999").body(vec![byte; 10_000]).send();
        let (first, second) = tokio::join!(send(b'x'), send(b'y'));
        let mut statuses = [first.status.as_u16(), second.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 416]);
        let winner = if first.status == 202 { b'x' } else { b'y' };
        let digest = Digest::sha256(&vec![winner; 10_000]);
        fixture.request("PUT", &format!("{location}?digest={digest}")).send().await.assert(201);
    }
}
