//! What a registry over several zones promises when one of them is away for long, or lies.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_core::testing::Rng;
use tokio::task::JoinSet;

use crate::http::{Client, push_blob};
use crate::process::{Server, registry, texts};
use crate::tools::large;
use crate::zones::{QUICK, blobs, eventually, metric, push_image};

/// A server over zones of these names in `dir`, closest first, which verifies all that it reads.
fn start(dir: &Path, zones: &[&str]) -> Server {
    let zones: Vec<_> = zones.iter().map(|name| format!("name={name},path={},verify_reads=always", dir.join(name).display())).collect();
    let mut args = vec!["--admin", "127.0.0.1:0", "--log", "warn"];
    args.extend(QUICK);
    args.extend(zones.iter().flat_map(|zone| ["--zone", zone.as_str()]));
    Server::start(&dir.join("data"), &args)
}

async fn copies(server: &Server, zone: &str) -> usize {
    metric(server, &format!("registry_replication_copies_total{{zone=\"{zone}\",task=\"copy\"}}")).await as usize
}

/// Pulls an image of one layer.
async fn pull(client: &Client, repository: &str, layer: &[u8]) {
    client.get(&format!("/v2/{repository}/manifests/v1")).await.expect(200);
    let digest = Digest::sha256(layer);
    assert!(client.get(&format!("/v2/{repository}/blobs/{digest}")).await.expect(200).body == layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pushed_and_pulled_while_the_closest_zone_is_away_and_it_catches_up_with_each_copy_made_once() {
    let images: u64 = if large() { 500 } else { 60 };
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &["near", "middle", "far"]);
    let (near, away) = (dir.path().join("near"), dir.path().join("away"));
    std::fs::rename(&near, &away).unwrap();
    // Whoever has the directory open writes on into it for a moment, as with a disk that is about to go.
    let deadline = Instant::now() + Duration::from_secs(30);
    while metric(&server, r#"registry_zone_breaker_open{zone="near"}"#).await < 1.0 {
        assert!(Instant::now() < deadline, "nobody notices that it is away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let layer = |n: u64| Rng::new(n).bytes(2_000 + usize::try_from(n).unwrap());
    let mut pushes = JoinSet::new();
    for worker in 0..8 {
        let client = server.client();
        pushes.spawn(async move {
            for n in (worker..images).step_by(8) {
                push_image(&client, &format!("team/app-{n}"), "v1", &layer(n)).await;
            }
        });
    }
    pushes.join_all().await;
    for n in 0..images {
        pull(&server.client(), &format!("team/app-{n}"), &layer(n)).await;
    }
    // A layer and a manifest each, and everybody's configuration.
    let count = usize::try_from(images).unwrap() * 2 + 1;
    eventually("the living zones have all of it", || blobs(&dir.path().join("far")).len() == count);
    assert_eq!(blobs(&dir.path().join("middle")), blobs(&dir.path().join("far")));
    assert!(!near.exists());
    let before = copies(&server, "far").await + copies(&server, "middle").await;

    std::fs::rename(&away, &near).unwrap();
    eventually("the zone that was away has caught up", || blobs(&near).len() == count);
    assert_eq!(blobs(&near), blobs(&dir.path().join("far")));
    let deadline = Instant::now() + Duration::from_secs(30);
    while copies(&server, "near").await < count {
        assert!(Instant::now() < deadline, "{} copies of {count} are told of", copies(&server, "near").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(copies(&server, "near").await, count, "each once");
    assert_eq!(copies(&server, "far").await + copies(&server, "middle").await, before, "and none that was there already");
}

/// Where a zone keeps a blob.
fn file(zone: &Path, digest: &Digest) -> PathBuf {
    zone.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

/// Flips a bit of a blob on the disk.
fn flip(zone: &Path, digest: &Digest, at: usize) {
    let path = file(zone, digest);
    let mut content = std::fs::read(&path).unwrap();
    content[at] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test alone")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_never_completes_a_pull_and_is_repaired_and_the_last_copy_is_kept_refused_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &["near", "far"]);
    let (near, far) = (dir.path().join("near"), dir.path().join("far"));
    let content = Rng::new(3).bytes(3_000_000);
    let digest = push_blob(&server.client(), "app", &content).await.unwrap();
    eventually("it is copied", || file(&far, &digest).is_file());
    let path = format!("/v2/app/blobs/{digest}");

    flip(&near, &digest, 1_234_567);
    let start = Instant::now();
    let broken = server.client().try_send("GET", &path, &[], b"").await;
    assert!(broken.as_ref().map_or(true, |answer| answer.status != 200), "a wrong blob was completed");
    eventually("the copy is repaired", || std::fs::read(file(&near, &digest)).unwrap() == content);
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(server.client().get(&path).await.expect(200).body == content);

    // Both copies: then there is nothing to repair from.
    flip(&near, &digest, 5);
    flip(&far, &digest, 2_999_999);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = server.client().try_send("GET", &path, &[], b"").await;
        match answer.map(|answer| (answer.status, answer.body)) {
            Ok((404, _)) => break,
            Ok((status, body)) => assert!(status != 200 || body == content, "a wrong blob was completed"),
            Err(_) => {}
        }
        assert!(Instant::now() < deadline, "it is not refused");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(server.client().send("HEAD", &path, &[], b"").await.status, 404, "HEAD does not lie");
    let data = dir.path().join("data");
    let zones = ["near", "far"].map(|name| format!("name={name},path={}", dir.path().join(name).display()));
    let args = ["status", "--failures", "--data", data.to_str().unwrap(), "--zone", &zones[0], "--zone", &zones[1]];
    let (text, errors) = texts(&registry(dir.path(), &args));
    assert!(text.contains(&digest.to_string()), "it is reported: {text}{errors}");
    assert!(file(&near, &digest).is_file() && file(&far, &digest).is_file(), "it is kept");

    push_blob(&server.client(), "app", &content).await.unwrap();
    assert!(server.client().get(&path).await.expect(200).body == content, "pushing again heals");
    eventually("both copies are right again", || [&near, &far].iter().all(|zone| std::fs::read(file(zone, &digest)).unwrap() == content));
}
