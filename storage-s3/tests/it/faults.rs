//! Connections that are cut: at any byte, once or always, there or back. And a service that has too much to do.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _, Result};
use storage_object::ObjectBlobStore;

use crate::blobs_support::{clean_up, is_worth_another_try};
use crate::proxy::{Fault, Seen, cuts, cuts_in_a_body, first};
use crate::service::{self, PART, Place};
use crate::whole::Blob;

const RETRIES: u32 = 2;

/// Through the proxy; with fewer retries than by default.
async fn impatient(place: &Place) -> ObjectBlobStore {
    place.builder().with_retries(RETRIES, Duration::from_secs(20)).build_blob_store().await.unwrap()
}

/// Which kind of request it is, of those that a put, or a commit, has.
fn step(seen: &Seen) -> &'static str {
    let (is_post, has) = (seen.method == "POST", |part: &str| seen.target.contains(part));
    match seen.method.as_str() {
        "POST" if has("?uploads") => "begin",
        "POST" if has("uploadId=") => "complete",
        "PUT" if has("partNumber=") && !seen.header("x-amz-copy-source").is_empty() => "copy a part",
        "PUT" if has("partNumber=") => "part",
        "PUT" if !seen.header("x-amz-copy-source").is_empty() => "copy",
        "PUT" => "put",
        _ if is_post => "delete",
        _ => "look",
    }
}

/// How a blob comes in.
#[derive(Clone, Copy, Debug)]
enum How {
    Put,
    /// Begun by one process, and committed by another.
    Commit,
}

async fn bring_in(store: &ObjectBlobStore, blob: &Blob, how: How) -> Result<()> {
    match how {
        How::Put => store.put_bytes(&blob.digest, blob.bytes.clone()).await.map(drop),
        How::Commit => {
            let middle = blob.bytes.len() / 2;
            let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await?;
            upload.write(blob.bytes.slice(..middle)).await?;
            let token = upload.suspend().await?;
            let mut upload = store.resume(ResumeOptions::new(token, 2)).await?;
            upload.write(blob.bytes.slice(middle..)).await?;
            upload.commit(&blob.digest).await.map(drop)
        }
    }
}

/// Brings the blob in while so many of the requests of this kind are cut, in each of the ways.
async fn while_cut(place: Place, blob: Blob, how: How, kind: &'static str, times: usize) {
    let rounds = stream::iter(cuts()).map(|(must_fail, cut)| {
        let (place, blob) = (place.elsewhere(), blob.clone());
        async move {
            let store = place.open().await;
            let (proxy, through) = place.proxied().await;
            let cut_off = impatient(&through).await;
            proxy.plan(first(times, move |seen| step(seen) == kind, cut.clone()));
            let outcome = bring_in(&cut_off, &blob, how).await;
            let requests = proxy.seen().iter().filter(|seen| step(seen) == kind).count();
            assert!(requests > 0, "{kind}");
            if times == 1 {
                outcome.unwrap();
            } else if must_fail {
                is_worth_another_try(&outcome, requests);
            }
            proxy.plan(|_| Fault::None);
            drop(cut_off);
            proxy.quiet().await;
            if times == 1 {
                assert!(blob.is_whole(&store).await);
                // The answer to a request that begins an upload was lost: that one is there twice.
                clean_up(&store).await;
                blob.is_alone(&place, true).await;
            } else {
                blob.check(&store, &place).await;
            }
        }
    });
    rounds.buffer_unordered(4).collect::<()>().await;
}

const SMALL: usize = 100_000;
const LARGE: usize = 2 * PART + 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_cut_once_succeeds() {
    for place in service::places() {
        while_cut(place.clone(), Blob::new(1, SMALL), How::Put, "put", 1).await;
        for kind in ["begin", "part", "complete"] {
            while_cut(place.clone(), Blob::new(2, LARGE), How::Put, kind, 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_always_cut_leaves_nothing_or_all_and_can_be_repeated() {
    for place in service::places() {
        while_cut(place.clone(), Blob::new(3, SMALL), How::Put, "put", usize::MAX).await;
        for kind in ["begin", "part", "complete"] {
            while_cut(place.clone(), Blob::new(4, LARGE), How::Put, kind, usize::MAX).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_cut_once_succeeds_and_one_that_always_is_leaves_nothing_or_all() {
    for place in service::places() {
        for times in [1, usize::MAX] {
            while_cut(place.clone(), Blob::new(5, 4 * PART), How::Commit, "copy a part", times).await;
            while_cut(place.clone(), Blob::new(6, 4 * PART), How::Commit, "complete", times).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_cut_goes_on_where_it_was_or_says_that_it_is_worth_another_try() {
    for place in service::places() {
        let store = place.open().await;
        let is_get = |seen: &Seen| seen.method == "GET";
        for blob in [Blob::new(7, SMALL), Blob::new(8, LARGE)] {
            store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
            let rounds = stream::iter(cuts_in_a_body()).map(|(must_fail, cut)| {
                let (place, blob) = (&place, &blob);
                async move {
                    let (proxy, through) = place.proxied().await;
                    let cut_off = impatient(&through).await;
                    proxy.plan(first(1, is_get, cut.clone()));
                    assert!(cut_off.read_all(&blob.digest).await.unwrap() == blob.bytes);
                    proxy.plan(first(usize::MAX, is_get, cut));
                    match cut_off.read_all(&blob.digest).await {
                        Ok(found) => assert!(!must_fail && found == blob.bytes),
                        outcome => is_worth_another_try(&outcome, proxy.seen().len()),
                    }
                    proxy.plan(|_| Fault::None);
                    assert!(cut_off.read_all(&blob.digest).await.unwrap() == blob.bytes);
                }
            });
            rounds.buffer_unordered(6).collect::<()>().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_cut_is_made_again_and_a_delete_is_not() {
    for place in service::places() {
        let rounds = stream::iter(cuts_in_a_body()).map(|(_, cut)| {
            let (place, blob) = (place.elsewhere(), Blob::new(9, SMALL));
            async move {
                let (proxy, through) = place.proxied().await;
                let store = through.open().await;
                store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
                proxy.plan(first(1, |seen| seen.method == "GET", cut.clone()));
                blob.is_alone(&through, true).await;
                // One whose answer was lost may yet be on its way: who repeats it has to wait until that is over.
                proxy.plan(first(1, |seen| seen.method == "DELETE", cut));
                let deleted = store.delete(&blob.digest).await;
                assert!(deleted.as_ref().err().is_none_or(registry_core::Error::is_retryable), "{deleted:?}");
                assert_eq!(proxy.seen().iter().filter(|seen| seen.method == "DELETE").count(), 1);
                // An answer that was cut after its last byte leaves a connection that looks as if it could be used once more.
                if let Err(error) = store.delete(&blob.digest).await {
                    assert!(error.is_retryable(), "{error}");
                    store.delete(&blob.digest).await.unwrap();
                }
                blob.is_alone(&place, false).await;
            }
        });
        rounds.buffer_unordered(6).collect::<()>().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_slow_downs_is_weathered() {
    for place in service::places() {
        let (proxy, through) = place.proxied().await;
        let store = through.open().await;
        let slow_down = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        let count = std::sync::atomic::AtomicUsize::new(0);
        // Two of three requests.
        proxy.plan(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 {
            2 => Fault::None,
            _ => Fault::Answer("503 Slow Down", slow_down),
        });
        let blobs: Vec<_> = (0..6).map(|n| Blob::new(30 + n, if n % 2 == 0 { SMALL } else { LARGE })).collect();
        stream::iter(&blobs)
            .for_each_concurrent(3, |blob| {
                let store = &store;
                async move {
                    // As a worker does it, or a client: what is worth another try is tried again.
                    while let Err(error) = bring_in(store, blob, How::Commit).await {
                        assert!(error.is_retryable(), "{error}");
                    }
                }
            })
            .await;
        proxy.plan(|_| Fault::None);
        for blob in &blobs {
            assert!(blob.is_whole(&store).await);
        }
        clean_up(&store).await;
        assert_eq!(place.names().await.len(), blobs.len());
        assert!(place.nothing_is_open().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_goes_up_while_the_service_is_away_for_a_second() {
    for place in service::places() {
        let healthy = place.open().await;
        let (mut proxy, through) = place.proxied().await;
        let store = through.builder().with_retries(10, Duration::from_secs(60)).build_blob_store().await.unwrap();
        let (is_going, mut going) = tokio::sync::mpsc::unbounded_channel();
        proxy.plan(move |seen| {
            if seen.method == "PUT" {
                is_going.send(()).unwrap();
            }
            Fault::None
        });
        let blob = Blob::new(10, 8 * PART + 3);
        let put = {
            let (store, blob) = (store.clone(), blob.clone());
            tokio::spawn(async move { store.put_bytes(&blob.digest, blob.bytes.clone()).await })
        };
        for _ in 0..3 {
            going.recv().await.unwrap();
        }
        proxy.down().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        proxy.up();
        put.await.unwrap().unwrap();
        assert!(blob.check(&healthy, &place).await);
    }
}
