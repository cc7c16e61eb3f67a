//! A service that stops in the middle, and one that is only slow.

use std::time::{Duration, Instant};

use registry_core::{BlobStoreExt as _, ErrorKind, Result};
use storage_swift::{SwiftBlobStore, SwiftConfig};

use crate::proxy::{At, Fault, Seen, first};
use crate::service::{self, before, builder, elsewhere, logged_in};
use crate::whole::Blob;

const IDLE: Duration = Duration::from_secs(1);

async fn patient(config: &SwiftConfig) -> SwiftBlobStore {
    builder(config).with_segment_size(64 << 20).build_blob_store().await.unwrap()
}

async fn impatient(config: &SwiftConfig) -> SwiftBlobStore {
    let builder = builder(config).with_segment_size(64 << 20).with_idle_timeout(IDLE).with_retries(1, Duration::from_secs(20));
    builder.build_blob_store().await.unwrap()
}

/// Too much for what lies between a client and a service that takes nothing in: the kernel has up to 4 MiB of what was sent.
fn blob(seed: u64) -> Blob {
    Blob::new(seed, 12 << 20, 0)
}

async fn within_a_minute<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it hangs")
}

fn is_too_late<T: std::fmt::Debug>(outcome: Result<T>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_no_more_in_or_does_not_answer_is_given_up_and_tried_again() {
    let Some(config) = service::keystone() else { return };
    let config = logged_in(config).await;
    let stalls = [Fault::StallRequest(At::Byte(0)), Fault::StallRequest(At::MiddleOfBody), Fault::StallAnswer(At::Byte(0))];
    let rounds = stalls.into_iter().enumerate().map(|(n, stall)| {
        let (config, blob) = (elsewhere(&config), blob(20 + n as u64));
        async move {
            let healthy = patient(&config).await;
            let (mut proxy, through) = before(&config).await;
            let store = impatient(&through).await;
            let is_put = |seen: &Seen| seen.method == "PUT";
            proxy.plan(first(usize::MAX, is_put, stall.clone()));
            is_too_late(within_a_minute(store.put_bytes(&blob.digest, blob.bytes.clone())).await);
            assert_eq!(proxy.seen().len(), 2, "it was tried again, once");
            proxy.plan(first(1, is_put, stall));
            within_a_minute(store.put_bytes(&blob.digest, blob.bytes.clone())).await.unwrap();
            proxy.down().await;
            assert!(blob.check(&healthy, &config).await);
        }
    });
    futures_util::future::join_all(rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_stalls_goes_on_where_it_was_or_ends() {
    let Some(config) = service::keystone() else { return };
    let config = logged_in(config).await;
    let blob = blob(30);
    patient(&config).await.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    let stalls = [Fault::StallAnswer(At::Byte(0)), Fault::StallAnswer(At::EndOfHead(0)), Fault::StallAnswer(At::MiddleOfBody)];
    let rounds = stalls.into_iter().map(|stall| {
        let (config, blob) = (&config, &blob);
        async move {
            let (proxy, through) = before(config).await;
            let store = impatient(&through).await;
            proxy.plan(first(1, |_| true, stall.clone()));
            assert!(within_a_minute(store.read_all(&blob.digest)).await.unwrap() == blob.bytes);
            // No second answer gets anywhere.
            proxy.plan(move |seen| if seen.number == 1 { stall.clone() } else { Fault::StallAnswer(At::EndOfHead(0)) });
            is_too_late(within_a_minute(store.read_all(&blob.digest)).await);
            proxy.plan(|_| Fault::StallAnswer(At::Byte(0)));
            is_too_late(within_a_minute(store.read_all(&blob.digest)).await);
            assert_eq!(proxy.seen().len(), 2, "it was tried again, once");
        }
    });
    futures_util::future::join_all(rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_is_not_given_up_however_long_it_takes() {
    let Some(config) = service::keystone() else { return };
    let (proxy, through) = before(&logged_in(config).await).await;
    let idle = Duration::from_secs(2);
    let builder = builder(&through).with_segment_size(64 << 20).with_idle_timeout(idle).with_retries(0, Duration::ZERO);
    let store = builder.build_blob_store().await.unwrap();
    // 10 MB/s: what the kernel has taken in is under way for less than half a second.
    proxy.plan(|_| Fault::Slow(512 << 10));
    let blob = Blob::new(31, 48 << 20, 0);
    let began = Instant::now();
    store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    let put = began.elapsed();
    assert!(store.read_all(&blob.digest).await.unwrap() == blob.bytes);
    let got = began.elapsed() - put;
    assert!(put > 2 * idle && got > 2 * idle, "{put:?}, {got:?}");
}
