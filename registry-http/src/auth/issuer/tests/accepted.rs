//! What is accepted, and what comes of it.

use registry_core::Timestamp;
use serde_json::json;

use super::*;

#[tokio::test]
async fn a_token_of_each_algorithm_is_accepted_with_a_key_of_its_kind_and_no_other() {
    let (ed, p256, p384) = (Signer::ed(), Signer::p256(), Signer::p384());
    let signers = [("ed", &ed), ("p256", &p256), ("p384", &p384), ("rsa", &*RSA)];
    let keys: Vec<_> = signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
    let filed = Filed::new(&keys);
    let fitting = [
        ("EdDSA", "ed"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
    ];
    for (algorithm, fits) in fitting {
        for (kid, signer) in signers {
            let outcome = filed.verify(&signer.token(&header(algorithm, kid), &claims())).await;
            if kid == fits {
                assert_eq!(outcome.unwrap().identity.name(), "ext:jane", "{algorithm}");
            } else {
                assert_eq!(outcome, Err(TokenRefused::UnknownKey), "{algorithm} by {kid}");
            }
        }
    }
}

#[tokio::test]
async fn users_and_groups_carry_the_issuer_s_name_and_the_token_s_end_is_told() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    for (groups, expected) in
        [(json!(["admins", "ext:b"]), vec!["ext:admins", "ext:ext:b"]), (json!("one only"), vec!["ext:one only"]), (json!([]), vec![])]
    {
        let verified = filed.verify(&signer.token(&header("EdDSA", "k"), &claims_with("groups", groups))).await.unwrap();
        assert_eq!(verified.identity.name(), "ext:jane");
        assert_eq!(verified.identity.groups(), expected);
        assert_eq!(verified.expires, Timestamp::from_millis((*NOW + 3600) * 1000));
    }
    let verified = filed.verify(&signer.token(&header("EdDSA", "k"), &claims())).await.unwrap();
    assert!(verified.identity.groups().is_empty());
}

#[tokio::test]
async fn other_claims_can_have_the_user_and_the_groups() {
    let signer = Signer::ed();
    let make = |builder: IssuerBuilder| builder.with_user_claim("https://x.example/user").with_groups_claim("repository_owner");
    let filed = Filed::made(&[signer.jwk("k")], make);
    let mut claims = claims_with("https://x.example/user", "repo:a/b:ref".into());
    claims["repository_owner"] = "a".into();
    claims["groups"] = json!(["not these"]);
    let verified = filed.verify(&signer.token(&header("EdDSA", "k"), &claims)).await.unwrap();
    assert_eq!((verified.identity.name(), verified.identity.groups()), ("ext:repo:a/b:ref", &["ext:a".to_owned()][..]));
}

#[tokio::test]
async fn one_of_several_audiences_is_enough_on_either_side() {
    let signer = Signer::ed();
    let filed = Filed::made(&[signer.jwk("k")], |builder| builder.with_audience("second"));
    for audience in [json!("second"), json!(AUDIENCE), json!(["other", "second"])] {
        let token = signer.token(&header("EdDSA", "k"), &claims_with("aud", audience.clone()));
        assert!(filed.verify(&token).await.is_ok(), "{audience}");
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_is_tried_against_eight_fitting_keys_at_most() {
    let signer = Signer::ed();
    let others: Vec<_> = (0..8).map(|i| Signer::ed().jwk(&i.to_string())).collect();
    let misfits = [Signer::p256().jwk("a"), Signer::p384().jwk("b")];
    let token = signer.token(&json!({ "alg": "EdDSA" }), &claims());
    let keys = |others: &[Value]| [&misfits[..], others, &[signer.jwk("last")]].concat();
    assert!(Filed::new(&keys(&others[..7])).verify(&token).await.is_ok());
    assert_eq!(Filed::new(&keys(&others)).verify(&token).await, Err(TokenRefused::BadSignature));
}

#[tokio::test]
async fn two_keys_may_have_the_same_id() {
    let (one, two, three) = (Signer::ed(), Signer::ed(), Signer::p256());
    let filed = Filed::new(&[one.jwk("k"), two.jwk("k"), three.jwk("k")]);
    assert!(filed.verify(&two.token(&header("EdDSA", "k"), &claims())).await.is_ok());
    assert!(filed.verify(&three.token(&header("ES256", "k"), &claims())).await.is_ok());
}

#[test]
fn whose_a_token_claims_to_be_is_read_without_a_key() {
    let signer = Signer::ed();
    let issuer = Filed::new(&[]).issuer;
    assert!(issuer.claims_to_be_mine(&signer.token(&header("EdDSA", "k"), &claims())));
    for other in [json!("https://issuer.example/"), json!("https://Issuer.example"), json!(1), json!(null)] {
        assert!(!issuer.claims_to_be_mine(&signer.token(&header("EdDSA", "k"), &claims_with("iss", other.clone()))), "{other}");
    }
    for text in ["", "..", "a.b.c", "password", &".".repeat(20 << 10)] {
        assert!(!issuer.claims_to_be_mine(text));
    }
}
