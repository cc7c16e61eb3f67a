//! Policies: where images belong, and how many copies a push waits for.

use std::path::Path;
use std::time::{Duration, Instant};

use registry_core::testing::Rng;

use crate::http::{begin_upload, push_manifest};
use crate::process::Server;
use crate::zones::{QUICK, blobs, eventually, push_image, push_layer};

#[tokio::test]
async fn nothing_of_a_repository_is_outside_its_zones_not_even_staged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let policy = ["--policy", "repositories=eu/**,zones=remote"];
    let server = Server::start(&data, &[&policy[..], &QUICK].concat());
    let client = server.client();
    let layer = Rng::new(3).bytes(2_000_000);
    push_image(&client, "eu/app", "v1", &layer).await;
    // An upload that goes on.
    let location = begin_upload(&client, "eu/app").await.unwrap();
    client.send("PATCH", &location, &[], &layer[..1_000_000]).await.expect(202);
    let staged = |zone: &str| std::fs::read_dir(data.join(zone).join("uploads")).unwrap().count();
    assert!(staged("remote") > 0 && staged("local") == 0, "{} and {}", staged("remote"), staged("local"));
    // What others push meanwhile is copied as ever.
    push_image(&client, "us/app", "v1", b"another layer").await;
    eventually("the other image is copied", || blobs(&data.join("remote")).len() == 5 && blobs(&data.join("local")).len() == 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let local = blobs(&data.join("local"));
    // The configuration is of both, and so in both.
    assert_eq!(local.len(), 3, "{:?}", local.keys());
    assert!(!local.values().any(|content| *content == layer));
}

fn with_a_dead_zone(dir: &Path, policy: &str) -> Server {
    std::fs::write(dir.join("file"), "").unwrap();
    let dead = format!("name=dead,path={}", dir.join("file/zone").display());
    let args = ["--zone", "name=local", "--zone", dead.as_str(), "--policy", policy];
    Server::start(&dir.join("data"), &[&args[..], &QUICK].concat())
}

#[tokio::test]
async fn a_push_that_cannot_have_its_copies_is_refused_or_warned_of_as_the_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_a_dead_zone(dir.path(), "repositories=prod/**,min_copies=2,min_copies_timeout=1s");
    let client = server.client();
    let put = async |repository: &str| {
        let manifest = push_layer(&client, repository, b"a layer").await;
        let headers = [("Content-Type", crate::image::MANIFEST)];
        let begin = Instant::now();
        let answer = client.send("PUT", &format!("/v2/{repository}/manifests/v1"), &headers, manifest.as_bytes()).await;
        (answer, begin.elapsed())
    };
    let (answer, took) = put("prod/app").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(!answer.header("retry-after").is_empty() && took >= Duration::from_secs(1), "{took:?}");
    let (answer, _) = put("dev/app").await;
    assert!(answer.status == 201 && answer.header("warning").is_empty(), "{} {}", answer.status, answer.text());
    drop(server);

    let dir = tempfile::tempdir().unwrap();
    let policy = "repositories=prod/**,min_copies=2,min_copies_timeout=1s,too_few_copies=warn";
    let server = with_a_dead_zone(dir.path(), policy);
    let client = server.client();
    let manifest = push_layer(&client, "prod/app", b"a layer").await;
    let headers = [("Content-Type", crate::image::MANIFEST)];
    let answer = client.send("PUT", "/v2/prod/app/manifests/v1", &headers, manifest.as_bytes()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(answer.header("warning").contains("copies"), "{}", answer.header("warning"));
}

#[tokio::test]
async fn a_push_that_waits_for_its_copies_is_acknowledged_when_they_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--policy", "min_copies=2"]);
    for n in 0..5 {
        let layer = Rng::new(n).bytes(500_000);
        push_image(&server.client(), "app", "v1", &layer).await;
        assert!(blobs(&data.join("remote")).values().any(|content| *content == layer));
        assert_eq!(blobs(&data.join("local")), blobs(&data.join("remote")));
    }
}

#[tokio::test]
async fn places_follow_a_policy_that_changes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let quick = [&QUICK[..], &["--replication-narrow-after", "0", "--replication-reconcile-interval", "300ms"]].concat();
    let here = |zone: &str| blobs(&data.join(zone)).len();
    let mut server = Server::start(&data, &quick);
    push_image(&server.client(), "eu/app", "v1", b"of the eu").await;
    push_image(&server.client(), "us/app", "v1", b"of the us").await;
    eventually("everything is everywhere", || here("remote") == 5 && here("local") == 5);
    server.stop();
    // The configuration blob is of both repositories, and stays.
    let mut server = Server::start(&data, &[&quick[..], &["--policy", "repositories=eu/**,zones=remote"]].concat());
    eventually("what is of the eu has left", || here("local") == 3);
    assert_eq!(here("remote"), 5);
    let layer = registry_core::Digest::sha256(b"of the eu");
    server.client().get(&format!("/v2/eu/app/blobs/{layer}")).await.expect(200);
    server.client().get("/v2/eu/app/manifests/v1").await.expect(200);
    server.stop();
    let server = Server::start(&data, &quick);
    eventually("it is back", || here("local") == 5);
    assert_eq!(blobs(&data.join("local")), blobs(&data.join("remote")));
    push_manifest(&server.client(), "eu/app", "v2", &server.client().get("/v2/eu/app/manifests/v1").await.expect(200).body).await.unwrap();
}
