//! TLS: with the server of `REGISTRY_TEST_POSTGRES`, whose certificate is of the authority in `REGISTRY_TEST_POSTGRES_CA`, and with servers that only pretend.

use std::sync::Arc;
use std::time::Duration;

use metadata_sql::{PostgresOptions, SqlMetadataStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use registry_core::{ErrorKind, MetadataStore as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::{drop_schema, fresh_schema, needed, open, options, outsider, server};
use crate::support::{push_blob, repository};

/// The server, and its authority.
fn server_with_ca(test: &str) -> Option<(String, Arc<[u8]>)> {
    let url = server(test)?;
    let path = needed(test, "REGISTRY_TEST_POSTGRES_CA")?;
    Some((url, std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")).into()))
}

/// The URL with more parameters.
fn with(url: &str, parameters: &str) -> String {
    format!("{url}{}{parameters}", if url.contains('?') { '&' } else { '?' })
}

/// The URL by another name of the same server.
fn by_name(url: &str, name: &str) -> String {
    let (front, host) = url.rsplit_once('@').unwrap();
    let (address, rest) = host.split_once(':').unwrap();
    with(&format!("{front}@{name}:{rest}"), &format!("hostaddr={address}"))
}

/// Why the store does not open. The password is nowhere in it.
async fn refused(url: &str, options: PostgresOptions) -> String {
    let error = SqlMetadataStore::postgres(url, options).await.expect_err("a refusal");
    assert!(error.kind() == ErrorKind::Unavailable, "{error:?}");
    let password = url.split_once("://").unwrap().1.rsplit_once('@').unwrap().0.split_once(':').unwrap().1;
    let mut told = format!("{error} {error:?}");
    let mut next = std::error::Error::source(&error);
    while let Some(source) = next {
        told += &format!(" {source} {source:?}");
        next = source.source();
    }
    assert!(!password.is_empty() && !told.contains(password), "{told}");
    error.to_string()
}

/// For each connection of that name, whether it has TLS.
async fn encrypted(url: &str, name: &str) -> Vec<bool> {
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    outsider(url).await.query(sql, &[&name]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn by_sslmode_every_connection_has_tls() {
    let Some((url, ca)) = server_with_ca("by_sslmode_every_connection_has_tls") else { return };
    let (by_address, by_name) = (url.clone(), by_name(&url, "localhost"));
    for (url, mode) in [
        (&by_address, "sslmode=require"),
        (&by_address, "sslmode=verify-full"),
        (&by_name, "sslmode=verify-ca"),
        // The password is then proven for this very connection, which nobody in between can pass on.
        (&by_name, "sslmode=require&channel_binding=require"),
    ] {
        let schema = fresh_schema();
        let options = options(&schema).with_authorities(Arc::clone(&ca));
        let store = open(&with(url, &format!("{mode}&application_name={schema}")), options).await;
        let blob = push_blob(&store, "team/app", "layer").await.unwrap();
        assert!(store.blob_link(&repository("team/app"), &blob).await.unwrap().is_some());
        let found = encrypted(&by_address, &schema).await;
        assert!(found.len() >= 2 && found.iter().all(|encrypted| *encrypted), "{mode}: {found:?}");
        store.close().await;
        drop_schema(&by_address, &schema).await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced_by_another_with_tls() {
    let Some((url, ca)) = server_with_ca("a_lost_connection_is_replaced_by_another_with_tls") else { return };
    let schema = fresh_schema();
    let options = options(&schema).with_authorities(ca);
    let store = open(&with(&url, &format!("sslmode=require&application_name={schema}")), options).await;
    let outsider = outsider(&url).await;
    for number in 0..3 {
        let blob = push_blob(&store, "team/app", &format!("layer {number}")).await.unwrap();
        assert!(store.blob_link(&repository("team/app"), &blob).await.unwrap().is_some());
        let found = encrypted(&url, &schema).await;
        assert!(found.len() >= 2 && !found.contains(&false), "{found:?}");
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        assert!(outsider.query(sql, &[&schema]).await.unwrap().len() >= 2);
        // The client has to have heard of it; a cut in the very moment of asking is an honest `Unavailable`.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn without_sslmode_no_connection_has_tls_even_if_the_server_does() {
    let Some((url, ca)) = server_with_ca("without_sslmode_no_connection_has_tls_even_if_the_server_does") else { return };
    for mode in ["", "sslmode=disable&", "sslmode=prefer&"] {
        let schema = fresh_schema();
        let options = options(&schema).with_authorities(Arc::clone(&ca));
        let store = open(&with(&url, &format!("{mode}application_name={schema}")), options).await;
        push_blob(&store, "team/app", "layer").await.unwrap();
        let found = encrypted(&url, &schema).await;
        assert!(!found.is_empty() && !found.contains(&true), "{mode}: {found:?}");
        store.close().await;
        drop_schema(&url, &schema).await;
    }
}

#[tokio::test]
async fn the_server_is_refused_without_its_authority_and_by_a_name_that_it_has_not() {
    let test = "the_server_is_refused_without_its_authority_and_by_a_name_that_it_has_not";
    let Some((url, ca)) = server_with_ca(test) else { return };
    let told = refused(&with(&url, "sslmode=require"), options("unused")).await;
    assert!(told.contains("not trusted") && told.contains("set ca_file"), "{told}");
    let elsewhere = with(&by_name(&url, "db.example"), "sslmode=verify-full");
    let told = refused(&elsewhere, options("unused").with_authorities(ca)).await;
    assert!(told.contains("for another name") && told.contains("db.example"), "{told}");
}

/// Answers the first eight bytes of each connection, the question for TLS, and does with it what is to be done. The port.
async fn pretend<F: Future<Output = ()> + Send + 'static>(answer: u8, then: impl Fn(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut question = [0; 8];
            client.read_exact(&mut question).await.unwrap();
            assert_eq!(question, [0, 0, 0, 8, 4, 210, 22, 47], "no question for TLS");
            client.write_all(&[answer]).await.unwrap();
            tokio::spawn(then(client));
        }
    });
    port
}

#[tokio::test]
async fn a_server_without_tls_is_refused_and_told_nothing() {
    let (heard, mut what) = mpsc::unbounded_channel();
    let port = pretend(b'N', move |mut client| {
        let heard = heard.clone();
        async move {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            heard.send(rest).unwrap();
        }
    })
    .await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgres://user:s3cret@127.0.0.1:{port}/db?sslmode={mode}");
        let told = refused(&url, PostgresOptions::default()).await;
        assert!(told.contains("it has no TLS") && told.contains("sslmode"), "{told}");
        assert!(what.recv().await.unwrap().is_empty(), "it went on without TLS");
    }
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a server with this certificate is refused for.
async fn refused_with(certificate: CertificateParams, of: &Ca, trusted: &Ca) -> String {
    let key = KeyPair::generate().unwrap();
    let chain = vec![certificate.signed_by(&key, of).unwrap().der().clone()];
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = pretend(b'S', move |client| {
        let acceptor = acceptor.clone();
        async move {
            assert!(acceptor.accept(client).await.is_err(), "the client goes on");
        }
    })
    .await;
    let url = format!("postgres://user:s3cret@127.0.0.1:{port}/db?sslmode=require");
    refused(&url, PostgresOptions::default().with_authorities(trusted.pem().into_bytes().into())).await
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_refused_with_what_is_wrong_and_what_to_do() {
    let (ours, others) = (authority(), authority());
    let name = |name: &str| CertificateParams::new([name.to_owned()]).unwrap();
    let told = refused_with(name("127.0.0.1"), &others, &ours).await;
    assert!(told.contains("not trusted") && told.contains("set ca_file"), "{told}");
    let told = refused_with(name("db.example"), &ours, &ours).await;
    assert!(told.contains("for another name") && told.contains("db.example"), "{told}");
    let mut old = name("127.0.0.1");
    old.not_after = date_time_ymd(2001, 1, 1);
    let told = refused_with(old, &ours, &ours).await;
    assert!(told.contains("has expired"), "{told}");
    let mut young = name("127.0.0.1");
    young.not_before = date_time_ymd(2999, 1, 1);
    let told = refused_with(young, &ours, &ours).await;
    assert!(told.contains("not valid yet"), "{told}");
}

#[tokio::test]
async fn a_server_that_begins_tls_with_something_else_is_refused() {
    let port = pretend(b'S', |mut client| async move {
        client.write_all(b"E\0\0\0\x15SFATAL\0C53300\0\0").await.unwrap();
        // Closed only once the client is: what it has not read would be lost.
        let _ = client.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let told = refused(&format!("postgres://user:s3cret@127.0.0.1:{port}/db?sslmode=require"), PostgresOptions::default()).await;
    assert!(told.contains("no TLS with it"), "{told}");
}
