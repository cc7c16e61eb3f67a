//! Which keys are taken from a set.

use aws_lc_rs::digest::{SHA256, digest};

use super::*;
use crate::auth::issuer::keys::KeySet;

async fn is_taken(signer: &Signer, algorithm: &str, jwk: Value) -> bool {
    match Filed::new(&[jwk, Signer::p384().jwk("spare")]).verify(&signer.token(&header(algorithm, "k"), &claims())).await {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused, TokenRefused::UnknownKey);
            false
        }
    }
}

#[tokio::test]
async fn what_a_key_says_it_is_for_counts() {
    let signer = Signer::p256();
    let table = [
        ("use", json!("sig"), true),
        ("use", json!(null), true),
        ("use", json!("enc"), false),
        ("use", json!("SIG"), false),
        ("use", json!(1), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["sign", "verify"]), true),
        ("key_ops", json!(["encrypt"]), false),
        ("key_ops", json!([]), false),
        ("key_ops", json!("verify"), false),
        ("alg", json!("ES256"), true),
        ("alg", json!("ES384"), false),
        ("alg", json!("ECDH-ES"), false),
        ("alg", json!("HS256"), false),
        ("alg", json!("none"), false),
        ("crv", json!("P-384"), false),
        ("crv", json!("P-521"), false),
        ("crv", json!("secp256k1"), false),
        ("crv", json!(null), false),
        ("kty", json!("ec"), false),
        ("kty", json!("RSA"), false),
        ("kty", json!("OKP"), false),
        ("kty", json!(null), false),
        ("kid", json!(1), false),
        ("kid", json!(null), false),
        ("x", json!(null), false),
        ("x", json!("AA"), false),
        ("x", json!("!"), false),
        ("unknown", json!({ "a": [1] }), true),
    ];
    for (member, value, taken) in table {
        let mut jwk = signer.jwk("k");
        jwk[member] = value.clone();
        assert_eq!(is_taken(&signer, "ES256", jwk).await, taken, "{member} = {value}");
    }
}

#[tokio::test]
async fn an_rsa_key_for_one_algorithm_is_not_for_another() {
    let mut jwk = RSA.jwk("k");
    jwk["alg"] = "PS256".into();
    assert!(is_taken(&RSA, "PS256", jwk.clone()).await);
    for other in ["RS256", "PS384", "RS512"] {
        assert!(!is_taken(&RSA, other, jwk.clone()).await, "{other}");
    }
}

#[test]
fn rsa_keys_have_2048_to_8192_bits() {
    let taken = |n: &[u8]| !KeySet::parse(set(&[json!({ "kty": "RSA", "n": b64(n), "e": "AQAB" })]).as_bytes()).unwrap().is_empty();
    for (bytes, first, expected) in
        [(256, 0x80, true), (256, 0x7f, false), (128, 0xff, false), (1024, 0xff, true), (1025, 1, false), (0, 0, false)]
    {
        let mut n = vec![0xff; bytes];
        n.first_mut().into_iter().for_each(|byte| *byte = first);
        assert_eq!(taken(&n), expected, "{bytes} bytes, the first {first}");
        // Zeros before it add nothing.
        assert_eq!(taken(&[&[0, 0], n.as_slice()].concat()), expected);
    }
    assert!(!taken(&[0; 256]));
}

#[tokio::test]
async fn an_rsa_modulus_may_have_a_zero_before_it() {
    let mut jwk = RSA.jwk("k");
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    jwk["n"] = b64([&[0], n.as_slice()].concat()).into();
    assert!(is_taken(&RSA, "RS256", jwk).await);
}

#[tokio::test]
async fn an_rsa_exponent_of_one_lets_nobody_forge() {
    let mut jwk = RSA.jwk("k");
    jwk["e"] = b64([1]).into();
    let filed = Filed::new(&[jwk]);
    let message = format!("{}.{}", b64(header("RS256", "k").to_string()), b64(claims().to_string()));
    // With it the signature of a message would be its own padded digest (RFC 8017, section 9.2).
    let info = [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];
    let digest = digest(&SHA256, message.as_bytes());
    let padded = [&[0, 1][..], &[0xff; 202], &[0], &info, digest.as_ref()].concat();
    assert_eq!(padded.len(), 256);
    assert_eq!(filed.verify(&format!("{message}.{}", b64(padded))).await, Err(TokenRefused::BadSignature));
}

#[test]
fn secrets_and_garbage_are_passed_over_and_the_rest_is_taken() {
    let good = Signer::ed().jwk("k");
    let oct = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256" });
    for useless in [oct, json!(null), json!(1), json!("text"), json!({}), json!({ "kty": "EC" }), json!({ "kty": "RSA", "n": "", "e": "" })]
    {
        assert!(KeySet::parse(set(std::slice::from_ref(&useless)).as_bytes()).unwrap().is_empty(), "{useless}");
        assert!(!KeySet::parse(set(&[useless, good.clone()]).as_bytes()).unwrap().is_empty());
    }
}

#[test]
fn what_is_no_set_is_an_error() {
    for json in
        ["", "{}", "null", "{\"keys\": {}}", "{\"keys\": null}", "<html>", "{\"keys\": [", &format!("{{\"keys\": {}", "[".repeat(100_000))]
    {
        assert!(KeySet::parse(json.as_bytes()).is_err(), "{json}");
    }
}
