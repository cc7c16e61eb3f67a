//! Tests over whole stores.

mod kill;
mod model;
mod opening;
mod reading;
mod suite;
mod writing;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use registry_core::blob::{BlobStore, ByteStream, ListOptions};
use registry_core::testing::Rng;
use registry_core::{BlobStoreExt as _, Digest, Timestamp};

/// Later than anything a test writes.
const END_OF_TIME: Timestamp = Timestamp::from_millis(253_402_300_799_000);

/// A directory in memory, where there is one.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn content(seed: u64, len: usize) -> Bytes {
    Rng::new(seed).bytes(len).into()
}

/// A stream in frames of 64 KiB.
fn frames(content: &Bytes) -> ByteStream {
    let frames: Vec<_> = content.chunks(64 << 10).map(|frame| Ok(content.slice_ref(frame))).collect();
    Box::pin(stream::iter(frames))
}

/// Every blob that is listed has the bytes of its name; these are they.
async fn all_whole(store: &dyn BlobStore) -> Vec<Digest> {
    let mut listed = store.list(ListOptions::default());
    let mut digests = Vec::new();
    while let Some(info) = listed.next().await {
        let digest = info.unwrap().digest;
        let bytes = store.read_all(&digest).await.unwrap();
        assert!(Digest::of(digest.algorithm(), &bytes) == digest, "{digest} is visible with other bytes");
        digests.push(digest);
    }
    digests
}

/// Finds and drops what is left of uploads; says how many there were.
async fn drop_leftovers(store: &dyn BlobStore, root: &std::path::Path) -> usize {
    let mut dropped = 0;
    // A handle that was dropped in the middle of a write holds its file until the thread that writes has ended.
    for _ in 0..500 {
        let mut found = store.uploads(END_OF_TIME);
        while let Some(upload) = found.next().await {
            match store.discard(&upload.unwrap().id).await {
                Ok(()) => dropped += 1,
                Err(error) => assert_eq!(error.kind(), registry_core::ErrorKind::Conflict),
            }
        }
        if std::fs::read_dir(root.join("uploads")).unwrap().next().is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let left: Vec<_> = std::fs::read_dir(root.join("uploads")).unwrap().collect();
    assert!(left.is_empty(), "found and dropped is all that is left: {left:?}");
    dropped
}
