//! TLS before a service, and a proxy on the way to it. For the tests of each crate that speaks HTTP to one.

use std::io::Write as _;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The CA's certificate as a file.
pub(crate) fn file(ca: &Ca) -> (NamedTempFile, Option<String>) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, Some(path))
}

/// A certificate for this name.
pub(crate) fn certificate(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// Speaks TLS with this certificate before the service at this URL. The URL to use instead.
pub(crate) async fn tls_before(url: &str, ca: &Ca, certificate: CertificateParams) -> String {
    let key = KeyPair::generate().unwrap();
    let chain = vec![certificate.signed_by(&key, ca).unwrap().der().clone()];
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap();
    // It would speak HTTP/2 too, which no client of ours asks for: what is behind it does not.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let target = url.split('/').nth(2).unwrap().to_owned();
    let port = listen({
        let target = target.clone();
        move |client| {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            async move {
                let mut client = acceptor.accept(client).await?;
                copy_bidirectional(&mut client, &mut TcpStream::connect(target).await?).await.map(drop)
            }
        }
    })
    .await;
    url.replace(&format!("http://{target}"), &format!("https://localhost:{port}"))
}

/// Serves each connection. The port.
pub(crate) async fn listen<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(client));
        }
    });
    port
}

/// The same for clients whose requests are all for one service, whatever they call it.
pub(crate) async fn forward_to(mut client: TcpStream, service: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let (method, rest) = head.split_once(" http://").expect("a whole URL");
    let (line, headers) = rest.split_once('/').unwrap().1.split_once("\r\n").unwrap();
    let mut service = TcpStream::connect(service).await?;
    service.write_all(format!("{method} /{line}\r\nConnection: close\r\n{headers}").as_bytes()).await?;
    copy_bidirectional(&mut client, &mut service).await.map(drop)
}

/// Does one request on behalf of a client: what is asked for by a whole URL, or a connection to a host.
pub(crate) async fn forward(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    if let Some(rest) = head.strip_prefix("CONNECT ") {
        let mut service = TcpStream::connect(rest.split(' ').next().unwrap()).await?;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        return copy_bidirectional(&mut client, &mut service).await.map(drop);
    }
    let (method, rest) = head.split_once(" http://").expect("a whole URL");
    let (host, rest) = rest.split_once('/').unwrap();
    let (line, headers) = rest.split_once("\r\n").unwrap();
    let mut service = TcpStream::connect(host).await?;
    service.write_all(format!("{method} /{line}\r\nConnection: close\r\n{headers}").as_bytes()).await?;
    copy_bidirectional(&mut client, &mut service).await.map(drop)
}
