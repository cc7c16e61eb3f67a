//! When a token begins and ends.

use super::*;

#[tokio::test]
async fn tokens_begin_and_end_with_a_minute_s_leeway() {
    use TokenRefused::{Expired, Malformed, NotYetValid};
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    let now = *NOW;
    let table = [
        ("exp", json!(now + 1), None),
        ("exp", json!(now - 59), None),
        ("exp", json!(now - 60), Some(Expired)),
        ("exp", json!(now as f64 - 59.5), None),
        ("exp", json!(now as f64 - 60.5), Some(Expired)),
        ("exp", json!(0), Some(Expired)),
        ("exp", json!(-1), Some(Expired)),
        ("exp", json!(i64::MIN), Some(Expired)),
        ("exp", json!(-1e300), Some(Expired)),
        ("exp", json!(i64::MAX), None),
        ("exp", json!(u64::MAX), None),
        ("exp", json!(1e300), None),
        ("exp", json!((now + 60).to_string()), Some(Malformed)),
        ("exp", json!(null), Some(Malformed)),
        ("exp", json!([now + 60]), Some(Malformed)),
        ("nbf", json!(now + 60), None),
        ("nbf", json!(now + 61), Some(NotYetValid)),
        ("nbf", json!(u64::MAX), Some(NotYetValid)),
        ("nbf", json!(-1e300), None),
        ("nbf", json!("0"), Some(Malformed)),
        ("iat", json!(now + 60), None),
        ("iat", json!(now + 61), Some(NotYetValid)),
        ("iat", json!(true), Some(Malformed)),
    ];
    for (claim, value, refused) in table {
        let outcome = filed.verify(&signer.token(&header("EdDSA", "k"), &claims_with(claim, value.clone()))).await;
        assert_eq!(outcome.err(), refused, "{claim} = {value}");
    }
}

#[tokio::test]
async fn a_token_without_an_end_is_refused_and_one_without_a_beginning_is_not() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    let without = |names: &[&str]| {
        let mut claims = claims();
        names.iter().for_each(|name| drop(claims.as_object_mut().unwrap().remove(*name)));
        signer.token(&header("EdDSA", "k"), &claims)
    };
    assert_eq!(filed.verify(&without(&["exp"])).await, Err(TokenRefused::Malformed));
    assert!(filed.verify(&without(&["nbf", "iat"])).await.is_ok());
}
