//! Staged uploads, what is left of some, and signed URLs.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _};

use crate::blobs::{BUCKET, By, open};
use crate::blobs_support::{END_OF_TIME, a_download_url_lets_its_holder_in, clean_up, content};
use crate::stand_in::StandIn;

/// Whatever its size, one piece is copied at once. There are no part copies: several are read and written.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_in_one_piece_is_moved_by_the_service() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let config = by.config(&stand_in);
        let (digest, bytes) = content(1, (21 << 20) + 3);
        for split in [bytes.len(), 11 << 20] {
            let store = open(&config).await;
            let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
            upload.write(bytes.slice(..split)).await.unwrap();
            let token = upload.suspend().await.unwrap();
            let before = stand_in.log().len();
            let other = open(&config).await;
            let mut upload = other.resume(ResumeOptions::new(token, 2)).await.unwrap();
            upload.write(bytes.slice(split..)).await.unwrap();
            upload.commit(&digest).await.unwrap();
            let reads = stand_in.log()[before..].iter().filter(|(method, target)| method == "GET" && target.ends_with("000000")).count();
            assert_eq!(reads, if split < bytes.len() { 2 } else { 0 }, "{by:?}");
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            assert_eq!(stand_in.objects().len(), 1, "{:?}", stand_in.objects());
            assert_eq!(stand_in.open_multiparts(), 0);
        }
    }
}

/// The service keeps them for ever: https://cloud.google.com/storage/docs/multipart-uploads
#[tokio::test(flavor = "multi_thread")]
async fn multipart_uploads_that_nobody_goes_on_with_are_found_and_aborted() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let store = open(&by.config(&stand_in)).await;
        let mut upload = store.begin(WriteOptions::default()).await.unwrap();
        upload.write(content(2, 11 << 20).1).await.unwrap();
        // Until its parts are there.
        while store.uploads(END_OF_TIME).try_collect::<Vec<_>>().await.unwrap().iter().all(|left| left.size != Some(10 << 20)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // As if it had been killed: its destructor is not run.
        std::mem::forget(upload);
        assert_eq!(stand_in.open_multiparts(), 1);
        clean_up(&store).await;
        assert_eq!((stand_in.open_multiparts(), stand_in.objects().len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_download_url_needs_no_key() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let forged = |url: &str| url.replace("Signature=", "Signature=0");
        a_download_url_lets_its_holder_in(&open(&by.config(&stand_in)).await, forged).await;
    }
}
