//! What is said when the service says no.

use registry_core::{BlobStoreExt as _, ErrorKind};
use storage_gcs::{GcsBuilder, GcsConfig, Secret};

use crate::blobs::{BUCKET, By, open};
use crate::stand_in::StandIn;

/// Without what the service called the request, and the port.
async fn said(stand_in: &StandIn, config: &GcsConfig) -> (ErrorKind, String) {
    let opened = GcsBuilder::new(config.clone()).with_retries(0, std::time::Duration::ZERO).build_blob_store().await;
    let error = opened.expect_err("it cannot be opened");
    let message = error.to_string().replace(&stand_in.url(), "URL");
    let message = message.split(" (request ").next().unwrap().to_owned();
    (error.kind(), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_a_bucket_that_is_not_there_are_told_apart() {
    let stand_in = StandIn::start(BUCKET).await;
    let mut config = By::Keys.config(&stand_in);
    config.secret_key = Some(Secret::from("wrong"));
    let wrong = "GET /quay-enterprise: 403 Forbidden SignatureDoesNotMatch: check secret_key; a wrong region, or a proxy that changes headers, has the same effect";
    assert_eq!(said(&stand_in, &config).await, (ErrorKind::Denied, wrong.to_owned()));
    config.access_key = Some("GOOGNOBODY".to_owned());
    let (kind, unknown) = said(&stand_in, &config).await;
    assert_eq!(kind, ErrorKind::Denied);
    assert!(unknown.contains("InvalidAccessKeyId: that access key is not known there: check access_key"), "{unknown}");
    let other = StandIn::start(BUCKET).await;
    let mut config = By::ServiceAccount.config(&other);
    config.endpoint = Some(stand_in.url());
    let (kind, unknown) = said(&stand_in, &config).await;
    assert_eq!(kind, ErrorKind::Denied, "{unknown}");
    assert!(unknown.starts_with("GET /quay-enterprise: 401 Unauthorized"), "{unknown}");
    for by in By::ALL {
        let mut config = by.config(&stand_in);
        config.bucket = "nobodys".to_owned();
        let missing = "there is no bucket nobodys at URL/nobodys: check bucket";
        assert_eq!(said(&stand_in, &config).await, (ErrorKind::InvalidInput, missing.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_and_rights_that_are_missing_are_told_of() {
    let stand_in = StandIn::start(BUCKET).await;
    let stores = [open(&By::ServiceAccount.config(&stand_in)).await, open(&By::Keys.config(&stand_in)).await];
    stand_in.set_clock_skew(120);
    for store in &stores {
        let report = registry_core::BlobStore::probe(store).await;
        let (step, error) = report.failure().expect("two minutes are too much");
        assert_eq!(step, "clock");
        assert!(error.message().contains("behind Google Cloud Storage's: set both by a time server"), "{error}");
    }
    stand_in.set_clock_skew(3600);
    let (kind, skewed) = said(&stand_in, &By::Keys.config(&stand_in)).await;
    assert_eq!(kind, ErrorKind::Denied);
    assert!(
        skewed.ends_with("RequestTimeTooSkewed: the clock of this machine, or the service's, is wrong: set both by a time server"),
        "{skewed}"
    );
    stand_in.set_clock_skew(0);
    stand_in.deny(true);
    for store in &stores {
        let error = store.put_bytes(&registry_core::Digest::sha256(b"x"), bytes::Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.message().contains("it needs the permission storage.objects.create"), "{error}");
    }
    let (_, denied) = said(&stand_in, &By::Keys.config(&stand_in)).await;
    assert!(denied.ends_with("it needs the permission storage.objects.list"), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tries_all_that_is_needed() {
    let stand_in = StandIn::start(BUCKET).await;
    for by in By::ALL {
        let report = registry_core::BlobStore::probe(&open(&by.config(&stand_in)).await).await;
        assert!(report.failure().is_none(), "{by:?}: {:?}", report.failure());
        let names: Vec<_> = report.steps.iter().map(|step| step.name).collect();
        assert!(names.ends_with(&["clock", "multipart upload", "signed URL"]), "{names:?}");
        assert!(stand_in.objects().is_empty() && stand_in.open_multiparts() == 0);
    }
}

/// A refusal would tell: the stand-in takes nothing that Google is known to refuse.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_that_google_does_not_have() {
    let stand_in = StandIn::start(BUCKET).await;
    for by in By::ALL {
        let store = open(&by.config(&stand_in)).await;
        for len in [0, 100, 12 << 20] {
            let content = bytes::Bytes::from(registry_core::testing::Rng::new(len as u64).bytes(len));
            let digest = registry_core::Digest::sha256(&content);
            store.put_bytes(&digest, content.clone()).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == content);
            registry_core::BlobStore::delete(&store, &digest).await.unwrap();
            // One that is not there is no failure, though the service says 404.
            registry_core::BlobStore::delete(&store, &digest).await.unwrap();
        }
    }
    assert!(stand_in.log().iter().all(|(method, target)| method != "POST" || !target.contains("?delete")));
}
