//! Any request fails, with or without its effect: nothing is torn, what was answered is there, and the same can be done again.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use registry_core::blob::{BlobUpload, ResumeOptions, WriteOptions};
use registry_core::testing::Rng;
use registry_core::{BlobStore, BlobStoreExt as _, Digest, ErrorKind, Result, Timestamp};
use storage_object::{Manifests as _, ObjectBlobStore, Promote};

use crate::failing::{Failing, How, failing};

const PART: u64 = 10_000;

pub(crate) fn content(len: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(Rng::new(len as u64).bytes(len));
    (Digest::sha256(&bytes), bytes)
}

/// How bytes get to their place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Copy,
    Manifest,
}

pub(crate) fn store(objects: &Arc<Failing>, by: By) -> ObjectBlobStore {
    let promote = match by {
        By::Copy => Promote::Copy { limit: 35_000 },
        By::Manifest => Promote::Manifest(Arc::clone(objects) as _),
    };
    ObjectBlobStore::builder(Arc::clone(objects)).with_part_size(PART).with_promote(promote).build()
}

/// The blob is there and right, or not there.
pub(crate) async fn is_whole_or_not_there(store: &ObjectBlobStore, (digest, bytes): &(Digest, Bytes)) -> bool {
    match store.read_all(digest).await {
        Ok(found) => {
            assert_eq!(found, bytes, "a torn blob");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            false
        }
    }
}

/// What is left can be cleaned up, and that takes nothing away: then no piece is there but those of the blob.
pub(crate) async fn clean_up(objects: &Failing, store: &ObjectBlobStore, blob: &(Digest, Bytes)) {
    let there = is_whole_or_not_there(store, blob).await;
    let end_of_time = Timestamp::from_millis(253_402_300_799_000);
    let left: Vec<_> = store.uploads(end_of_time).try_collect().await.unwrap();
    for upload in left {
        store.discard(&upload.id).await.unwrap();
    }
    let left: Vec<_> = store.uploads(end_of_time).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let segments = segments(objects).await;
    let staged = [Path::from("_uploads"), Path::from("_segments")].map(|folder| objects.inner.list(Some(&folder)));
    let pieces: Vec<_> = stream::iter(staged).flatten().map_ok(|meta| meta.location).try_collect().await.unwrap();
    let stray: Vec<_> = pieces.iter().filter(|path| !path.filename().unwrap().starts_with('_') && !segments.contains(path)).collect();
    assert!(stray.is_empty(), "{stray:?} of {pieces:?}");
    assert_eq!(is_whole_or_not_there(store, blob).await, there);
}

/// When the blob is deleted, nothing of it is left.
pub(crate) async fn ends_empty(objects: &Failing, store: &ObjectBlobStore, blob: &(Digest, Bytes)) {
    clean_up(objects, store, blob).await;
    store.delete(&blob.0).await.unwrap();
    clean_up(objects, store, blob).await;
    let left: Vec<_> = objects.inner.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(left, Vec::<String>::new());
}

/// The segments of all blobs.
async fn segments(objects: &Failing) -> Vec<Path> {
    let blobs: Vec<_> = objects.inner.list(Some(&Path::from("blobs"))).try_collect().await.unwrap();
    let mut segments = Vec::new();
    for blob in blobs {
        segments.extend(objects.inner.segments_of(&blob.location).await.unwrap().unwrap_or_default());
    }
    segments
}

#[tokio::test]
async fn a_put_any_of_whose_requests_fails_is_whole_or_not_there_and_can_be_repeated() {
    put_with_failures(By::Copy).await;
    put_with_failures(By::Manifest).await;
}

async fn put_with_failures(by: By) {
    for len in [0, 5_000, 10_000, 10_001, 48_000] {
        let blob = content(len);
        for how in [How::Before, How::After] {
            for nth in 0.. {
                let objects = failing();
                let store = store(&objects, by);
                objects.arm(nth, how);
                let chunks = stream::iter(blob.1.chunks(3_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>()).boxed();
                let put = store.put(&blob.0, WriteOptions::default(), chunks).await;
                let was_reached = objects.calls() > nth;
                objects.arm(u64::MAX, how);
                let there = is_whole_or_not_there(&store, &blob).await;
                assert!(put.is_err() || there, "an answered put is there");
                clean_up(&objects, &store, &blob).await;
                store.put_bytes(&blob.0, blob.1.clone()).await.unwrap();
                assert!(is_whole_or_not_there(&store, &blob).await);
                ends_empty(&objects, &store, &blob).await;
                if !was_reached {
                    assert!(put.is_ok());
                    break;
                }
                assert!(put.is_err(), "request {nth} of a put of {len} bytes by {by:?} failed {how:?}, and nobody said so");
            }
        }
    }
}

/// An upload of all of it but for what comes after `split`, put aside, taken up again, and committed; what can be tried again is, once.
async fn upload(store: &ObjectBlobStore, (digest, bytes): &(Digest, Bytes), split: usize) -> Result<()> {
    let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await?;
    write(&mut *upload, &bytes.slice(..split)).await?;
    let token = match upload.suspend().await {
        Ok(token) => token,
        Err(error) if error.is_retryable() => upload.suspend().await?,
        Err(error) => return Err(error),
    };
    let options = |epoch| ResumeOptions::new(token.clone(), epoch);
    let mut upload = match store.resume(options(2)).await {
        Ok(upload) => upload,
        Err(error) if error.is_retryable() => store.resume(options(3)).await?,
        Err(error) => return Err(error),
    };
    write(&mut *upload, &bytes.slice(split..)).await?;
    match upload.commit(digest).await {
        Err(error) if error.is_retryable() => upload.commit(digest).await.map(drop),
        outcome => outcome.map(drop),
    }
}

pub(crate) async fn write(upload: &mut dyn BlobUpload, bytes: &Bytes) -> Result<()> {
    for chunk in bytes.chunks(3_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_any_of_whose_requests_fails_goes_on_or_can_be_begun_again() {
    upload_with_failures(By::Copy).await;
    upload_with_failures(By::Manifest).await;
}

async fn upload_with_failures(by: By) {
    let mut went_on = 0;
    for (len, split) in [(0, 0), (5_000, 2_000), (10_000, 10_000), (33_000, 33_000), (48_000, 21_000), (90_000, 60_000)] {
        let blob = content(len);
        for how in [How::Before, How::After] {
            for nth in 0.. {
                let objects = failing();
                let store = store(&objects, by);
                objects.arm(nth, how);
                let uploaded = upload(&store, &blob, split).await;
                let was_reached = objects.calls() > nth;
                objects.arm(u64::MAX, how);
                let there = is_whole_or_not_there(&store, &blob).await;
                assert!(uploaded.is_err() || there, "an answered commit is there");
                clean_up(&objects, &store, &blob).await;
                upload(&store, &blob, split).await.unwrap();
                assert!(is_whole_or_not_there(&store, &blob).await);
                ends_empty(&objects, &store, &blob).await;
                if !was_reached {
                    uploaded.unwrap();
                    break;
                }
                went_on += usize::from(uploaded.is_ok());
                if let Err(error) = uploaded {
                    assert!(
                        matches!(error.kind(), ErrorKind::Unavailable),
                        "request {nth} of {len} bytes by {by:?} failed {how:?}: {error}"
                    );
                }
            }
        }
    }
    assert!(went_on > 40, "most failures are got over by trying the same again: {went_on}");
}

#[tokio::test]
async fn what_was_sent_in_parts_is_gone_when_an_abort_or_a_refused_put_has_ended() {
    let objects = failing();
    let store = store(&objects, By::Copy);
    let (digest, bytes) = content(25_000);
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    write(&mut *upload, &bytes).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(objects.aborted(), 1);

    let other = stream::iter([Ok(bytes.slice(1..))]).boxed();
    assert_eq!(store.put(&digest, WriteOptions::default(), other).await.unwrap_err().kind(), ErrorKind::DigestInvalid);
    assert_eq!(objects.aborted(), 2);
}

#[tokio::test]
async fn a_delete_any_of_whose_requests_fails_never_leaves_half_a_blob_and_can_be_repeated() {
    for (by, len) in [(By::Copy, 48_000), (By::Manifest, 48_000), (By::Manifest, 5_000)] {
        let blob = content(len);
        for how in [How::Before, How::After] {
            for nth in 0.. {
                let objects = failing();
                let store = store(&objects, by);
                store.put_bytes(&blob.0, blob.1.clone()).await.unwrap();
                objects.arm(nth, how);
                let deleted = store.delete(&blob.0).await;
                let was_reached = objects.calls() > nth;
                objects.arm(u64::MAX, how);
                let there = is_whole_or_not_there(&store, &blob).await;
                assert!(deleted.is_err() || !there, "request {nth} of a delete by {by:?} failed {how:?}, and nobody said so");
                ends_empty(&objects, &store, &blob).await;
                if !was_reached {
                    deleted.unwrap();
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_change_while_they_are_staged_never_become_the_blob() {
    use object_store::{ObjectStoreExt as _, PutPayload};
    let memory = Arc::new(InMemory::new());
    // Too large to be copied in one request, so that it comes by here once more.
    let promote = Promote::Copy { limit: 10_000 };
    let store = ObjectBlobStore::builder(Arc::clone(&memory)).with_part_size(PART).with_promote(promote).build();
    let (digest, bytes) = content(48_000);
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    write(&mut *upload, &bytes).await.unwrap();
    let token = upload.suspend().await.unwrap();
    let staged: Vec<_> = memory.list(Some(&Path::from("_uploads"))).try_collect().await.unwrap();
    let mut wrong = bytes.to_vec();
    wrong[20_000] ^= 1;
    memory.put(&staged[0].location, PutPayload::from(wrong)).await.unwrap();
    let mut upload = store.resume(ResumeOptions::new(token, 2)).await.unwrap();
    assert_eq!(upload.commit(&digest).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.stat(&digest).await.unwrap_err().kind(), ErrorKind::NotFound);
}
