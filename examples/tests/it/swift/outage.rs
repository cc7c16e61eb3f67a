//! Swift is killed while images are pushed and pulled, and comes back.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_core::testing::Rng;

use super::{SERVICE, Zone, directory, start};
use crate::http::{Client, push_blob};
use crate::tools::run;
use crate::zones::{blobs, metric};

/// Stops Swift's proxy by SIGKILL, or starts it again.
pub(crate) fn proxy(command: &str) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/services/swift");
    run(Command::new(script).arg(command));
}

/// Starts Swift again, however the test ends.
pub(crate) struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        proxy("start-proxy");
    }
}

pub(crate) fn layer(n: u64) -> Vec<u8> {
    Rng::new(n).bytes(20_000 + usize::try_from(n).unwrap())
}

/// Pushes blob after blob, each again from the start until it is taken, as clients do.
pub(crate) async fn push_all(client: Client, next: Arc<AtomicU64>, done: Arc<AtomicBool>) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = push_blob(&client, "app", &layer(n)).await {
            assert!(Instant::now() < deadline, "blob {n} is not taken: {error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        acknowledged.push(n);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn swift_is_killed_during_pushes_and_pulls_and_catches_up_when_it_is_back() {
    let Some(zone) = Zone::new() else { return };
    let _service = SERVICE.write().await;
    let dir = tempfile::tempdir().unwrap();
    // Swift is the closest: both pushes and pulls have to do without it.
    let server = start(dir.path(), &format!("storage_preference = [\"swift\"]\n{}{}", zone.toml(), directory(dir.path())));
    let disk = dir.path().join("disk");
    for n in 0..5 {
        push_blob(&server.client(), "app", &layer(n)).await.unwrap();
    }
    crate::zones::eventually("the first are copied", || blobs(&disk).len() == 5);

    let (next, done) = (Arc::new(AtomicU64::new(5)), Arc::new(AtomicBool::new(false)));
    let pushers: Vec<_> = (0..3).map(|_| tokio::spawn(push_all(server.client(), Arc::clone(&next), Arc::clone(&done)))).collect();
    let puller = {
        let (client, done) = (server.client(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut pulls = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let content = layer(pulls % 5);
                // What is in both zones is served all the time.
                let found = client.get(&format!("/v2/app/blobs/{}", Digest::sha256(&content))).await.expect(200);
                assert!(found.body == content);
                pulls += 1;
            }
            pulls
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = Back;
    proxy("stop-proxy");
    let before = next.load(Ordering::Relaxed);
    let breaker = r#"registry_zone_breaker_open{zone="swift"}"#;
    let deadline = Instant::now() + Duration::from_secs(60);
    while metric(&server, breaker).await < 1.0 || next.load(Ordering::Relaxed) < before + 20 {
        assert!(Instant::now() < deadline, "pushes do not go on without Swift");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(back);
    tokio::time::sleep(Duration::from_secs(2)).await;
    done.store(true, Ordering::Relaxed);
    let mut acknowledged: Vec<_> = (0..5).collect();
    for pusher in pushers {
        acknowledged.extend(pusher.await.unwrap());
    }
    assert!(puller.await.unwrap() > 0);

    let store = zone.blobs().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    for n in acknowledged {
        let content = layer(n);
        let digest = Digest::sha256(&content);
        let found = server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
        assert!(found.body == content, "blob {n}");
        while !zone.has(&store, &content).await {
            assert!(Instant::now() < deadline, "Swift does not catch up: blob {n}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let file = disk.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        while !std::fs::read(&file).is_ok_and(|found| found == content) {
            assert!(Instant::now() < deadline, "the directory does not catch up: blob {n}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_zone_in_swift_that_is_away_is_said_to_be_away_and_not_empty() {
    let Some(zone) = Zone::new() else { return };
    let _service = SERVICE.write().await;
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &zone.toml());
    let content = layer(7);
    let digest = push_blob(&server.client(), "app", &content).await.unwrap();
    let path = format!("/v2/app/blobs/{digest}");
    let back = Back;
    proxy("stop-proxy");
    server.client().get(&path).await.expect(503);
    assert!(push_blob(&server.client(), "app", &layer(8)).await.is_err());
    drop(back);
    assert!(server.client().get(&path).await.expect(200).body == content);
    push_blob(&server.client(), "app", &layer(8)).await.unwrap();
}
