//! Uploads whose digest is not known before their end: staged, taken up again, moved, given up.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::blob::{BlobUpload, ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _, Clock as _, SystemClock, Timestamp};

use crate::blobs_support::{END_OF_TIME, a_download_url_lets_its_holder_in, content};
use crate::proxy::{Fault, Seen};
use crate::service;

async fn write(upload: &mut dyn BlobUpload, bytes: &Bytes) {
    for chunk in bytes.chunks(1_000_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
}

fn is_part_copy(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.target.contains("partNumber=") && !seen.header("x-amz-copy-source-range").is_empty()
}

fn is_copy(seen: &Seen) -> bool {
    seen.method == "PUT" && !seen.target.contains("partNumber=") && !seen.header("x-amz-copy-source").is_empty()
}

fn is_read(seen: &Seen) -> bool {
    seen.method == "GET" && seen.target.contains("/_uploads/") && !seen.target.contains('?') && !seen.target.ends_with("/_writer")
}

/// What lies in one piece is copied at once, or by parts if it is too large for that; what lies in several is put together from parts. None of it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_becomes_the_blob_on_the_services_side() {
    for place in service::places() {
        let (digest, bytes) = content(1, (37 << 20) + 3);
        for (split, limit, copies, part_copies) in
            [(bytes.len(), 5 << 30, 1, 0), (bytes.len(), 16 << 20, 0, 3), (21 << 20, 5 << 30, 0, 2), (21 << 20, 8 << 20, 0, 6)]
        {
            let (proxy, mut through) = place.elsewhere().proxied().await;
            through.dialect.copy_limit = limit;
            let one = through.open().await;
            let mut upload = one.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
            write(&mut *upload, &bytes.slice(..split)).await;
            assert_eq!(through.multiparts().await.len(), 1, "it is on its way in parts");
            let token = upload.suspend().await.unwrap();
            // Another process goes on.
            let two = through.open().await;
            proxy.plan(|_| Fault::None);
            let mut upload = two.resume(ResumeOptions::new(token, 2)).await.unwrap();
            assert_eq!(upload.offset(), split as u64);
            write(&mut *upload, &bytes.slice(split..)).await;
            upload.commit(&digest).await.unwrap();
            let seen = proxy.seen();
            let count = |is: fn(&Seen) -> bool| seen.iter().filter(|seen| is(seen)).count();
            assert_eq!((count(is_copy), count(is_part_copy), count(is_read)), (copies, part_copies, 0), "{split}, {limit}: {seen:#?}");
            assert!(one.read_all(&digest).await.unwrap() == bytes);
            assert_eq!(through.names().await.len(), 1, "the blob and nothing else");
            assert!(through.nothing_is_open().await);
        }
    }
}

/// Only what is shorter than a part is read, to be sent again in one.
#[tokio::test(flavor = "multi_thread")]
async fn short_requests_do_not_make_many_pieces() {
    for place in service::places() {
        let (digest, bytes) = content(2, 13 << 20);
        let mut token = None;
        for (n, chunk) in bytes.chunks(1 << 20).enumerate() {
            let store = place.open().await;
            let mut upload = match token.take() {
                None => store.begin(WriteOptions::default().with_epoch(1)).await.unwrap(),
                Some(token) => store.resume(ResumeOptions::new(token, 1 + n as u64)).await.unwrap(),
            };
            upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
            token = Some(upload.suspend().await.unwrap());
        }
        let store = place.open().await;
        let mut upload = store.resume(ResumeOptions::new(token.unwrap(), 100)).await.unwrap();
        upload.commit(&digest).await.unwrap();
        assert!(store.read_all(&digest).await.unwrap() == bytes);
        assert_eq!(place.names().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_found_and_discarded() {
    for place in service::places() {
        let one = place.open().await;
        let (digest, bytes) = content(3, (12 << 20) + 3);
        one.put_bytes(&digest, bytes.clone()).await.unwrap();
        let mut suspended = one.begin(WriteOptions::default()).await.unwrap();
        write(&mut *suspended, &bytes).await;
        suspended.suspend().await.unwrap();
        let mut dropped = one.begin(WriteOptions::default()).await.unwrap();
        write(&mut *dropped, &bytes).await;
        drop(dropped);
        let wrong = one.put_bytes(&content(4, 7).0, bytes.clone()).await;
        assert_eq!(wrong.unwrap_err().kind(), registry_core::ErrorKind::DigestInvalid);
        assert!(place.nothing_is_open().await);

        let two = place.open().await;
        let hour_ago = Timestamp::from_millis(SystemClock.now().as_millis() - 3_600_000);
        assert!(two.uploads(hour_ago).try_collect::<Vec<_>>().await.unwrap().is_empty());
        let left: Vec<_> = two.uploads(END_OF_TIME).try_collect().await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].size, Some(bytes.len() as u64));
        two.discard(&left[0].id).await.unwrap();
        assert!(two.uploads(END_OF_TIME).try_collect::<Vec<_>>().await.unwrap().is_empty());
        assert_eq!(place.names().await.len(), 1, "the blob stays");
        assert!(two.read_all(&digest).await.unwrap() == bytes);
    }
}

/// A killed process leaves multipart uploads that no list of objects shows: of a piece, and of a blob.
#[tokio::test(flavor = "multi_thread")]
async fn multipart_uploads_that_a_killed_process_left_are_found_with_their_sizes_and_aborted() {
    for place in service::places() {
        let store = place.open().await;
        let (digest, bytes) = content(5, (11 << 20) + 3);
        let mut staged = store.begin(WriteOptions::default()).await.unwrap();
        write(&mut *staged, &bytes).await;
        let endless = stream::iter([Ok(bytes.clone())]).chain(stream::pending()).boxed();
        let put = {
            let store = store.clone();
            tokio::spawn(async move { store.put(&digest, WriteOptions::default(), endless).await })
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let sizes = loop {
            let left: Vec<_> = store.uploads(END_OF_TIME).try_collect().await.unwrap();
            let sizes: Vec<_> = left.iter().map(|upload| upload.size.unwrap()).collect();
            if sizes.len() == 2 && sizes.iter().all(|size| *size >= 10 << 20) {
                break sizes;
            }
            assert!(std::time::Instant::now() < deadline, "{left:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(sizes, [10 << 20, 10 << 20], "what is full is sent");
        // What is written to is not abandoned, whenever it was begun. (Servers here tell whole seconds.)
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let later = SystemClock.now();
        tokio::time::sleep(Duration::from_millis(2100)).await;
        write(&mut *staged, &bytes).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let is_staged = |upload: &registry_core::blob::PendingUpload| !upload.id.contains('.');
        while store.uploads(later).try_collect::<Vec<_>>().await.unwrap().iter().any(is_staged) {
            assert!(std::time::Instant::now() < deadline, "its last parts came later");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let left: Vec<_> = store.uploads(later).try_collect().await.unwrap();
        assert_eq!(left.len(), 1, "the other is");
        put.abort();
        // As if it had been killed: its destructor is not run.
        std::mem::forget(staged);
        crate::blobs_support::clean_up(&store).await;
        assert!(place.multiparts().await.is_empty());
        assert!(store.uploads(END_OF_TIME).try_collect::<Vec<_>>().await.unwrap().is_empty());
        assert!(place.names().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_download_url_needs_no_key() {
    for place in service::places() {
        let forged = |url: &str| url.replace("X-Amz-Signature=", "X-Amz-Signature=0");
        a_download_url_lets_its_holder_in(&place.open().await, forged).await;
    }
}
