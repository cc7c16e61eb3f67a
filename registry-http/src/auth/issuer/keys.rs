//! [`KeySet`]: the public keys of an issuer, as it publishes them (RFC 7517, RFC 7518 section 6, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};
use registry_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::TokenRefused;
use crate::auth::jwt::{Token, algorithm_of};

/// How many keys a token is tried against.
const TRIES: usize = 8;

/// Which RSA keys are taken, by the bits of the modulus: shorter ones are weak, and longer ones the library does not take.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Public keys that can be used.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    /// What it may be used with.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are of no use here are passed over, as RFC 7517 (section 5) has it.
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published = serde_json::from_slice(json)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "this is no JSON Web Key Set").with_source(error))?;
        Ok(Self(published.keys.into_iter().filter_map(Key::new).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys signed this. The token's key id chooses among them, if it has one; the algorithm that it names has to be one of the key's.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), TokenRefused> {
        let named = |key: &&Key| token.kid.is_none() || key.kid == token.kid;
        let mut outcome = Err(TokenRefused::UnknownKey);
        for key in self.0.iter().filter(named).filter(|key| key.algorithms.contains(&token.algorithm)).take(TRIES) {
            if key.signed(token) {
                return Ok(());
            }
            outcome = Err(TokenRefused::BadSignature);
        }
        outcome
    }
}

/// What is looked at of a key. Members of another type than they should have make it useless.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    /// `None` if it cannot be used: for something else, secret, weak, broken or of an unknown kind.
    fn new(jwk: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let verifies = |operations: &Vec<String>| operations.iter().any(|operation| operation == "verify");
        if jwk.r#use.as_ref().is_some_and(|r#use| r#use != "sig") || !jwk.key_ops.as_ref().is_none_or(verifies) {
            return None;
        }
        let (possible, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => (&[Algorithm::EdDSA][..], DecodingKey::from_ed_der(&coordinate(jwk.x, 32)?)),
            ("EC", Some("P-256")) => (&[Algorithm::ES256][..], DecodingKey::from_ec_der(&point(jwk.x, jwk.y, 32)?)),
            ("EC", Some("P-384")) => (&[Algorithm::ES384][..], DecodingKey::from_ec_der(&point(jwk.x, jwk.y, 48)?)),
            ("RSA", _) => {
                let (n, e) = (number(jwk.n)?, number(jwk.e)?);
                let bits = (n.len() * 8).saturating_sub(n.first()?.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return None;
                }
                (RSA, DecodingKey::from_rsa_raw_components(&n, &e))
            }
            _ => return None,
        };
        let algorithms = match jwk.alg {
            None => possible.to_vec(),
            Some(alg) => vec![algorithm_of(&alg).filter(|alg| possible.contains(alg))?],
        };
        Some(Self { kid: jwk.kid, algorithms, key })
    }

    fn signed(&self, token: &Token<'_>) -> bool {
        // Named, since what the process has by default is anybody's to choose, and may be nothing.
        let verifier = (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&token.algorithm, &self.key);
        verifier.is_ok_and(|verifier| verifier.verify(token.message.as_bytes(), &token.signature).is_ok())
    }
}

fn decode(text: Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

fn coordinate(text: Option<String>, bytes: usize) -> Option<Vec<u8>> {
    decode(text).filter(|coordinate| coordinate.len() == bytes)
}

/// A point in the uncompressed form of SEC 1.
fn point(x: Option<String>, y: Option<String>, bytes: usize) -> Option<Vec<u8>> {
    Some([&[4][..], &coordinate(x, bytes)?, &coordinate(y, bytes)?].concat())
}

/// Some write a zero before numbers whose first bit is set; the library takes none such.
fn number(text: Option<String>) -> Option<Vec<u8>> {
    let bytes = decode(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}
