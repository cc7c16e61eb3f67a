//! A service behind TLS, and behind a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::date_time_ymd;
use registry_core::{BlobStore as _, BlobStoreExt as _, ErrorKind};
use storage_s3::Secret;

use crate::blobs_support::content;
use crate::proxy::Fault;
use crate::service::{self, PART, Place};
use crate::tls_front::{ca, certificate, file, forward, forward_to, listen, tls_before};

/// Puts a small and a large blob, and reads them.
async fn works(place: &Place) {
    let store = place.open().await;
    for len in [1000, PART + 1000] {
        let (digest, bytes) = content(len as u64, len);
        store.put_bytes(&digest, bytes.clone()).await.unwrap();
        assert!(store.read_all(&digest).await.unwrap() == bytes);
    }
}

/// What is said of it, without the port.
async fn said(place: &Place) -> String {
    let error = place.builder().with_retries(0, Duration::ZERO).build_blob_store().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let port = place.config.endpoint.as_deref().unwrap().rsplit(':').next().unwrap();
    error.to_string().replace(&format!(":{port}"), ":PORT")
}

/// Bodies are signed where there is no TLS, and only there.
#[tokio::test(flavor = "multi_thread")]
async fn a_ca_of_ones_own_is_trusted_by_ca_file_and_bodies_are_left_to_tls() {
    for place in service::places() {
        let (proxy, through) = place.proxied().await;
        works(&through).await;
        let signed =
            proxy.seen().into_iter().filter(|seen| seen.method == "PUT").all(|seen| seen.header("x-amz-content-sha256").len() == 64);
        assert!(signed);
        let ca = ca();
        let (_file, ca_file) = file(&ca);
        let mut secure = through.elsewhere();
        // RadosGW takes a host's name for that of a bucket, unless it is its own, or an address.
        let url = tls_before(through.config.endpoint.as_deref().unwrap(), &ca, certificate("127.0.0.1")).await;
        secure.config.endpoint = Some(url.replace("localhost", "127.0.0.1"));
        let untrusted =
            "its certificate is not trusted (invalid peer certificate: UnknownIssuer); set ca_file to the certificate of its CA";
        assert_eq!(said(&secure).await, format!("GET /registry: https://127.0.0.1:PORT: {untrusted}"));
        secure.config.ca_file = ca_file;
        proxy.plan(|_| Fault::None);
        works(&secure).await;
        let puts: Vec<_> = proxy.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
        assert!(!puts.is_empty() && puts.iter().all(|seen| seen.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_said_in_plain_words() {
    let Some(mut place) = service::seaweedfs() else { return };
    let url = place.config.endpoint.clone().unwrap();
    let ca = ca();
    let (_file, ca_file) = file(&ca);
    place.config.ca_file = ca_file;
    let mut expired = certificate("localhost");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let cases = [
        (expired, "its certificate has expired, or this machine's clock is wrong"),
        (
            certificate("s3.example"),
            r#"its certificate is for another name (invalid peer certificate: certificate not valid for name "localhost"; certificate is only valid for DnsName("s3.example")); set endpoint to one that the certificate has"#,
        ),
    ];
    for (certificate, expected) in cases {
        place.config.endpoint = Some(tls_before(&url, &ca, certificate).await);
        assert_eq!(said(&place).await, format!("GET /registry: https://localhost:PORT: {expected}"));
    }
    place.config.endpoint = Some(url.replace("http://", "https://"));
    let expected = "GET /registry: https://127.0.0.1:PORT: there is no TLS (";
    assert!(said(&place).await.starts_with(expected), "{}", said(&place).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_told_of_by_the_probe() {
    let Some(mut place) = service::seaweedfs() else { return };
    let url = place.config.endpoint.clone().unwrap();
    let step = async |place: &Place| {
        let steps = place.open().await.probe().await.steps;
        steps.into_iter().find(|step| step.name == "certificate").map(|step| step.outcome.map_err(|error| error.to_string()))
    };
    assert_eq!(step(&place).await, None, "there is no TLS");
    let ca = ca();
    let (_file, ca_file) = file(&ca);
    place.config.ca_file = ca_file;
    for (days, expected) in [(30, None), (3, Some("the service's certificate ends in 2 days, on 2"))] {
        let mut certificate = certificate("localhost");
        certificate.not_after = (std::time::SystemTime::now() + Duration::from_secs(days * 24 * 3600)).into();
        place.config.endpoint = Some(tls_before(&url, &ca, certificate).await);
        let told = step(&place).await.expect("it is looked at").err();
        assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
        if let (Some(told), Some(expected)) = (told, expected) {
            assert!(told.contains(expected) && told.ends_with("UTC: renew it, or all requests fail from then on"), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_set_is_used_for_all() {
    for mut place in service::places() {
        let used = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&used);
        let port = listen(move |client| {
            counted.fetch_add(1, Ordering::Relaxed);
            forward(client)
        })
        .await;
        place.config.proxy = Some(Secret::from(format!("http://127.0.0.1:{port}")));
        works(&place).await;
        assert!(used.load(Ordering::Relaxed) >= 2);
    }
}

/// RadosGW is called `rgw.localhost` here, and its buckets by names in front of that: only a proxy knows where all of these are.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_may_be_in_the_hosts_name() {
    let Some(mut place) = service::radosgw() else { return };
    let service = place.config.endpoint.as_deref().unwrap().trim_start_matches("http://").to_owned();
    place.open().await;
    let port = listen({
        let service = service.clone();
        move |client| forward_to(client, service.clone())
    })
    .await;
    place.config.proxy = Some(Secret::from(format!("http://127.0.0.1:{port}")));
    place.config.endpoint = Some("http://rgw.localhost".to_owned());
    (place.config.path_style, place.config.create_bucket) = (Some(false), false);
    works(&place).await;
    place.config.bucket = "nobodys-bucket".to_owned();
    assert!(place.builder().build_blob_store().await.unwrap_err().message().starts_with("there is no bucket nobodys-bucket"));
}
