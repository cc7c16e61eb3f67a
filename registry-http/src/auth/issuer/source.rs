//! [`Source`]: where keys come from.

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry_core::{Error, ErrorKind, Result};
use reqwest::header::ACCEPT;
use reqwest::{Certificate, Client, StatusCode, Url};
use serde::Deserialize;

use super::keyring::Pace;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long all of it may take.
const TOTAL: Duration = Duration::from_secs(10);

/// The longest answer or file, in bytes.
const LONGEST: usize = 1 << 20;

const BY_HTTP: Pace = Pace {
    refresh: Duration::from_secs(600),
    wait: Duration::from_secs(1200),
    retry: Duration::from_secs(30),
    retry_without_keys: Duration::from_secs(5),
};

const SECOND: Duration = Duration::from_secs(1);

const BY_FILE: Pace = Pace { refresh: SECOND, wait: SECOND, retry: SECOND, retry_without_keys: SECOND };

/// Where the keys come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// An address.
    Url { client: Client, url: Url },
    /// What OpenID Connect Discovery says of this issuer.
    Discovery { client: Client, url: Url, iss: String },
}

impl Source {
    pub(super) fn pace(&self) -> Pace {
        match self {
            Self::File(_) => BY_FILE,
            Self::Url { .. } | Self::Discovery { .. } => BY_HTTP,
        }
    }

    /// A JSON Web Key Set, as it is there.
    pub(super) async fn read(&self) -> Result<Vec<u8>> {
        let read = async {
            match self {
                Self::File(path) => file(path).await,
                Self::Url { client, url } => get(client, url).await,
                Self::Discovery { client, url, iss } => get(client, &discover(client, url, iss).await?).await,
            }
        };
        let late = |_| Err(away(format!("it took more than {} s", TOTAL.as_secs())));
        tokio::time::timeout(TOTAL, read).await.unwrap_or_else(late)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url { url, .. } | Self::Discovery { url, .. } => write!(f, "{url}"),
        }
    }
}

fn away(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

async fn file(path: &Path) -> Result<Vec<u8>> {
    let path = path.to_owned();
    let read = move || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = tokio::task::spawn_blocking(read).await.map_err(|_| away("reading it was broken off"))??;
    if bytes.len() > LONGEST { Err(too_long()) } else { Ok(bytes) }
}

fn too_long() -> Error {
    away("it has more than 1 MiB")
}

/// A client for such requests, without a limit to all of one: [`Source::read`] has it. `authorities` are trusted beside those of the system.
pub(super) fn client(url: &Url, authorities: Vec<Certificate>) -> reqwest::Result<Client> {
    let mut client = Client::builder()
        // What an issuer publishes is where it says, and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .user_agent(concat!("registry-http/", env!("CARGO_PKG_VERSION")));
    if !authorities.is_empty() {
        client = client.tls_certs_merge(authorities);
    }
    if url.scheme() == "http" {
        // It would leave the machine, in clear.
        client = client.no_proxy();
    }
    client.build()
}

/// What is wrong with an address that may not be printed.
pub(super) const WITH_A_SECRET: &str = "it must not have a user or password";

/// An address that keys can be trusted to come from: with `https`, or, if `http` is allowed, on this machine. What is wrong with it if not.
pub(super) fn address(text: &str, http: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no address, such as https://issuer.example/keys")?;
    let host = url.host_str().unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WITH_A_SECRET);
    }
    // Not by name: who answers for names could answer with any address.
    let is_here = || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if http && is_here() => Ok(url),
        "http" => {
            Err("with http, anybody on the way could put keys of his own in: it has to be https, or a loopback address such as 127.0.0.1")
        }
        _ => Err("it has to begin with https://"),
    }
}

/// Where the keys are (OpenID Connect Discovery 1.0, sections 3 and 4.3).
async fn discover(client: &Client, url: &Url, iss: &str) -> Result<Url> {
    #[derive(Deserialize)]
    struct Provider {
        issuer: String,
        jwks_uri: String,
    }
    let json = get(client, url).await?;
    let provider: Provider =
        serde_json::from_slice(&json).map_err(|error| away("this is no provider's configuration").with_source(error))?;
    if provider.issuer != iss {
        return Err(away("this is another issuer's configuration"));
    }
    address(&provider.jwks_uri, url.scheme() == "http").map_err(|why| away(format!("jwks_uri: {why}")))
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>> {
    let failed = |error: reqwest::Error| away(innermost(&error));
    let mut answer = client.get(url.clone()).header(ACCEPT, "application/json").send().await.map_err(failed)?;
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(away(format!("the answer is {status}, which is not followed"))),
        status => return Err(away(format!("the answer is {status}"))),
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > LONGEST {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The cause of all causes: what the system, or TLS, said. The others repeat the address.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}
