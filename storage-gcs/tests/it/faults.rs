//! Connections that are cut, and a service that is away or has too much to do.

use std::time::Duration;

use bytes::Bytes;
use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, Result};
use storage_gcs::GcsBuilder;
use storage_object::ObjectBlobStore;

use crate::blobs::{BUCKET, By, open};
use crate::blobs_support::{clean_up, content, is_whole};
use crate::proxy::{At, Fault, Proxy, Seen, first};
use crate::stand_in::StandIn;

/// A store, begun by one process and committed by another.
async fn bring_in(store: &ObjectBlobStore, digest: &Digest, bytes: &Bytes) -> Result<()> {
    let middle = bytes.len() / 2;
    let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await?;
    upload.write(bytes.slice(..middle)).await?;
    let token = upload.suspend().await?;
    let mut upload = store.resume(ResumeOptions::new(token, 2)).await?;
    upload.write(bytes.slice(middle..)).await?;
    upload.commit(digest).await.map(drop)
}

/// Each kind of request is cut, once or always, at each of these places: never a wrong blob, never anything that the clean-up does not find.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_there_is_a_whole_blob_or_none_and_the_clean_up_finds_the_rest() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let config = by.config(&stand_in);
        let healthy = open(&config).await;
        let proxy = Proxy::new(&stand_in.url()).await;
        let mut through = config.clone();
        through.endpoint = Some(proxy.instead_of(&stand_in.url()));
        let (digest, bytes) = content(1, 11 << 20);
        type Kind = fn(&Seen) -> bool;
        let kinds: [Kind; 5] = [
            |seen| seen.method == "POST" && seen.target.contains("uploads"),
            |seen| seen.method == "PUT" && seen.target.contains("partNumber"),
            |seen| seen.method == "POST" && seen.target.contains("uploadId"),
            |seen| seen.method == "PUT" && !seen.target.contains("partNumber"),
            |seen| seen.method == "DELETE",
        ];
        for kind in kinds {
            for times in [1, usize::MAX] {
                for cut in [Fault::CutRequest(At::MiddleOfHead), Fault::CutRequest(At::MiddleOfBody), Fault::CutAnswer(At::Byte(0))] {
                    let store = GcsBuilder::new(through.clone()).with_part_size(5 << 20).with_retries(1, Duration::from_secs(5));
                    let store = store.build_blob_store().await.unwrap();
                    proxy.plan(first(times, kind, cut));
                    let outcome = bring_in(&store, &digest, &bytes).await;
                    assert!(times > 1 || outcome.is_ok(), "{by:?}: {outcome:?}");
                    assert!(outcome.as_ref().err().is_none_or(registry_core::Error::is_retryable), "{outcome:?}");
                    proxy.plan(|_| Fault::None);
                    drop(store);
                    proxy.quiet().await;
                    assert!(is_whole(&healthy, &digest, &bytes).await || outcome.is_err());
                    clean_up(&healthy).await;
                    healthy.delete(&digest).await.unwrap();
                    assert_eq!((stand_in.objects(), stand_in.open_multiparts()), (Vec::new(), 0), "{by:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_cut_goes_on_where_it_was() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let config = by.config(&stand_in);
        let (digest, bytes) = content(2, 3 << 20);
        open(&config).await.put_bytes(&digest, bytes.clone()).await.unwrap();
        let proxy = Proxy::new(&stand_in.url()).await;
        let mut through = config;
        through.endpoint = Some(proxy.instead_of(&stand_in.url()));
        let store = open(&through).await;
        for cut in [At::EndOfHead(1), At::MiddleOfBody, At::End(-1)] {
            proxy.plan(first(2, |seen| seen.method == "GET", Fault::CutAnswer(cut)));
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            assert_eq!(proxy.seen().len(), 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_on_its_way_is_refused_and_sent_again() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let proxy = Proxy::new(&stand_in.url()).await;
        let mut through = by.config(&stand_in);
        through.endpoint = Some(proxy.instead_of(&stand_in.url()));
        let store = open(&through).await;
        for (seed, len) in [(3, 1000), (4, 11 << 20)] {
            let (digest, bytes) = content(seed, len);
            proxy.plan(first(1, |seen| seen.method == "PUT", Fault::FlipBit));
            store.put_bytes(&digest, bytes.clone()).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_when_the_service_is_back() {
    for by in By::ALL {
        let stand_in = StandIn::start(BUCKET).await;
        let builder = GcsBuilder::new(by.config(&stand_in)).with_part_size(5 << 20).with_retries(10, Duration::from_secs(60));
        let store = builder.build_blob_store().await.unwrap();
        let (digest, bytes) = content(5, 31 << 20);
        let mut upload = store.begin(WriteOptions::default()).await.unwrap();
        upload.write(bytes.slice(..16 << 20)).await.unwrap();
        stand_in.stop().await;
        let rest = tokio::spawn(async move {
            upload.write(bytes.slice(16 << 20..)).await.unwrap();
            upload.commit(&digest).await.unwrap();
            bytes
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        stand_in.start_again();
        let bytes = rest.await.unwrap();
        assert!(store.read_all(&digest).await.unwrap() == bytes);
    }
}
