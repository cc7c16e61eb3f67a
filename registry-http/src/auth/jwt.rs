//! Tokens taken apart: JWS in its compact form (RFC 7515) around JWT claims (RFC 7519).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub(super) use jsonwebtoken::Algorithm;
use registry_core::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::refused::TokenRefused;

/// The longest token, in bytes.
const LONGEST: usize = 16 << 10;

/// A token that can be read. Nothing in it is proved.
pub(super) struct Token<'a> {
    /// What is signed.
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: Algorithm,
    /// The key's id.
    pub(super) kid: Option<String>,
    pub(super) claims: Object,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenRefused> {
        let [header, payload, signature] = parts(text)?;
        let header = Object::parse(header)?;
        // Nothing that could be in it is understood here, and a token that says so may not be read without (RFC 7515, section 4.1.11).
        if header.0.contains_key("crit") {
            return Err(TokenRefused::Unsupported);
        }
        let algorithm = header.text("alg")?.ok_or(TokenRefused::Malformed)?;
        Ok(Self {
            message: &text[..text.len() - signature.len() - 1],
            signature: decode(signature)?,
            algorithm: algorithm_of(algorithm).ok_or(TokenRefused::Unsupported)?,
            kid: header.text("kid")?.map(str::to_owned),
            claims: Object::parse(payload)?,
        })
    }
}

/// The algorithms that are accepted. Not those with secrets, for which a public key could be taken.
pub(super) fn algorithm_of(name: &str) -> Option<Algorithm> {
    Some(match name {
        "EdDSA" => Algorithm::EdDSA,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        _ => return None,
    })
}

/// The `iss` of something that may be a token.
pub(super) fn unverified_issuer(text: &str) -> Option<String> {
    let [_, payload, _] = parts(text).ok()?;
    Object::parse(payload).ok()?.text("iss").ok()?.map(str::to_owned)
}

fn parts(text: &str) -> Result<[&str; 3], TokenRefused> {
    if text.len() > LONGEST {
        return Err(TokenRefused::TooLong);
    }
    let mut parts = text.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => Ok([header, payload, signature]),
        _ => Err(TokenRefused::Malformed),
    }
}

/// Strict: a text that differs is another token.
fn decode(part: &str) -> Result<Vec<u8>, TokenRefused> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefused::Malformed)
}

/// A JSON object in which no name occurs twice: others may take the other of the two (RFC 7519, section 4).
pub(super) struct Object(Map<String, Value>);

impl Object {
    fn parse(part: &str) -> Result<Self, TokenRefused> {
        serde_json::from_slice(&decode(part)?).map_err(|_| TokenRefused::Malformed)
    }

    /// Whatever it is, if it is there.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A text, if it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, TokenRefused> {
        self.0.get(name).map(|value| value.as_str().ok_or(TokenRefused::Malformed)).transpose()
    }

    /// A text or a list of texts, if it is there.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<&str>>, TokenRefused> {
        let texts = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => Some(vec![text.as_str()]),
            Some(Value::Array(values)) => values.iter().map(Value::as_str).collect(),
            Some(_) => None,
        };
        texts.map(Some).ok_or(TokenRefused::Malformed)
    }

    /// A `NumericDate`, if it is there: seconds since 1970, which may have a fraction. Of those that are too far away the last or first that there is.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, TokenRefused> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or(TokenRefused::Malformed)?;
        Ok(Some(Timestamp::from_millis((seconds * 1000.0) as i64)))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                }
                Ok(Object(object))
            }
        }

        deserializer.deserialize_map(Names)
    }
}
