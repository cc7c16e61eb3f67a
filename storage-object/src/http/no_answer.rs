//! [`NoAnswer`].

use std::fmt;
use std::time::Duration;

use registry_core::{Error, ErrorKind};

/// Why no answer came, or not all of it.
#[derive(Clone, Debug)]
pub struct NoAnswer {
    how: How,
    /// What the system, or TLS, said.
    why: String,
    /// Scheme, host and port.
    origin: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Nothing moved for so long.
    Idle(Duration),
    /// No connection in time.
    Late,
    /// No connection.
    Refused,
    /// The connection broke.
    Broken,
}

impl NoAnswer {
    pub(crate) fn idle(limit: Duration) -> Self {
        Self { how: How::Idle(limit), why: String::new(), origin: String::new() }
    }

    pub(crate) fn broken(why: &str) -> Self {
        Self { how: How::Broken, why: why.to_owned(), origin: String::new() }
    }

    pub(crate) fn of(error: &reqwest::Error) -> Self {
        let how = match () {
            () if error.is_timeout() => How::Late,
            () if error.is_connect() => How::Refused,
            () => How::Broken,
        };
        Self { how, why: innermost(error), origin: error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default() }
    }

    /// The failure somewhere in an error's causes, if it is one of these.
    pub fn in_chain<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// [`ErrorKind::TimedOut`], or [`ErrorKind::Unavailable`].
    pub fn kind(&self) -> ErrorKind {
        match self.how {
            How::Idle(_) | How::Late => ErrorKind::TimedOut,
            How::Refused | How::Broken => ErrorKind::Unavailable,
        }
    }

    /// Whether the other side cannot have heard of the request.
    pub fn is_before_the_request(&self) -> bool {
        matches!(self.how, How::Late | How::Refused)
    }

    /// What TLS does not like, and what to do about it; `None` if it is not about TLS. `setting` has the address.
    pub fn tls_trouble(&self, setting: &str) -> Option<String> {
        let why = &self.why;
        let says = |text| why.contains(text);
        let trouble = if says("certificate expired") {
            "its certificate has expired, or this machine's clock is wrong".to_owned()
        } else if says("certificate not valid yet") {
            "its certificate is not valid yet, or this machine's clock is wrong".to_owned()
        } else if says("not valid for name") {
            format!("its certificate is for another name ({why}); set {setting} to one that the certificate has")
        } else if says("CertificateRequired") || says("certificate required") {
            "it asks for a certificate: set client_cert_file and client_key_file".to_owned()
        } else if says("peer certificate") || says("UnknownIssuer") {
            format!("its certificate is not trusted ({why}); set ca_file to the certificate of its CA")
        } else if says("corrupt message of type InvalidContentType") || says("tls handshake eof") {
            format!("there is no TLS ({why}); if host and port are right, {setting} begins with http:// instead of https://")
        } else {
            return None;
        };
        Some(trouble)
    }

    /// In words, of the request that is called `what`. `setting` has the address.
    pub fn told(&self, what: &str, setting: &str) -> Error {
        match self.tls_trouble(setting) {
            Some(trouble) => Error::new(ErrorKind::Unavailable, format!("{what}: {}: {trouble}", self.origin)),
            None => Error::new(self.kind(), format!("{what}: {self}")),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Idle(limit) => write!(f, "nothing moved for {} s", limit.as_secs_f64()),
            How::Late => write!(f, "no connection in time: {}", self.why),
            How::Refused => write!(f, "no connection: {}", self.why),
            How::Broken => write!(f, "the connection broke: {}", self.why),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// The cause of all causes: what the system, or TLS, said.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
