//! TLS: what is spoken, certificates that are changed while they are used, and what is refused without one.
#![cfg(feature = "tls")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use registry_http::{Certificate, ServeOptions, Tls, TlsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};

use crate::support::{Fixture, content};

/// An authority of one's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `localhost` and this serial number, and its key, in PEM form.
    fn issue(&self, serial: u64) -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        params.not_after = rcgen::date_time_ymd(2199, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The two files, in a directory.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new((certificate, key): &(String, String)) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.put("tls.crt", certificate);
        files.put("tls.key", key);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As careful programs replace files.
    fn put(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn tls(&self) -> Tls {
        Tls::from_files(self.path("tls.crt"), self.path("tls.key")).unwrap()
    }
}

async fn start(fixture: &Fixture, options: ServeOptions) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = fixture.router.clone();
    tokio::spawn(async move { registry_http::serve(listener, router, std::future::pending(), options).await });
    address
}

fn config(authority: &Authority, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The serial number of the certificate that new connections are shown.
async fn serial(address: SocketAddr, authority: &Authority) -> u64 {
    let stream = connect(address, config(authority, &[&version::TLS13], &[])).await.unwrap();
    let certificates = stream.get_ref().1.peer_certificates().unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificates[0]).unwrap();
    certificate.serial.to_u64_digits()[0]
}

fn client(authority: &Authority) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).build().unwrap()
}

#[tokio::test]
async fn both_versions_of_tls_and_of_http_are_spoken() {
    let (fixture, authority) = (Fixture::new(), Authority::new());
    let files = Files::new(&authority.issue(1));
    let plain = start(&fixture, ServeOptions::default().with_tls(files.tls())).await;
    let prefers = start(&fixture, ServeOptions::default().with_tls(files.tls()).with_prefer_http2(true)).await;
    for (version, expected) in [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)] {
        for (address, protocols, http) in [
            (plain, &["http/1.1"][..], Some("http/1.1")),
            (plain, &["h2"], Some("h2")),
            (plain, &["h2", "http/1.1"], Some("http/1.1")),
            (prefers, &["http/1.1", "h2"], Some("h2")),
            (plain, &[], None),
        ] {
            let mut stream = connect(address, config(&authority, &[version], protocols)).await.unwrap();
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.alpn_protocol(), http.map(str::as_bytes), "{protocols:?}");
            if http != Some("h2") {
                stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
    }
    let url = format!("https://localhost:{}/v2/", prefers.port());
    let answer = client(&authority).get(url).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
}

#[tokio::test]
async fn another_authority_and_another_name_are_refused_by_clients() {
    let (fixture, authority, other) = (Fixture::new(), Authority::new(), Authority::new());
    let files = Files::new(&authority.issue(1));
    let address = start(&fixture, ServeOptions::default().with_tls(files.tls())).await;
    let refused = connect(address, config(&other, &[&version::TLS13], &[])).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer") || refused.to_string().contains("BadSignature"), "{refused}");
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config(&authority, &[&version::TLS13], &[])));
    let refused = connector.connect(ServerName::try_from("elsewhere.example").unwrap(), stream).await.unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
}

#[tokio::test]
async fn large_bodies_go_both_ways() {
    let (fixture, authority) = (Fixture::new(), Authority::new());
    let files = Files::new(&authority.issue(1));
    let bytes = content(9 << 20);
    for prefer in [false, true] {
        let address = start(&fixture, ServeOptions::default().with_tls(files.tls()).with_prefer_http2(prefer)).await;
        let (client, url) = (client(&authority), format!("https://localhost:{}", address.port()));
        let digest = registry_core::Digest::sha256(&bytes);
        let push = client.post(format!("{url}/v2/a/blobs/uploads/?digest={digest}")).body(bytes.clone());
        assert_eq!(push.send().await.unwrap().status(), 201);
        let pull = client.get(format!("{url}/v2/a/blobs/{digest}")).send().await.unwrap();
        assert_eq!(pull.bytes().await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_swapped_under_load_and_no_request_fails() {
    let (fixture, authority) = (Fixture::new(), Arc::new(Authority::new()));
    let files = Files::new(&authority.issue(1));
    let tls = files.tls();
    let address = start(&fixture, ServeOptions::default().with_tls(tls.clone())).await;
    let digest = fixture.push("a", content(200_000)).await;
    let url = format!("https://localhost:{}/v2/a/blobs/{digest}", address.port());
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..6)
        .map(|n| {
            let (url, stop, asked, authority) = (url.clone(), Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&authority));
            tokio::spawn(async move {
                // Half of them on one connection all the time, half on a new one each time.
                let mut kept = client(&authority);
                while !stop.load(Ordering::Relaxed) {
                    if n % 2 == 0 {
                        kept = client(&authority);
                    }
                    let answer = kept.get(&url).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    assert_eq!(answer.bytes().await.unwrap().len(), 200_000);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for n in 2..30 {
        let (certificate, key) = authority.issue(n);
        files.put("tls.crt", &certificate);
        // Whoever looks first, this or the server itself, is told.
        assert!(matches!(tls.reload(), Err(TlsError::Mismatch { .. }) | Ok(false)), "one of the two is new");
        assert_eq!(serial(address, &authority).await, n - 1, "the one before is kept");
        files.put("tls.key", &key);
        tls.reload().unwrap();
        assert_eq!(serial(address, &authority).await, n);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for one in load {
        one.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
}

#[tokio::test]
async fn new_files_are_noticed_by_themselves_and_bad_ones_change_nothing() {
    let (fixture, authority) = (Fixture::new(), Authority::new());
    let files = Files::new(&authority.issue(1));
    let address = start(&fixture, ServeOptions::default().with_tls(files.tls())).await;
    files.put("tls.key", "garbage");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(serial(address, &authority).await, 1);
    std::fs::remove_file(files.path("tls.crt")).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(serial(address, &authority).await, 1);
    let (certificate, key) = authority.issue(2);
    files.put("tls.key", &key);
    files.put("tls.crt", &certificate);
    let begun = tokio::time::Instant::now();
    while serial(address, &authority).await != 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody looks at the files");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn what_is_no_certificate_and_key_is_named_and_not_repeated() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(1);
    let (other_certificate, _) = authority.issue(2);
    for (certificate, key, expected) in [
        (certificate.as_str(), other_certificate.as_str(), "there is no private key in PEM form in it"),
        ("hello", &key, "there is no certificate in PEM form in it"),
        (&other_certificate, &key, "is not that of the certificate"),
        (&key, &key, "there is no certificate in PEM form in it"),
    ] {
        let files = Files::new(&(certificate.to_owned(), key.to_owned()));
        let error = Tls::from_files(files.path("tls.crt"), files.path("tls.key")).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error:?}").contains("PRIVATE"), "{error:?}");
    }
    let missing = Tls::from_files("/nowhere/tls.crt", "/nowhere/tls.key").unwrap_err();
    assert_eq!(missing.to_string(), "cannot read /nowhere/tls.crt");
    let files = Files::new(&(certificate, key.clone()));
    assert!(!format!("{:?}", files.tls()).contains("key"));
    let about = Certificate::read(&files.path("tls.crt")).unwrap();
    assert_eq!(about.names, ["localhost", "127.0.0.1"]);
    assert!(about.not_before < SystemTime::now() && about.not_after > SystemTime::now() + Duration::from_secs(5_000_000_000));
    assert_eq!(files.tls().certificate(), about);
}

#[tokio::test]
async fn who_speaks_plain_http_to_it_is_told_so() {
    let (fixture, authority) = (Fixture::new(), Authority::new());
    let files = Files::new(&authority.issue(1));
    let address = start(&fixture, ServeOptions::default().with_tls(files.tls())).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this is an HTTPS address"), "{answer}");
    // Neither is garbage answered with anything but an alert.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_or_takes_nothing_in_is_given_up() {
    let (fixture, authority) = (Fixture::new(), Authority::new());
    let files = Files::new(&authority.issue(1));
    let options = ServeOptions::default()
        .with_tls(files.tls())
        .with_header_timeout(Duration::from_millis(300))
        .with_write_idle_timeout(Duration::from_millis(500));
    let address = start(&fixture, options).await;
    for said in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a connection that said {said:?} is kept");
    }
    let digest = fixture.push("a", content(16 << 20)).await;
    let mut stream = connect(address, config(&authority, &[&version::TLS13], &[])).await.unwrap();
    stream.write_all(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    assert!(all.len() < 16 << 20, "it was still being sent");
}

#[tokio::test]
async fn other_machines_are_served_without_tls_only_with_leave() {
    let fixture = Fixture::new();
    for address in ["0.0.0.0:0", "[::]:0"] {
        // Not every machine has IPv6.
        let Ok(listener) = TcpListener::bind(address).await else { continue };
        let refused = registry_http::serve(listener, fixture.router.clone(), async {}, ServeOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
        let listener = TcpListener::bind(address).await.unwrap();
        let options = ServeOptions::default().with_allow_plain_http(true);
        registry_http::serve(listener, fixture.router.clone(), async {}, options).await.unwrap();
    }
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let files = Files::new(&Authority::new().issue(1));
    registry_http::serve(listener, fixture.router.clone(), async {}, ServeOptions::default().with_tls(files.tls())).await.unwrap();
}
