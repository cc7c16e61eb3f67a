//! Services behind TLS, and behind a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::date_time_ymd;
use registry_core::{BlobStore as _, BlobStoreExt as _, ErrorKind};
use storage_swift::{Secret, SwiftConfig};

use crate::blobs_support::content;
use crate::service::{self, builder, logged_in, open};
use crate::tls_front::{ca, certificate, file, forward, listen, tls_before};

/// A user with both services at these addresses.
fn at(config: &SwiftConfig, auth_url: &str, storage_url: &str) -> SwiftConfig {
    let mut config = config.clone();
    config.auth_url = Some(auth_url.to_owned());
    config.storage_url = Some(storage_url.to_owned());
    config
}

/// What is said of it, without the ports.
async fn said(config: &SwiftConfig) -> String {
    let error = builder(config).with_retries(0, std::time::Duration::ZERO).build_blob_store().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let (mut said, container) = (error.to_string(), &config.container);
    for url in [&config.auth_url, &config.storage_url] {
        let port = url.as_ref().unwrap().split(['/', ':']).nth(4).unwrap();
        said = said.replace(&format!(":{port}"), ":PORT");
    }
    said.replace(container, "CONTAINER")
}

/// The user, and the plain addresses of Keystone and of the account.
async fn plain() -> Option<(SwiftConfig, String, String)> {
    let config = service::keystone()?;
    let storage_url = logged_in(config.clone()).await.storage_url.unwrap();
    let auth_url = config.auth_url.clone().unwrap();
    Some((config, auth_url, storage_url))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_of_ones_own_is_trusted_by_ca_file_and_without_it_that_is_said() {
    let Some((config, auth_url, storage_url)) = plain().await else { return };
    let ca = ca();
    let (auth, storage) =
        (tls_before(&auth_url, &ca, certificate("localhost")).await, tls_before(&storage_url, &ca, certificate("localhost")).await);
    let (_file, ca_file) = file(&ca);
    let mut trusting = at(&config, &auth, &storage);
    trusting.ca_file = ca_file;
    let store = open(&trusting).await;
    let (digest, bytes) = content(70, 300_000);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    assert_eq!(store.read_all(&digest).await.unwrap(), bytes);

    let untrusted = "its certificate is not trusted (invalid peer certificate: UnknownIssuer); set ca_file to the certificate of its CA";
    assert_eq!(said(&at(&config, &auth, &storage)).await, format!("https://localhost:PORT/v3: {untrusted}"));
    let of_storage = format!("HEAD container CONTAINER: https://localhost:PORT: {untrusted}");
    assert_eq!(said(&at(&config, &auth_url, &storage)).await, of_storage);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_said_in_plain_words() {
    let Some((config, auth_url, storage_url)) = plain().await else { return };
    let ca = ca();
    let (_file, ca_file) = file(&ca);
    let mut config = config;
    config.ca_file = ca_file;
    let mut expired = certificate("localhost");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = certificate("localhost");
    early.not_before = date_time_ymd(2999, 1, 1);
    let cases = [
        (expired, "its certificate has expired, or this machine's clock is wrong"),
        (early, "its certificate is not valid yet, or this machine's clock is wrong"),
        (
            certificate("swift.example"),
            r#"its certificate is for another name (invalid peer certificate: certificate not valid for name "localhost"; certificate is only valid for DnsName("swift.example")); set SETTING to one that the certificate has"#,
        ),
    ];
    for (certificate, expected) in cases {
        let auth = tls_before(&auth_url, &ca, certificate.clone()).await;
        let expected_of = |setting| expected.replace("SETTING", setting);
        assert_eq!(said(&at(&config, &auth, &storage_url)).await, format!("https://localhost:PORT/v3: {}", expected_of("auth_url")));
        let storage = tls_before(&storage_url, &ca, certificate).await;
        let of_storage = format!("HEAD container CONTAINER: https://localhost:PORT: {}", expected_of("storage_url"));
        assert_eq!(said(&at(&config, &auth_url, &storage)).await, of_storage);
    }
    let no_tls = auth_url.replace("http://", "https://");
    let expected = "https://127.0.0.1:PORT/v3: there is no TLS (tls handshake eof); if host and port are right, auth_url begins with http:// instead of https://";
    assert_eq!(said(&at(&config, &no_tls, &storage_url)).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_told_of_by_the_probe() {
    let Some((config, auth_url, storage_url)) = plain().await else { return };
    let ca = ca();
    let (_file, ca_file) = file(&ca);
    let mut told = Vec::new();
    for days in [30, 3] {
        let mut certificate = certificate("localhost");
        certificate.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(days * 24 * 3600)).into();
        let mut config = at(&config, &auth_url, &tls_before(&storage_url, &ca, certificate).await);
        config.ca_file.clone_from(&ca_file);
        let steps = open(&config).await.probe().await.steps;
        told.push(steps.into_iter().find(|step| step.name == "certificate").unwrap().outcome.map_err(|error| error.to_string()));
    }
    assert_eq!(told[0], Ok(()));
    let soon = told[1].as_ref().unwrap_err();
    assert!(soon.contains("the service's certificate ends in 2 days, on 2"), "{soon}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_set_is_used_for_all() {
    let Some((config, auth_url, storage_url)) = plain().await else { return };
    let ca = ca();
    let (auth, storage) =
        (tls_before(&auth_url, &ca, certificate("localhost")).await, tls_before(&storage_url, &ca, certificate("localhost")).await);
    let (_file, ca_file) = file(&ca);
    for (auth_url, storage_url) in [(auth_url, storage_url), (auth, storage)] {
        let used = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&used);
        let port = listen(move |client| {
            counted.fetch_add(1, Ordering::Relaxed);
            forward(client)
        })
        .await;
        let mut config = at(&config, &auth_url, &storage_url);
        (config.proxy, config.ca_file) = (Some(Secret::from(format!("http://127.0.0.1:{port}"))), ca_file.clone());
        let store = open(&config).await;
        let (digest, bytes) = content(71, 1000);
        store.put_bytes(&digest, bytes.clone()).await.unwrap();
        assert_eq!(store.read_all(&digest).await.unwrap(), bytes);
        assert!(used.load(Ordering::Relaxed) >= 2, "Keystone and Swift are reached through it");
    }
}
