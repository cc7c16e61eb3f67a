//! Who may ask, and how it is shown.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// The one principal: a service account with a key file, an HMAC key, and tokens for the machine it runs on.
pub(super) struct Identity {
    pub(super) access_key: String,
    pub(super) secret_key: String,
    pub(super) email: String,
    pub(super) key_id: String,
    url: String,
    key: KeyPair,
    /// Until when the tokens are good.
    tokens: Mutex<BTreeMap<String, DateTime<Utc>>>,
}

/// How long a token is good.
pub(super) const LIFETIME: TimeDelta = TimeDelta::seconds(3599);

impl Identity {
    pub(super) fn new(url: String) -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let random = super::store::hex(&hmac(key.der_bytes(), b"names"));
        Self {
            // https://cloud.google.com/storage/docs/authentication/hmackeys: 61 characters for a service account, and 40 in Base64.
            access_key: format!("GOOG1E{}", &random[..55].to_uppercase()),
            secret_key: base64(&hmac(key.der_bytes(), b"secret")[..30]),
            email: "stand-in@test.iam.gserviceaccount.com".to_owned(),
            key_id: random[24..].to_owned(),
            url,
            key,
            tokens: Mutex::default(),
        }
    }

    pub(super) fn service_account(&self) -> String {
        let key = json!({
            "type": "service_account",
            "project_id": "test",
            "private_key_id": self.key_id,
            "private_key": self.key.serialize_pem(),
            "client_email": self.email,
            "token_uri": "https://oauth2.googleapis.com/token",
            "gcs_base_url": self.url,
        });
        key.to_string()
    }

    pub(super) fn issue_token(&self, now: DateTime<Utc>) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let token = format!("ya29.{}-{}", self.key_id, tokens.len());
        tokens.insert(token.clone(), now + LIFETIME);
        token
    }

    /// Whether it is a token that was issued here, or one the principal signed itself (<https://google.aip.dev/auth/4111>).
    pub(super) fn knows_token(&self, token: &str, now: DateTime<Utc>) -> bool {
        let issued = self.tokens.lock().unwrap().get(token).copied();
        issued.is_some_and(|until| now < until) || self.knows_self_signed(token, now).unwrap_or(false)
    }

    fn knows_self_signed(&self, token: &str, now: DateTime<Utc>) -> Option<bool> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let (header, claims): (Value, Value) = (json_of(header)?, json_of(claims)?);
        let (from, until) = (claims["iat"].as_i64()?, claims["exp"].as_i64()?);
        // No document says how far a client's clock may be ahead.
        let leeway = 300;
        let in_time = from <= now.timestamp() + leeway && now.timestamp() < until && until - from <= 3600;
        let signer = header["alg"] == "RS256" && header["kid"] == *self.key_id && claims["iss"] == *self.email;
        let scope = claims["scope"].as_str()?.contains("https://www.googleapis.com/auth/");
        Some(in_time && signer && scope && self.has_signed(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?))
    }

    /// By RSA with SHA-256.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.der_bytes()).verify(message, signature).is_ok()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }
}

fn json_of(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().into()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
