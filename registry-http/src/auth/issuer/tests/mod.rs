//! Tests of [`Issuer`](super::Issuer) with keys and tokens made here, and a service that publishes the keys.

mod accepted;
mod attacks;
mod configuration;
mod keys;
mod properties;
mod service;
mod sources;
mod times;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry_core::testing::ManualClock;
use registry_core::{Clock as _, Result};
use serde_json::{Value, json};

use super::{Issuer, IssuerBuilder, KeySource, TokenRefused, Verified};

const ISS: &str = "https://issuer.example";
const AUDIENCE: &str = "registry.example";

/// The time when tests begin, in seconds since 1970.
static NOW: LazyLock<i64> = LazyLock::new(|| ManualClock::default().now().as_millis() / 1000);

/// Somebody's key.
enum Signer {
    Ed(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// One for all tests: making them takes long.
static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));

impl Signer {
    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::P256(key) | Self::P384(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The public half, as it is published.
    fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key()) }),
            Self::P256(key) => ec("P-256", key.public_key().as_ref()),
            Self::P384(key) => ec("P-384", key.public_key().as_ref()),
            Self::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": b64(public.n), "e": b64(public.e) })
            }
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// A token of any texts.
    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let algorithm = serde_json::from_str::<Value>(header).ok().and_then(|header| Some(header.get("alg")?.as_str()?.to_owned()));
        let signature = self.sign(&algorithm.unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", b64(signature))
    }
}

fn ec(curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y) })
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Those of a good token of an hour.
fn claims() -> Value {
    json!({ "iss": ISS, "aud": AUDIENCE, "sub": "jane", "exp": *NOW + 3600, "iat": *NOW, "nbf": *NOW })
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn header(algorithm: &str, kid: &str) -> Value {
    json!({ "alg": algorithm, "typ": "JWT", "kid": kid })
}

fn builder(keys: KeySource) -> IssuerBuilder {
    Issuer::builder("ext", ISS, keys).with_audience(AUDIENCE).with_clock(Arc::new(ManualClock::default()))
}

/// An issuer with keys in a file, which goes when this does.
struct Filed {
    issuer: Issuer,
    file: tempfile::NamedTempFile,
}

impl Filed {
    fn new(keys: &[Value]) -> Self {
        Self::made(keys, |builder| builder)
    }

    fn made(keys: &[Value], make: impl FnOnce(IssuerBuilder) -> IssuerBuilder) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), set(keys)).unwrap();
        let issuer = make(builder(KeySource::JwksFile(file.path().to_owned()))).build().unwrap();
        Self { issuer, file }
    }

    async fn verify(&self, token: &str) -> Result<Verified, TokenRefused> {
        self.issuer.verify(token).await.unwrap()
    }
}
