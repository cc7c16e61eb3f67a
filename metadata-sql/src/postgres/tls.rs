//! TLS on the way to the server, where the URL's `sslmode` asks for it.
//!
//! Either a connection has TLS with a certificate that was checked, or it has none. What lies between protects from nobody: a server that is not checked may be
//! anyone's, and who can change what goes over the wire also takes away the TLS that a client merely prefers.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use registry_core::{Error, ErrorKind, Result};
use rustls_platform_verifier::Verifier;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig};

use super::connect::invalid;

/// What the client says of an `sslmode` that it does not know.
const UNKNOWN_MODE: &str = "invalid value for option `sslmode`";
/// What the client says if the server answers that it has no TLS. Its kind of error is not to be seen from outside.
const NO_TLS: &str = "server does not support TLS";

/// Parses the URL.
pub(super) fn parse(url: &str) -> Result<Config> {
    // The parser's message may quote the URL, password and all; so it is not passed on.
    checked(url).parse().map_err(|error: tokio_postgres::Error| match error.source() {
        Some(why) if why.to_string() == UNKNOWN_MODE => {
            invalid("sslmode in the URL of PostgreSQL is disable, prefer, require, verify-ca or verify-full")
        }
        _ => invalid("not a URL of PostgreSQL: postgres://user:password@host:5432/database"),
    })
}

/// The URL with `require` for the modes that the client does not know, `verify-ca` and `verify-full`: what it requires is checked as fully as can be.
fn checked(url: &str) -> Cow<'_, str> {
    // As the client takes a URL apart. A password may look like a parameter.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Cow::Borrowed(url);
    }
    let after_password = url.find('@').map_or(0, |at| at + 1);
    let Some(question) = url[after_password..].find('?') else { return Cow::Borrowed(url) };
    let (front, parameters) = url.split_at(after_password + question + 1);
    let parameters: Vec<_> = parameters
        .split('&')
        .map(|one| if matches!(one, "sslmode=verify-ca" | "sslmode=verify-full") { "sslmode=require" } else { one })
        .collect();
    Cow::Owned(format!("{front}{}", parameters.join("&")))
}

/// What makes connections with TLS; `None` if they are to have none. Reads the system's authorities.
pub(super) fn connector(config: &Config, authorities: Option<&[u8]>) -> Result<Option<MakeRustlsConnect>> {
    // Authorities that make no sense are told of now, not on the day on which TLS is switched on.
    let authorities = authorities.map_or_else(|| Ok(Vec::new()), certificates)?;
    if config.get_ssl_mode() != SslMode::Require {
        return Ok(None);
    }
    let hosts = config.get_hosts();
    if hosts.is_empty() || !hosts.iter().all(|host| matches!(host, Host::Tcp(_))) {
        return Err(invalid("sslmode in the URL of PostgreSQL asks for TLS, which takes a host by name or address, and no socket file"));
    }
    let unusable = |error: rustls::Error| invalid(format!("TLS with PostgreSQL cannot be set up: {error}")).with_source(error);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(authorities, Arc::clone(&provider)).map_err(unusable)?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        // By its name "dangerous", since a verifier may be anything; this one asks the system.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // Servers insist on it if TLS is to come first (`sslnegotiation=direct`), and else do not mind.
    client.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(MakeRustlsConnect::new(client)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid("the authorities to trust are not in PEM form").with_source(error))?;
    if found.is_empty() {
        return Err(invalid("among the authorities to trust is no certificate in PEM form"));
    }
    Ok(found)
}

/// What TLS does not like, and what to do about it; `None` if it is not about TLS.
pub(super) fn trouble(error: &tokio_postgres::Error) -> Option<Error> {
    let source = error.source()?;
    let why = if source.to_string() == NO_TLS {
        "it has no TLS, which sslmode in its URL asks for: switch it on there (ssl = on), or take sslmode out of the URL".to_owned()
    } else {
        // As the source of an error of I/O counts that of the error inside, not the error inside.
        match source.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(why) => certificate(why),
            why => format!("no TLS with it: {why}"),
        }
    };
    Some(Error::new(ErrorKind::Unavailable, format!("PostgreSQL: {why}")))
}

fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name ({why}); put one that the certificate has into the URL")
        }
        _ => format!("its certificate is not trusted ({why}); set ca_file to the certificate of its CA"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        parse(url).unwrap().get_ssl_mode()
    }

    #[test]
    fn the_modes_that_verify_require() {
        for word in ["require", "verify-ca", "verify-full"] {
            for url in ["postgres://u:p@h/db?sslmode=@", "postgresql://h?connect_timeout=2&sslmode=@&application_name=a"] {
                let url = url.replace("=@", &format!("={word}"));
                assert_eq!(mode(&url), SslMode::Require, "{url}");
            }
        }
        assert_eq!(mode("host=h sslmode=require"), SslMode::Require);
        for plain in ["postgres://h/db", "postgres://h/db?sslmode=prefer"] {
            assert_eq!(mode(plain), SslMode::Prefer, "{plain}");
        }
        assert_eq!(mode("postgres://h/db?sslmode=disable"), SslMode::Disable);
    }

    #[test]
    fn a_password_that_looks_like_a_mode_is_a_password() {
        let config = parse("postgres://u:p?sslmode=verify-full&x@h/db?sslmode=verify-full").unwrap();
        assert_eq!(config.get_password(), Some(&b"p?sslmode=verify-full&x"[..]));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        let config = parse("host=h password=p?sslmode=verify-full").unwrap();
        assert_eq!(config.get_password(), Some(&b"p?sslmode=verify-full"[..]));
    }

    #[test]
    fn a_mode_that_there_is_not_is_refused_with_those_that_there_are() {
        for url in ["postgres://u:s3cret@h/db?sslmode=allow", "postgres://u:s3cret@h/db?sslmode=Require", "host=h sslmode=verify-full"] {
            let error = parse(url).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("verify-full"), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn tls_is_set_up_only_where_it_is_asked_for_and_takes_a_name() {
        let set_up = |url: &str| connector(&parse(url).unwrap(), None).map(|found| found.is_some());
        assert!(set_up("postgres://h/db?sslmode=require").unwrap());
        assert!(set_up("postgres://h,i/db?sslmode=verify-full&sslnegotiation=direct").unwrap());
        assert!(!set_up("postgres://h/db").unwrap());
        assert!(!set_up("postgres://h/db?sslmode=prefer").unwrap());
        assert!(!set_up("postgres://h/db?sslmode=disable").unwrap());
        for nameless in ["postgres://%2Frun%2Fpostgresql/db", "postgres://h,%2Frun%2Fpostgresql/db", "postgres:///db?hostaddr=127.0.0.1"] {
            let joint = if nameless.contains('?') { '&' } else { '?' };
            let error = set_up(&format!("{nameless}{joint}sslmode=require")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{nameless}");
        }
    }

    #[test]
    fn authorities_without_a_certificate_are_refused() {
        let begun = "-----BEGIN CERTIFICATE-----\nMIIB\n";
        let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for (url, pem) in [("postgres://h/db", ""), ("postgres://h/db", begun), ("postgres://h/db?sslmode=require", broken)] {
            let error = connector(&parse(url).unwrap(), Some(pem.as_bytes())).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
    }
}
