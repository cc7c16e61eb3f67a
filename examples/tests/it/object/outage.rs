//! RadosGW's gateway is killed in the middle of multipart uploads, and comes back.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use registry_core::testing::Rng;
use registry_core::{BlobStore as _, Digest};

use super::{Kind, RADOSGW, Zone, has};
use crate::blobs_support::{END_OF_TIME, clean_up};
use crate::http::{Client, begin_upload};
use crate::swift::start;
use crate::tools::run;

/// Stops the gateway by SIGKILL, or starts it again.
fn gateway(command: &str) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/services/rgw");
    run(Command::new(script).arg(command));
}

/// Starts it again, however the test ends.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        gateway("start-gateway");
    }
}

fn layer(n: u64) -> Vec<u8> {
    Rng::new(1000 + n).bytes(24 << 20)
}

/// Pushes as docker does: all of it in one PATCH, and then its digest. Again from the start until it is taken.
async fn push(client: &Client, content: &[u8]) -> bool {
    let pushed = async {
        let location = begin_upload(client, "app").await?;
        let patched = client.try_send("PATCH", &location, &[], content).await?;
        if patched.status != 202 {
            return Ok(false);
        }
        let path = format!("{}?digest={}", patched.header("location"), Digest::sha256(content));
        client.try_send("PUT", &path, &[], &[]).await.map(|answer| answer.status == 201)
    };
    let pushed: std::io::Result<bool> = pushed.await;
    pushed.unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_in_mid_upload_loses_nothing_and_leaves_nothing_that_is_not_found() {
    let _alone = RADOSGW.write().await;
    let Some(zone) = Zone::unguarded(Kind::RadosGw).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &zone.block.toml());
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let pushers: Vec<_> = (0..3)
        .map(|_| {
            let (client, next, done) = (server.client(), Arc::clone(&next), Arc::clone(&done));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let deadline = Instant::now() + Duration::from_secs(60);
                    while !push(&client, &layer(n)).await {
                        assert!(Instant::now() < deadline, "blob {n} is not taken");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    acknowledged.push(n);
                }
                acknowledged
            })
        })
        .collect();
    for round in 0..5 {
        let back = Back;
        tokio::time::sleep(Duration::from_millis(400 + 230 * round)).await;
        gateway("stop-gateway");
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(back);
    }
    done.store(true, Ordering::Relaxed);
    let blobs = zone.blobs().await;
    let mut count = 0;
    for pusher in pushers {
        for n in pusher.await.unwrap() {
            assert!(has(&blobs, &layer(n)).await, "blob {n} was acknowledged");
            count += 1;
        }
    }
    assert!(count >= 5, "{count} blobs");
    drop(server);
    clean_up(&blobs).await;
    assert!(blobs.uploads(END_OF_TIME).try_collect::<Vec<_>>().await.unwrap().is_empty());
    let names = zone.names().await;
    assert!(names.iter().all(|name| name.starts_with("blobs/") || name.starts_with("_meta/")), "{names:?}");
    // What was not acknowledged may be there, and is whole.
    for n in 0..next.load(Ordering::Relaxed) {
        let digest = Digest::sha256(&layer(n));
        assert!(blobs.stat(&digest).await.is_err() || has(&blobs, &layer(n)).await, "blob {n} is torn");
        blobs.delete(&digest).await.unwrap();
    }
    assert!(zone.open_multiparts().await.is_empty());
}
