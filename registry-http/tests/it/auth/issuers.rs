//! Tokens of others: as they are, as passwords, and exchanged for the registry's own.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use registry_http::auth::{AccessPolicy, AccessRule, Action, Issuer, KeySource, Subject};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::kit::{Kit, basic, decoded, forged, parts};

/// Somebody who issues tokens.
struct Corp {
    key: Ed25519KeyPair,
    dir: tempfile::TempDir,
}

impl Corp {
    fn new() -> Self {
        let (key, dir) = (Ed25519KeyPair::generate().unwrap(), tempfile::tempdir().unwrap());
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": x }] });
        std::fs::write(dir.path().join("jwks.json"), set.to_string()).unwrap();
        Self { key, dir }
    }

    fn issuer(&self) -> Issuer {
        let keys = KeySource::JwksFile(self.dir.path().join("jwks.json"));
        Issuer::builder("corp", "https://id.corp.example", keys).with_audience("registry.corp.example").build().unwrap()
    }

    fn claims(user: &str) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({ "iss": "https://id.corp.example", "aud": "registry.corp.example", "sub": user, "groups": ["ops"], "iat": now, "exp": now + 120 })
    }

    fn token(&self, claims: &Value) -> String {
        forged(&self.key, &json!({ "alg": "EdDSA", "kid": "one" }), claims)
    }
}

fn kit(corp: &Corp) -> Kit {
    let rule = |subject, actions: &[Action]| AccessRule::new("team/**".parse().unwrap(), [subject], actions.iter().copied());
    let policy = AccessPolicy::new([
        rule(Subject::Group("corp:ops".into()), &[Action::Pull, Action::Push]),
        rule(Subject::User("alice".into()), &[Action::Admin]),
        rule(Subject::Group("ops".into()), &[Action::Admin]),
    ]);
    Kit::with(|auth| auth.with_issuer(Arc::new(corp.issuer())).with_authorizer(Arc::new(policy)))
}

#[tokio::test]
async fn a_token_of_an_issuer_logs_in_in_each_way() {
    let corp = Corp::new();
    let kit = kit(&corp);
    kit.image("team/app").await;
    let theirs = corp.token(&Corp::claims("alice"));
    let as_password = basic("anything", theirs.trim_start_matches("Bearer "));
    let ours = kit.token(&as_password, "repository:team/app:pull,push,delete").await;
    let claims = decoded(&parts(&ours)[1]);
    assert_eq!((&claims["sub"], &claims["groups"]), (&json!("corp:alice"), &json!(["corp:ops"])));
    assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 120, "no longer than theirs");
    for credentials in [&theirs, &as_password, &ours] {
        kit.ask(credentials, "GET", "/v2/team/app/manifests/v1", "").await.assert(200);
        kit.ask(credentials, "POST", "/v2/team/app/blobs/uploads/", "").await.assert(202);
        // Neither a user nor a group of the registry's own has the same name.
        let refused = kit.ask(credentials, "DELETE", "/v2/team/app/manifests/v1", "").await;
        assert!(matches!(refused.status.as_u16(), 401 | 403), "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_that_is_no_good_is_refused_in_each_way() {
    let corp = Corp::new();
    let kit = kit(&corp);
    let with = |name: &str, value: Value| {
        let mut claims = Corp::claims("alice");
        claims[name] = value;
        corp.token(&claims)
    };
    let stranger = Corp::new();
    for (token, why) in [
        (with("exp", json!(1_000_000_000)), "the token has expired"),
        (with("aud", json!("elsewhere.example")), "the token is for another audience"),
        (with("iss", json!("https://id.other.example")), "the token's key is unknown"),
        (stranger.token(&Corp::claims("alice")), "the token's signature is wrong"),
    ] {
        let answer = kit.ask(&token, "GET", "/v2/team/app/tags/list", "").await;
        answer.assert_error(401, "UNAUTHORIZED");
        assert_eq!(answer.json()["errors"][0]["message"], why);
        let as_password = basic("alice", token.trim_start_matches("Bearer "));
        kit.ask(&as_password, "GET", "/token?service=registry", "").await.assert_error(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn an_issuer_whose_keys_cannot_be_had_lets_nobody_in_and_is_no_ones_fault() {
    let corp = Corp::new();
    let kit = kit(&corp);
    std::fs::remove_file(corp.dir.path().join("jwks.json")).unwrap();
    let answer = kit.ask(&corp.token(&Corp::claims("alice")), "GET", "/v2/", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.maybe("retry-after").is_some());
}

#[tokio::test]
async fn the_registrys_own_tokens_end_with_the_issuer_they_were_got_by() {
    let corp = Corp::new();
    let kit = kit(&corp);
    kit.image("team/app").await;
    let ours = kit.token(&basic("x", corp.token(&Corp::claims("alice")).trim_start_matches("Bearer ")), "repository:team/app:pull").await;
    kit.ask(&ours, "GET", "/v2/team/app/manifests/v1", "").await.assert(200);
    let [header, claims, _] = parts(&ours);
    let mut claims = decoded(&claims);
    claims["sub"] = json!("other:alice");
    let of_nobody = forged(&kit.key(), &decoded(&header), &claims);
    kit.ask(&of_nobody, "GET", "/v2/team/app/manifests/v1", "").await.assert_error(401, "UNAUTHORIZED");
}
