//! Two writers of one upload, the older of which stands still at any of its requests: whatever was answered is whole, and nothing is torn.

use std::sync::Arc;

use bytes::Bytes;
use registry_core::blob::{ResumeOptions, UploadToken, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, Result};
use storage_object::ObjectBlobStore;

use crate::failing::{Failing, How};
use crate::faults::{By, clean_up, content, ends_empty, is_whole_or_not_there, store, write};
use crate::slo::Slo;

type Blob = (Digest, Bytes);

/// Of the last piece only half is there: each writer takes it back, and writes it again.
const SPLIT: usize = 35_000;

/// Takes the upload up, writes what is missing, and commits it.
async fn go_on(store: &ObjectBlobStore, token: UploadToken, epoch: u64, blob: &Blob) -> Result<()> {
    let mut upload = store.resume(ResumeOptions::new(token, epoch)).await?;
    write(&mut *upload, &blob.1.slice(SPLIT..)).await?;
    upload.commit(&blob.0).await.map(drop)
}

/// What the newer writer does.
#[derive(Clone, Copy, Debug)]
enum Then {
    Commits,
    Cancels,
}

/// Stands still at the `nth` request of the older writer while the newer one does all that it does. Whether there is such a request.
async fn race(by: By, then: Then, was_there: bool, nth: u64) -> bool {
    let blob = content(48_000);
    let objects = Slo::default();
    let (slow, quick) = (Arc::new(Failing::new(objects.clone())), Arc::new(Failing::new(objects)));
    let (older, newer) = (store(&slow, by), store(&quick, by));
    if was_there {
        // Acknowledged, and pushed once more by who does not know.
        newer.put_bytes(&blob.0, blob.1.clone()).await.unwrap();
    }
    let mut upload = newer.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
    write(&mut *upload, &blob.1.slice(..SPLIT)).await.unwrap();
    let token = upload.suspend().await.unwrap();

    slow.arm(nth, How::Held);
    let mut first = {
        let (older, token, blob) = (older.clone(), token.clone(), blob.clone());
        tokio::spawn(async move { go_on(&older, token, 2, &blob).await })
    };
    let is_held = tokio::select! {
        () = slow.held() => true,
        _ = &mut first => false,
    };
    let second = match then {
        Then::Commits => go_on(&newer, token, 3, &blob).await,
        Then::Cancels => match newer.resume(ResumeOptions::new(token, 3)).await {
            Ok(upload) => upload.abort().await,
            Err(error) => Err(error),
        },
    };
    let answered = matches!(then, Then::Commits) && second.is_ok();
    let there = is_whole_or_not_there(&newer, &blob).await;
    assert!(there || !(answered || was_there), "request {nth} by {by:?}, who {then:?}: {second:?}");
    slow.let_go();
    let first_answered = is_held && first.await.unwrap().is_ok();
    let there = is_whole_or_not_there(&newer, &blob).await;
    assert!(there || !(answered || first_answered || was_there), "request {nth} by {by:?}, who {then:?}: {second:?}");
    clean_up(&quick, &newer, &blob).await;
    assert_eq!(is_whole_or_not_there(&newer, &blob).await, there);
    ends_empty(&quick, &newer, &blob).await;
    is_held
}

async fn at_every_request(by: By, then: Then) {
    for was_there in [false, true] {
        let mut nth = 0;
        while race(by, then, was_there, nth).await {
            nth += 1;
        }
        assert!(nth > 8, "only {nth} requests");
    }
}

#[tokio::test]
async fn a_commit_during_an_older_ones_commit_tears_nothing() {
    at_every_request(By::Copy, Then::Commits).await;
    at_every_request(By::Manifest, Then::Commits).await;
}

#[tokio::test]
async fn a_cancel_during_an_older_writers_commit_tears_nothing() {
    at_every_request(By::Copy, Then::Cancels).await;
    at_every_request(By::Manifest, Then::Cancels).await;
}
