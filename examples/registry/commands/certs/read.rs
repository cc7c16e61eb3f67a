//! Reading certificates and keys.

use rcgen::KeyPair;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::names::{self, Name};

/// What a certificate says.
#[derive(Debug)]
pub(super) struct Certificate {
    der: Vec<u8>,
    /// Its subject's common name, or all of the subject. Safe to print.
    pub(super) subject: String,
    /// The same of who issued it.
    pub(super) issuer: String,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    /// Whether others may be signed with its key.
    pub(super) is_ca: bool,
    /// What the server is called, or why that cannot be told.
    pub(super) names: Result<Vec<Name>, String>,
    public_key: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a PEM file.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let der = block(pem, |label| label == "CERTIFICATE")?.ok_or("it has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")?;
        Self::from_der(der)
    }

    /// Reads a certificate.
    pub(super) fn from_der(der: Vec<u8>) -> Result<Self, String> {
        let parsed = parse(&der)?;
        let validity = parsed.validity();
        let signs = parsed.key_usage().map_err(|_| BROKEN)?.is_none_or(|usage| usage.value.key_cert_sign());
        Ok(Self {
            subject: common_name(parsed.subject()),
            issuer: common_name(parsed.issuer()),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            is_ca: parsed.is_ca() && signs,
            names: server_names(&parsed),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            der,
        })
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether this is the certificate of that key.
    pub(super) fn fits(&self, key: &KeyPair) -> bool {
        self.public_key == key.public_key_raw()
    }

    /// Whether clients that trust this CA find that it issued this certificate: by name and by signature.
    pub(super) fn is_issued_by(&self, ca: &Self) -> bool {
        let (Ok(own), Ok(ca)) = (parse(&self.der), parse(&ca.der)) else { return false };
        own.issuer().as_raw() == ca.subject().as_raw() && own.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// The SHA-256 of the certificate, as other tools print it: `AB:CD:…`.
    pub(super) fn fingerprint(&self) -> String {
        Sha256::digest(&self.der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

const BROKEN: &str = "its certificate is broken";

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(BROKEN.to_owned()),
    }
}

/// The first block of a PEM file whose label is wanted.
fn block(pem: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Option<Vec<u8>>, String> {
    for block in Pem::iter_from_buffer(pem) {
        // What the parser says could quote a key.
        let block = block.map_err(|_| "its PEM form is broken")?;
        if wanted(&block.label) {
            return Ok(Some(block.contents));
        }
    }
    Ok(None)
}

/// Reads the first private key of a PEM file. Errors say nothing of what it holds.
pub(super) fn key(pem: &[u8]) -> Result<KeyPair, String> {
    if block(pem, |label| label == "ENCRYPTED PRIVATE KEY")?.is_some() {
        return Err("its key is encrypted with a passphrase, which is not supported".to_owned());
    }
    let der =
        block(pem, |label| label.ends_with("PRIVATE KEY"))?.ok_or("it has no private key in PEM form (-----BEGIN PRIVATE KEY-----)")?;
    KeyPair::try_from(der).map_err(|_| "its key is broken, or of a kind that is not supported".to_owned())
}

/// A certificate may be anybody's: control characters in it would write over what the terminal shows.
fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    let text = common.map_or_else(|| name.to_string(), str::to_owned);
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn server_names(certificate: &X509Certificate<'_>) -> Result<Vec<Name>, String> {
    let Some(names) = certificate.subject_alternative_name().map_err(|_| BROKEN)? else { return Ok(Vec::new()) };
    let read = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => names::host(name).ok(),
        GeneralName::IPAddress(octets) => match *octets {
            [a, b, c, d] => Some(Name::Address([*a, *b, *c, *d].into())),
            octets => Some(Name::Address(<[u8; 16]>::try_from(octets).ok()?.into())),
        },
        _ => None,
    };
    let unread = || "it has names that are neither host names nor addresses".to_owned();
    names.value.general_names.iter().map(|name| read(name).ok_or_else(unread)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, SanType};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::default();
        change(&mut params);
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        Certificate::from_pem(pem.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_pem_or_holds_something_else_is_told_apart() {
        let key_pem = KeyPair::generate().unwrap().serialize_pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, wanted) in [
            ("", "no certificate in PEM"),
            (key_pem.as_str(), "no certificate in PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "PEM form is broken"),
            ("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n", "PEM form is broken"),
            (broken, "certificate is broken"),
        ] {
            let told = Certificate::from_pem(text.as_bytes()).unwrap_err();
            assert!(told.contains(wanted), "{text}: {told}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (text, wanted) in [
            ("text", "no private key in PEM"),
            (broken, "no private key in PEM"),
            (encrypted, "passphrase"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key is broken"),
        ] {
            let told = key(text.as_bytes()).unwrap_err();
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }

    #[test]
    fn a_key_behind_other_blocks_is_found() {
        let pem = KeyPair::generate().unwrap().serialize_pem();
        let with_parameters = format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{pem}");
        assert!(key(with_parameters.as_bytes()).is_ok());
    }

    #[test]
    fn names_that_could_not_be_issued_are_not_taken_over() {
        let hostile = made(|params| params.subject_alt_names = vec![SanType::DnsName("$(reboot)".try_into().unwrap())]);
        assert!(hostile.names.unwrap_err().contains("neither"));
        let mail = made(|params| params.subject_alt_names = vec![SanType::Rfc822Name("a@b.example".try_into().unwrap())]);
        assert!(mail.names.is_err());
        assert_eq!(made(|_| ()).names, Ok(Vec::new()));
    }

    #[test]
    fn subjects_are_safe_to_print() {
        let shown = made(|params| params.distinguished_name.push(DnType::CommonName, "a\u{1b}[2Jb\nc"));
        assert_eq!(shown.subject, "a?[2Jb?c");
    }

    #[test]
    fn a_certificate_without_the_right_to_sign_is_no_cas() {
        use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
        let ca = |usages: Vec<KeyUsagePurpose>, is_ca| {
            made(|params| {
                params.is_ca = is_ca;
                params.key_usages = usages;
            })
            .is_ca
        };
        let yes = || IsCa::Ca(BasicConstraints::Unconstrained);
        assert!(ca(vec![], yes()) && ca(vec![KeyUsagePurpose::KeyCertSign], yes()));
        assert!(!ca(vec![KeyUsagePurpose::CrlSign], yes()) && !ca(vec![], IsCa::NoCa) && !ca(vec![], IsCa::ExplicitNoCa));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(cut in 0usize..700, at in 0usize..700, byte: u8, noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Certificate::from_pem(&noise), key(&noise));
            let _ = (Certificate::from_der(noise.clone()), KeyPair::try_from(noise));
            let mut der = made(|params| params.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())]).der;
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            der.truncate(der.len().saturating_sub(cut / 10));
            let _ = Certificate::from_der(der);
        }
    }
}
