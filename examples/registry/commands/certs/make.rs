//! Making certificates.
//!
//! All keys are ECDSA on P-256: small, fast, and known to every client that speaks TLS 1.2.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use super::names::Name;
use super::read::Certificate;

/// The longest life of a server's certificate in days.
///
/// Apple's systems refuse more also from an own CA: <https://support.apple.com/en-us/103769>.
pub(super) const LONGEST: u32 = 825;

/// Clocks differ: a certificate is valid that long before it is made.
const LEEWAY: Duration = Duration::HOUR;

/// The longest common name in characters: RFC 5280, appendix A.1, `ub-common-name`.
const COMMON_NAME: usize = 64;

/// A certificate as it is written to a file.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) pem: String,
    pub(super) certificate: Certificate,
}

impl Made {
    fn new(made: &rcgen::Certificate) -> Result<Self, String> {
        Ok(Self { pem: made.pem(), certificate: Certificate::from_der(made.der().to_vec())? })
    }
}

/// Makes a CA's certificate of this key, valid for so many days from now.
pub(super) fn authority(name: &str, days: u32, key: &KeyPair, now: OffsetDateTime) -> Result<Made, String> {
    let mut params = CertificateParams::default();
    // Of two CAs with one subject, clients would try the wrong one's key. Made of the key, so that the same key has the same again.
    let short: String = Sha256::digest(key.public_key_raw()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, format!("{name} {short}"));
    params.not_before = now - LEEWAY;
    params.not_after = now + Duration::days(days.into());
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Made::new(&params.self_signed(key).map_err(|error| error.to_string())?)
}

/// Random, and not made of the key as it would be by itself: a renewed certificate has the same key, and clients refuse another of the same serial number.
fn serial() -> SerialNumber {
    SerialNumber::from_slice(&Sha256::digest(registry_core::random_id())[..16])
}

/// A CA that can sign.
pub(super) struct Authority {
    pub(super) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Puts certificate and key together, which must fit each other.
    pub(super) fn new(certificate: Certificate, key: KeyPair) -> Result<Self, String> {
        let issuer = Issuer::from_ca_cert_der(&certificate.der().into(), key).map_err(|error| error.to_string())?;
        Ok(Self { certificate, issuer })
    }

    /// Makes a server's certificate of this key, valid for so many days from now, but never longer than the CA.
    pub(super) fn issue(&self, names: &[Name], key: &KeyPair, days: u32, now: OffsetDateTime) -> Result<Made, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = Default::default();
        // It is shown, and nothing else: clients have looked only at the alternative names for many years.
        if let Some(Name::Host(host)) = names.iter().find(|name| matches!(name, Name::Host(_)))
            && host.len() <= COMMON_NAME
        {
            params.distinguished_name.push(DnType::CommonName, host.as_str());
        }
        params.subject_alt_names = names.iter().map(alternative).collect::<Result<_, _>>()?;
        params.not_before = (now - LEEWAY).max(self.certificate.not_before);
        // Both ends count as valid, hence the second.
        let longest = params.not_before + Duration::days(LONGEST.into()) - Duration::SECOND;
        params.not_after = (now + Duration::days(days.into())).min(longest).min(self.certificate.not_after);
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let made = Made::new(&params.signed_by(key, &self.issuer).map_err(|error| error.to_string())?)?;
        // The issuer's name was read and written again, which not every CA's survives as it was.
        if !made.certificate.is_issued_by(&self.certificate) {
            return Err("clients would not find that the CA issued it: the CA's subject is of a form that is not supported".to_owned());
        }
        Ok(made)
    }
}

fn alternative(name: &Name) -> Result<SanType, String> {
    Ok(match name {
        Name::Host(host) => SanType::DnsName(host.as_str().try_into().map_err(|error: rcgen::Error| error.to_string())?),
        Name::Address(address) => SanType::IpAddress(*address),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{DistinguishedName, DnValue, PKCS_RSA_SHA256};
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::X509Certificate;

    use super::super::names;
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    fn ca(days: u32) -> Authority {
        let key = key();
        let made = authority("Test CA", days, &key, now()).unwrap();
        Authority::new(made.certificate, key).unwrap()
    }

    fn parsed(certificate: &Certificate) -> X509Certificate<'_> {
        x509_parser::parse_x509_certificate(certificate.der()).unwrap().1
    }

    fn key_ids(certificate: &Certificate) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let (mut subject, mut authority) = (None, None);
        for extension in parsed(certificate).extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => authority = id.key_identifier.as_ref().map(|id| id.0.to_vec()),
                _ => {}
            }
        }
        (subject, authority)
    }

    #[test]
    fn a_ca_may_sign_servers_and_no_further_cas() {
        let ca = ca(3650);
        let parsed = parsed(&ca.certificate);
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint == Some(0));
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        assert_eq!(ca.certificate.not_before, now() - Duration::HOUR);
        assert_eq!(ca.certificate.not_after, now() + Duration::days(3650));
        assert!(ca.certificate.is_ca && ca.certificate.is_issued_by(&ca.certificate));
    }

    #[test]
    fn two_cas_of_one_name_are_told_apart_and_one_key_has_one_subject() {
        let (one, other) = (key(), key());
        let subject = |key: &KeyPair| authority("Test CA", 1, key, now()).unwrap().certificate.subject;
        assert!(subject(&one).starts_with("Test CA ") && subject(&one).len() == "Test CA ".len() + 8);
        assert!(subject(&one) != subject(&other) && subject(&one) == subject(&one));
    }

    #[test]
    fn a_servers_certificate_is_for_servers_and_has_every_name() {
        let (ca, key) = (ca(3650), key());
        let names = ["a.example", "*.b.example"].map(|name| names::host(name).unwrap());
        let names = [&names[..], &["10.0.0.1", "fd00::1"].map(|name| names::address(name).unwrap())].concat();
        let made = ca.issue(&names, &key, 365, now()).unwrap();
        let certificate = Certificate::from_pem(made.pem.as_bytes()).unwrap();
        assert_eq!(certificate.names, Ok(names));
        assert_eq!((certificate.subject.as_str(), &certificate.issuer), ("a.example", &ca.certificate.subject));
        assert!(certificate.fits(&key) && !certificate.is_ca && certificate.is_issued_by(&ca.certificate));
        let parsed = parsed(&certificate);
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth && !extended.any);
        let (id, of_ca) = key_ids(&certificate);
        assert_eq!(of_ca, key_ids(&ca.certificate).0);
        assert!(of_ca.is_some() && id.is_some() && id != of_ca);
    }

    #[test]
    fn the_common_name_is_the_first_host_if_it_fits() {
        let ca = ca(3650);
        let common = |names: &[Name]| {
            let made = ca.issue(names, &key(), 1, now()).unwrap().certificate;
            parsed(&made).subject().iter_common_name().next().map(|name| name.as_str().unwrap().to_owned())
        };
        let address = names::address("10.0.0.1").unwrap();
        let host = |length: usize| names::host(&format!("{}.{}", "a".repeat(length - 31), "b".repeat(30))).unwrap();
        assert_eq!(common(&[address.clone(), host(64)]), Some(host(64).to_string()));
        assert_eq!(common(&[host(65)]), None);
        assert_eq!(common(&[address]), None);
    }

    #[test]
    fn each_certificate_of_one_key_has_a_serial_number_of_its_own() {
        let (ca, key, names) = (ca(3650), key(), [names::host("a.example").unwrap()]);
        let serial = || parsed(&ca.issue(&names, &key, 1, now()).unwrap().certificate).tbs_certificate.raw_serial().to_vec();
        assert!(serial() != serial() && serial().len() >= 14);
    }

    #[test]
    fn no_server_outlives_its_ca_or_what_clients_accept() {
        let names = [names::host("a.example").unwrap()];
        let life = |ca: &Authority, days| {
            let made = ca.issue(&names, &key(), days, now()).unwrap().certificate;
            (made.not_before, made.not_after)
        };
        let (long, short) = (ca(3650), ca(30));
        assert_eq!(life(&long, 365), (now() - Duration::HOUR, now() + Duration::days(365)));
        let (begin, end) = life(&long, LONGEST);
        assert_eq!(end - begin + Duration::SECOND, Duration::days(LONGEST.into()));
        assert_eq!(life(&short, 365).1, short.certificate.not_after);
    }

    #[test]
    fn what_clients_would_not_trust_is_not_issued() {
        let made = authority("Test CA", 1, &key(), now()).unwrap();
        let ca = Authority::new(made.certificate, key()).unwrap();
        let told = ca.issue(&[names::host("a.example").unwrap()], &key(), 1, now()).unwrap_err();
        assert!(told.contains("clients would not find that the CA issued it"), "{told}");
    }

    /// As `openssl req -subj` makes it, with other kinds of strings and of keys.
    #[test]
    fn a_ca_that_was_made_elsewhere_can_issue() {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("CH".try_into().unwrap()));
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let made = Made::new(&params.self_signed(&key).unwrap()).unwrap();
        assert_eq!(made.certificate.subject, "C=CH, O=Example");
        let read = super::super::read::key(key.serialize_pem().as_bytes()).unwrap();
        let ca = Authority::new(made.certificate, read).unwrap();
        assert!(ca.issue(&[names::host("a.example").unwrap()], &super::tests::key(), 1, now()).is_ok());
    }
}
