//! What goes wrong below: full disks, stores that are down or lie, lost acknowledgements.

use std::time::Duration;

use registry_core::testing::{Fault, FaultPlan, Op};
use registry_core::{Digest, ErrorKind};

use crate::support::images::{IMAGE, bytes, image, push_tagged};
use crate::support::{Fixture, content};

#[tokio::test]
async fn a_full_store_is_507_nothing_is_torn_and_reads_go_on() {
    let fixture = Fixture::new();
    let small = fixture.push("a", "small").await;
    push_tagged(&fixture, "a", "v1").await;
    let location = fixture.begin("a").await;
    fixture.request("PATCH", &location).body("01234").send().await.assert(202);
    fixture.faults.set_plan(FaultPlan::new(1).with_space(1000));
    let large = content(100_000);
    let digest = Digest::sha256(&large);
    fixture
        .request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"))
        .body(large.clone())
        .send()
        .await
        .assert_error(507, "UNAVAILABLE");
    fixture.request("PATCH", &location).body(large.clone()).send().await.assert_error(507, "UNAVAILABLE");
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(404);
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{small}")).await.assert(200).body, "small");
    fixture.get("/v2/a/manifests/v1").await.assert(200);
    assert_eq!(fixture.get(&location).await.assert(204).header("range"), "0-4");
    fixture.faults.heal();
    fixture.request("PATCH", &location).header("content-range", "5-5").body("5").send().await.assert(202);
    let finished = fixture.request("PUT", &format!("{location}?digest={}", Digest::sha256(b"012345"))).send().await;
    finished.assert(201);
}

#[tokio::test]
async fn failures_of_the_store_have_their_statuses_and_tell_clients_nothing_of_it() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", "x").await;
    for (kind, status, retry) in [
        (ErrorKind::Unavailable, 503, true),
        (ErrorKind::TimedOut, 504, true),
        (ErrorKind::StorageFull, 507, false),
        (ErrorKind::Internal, 500, false),
        (ErrorKind::Corrupt, 500, false),
    ] {
        fixture.faults.fail_next(Op::Read, Fault::Before(kind));
        let answer = fixture.request("GET", &format!("/v2/a/blobs/{digest}")).header("x-request-id", "the-id").send().await;
        answer.assert(status);
        assert_eq!(answer.json()["errors"][0]["detail"]["requestId"], "the-id");
        assert_eq!(answer.maybe("retry-after").is_some(), retry, "{kind:?}");
        assert_eq!(answer.maybe("docker-content-digest"), None);
        fixture.faults.fail_next(Op::Stat, Fault::Before(kind));
        let head = fixture.head(&format!("/v2/a/blobs/{digest}")).await;
        assert!(head.assert(status).body.is_empty());
    }
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(200).body, "x");
}

#[tokio::test]
async fn a_push_whose_acknowledgement_was_lost_is_repeated_with_success() {
    let fixture = Fixture::new();
    let location = fixture.begin("a").await;
    fixture.request("PATCH", &location).body("01234").send().await.assert(202);
    let digest = Digest::sha256(b"01234");
    fixture.faults.fail_next(Op::Commit, Fault::After(ErrorKind::TimedOut));
    fixture.request("PUT", &format!("{location}?digest={digest}")).send().await.assert_error(504, "UNAVAILABLE");
    fixture.request("PUT", &format!("{location}?digest={digest}")).send().await.assert(201);
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(200).body, "01234");
    let manifest = bytes(&image(&fixture, "a", "x").await);
    fixture.faults.fail_next(Op::Put, Fault::After(ErrorKind::Unavailable));
    fixture.put_manifest("/v2/a/manifests/v1", IMAGE, manifest.clone()).await.assert_error(503, "UNAVAILABLE");
    fixture.put_manifest("/v2/a/manifests/v1", IMAGE, manifest).await.assert(201);
}

#[tokio::test]
async fn a_head_of_a_blob_that_the_store_lost_is_404_so_that_clients_push_it_again() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", "x").await;
    fixture.faults.inner().delete(&digest).await.unwrap();
    fixture.head(&format!("/v2/a/blobs/{digest}")).await.assert(404);
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert_error(404, "BLOB_UNKNOWN");
    fixture.push("a", "x").await;
    fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await.assert(200);
}

#[tokio::test]
async fn a_store_that_gives_less_than_it_said_breaks_the_answer_off() {
    let fixture = Fixture::new();
    let bytes = content(500_000);
    let uri = format!("/v2/a/blobs/{}", fixture.push("a", bytes.clone()).await);
    for fault in [Fault::Truncate(300_000), Fault::Truncate(0), Fault::Cut(300_000)] {
        for range in ["none", "bytes=1000-"] {
            fixture.faults.fail_next(Op::Read, fault);
            let answer = fixture.request("GET", &uri).header("range", range).send().await;
            assert!(answer.broken, "{fault:?} {range}");
        }
    }
    assert_eq!(fixture.get(&uri).await.assert(200).body, bytes);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_its_time_is_not_the_client_s_fault() {
    let fixture = Fixture::new();
    let latency = Duration::from_secs(90);
    fixture.faults.set_plan(FaultPlan::new(1).with_latency(latency, latency).only([Op::Write]));
    let location = fixture.begin("a").await;
    let pieces = crate::support::pieces(&[b"01", b"23", b"4"]);
    fixture.request("PATCH", &location).body(pieces).send().await.assert(202);
}
