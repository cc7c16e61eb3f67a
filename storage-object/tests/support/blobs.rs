//! What the tests of each store in a service ask of it: contents, what has to be true of a blob after anything has gone wrong, the clean-up, and URLs.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use registry_core::blob::DownloadOptions;
use registry_core::testing::Rng;
use registry_core::{BlobStore, BlobStoreExt as _, Digest, ErrorKind, Result, Timestamp};

/// Later than anything.
pub(crate) const END_OF_TIME: Timestamp = Timestamp::from_millis(253_402_300_799_000);

pub(crate) fn content(seed: u64, len: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(Rng::new(seed).bytes(len));
    (Digest::sha256(&bytes), bytes)
}

/// It is there and right, or not there.
pub(crate) async fn is_whole(store: &dyn BlobStore, digest: &Digest, bytes: &Bytes) -> bool {
    match store.read_all(digest).await {
        Ok(found) => {
            assert!(found == *bytes, "a torn blob");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            false
        }
    }
}

/// An error that has the caller come back; retries were made, and no more than allowed.
pub(crate) fn is_worth_another_try<T: std::fmt::Debug>(outcome: &Result<T>, requests: usize) {
    let error = outcome.as_ref().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(requests > 1, "{error}");
}

/// What the clean-up of abandoned uploads does, as if all of them were old.
pub(crate) async fn clean_up(store: &dyn BlobStore) {
    let left: Vec<_> = store.uploads(END_OF_TIME).try_collect().await.unwrap();
    for upload in left {
        store.discard(&upload.id).await.unwrap();
    }
}

/// Who has a URL is let in without a key: for one method, one object and some time, with the headers that are asked for. `forged` makes another URL of it.
pub(crate) async fn a_download_url_lets_its_holder_in(store: &dyn BlobStore, forged: impl Fn(&str) -> String) {
    let (digest, bytes) = content(6, (7 << 20) + 3);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let url = async |options| store.download_url(&http::Method::GET, &digest, options).await.unwrap().unwrap().to_string();
    let mut options = DownloadOptions::new(Duration::from_secs(60));
    options.content_type = Some("application/x-of-ours".to_owned());
    options.content_disposition = Some("attachment; filename=\"a layer.tar\"".to_owned());
    let good = url(options).await;
    let client = reqwest::Client::new();
    let answer = client.get(&good).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{good}");
    assert_eq!(answer.headers()["content-type"], "application/x-of-ours");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"a layer.tar\"");
    assert!(answer.bytes().await.unwrap() == bytes);
    let part = client.get(&good).header("Range", "bytes=5-9").send().await.unwrap();
    assert_eq!(part.bytes().await.unwrap(), bytes[5..10]);
    let brief = url(DownloadOptions::new(Duration::from_secs(1))).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for refused in [client.delete(&good), client.head(&good), client.get(forged(&good)), client.get(brief)] {
        assert!(!refused.send().await.unwrap().status().is_success());
    }
    assert!(store.contains(&digest).await.unwrap());
}
