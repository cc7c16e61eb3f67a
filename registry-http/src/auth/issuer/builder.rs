//! [`IssuerBuilder`].

use std::path::PathBuf;
use std::sync::Arc;

use registry_core::{Clock, SystemClock};
use reqwest::Certificate;

use super::keyring::Keyring;
use super::source::{self, Source};
use super::{Issuer, is_name};

/// The longest name of an issuer, in bytes.
const LONGEST_NAME: usize = 32;

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where an issuer's keys are found: a JSON Web Key Set of 1 MiB at most.
///
/// Addresses begin with `https`, or with `http` if they have a loopback address. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// A file, which is read again when it is used, once a second at most. A set without keys withdraws all of them; a file that is not there does not.
    JwksFile(PathBuf),
    /// The address of the set.
    JwksUrl(String),
    /// The address of an OpenID Connect provider's configuration, which ends with `/.well-known/openid-configuration` and says where the set is.
    Discovery(String),
}

/// The configuration of an issuer that cannot be used, in words for who wrote it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// A value that makes no sense.
    #[error("{setting} = {value:?}: {why}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No client can be made to fetch keys with: the certificates of the CA do not fit, or there are none to trust on this machine.
    #[error("no HTTPS client can be made: {why}; look at ca, and at the certificates of this system")]
    Client {
        /// What TLS says.
        why: String,
    },
}

fn invalid(setting: &'static str, value: &str, why: &'static str) -> IssuerError {
    IssuerError::Invalid { setting, value: value.to_owned(), why }
}

/// Makes an [`Issuer`]. Nothing is checked before [`build`](Self::build).
#[derive(Clone, Debug)]
#[must_use]
pub struct IssuerBuilder {
    name: String,
    iss: String,
    keys: KeySource,
    audiences: Vec<String>,
    user_claim: String,
    groups_claim: String,
    ca: Option<Vec<u8>>,
    clock: Arc<dyn Clock>,
}

impl IssuerBuilder {
    pub(super) fn new(name: String, iss: String, keys: KeySource) -> Self {
        Self {
            name,
            iss,
            keys,
            audiences: Vec::new(),
            user_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
            ca: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Accepts tokens that are for this audience: what the registry is called in their `aud`. One is needed; of several, a token has to be for one.
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// The claim that has the user's name: `sub` by default. It has to be one that the issuer never gives to two, nor lets anybody choose.
    pub fn with_user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// The claim that has the user's groups, as a text or a list of texts: `groups` by default. Tokens without it are of users in no groups.
    pub fn with_groups_claim(mut self, claim: impl Into<String>) -> Self {
        self.groups_claim = claim.into();
        self
    }

    /// Certificates of authorities, one after the other in PEM form, that are trusted too where keys are fetched.
    pub fn with_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Where the time comes from: the machine's clock by default.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks all of it. Fetches nothing, so that a registry starts while an issuer is away.
    pub fn build(self) -> Result<Issuer, IssuerError> {
        let Self { name, iss, keys, audiences, user_claim, groups_claim, ca, clock } = self;
        let is_word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(is_word) {
            return Err(invalid("name", &name, "it has to be a word of at most 32 of a-z, 0-9 and -"));
        }
        if audiences.is_empty() {
            return Err(invalid("audience", "", "without one, a token that is for somebody else would do"));
        }
        let texts = [("iss", &iss), ("user_claim", &user_claim), ("groups_claim", &groups_claim)];
        for (setting, value) in texts.into_iter().chain(audiences.iter().map(|audience| ("audience", audience))) {
            if !is_name(value) {
                return Err(invalid(setting, value, "it has to have 1 to 255 bytes, and no control characters"));
            }
        }
        let source = source(keys, &iss, ca)?;
        let keyring = Keyring::new(name.clone(), source);
        Ok(Issuer { name, iss, audiences, user_claim, groups_claim, clock, keyring })
    }
}

fn source(keys: KeySource, iss: &str, ca: Option<Vec<u8>>) -> Result<Source, IssuerError> {
    let (setting, text) = match &keys {
        KeySource::JwksFile(path) if ca.is_some() => {
            return Err(invalid("ca", &path.to_string_lossy(), "it is for addresses, and the keys are in a file"));
        }
        KeySource::JwksFile(path) if path.as_os_str().is_empty() => return Err(invalid("jwks_file", "", "it is empty")),
        KeySource::JwksFile(path) => return Ok(Source::File(path.clone())),
        KeySource::JwksUrl(url) => ("jwks_url", url),
        KeySource::Discovery(url) => ("discovery", url),
    };
    let told = |why| invalid(setting, if why == source::WITH_A_SECRET { "[redacted]" } else { text }, why);
    let url = source::address(text, true).map_err(told)?;
    if setting == "discovery" && !url.path().ends_with(DISCOVERY) {
        return Err(invalid(setting, text, "it has to end with /.well-known/openid-configuration"));
    }
    let told = |error: reqwest::Error| IssuerError::Client { why: source::innermost(&error) };
    let authorities = ca.map(|pem| Certificate::from_pem_bundle(&pem)).transpose().map_err(told)?;
    if authorities.as_ref().is_some_and(Vec::is_empty) {
        return Err(invalid("ca", "", "there is no certificate in PEM form in it"));
    }
    let client = source::client(&url, authorities.unwrap_or_default()).map_err(told)?;
    Ok(match keys {
        KeySource::Discovery(_) => Source::Discovery { client, url, iss: iss.to_owned() },
        _ => Source::Url { client, url },
    })
}
