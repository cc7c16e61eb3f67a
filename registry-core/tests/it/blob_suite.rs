//! The suite of blob stores, run on the store in memory, and what that store promises beyond it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use registry_core::blob::{ListOptions, ResumeOptions, WriteOptions};
use registry_core::memory::MemoryBlobStore;
use registry_core::testing::ManualClock;
use registry_core::testing::blob_store::{self, Fixture};
use registry_core::{BlobStore, BlobStoreExt as _, Clock as _, Digest, ErrorKind, UploadToken};

fn memory() -> Fixture {
    let store = MemoryBlobStore::default();
    let other = store.clone();
    Fixture::new(Arc::new(store)).with_reopen(move || {
        let other: Arc<dyn BlobStore> = Arc::new(other.clone());
        async move { other }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_keeps_the_contract() {
    blob_store::check(|| async { memory() }).await;
}

#[tokio::test(start_paused = true)]
async fn it_does_so_on_one_thread_with_the_time_paused() {
    blob_store::check(|| async { memory().with_large_size(300_007) }).await;
}

#[tokio::test]
async fn times_are_those_of_the_clock_it_was_given() {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryBlobStore::default().with_clock(Arc::clone(&clock) as _);
    let digest = Digest::sha256(b"content");
    let first = clock.now();
    assert_eq!(store.put_bytes(&digest, Bytes::from_static(b"content")).await.unwrap().modified, Some(first));
    store.named().unwrap().put("object", Bytes::new()).await.unwrap();
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    upload.write(Bytes::from_static(b"part")).await.unwrap();

    clock.advance(Duration::from_secs(60));
    assert_eq!(store.stat(&digest).await.unwrap().modified, Some(first), "looking changes nothing");
    let listed: Vec<_> = store.list(ListOptions::default()).try_collect().await.unwrap();
    assert_eq!(listed[0].modified, Some(first));
    let named: Vec<_> = store.named().unwrap().list("").try_collect().await.unwrap();
    assert_eq!(named[0].modified, Some(first));
    assert_eq!(store.uploads(clock.now()).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    upload.write(Bytes::from_static(b"part")).await.unwrap();
    assert_eq!(store.uploads(clock.now()).try_collect::<Vec<_>>().await.unwrap().len(), 0, "it was written to just now");

    store.put_bytes(&digest, Bytes::from_static(b"content")).await.unwrap();
    assert_eq!(store.stat(&digest).await.unwrap().modified, Some(clock.now()), "writing again puts new bytes in place");
}

/// Two writers resume one token, and both leave a token of their own: only the last one's bytes are there.
#[tokio::test]
async fn a_token_of_a_writer_that_was_overtaken_covers_no_bytes_of_another() {
    async fn go_on(store: &MemoryBlobStore, token: &UploadToken, epoch: u64, part: &'static [u8]) -> UploadToken {
        let mut upload = store.resume(ResumeOptions::new(token.clone(), epoch)).await.unwrap();
        upload.write(Bytes::from_static(part)).await.unwrap();
        upload.suspend().await.unwrap()
    }
    let store = MemoryBlobStore::default();
    let start = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap().suspend().await.unwrap();
    let start = go_on(&store, &start, 2, b"start ").await;
    let overtaken = go_on(&store, &start, 3, b"here").await;
    let last = go_on(&store, &start, 4, b"over").await;
    let error = store.resume(ResumeOptions::new(overtaken, 5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UploadUnknown);
    let mut upload = store.resume(ResumeOptions::new(last, 5)).await.unwrap();
    let digest = Digest::sha256(b"start over");
    upload.commit(&digest).await.unwrap();
    assert_eq!(store.read_all(&digest).await.unwrap(), "start over");
}

#[tokio::test]
async fn a_token_of_another_store_is_unknown() {
    let mut upload = MemoryBlobStore::default().begin(WriteOptions::default()).await.unwrap();
    upload.write(Bytes::from_static(b"part")).await.unwrap();
    let mut token = upload.suspend().await.unwrap();
    let store = MemoryBlobStore::default();
    for backend in [token.backend.clone(), Bytes::new(), Bytes::from_static(b"{}")] {
        token.backend = backend;
        let error = store.resume(ResumeOptions::new(token.clone(), 2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UploadUnknown);
    }
}
