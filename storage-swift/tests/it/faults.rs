//! Connections that are cut: at any byte, once or always, there or back.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use object_store::path::Path;
use object_store::{MultipartUpload as _, ObjectStoreExt as _};
use registry_core::{BlobStore as _, BlobStoreExt as _};
use storage_swift::{SwiftBlobStore, SwiftConfig};

use crate::blobs_support::{clean_up, is_worth_another_try};
use crate::proxy::{Fault, Seen, cuts, cuts_in_a_body, first};
use crate::service::{self, before, builder, elsewhere, logged_in, open};
use crate::whole::Blob;

const RETRIES: u32 = 2;

/// Through the proxy; with fewer retries than by default.
async fn impatient(config: &SwiftConfig) -> SwiftBlobStore {
    builder(config).with_retries(RETRIES, Duration::from_secs(20)).build_blob_store().await.unwrap()
}

fn is_put_of_blob(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.target.contains("/blobs/")
}

fn is_get(seen: &Seen) -> bool {
    seen.method == "GET"
}

/// Puts the blob while so many of its requests are cut, in each of the ways.
async fn put_while_cut(config: SwiftConfig, blob: Blob, times: usize) {
    let config = logged_in(config).await;
    let rounds = stream::iter(cuts()).map(|(must_fail, cut)| {
        let (config, blob) = (elsewhere(&config), blob.clone());
        async move {
            let store = open(&config).await;
            let (proxy, through) = before(&config).await;
            let cut_off = impatient(&through).await;
            proxy.plan(first(times, is_put_of_blob, cut));
            let outcome = cut_off.put_bytes(&blob.digest, blob.bytes.clone()).await.map(|_| blob.bytes.clone());
            let requests = proxy.seen().iter().filter(|seen| is_put_of_blob(seen)).count();
            drop(cut_off);
            proxy.quiet().await;
            assert!(requests <= 1 + RETRIES as usize, "{requests} requests");
            if times == 1 || !must_fail {
                outcome.unwrap();
                assert!(blob.is_whole(&store).await);
                blob.is_alone(&config, true).await;
            } else {
                is_worth_another_try(&outcome, requests);
                blob.check(&store, &config).await;
            }
        }
    });
    rounds.buffer_unordered(6).collect::<()>().await;
}

fn is_put(seen: &Seen) -> bool {
    seen.method == "PUT"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_as_something_else_is_not_kept_and_is_sent_again() {
    for (segment, blob) in [(1 << 20, Blob::new(60, 1000, 0)), (256 << 10, Blob::new(61, 700 << 10, 3))] {
        let Some(config) = service::keystone() else { return };
        let config = logged_in(config).await;
        let (proxy, through) = before(&config).await;
        let store = builder(&through).with_segment_size(segment).with_retries(RETRIES, Duration::from_secs(20));
        let store = store.build_blob_store().await.unwrap();
        proxy.plan(first(1, is_put, Fault::FlipBit));
        store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
        blob.is_alone(&config, true).await;
        assert!(blob.is_whole(&store).await);
        store.delete(&blob.digest).await.unwrap();
        proxy.plan(|seen| if is_put(seen) { Fault::FlipBit } else { Fault::None });
        let outcome = store.put_bytes(&blob.digest, blob.bytes.clone()).await.map(|_| blob.bytes.clone());
        is_worth_another_try(&outcome, proxy.seen().len());
        proxy.plan(|_| Fault::None);
        assert!(!blob.check(&store, &config).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_says_ok_and_means_no_is_an_error() {
    let Some(config) = service::keystone() else { return };
    let (proxy, through) = before(&logged_in(config).await).await;
    open(&through).await;
    let objects = builder(&through).with_retries(0, Duration::ZERO).build().unwrap();
    let path = Path::from("large");
    let mut upload = objects.put_multipart(&path).await.unwrap();
    for _ in 0..2 {
        upload.put_part(vec![1; 1000].into()).await.unwrap();
    }
    upload.complete().await.unwrap();
    let no = r#"{"Response Status":"400 Bad Request","Response Body":"","Errors":[["c/a","409 Conflict"]]}"#;
    let answer = Fault::Answer("200 OK\r\nX-Trans-Id: tx-of-ours", no);
    proxy.plan(first(1, |seen| seen.target.contains("multipart-manifest=delete"), answer));
    let error = objects.delete(&path).await.unwrap_err().to_string();
    assert!(error.contains("409 Conflict") && error.contains("(transaction tx-of-ours)"), "{error}");
    objects.delete(&path).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_cut_once_succeeds() {
    let Some(config) = service::keystone() else { return };
    put_while_cut(config, Blob::new(1, 100_000, 0), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_always_cut_leaves_nothing_or_all_and_can_be_repeated() {
    let Some(config) = service::keystone() else { return };
    put_while_cut(config, Blob::new(2, 100_000, 0), usize::MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_cut_once_becomes_the_blob() {
    let Some(config) = service::small() else { return };
    put_while_cut(config, Blob::new(3, (1 << 20) + 3, 2), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_always_cut_leaves_nothing_or_all_and_can_be_repeated() {
    let Some(config) = service::small() else { return };
    put_while_cut(config, Blob::new(4, (1 << 20) + 3, 2), usize::MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_cut_goes_on_where_it_was_or_says_that_it_is_worth_another_try() {
    let Some(config) = service::small() else { return };
    let config = logged_in(config).await;
    let store = open(&config).await;
    for blob in [Blob::new(5, 100_000, 0), Blob::new(6, (1 << 20) + 3, 2)] {
        store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
        let rounds = stream::iter(cuts_in_a_body()).map(|(must_fail, cut)| {
            let (config, blob) = (&config, &blob);
            async move {
                let (proxy, through) = before(config).await;
                let cut_off = impatient(&through).await;
                proxy.plan(first(1, is_get, cut.clone()));
                assert!(cut_off.read_all(&blob.digest).await.unwrap() == blob.bytes);
                proxy.plan(first(usize::MAX, is_get, cut));
                let outcome = cut_off.read_all(&blob.digest).await;
                match outcome {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_cut_once_is_made_again() {
    let Some(config) = service::keystone() else { return };
    let config = logged_in(config).await;
    let blob = Blob::new(7, 1000, 0);
    open(&config).await.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    let (proxy, through) = before(&config).await;
    for (_, cut) in cuts_in_a_body() {
        proxy.plan(first(1, |seen| seen.target.contains("format=json"), cut));
        blob.is_alone(&through, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_of_which_each_request_is_cut_once_leaves_nothing_when_it_is_repeated() {
    let Some(config) = service::small() else { return };
    let config = logged_in(config).await;
    let rounds = stream::iter(cuts_in_a_body()).map(|(_, cut)| {
        let (config, blob) = (elsewhere(&config), Blob::new(8, (1 << 20) + 3, 2));
        async move {
            let (proxy, through) = before(&config).await;
            let store = open(&through).await;
            store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
            let seen = Mutex::new(BTreeSet::new());
            proxy.plan(move |request| if seen.lock().unwrap().insert(request.method.clone()) { cut.clone() } else { Fault::None });
            // What deletes is not sent again by itself: one whose answer was lost may yet be on its way.
            while let Err(error) = store.delete(&blob.digest).await {
                assert!(error.is_retryable(), "{error}");
            }
            let methods: BTreeSet<_> = proxy.seen().into_iter().map(|seen| seen.method).collect();
            assert!(["DELETE", "HEAD"].iter().all(|method| methods.contains(*method)), "{methods:?}");
            proxy.plan(|_| Fault::None);
            clean_up(&store).await;
            blob.is_alone(&config, false).await;
        }
    });
    rounds.buffer_unordered(6).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_goes_up_while_the_service_is_away_for_a_second() {
    let Some(config) = service::small() else { return };
    let config = logged_in(config).await;
    let healthy = open(&config).await;
    let (mut proxy, through) = before(&config).await;
    let store = builder(&through).with_retries(10, Duration::from_secs(60)).build_blob_store().await.unwrap();
    let (is_going, going) = tokio::sync::mpsc::unbounded_channel();
    let mut going = going;
    proxy.plan(move |seen| {
        if seen.method == "PUT" {
            is_going.send(()).unwrap();
        }
        Fault::None
    });
    let blob = Blob::new(9, (7 << 20) + 3, 8);
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
    assert_eq!(service::names(&config).await.len(), 1 + 8 + 1, "the blob, its segments, and their marker");
    assert!(blob.check(&healthy, &config).await);
}
