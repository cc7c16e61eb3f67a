//! [`Tls`]: the server's certificate, and how it is changed without anybody noticing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, version};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::io::Socket;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How long before its end a certificate is warned of, and how often.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Why a certificate cannot be served with. What is in the files is never repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing of the kind in a file.
    #[error("{}: {problem}", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key is another certificate's, or of a kind that is not known.
    #[error("the key in {} is not that of the certificate in {}: {problem}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// In what way.
        problem: String,
    },
}

/// A certificate with its key, from two PEM files, for [`ServeOptions::with_tls`](super::ServeOptions::with_tls). Cheap to clone.
///
/// While it is served with, the files are read again every two seconds. A pair that fits replaces the one before for connections that are made from then on;
/// those that are open stay. One that does not, as while only the first of two files was replaced, is passed over.
///
/// TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2. Metrics: `registry_tls_certificate_expiry_timestamp_seconds`. The log warns daily from 30 days before the end.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    now: RwLock<Served>,
    /// What the files held when they were last looked at.
    seen: Mutex<Files>,
}

#[derive(Clone)]
struct Served {
    key: Arc<CertifiedKey>,
    about: Certificate,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The host names and addresses it is for.
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when; of a chain, the earliest end.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Reads the first certificate of a PEM file, and the ends of those behind it.
    ///
    /// Blocks on the file.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let chain = chain(path, &read(path)?)?;
        Self::of(path, &chain)
    }

    fn of(path: &Path, chain: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let bad = |problem: String| TlsError::NotPem { path: path.to_owned(), problem };
        let mut about: Option<Self> = None;
        for one in chain {
            let (_, parsed) = X509Certificate::from_der(one).map_err(|error| bad(format!("not an X.509 certificate: {error}")))?;
            let time = |time: x509_parser::time::ASN1Time| {
                SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
            };
            let (not_before, not_after) = (time(parsed.validity().not_before), time(parsed.validity().not_after));
            match &mut about {
                Some(about) => about.not_after = about.not_after.min(not_after),
                None => about = Some(Self { names: names(&parsed), not_before, not_after }),
            }
        }
        about.ok_or_else(|| bad("there is no certificate in PEM form in it".to_owned()))
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |problem: &str| TlsError::NotPem { path: path.to_owned(), problem: problem.to_owned() };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| bad("not a PEM file"))?;
    if chain.is_empty() { Err(bad("there is no certificate in PEM form in it")) } else { Ok(chain) }
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    fn parse(&self, certificate: &Path, key: &Path) -> Result<Served, TlsError> {
        let chain = chain(certificate, &self.certificate)?;
        let about = Certificate::of(certificate, &chain)?;
        let no_key = |_| TlsError::NotPem { path: key.to_owned(), problem: "there is no private key in PEM form in it".to_owned() };
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(no_key)?;
        let mismatch = |error: rustls::Error| TlsError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            problem: error.to_string(),
        };
        let signing = provider().key_provider.load_private_key(private).map_err(mismatch)?;
        let served = CertifiedKey::new(chain, signing);
        match served.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Served { key: Arc::new(served), about }),
            Err(error) => Err(mismatch(error)),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Tls {
    /// Reads the files: the server's certificate, with those between it and its authority behind it, and its private key (PKCS #8, PKCS #1 or SEC1).
    ///
    /// Blocks on the files. A certificate that is not valid now is served with all the same: what the clock says here is not what clients go by.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let files = Files::read(&certificate, &key)?;
        let now = RwLock::new(files.parse(&certificate, &key)?);
        Ok(Self(Arc::new(Shared { certificate, key, now, seen: Mutex::new(files) })))
    }

    /// What is served with now.
    pub fn certificate(&self) -> Certificate {
        self.served().about
    }

    fn served(&self) -> Served {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again; whether they held a new pair that is served with from now on. Of a pair that is no good it is told once.
    ///
    /// Blocks on the files.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let shared = &*self.0;
        let files = Files::read(&shared.certificate, &shared.key)?;
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == files {
            return Ok(false);
        }
        let parsed = files.parse(&shared.certificate, &shared.key);
        *seen = files;
        *shared.now.write().unwrap_or_else(PoisonError::into_inner) = parsed?;
        Ok(true)
    }

    /// Keeps up with the files, and warns of the end. Never returns.
    pub(super) async fn watch(&self) {
        metrics::describe_gauge!(
            "registry_tls_certificate_expiry_timestamp_seconds",
            metrics::Unit::Seconds,
            "When the certificate that is served with ends, in seconds since 1970."
        );
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reminded: Option<Instant> = None;
        let mut told = String::new();
        loop {
            ticks.tick().await;
            let this = self.clone();
            let reloaded = tokio::task::spawn_blocking(move || this.reload()).await;
            let problem = match reloaded {
                Ok(Ok(false)) => None,
                Ok(Ok(true)) => {
                    reminded = None;
                    told.clear();
                    tracing::info!(certificate = %self.0.certificate.display(), names = ?self.certificate().names, "serving with a new certificate");
                    None
                }
                Ok(Err(error)) => Some(with_sources(&error)),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem.filter(|problem| *problem != told) {
                tracing::error!(error = problem, "the new certificate cannot be served with; the one before is kept");
                told = problem;
            }
            self.remind(&mut reminded);
        }
    }

    fn remind(&self, reminded: &mut Option<Instant>) {
        let end = self.certificate().not_after;
        let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics::gauge!("registry_tls_certificate_expiry_timestamp_seconds").set(seconds.as_secs_f64());
        if reminded.is_some_and(|then| then.elapsed() < REMIND) {
            return;
        }
        let certificate = self.0.certificate.display();
        match end.duration_since(SystemTime::now()) {
            Ok(left) if left > SOON => return,
            Ok(left) => tracing::warn!(%certificate, days = left.as_secs() / 86_400, "the certificate ends soon; replace it"),
            Err(_) => tracing::error!(%certificate, "the certificate has ended: clients refuse it; replace it"),
        }
        *reminded = Some(Instant::now());
    }

    pub(super) fn acceptor(&self, prefer_http2: bool) -> TlsAcceptor {
        // The versions are the provider's own, so that this cannot fail.
        let versions = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13, &version::TLS12]);
        let builder = versions.unwrap_or_else(|_| unreachable!("aws-lc-rs has both versions"));
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        let mut protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        if prefer_http2 {
            protocols.reverse();
        }
        config.alpn_protocols = protocols;
        // Clients come back for each layer; without tickets only this process's memory of some hundred of them saves a handshake.
        if let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
            config.ticketer = ticketer;
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.0.certificate).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served().key)
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| (*error).source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Why there is no TLS on a connection.
pub(super) enum NoTls {
    /// The client speaks HTTP without it, and was told so.
    Plain,
    Failed(std::io::Error),
}

/// Speaks TLS. Who speaks plain HTTP by mistake is told in plain HTTP, which a message about a bad record would not.
pub(super) async fn accept(acceptor: &TlsAcceptor, mut socket: Socket) -> Result<TlsStream<Socket>, NoTls> {
    let mut first = [0];
    // A method begins with a letter, a handshake with 0x16 (RFC 8446, section 5.1).
    if socket.tcp().peek(&mut first).await.map_err(NoTls::Failed)? == 1 && first[0].is_ascii_uppercase() {
        tell_plain(socket.tcp()).await;
        return Err(NoTls::Plain);
    }
    acceptor.accept(socket).await.map_err(NoTls::Failed)
}

async fn tell_plain(stream: &mut TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const BODY: &str = "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"this is an HTTPS address, and the request is plain HTTP\"}]}";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    // What it has sent is read, or the reset of the connection would overtake the answer.
    let mut space = [0; 4096];
    let _ = stream.read(&mut space).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(Duration::from_secs(1), async { while matches!(stream.read(&mut space).await, Ok(n) if n > 0) {} }).await;
}
