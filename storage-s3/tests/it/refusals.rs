//! What is said when a service says no: what is wrong, and which setting to change.

use registry_core::{BlobStoreExt as _, ErrorKind};
use storage_s3::Secret;

use crate::blobs_support::content;
use crate::proxy::{Fault, Seen};
use crate::service::{self, Place, without_request};

/// What is said when it is opened, without what differs from run to run.
async fn said(place: &Place) -> (ErrorKind, String) {
    let opened = place.builder().with_retries(0, std::time::Duration::ZERO).build_blob_store().await;
    let error = opened.expect_err("it cannot be opened");
    let port = place.config.endpoint.as_deref().unwrap().rsplit(':').next().unwrap().to_owned();
    let message = without_request(&error.to_string()).replace(&format!(":{port}"), ":PORT").replace(&place.config.bucket, "BUCKET");
    (error.kind(), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_a_bucket_that_is_not_there_are_told_apart() {
    for good in service::places() {
        let mut place = good.clone();
        place.config.access_key = Some("AKIANOBODY".to_owned());
        let unknown = "GET /BUCKET: 403 Forbidden InvalidAccessKeyId: that access key is not known there: check access_key, and whether endpoint is the right service";
        assert_eq!(said(&place).await, (ErrorKind::Denied, unknown.to_owned()));
        let mut place = good.clone();
        place.config.secret_key = Some(Secret::from("wrong"));
        let wrong = "GET /BUCKET: 403 Forbidden SignatureDoesNotMatch: check secret_key; a wrong region, or a proxy that changes headers, has the same effect";
        assert_eq!(said(&place).await, (ErrorKind::Denied, wrong.to_owned()));
        let mut place = good.clone();
        (place.config.bucket, place.config.create_bucket) = (format!("nobody-{}", &registry_core::random_id()[..8]), false);
        let missing = "there is no bucket BUCKET at http://127.0.0.1:PORT/BUCKET: check bucket and endpoint, or set create_bucket = true";
        assert_eq!(said(&place).await, (ErrorKind::InvalidInput, missing.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nothing_listens_is_said_to_be_that() {
    let Some(mut place) = service::seaweedfs() else { return };
    place.config.endpoint = Some("http://127.0.0.1:9".to_owned());
    let refused = "GET /BUCKET: no connection: Connection refused (os error 111)";
    assert_eq!(said(&place).await, (ErrorKind::Unavailable, refused.to_owned()));
}

/// What no server here says: as Amazon's documentation has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_amazon_says_of_regions_clocks_tokens_and_rights_is_understood() {
    let Some(place) = service::seaweedfs() else { return };
    let (proxy, through) = place.proxied().await;
    let cases = [
        (
            "400 Bad Request",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region></Error>",
            ErrorKind::InvalidInput,
            "400 Bad Request AuthorizationHeaderMalformed: the bucket is in region eu-west-1: set region to that",
        ),
        (
            "301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1",
            "<Error><Code>PermanentRedirect</Code><Endpoint>quay.s3.eu-west-1.amazonaws.com</Endpoint></Error>",
            ErrorKind::InvalidInput,
            "301 Moved Permanently PermanentRedirect: the bucket is in region eu-west-1: set region to that",
        ),
        (
            "403 Forbidden",
            "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>",
            ErrorKind::Denied,
            "403 Forbidden RequestTimeTooSkewed: the clock of this machine, or the service's, is wrong: set both by a time server",
        ),
        (
            "400 Bad Request",
            "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
            ErrorKind::Denied,
            "400 Bad Request ExpiredToken: the session token is not, or no longer, good: leave access_key out to have it renewed, or give new ones",
        ),
        (
            "403 Forbidden",
            "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
            ErrorKind::Denied,
            "403 Forbidden AccessDenied: whoever has these keys may not do that; it needs the permission s3:ListBucket",
        ),
        ("404 Not Found", "<html>nginx</html>", ErrorKind::InvalidInput, "404 Not Found: that is no answer of S3: check endpoint"),
        ("200 OK", "<html>Welcome to nginx!</html>", ErrorKind::InvalidInput, ""),
    ];
    for (head, body, kind, expected) in cases {
        proxy.plan(move |_| Fault::Answer(head, body));
        let (found, message) = said(&through).await;
        let expected = match expected {
            "" => "listing the bucket: that is no answer of an S3 service: check endpoint".to_owned(),
            expected => format!("GET /BUCKET: {expected}"),
        };
        assert_eq!((found, message), (kind, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_and_not_write_is_told_which_permission_is_missing() {
    let Some(place) = service::seaweedfs() else { return };
    let (proxy, through) = place.proxied().await;
    let store = through.open().await;
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    proxy.plan(move |seen: &Seen| if seen.method == "PUT" { Fault::Answer("403 Forbidden", denied) } else { Fault::None });
    let (digest, bytes) = content(1, 10);
    let error = store.put_bytes(&digest, bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().ends_with("whoever has these keys may not do that; it needs the permission s3:PutObject"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_full_is_said_to_be_full_and_is_not_tried_again() {
    let Some(place) = service::radosgw() else { return };
    let (proxy, through) = place.proxied().await;
    let store = through.open().await;
    let full = "<Error><Code>QuotaExceeded</Code></Error>";
    proxy.plan(move |seen: &Seen| if seen.method == "PUT" { Fault::Answer("403 Forbidden", full) } else { Fault::None });
    let (digest, bytes) = content(1, 10);
    let error = store.put_bytes(&digest, bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tries_the_clock_multipart_uploads_and_a_signed_url() {
    for place in service::places() {
        let report = registry_core::BlobStore::probe(&place.open().await).await;
        assert!(report.failure().is_none(), "{:?}", report.failure());
        let names: Vec<_> = report.steps.iter().map(|step| step.name).collect();
        assert!(names.ends_with(&["clock", "multipart upload", "signed URL"]), "{names:?}");
        assert!(place.names().await.is_empty() && place.multiparts().await.is_empty());
    }
}
