//! `/token`, and what clients are told that have to go there.

use std::sync::Arc;
use std::time::Duration;

use registry_http::HttpOptions;
use registry_http::auth::{Auth, Htpasswd, HtpasswdEditor, TokenOptions, Tokens};

use super::kit::{Kit, PASSWORD, add_users, basic, decoded, parts};
use crate::support::Fixture;

#[tokio::test]
async fn a_client_that_is_not_logged_in_is_told_where_and_for_what_to_get_a_token() {
    let kit = Kit::new();
    for (method, path, scope) in [
        ("GET", "/v2/", ""),
        ("GET", "/v2/_catalog", ",scope=\"registry:catalog:*\""),
        ("GET", "/v2/team/app/manifests/v1", ",scope=\"repository:team/app:pull\""),
        ("POST", "/v2/team/app/blobs/uploads/", ",scope=\"repository:team/app:pull,push\""),
        ("DELETE", "/v2/team/app/manifests/v1", ",scope=\"repository:team/app:delete\""),
    ] {
        let answer = kit.ask("", method, path, "").await;
        answer.assert_error(401, "UNAUTHORIZED");
        assert_eq!(answer.header("www-authenticate"), format!("Bearer realm=\"https://registry.test/token\",service=\"registry\"{scope}"));
    }
}

#[tokio::test]
async fn the_realm_is_what_the_client_calls_the_server_and_nothing_else() {
    let kit = Kit::new();
    for (host, realm) in [
        ("one.example", "https://one.example/token"),
        ("two.example:8443", "https://two.example:8443/token"),
        ("localhost:5000", "http://localhost:5000/token"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/token"),
        ("127.0.0.1.evil.example", "https://127.0.0.1.evil.example/token"),
        ("[::1]:5000", "http://[::1]:5000/token"),
        ("a\"b", "/token"),
        ("evil.example/x", "/token"),
    ] {
        let answer = kit.closed.request("GET", "/v2/").header("host", host).send().await;
        assert!(answer.header("www-authenticate").contains(&format!("realm=\"{realm}\"")), "{host}: {answer:?}");
    }
    let forwarded = kit.closed.request("GET", "/v2/").header("host", "inner").header("x-forwarded-host", "outer.example").send().await;
    assert!(forwarded.header("www-authenticate").contains("https://inner/token"), "nobody is believed unasked");
    let auth = Auth::new(Arc::new(Htpasswd::open(kit.dir.path().join("users")).unwrap()))
        .with_tokens(Tokens::open(kit.dir.path().join("keys"), TokenOptions::default()).unwrap());
    let options = HttpOptions::default().with_auth(auth).with_public_url(&"http://registry.lan:5000".parse().unwrap());
    let answer = kit.open.again(options).request("GET", "/v2/").header("host", "inner").send().await;
    assert!(answer.header("www-authenticate").contains("realm=\"http://registry.lan:5000/token\""), "{answer:?}");
}

#[tokio::test]
async fn a_password_is_exchanged_for_a_token_of_what_its_owner_may() {
    let kit = Kit::new();
    let path = "/token?service=registry&account=writer&client_id=docker&offline_token=true\
                &scope=repository:team/app:pull,push,delete&scope=repository:secret/app:pull%20repository:public/app:pull,push";
    let answer = kit.ask(&basic("writer", PASSWORD), "GET", path, "").await;
    let body = answer.assert(200).json();
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(body["token"], body["access_token"]);
    assert_eq!(body["expires_in"], 300);
    assert!(body["issued_at"].as_str().unwrap().ends_with('Z') && body["refresh_token"].is_null());
    let claims = decoded(&parts(body["token"].as_str().unwrap())[1]);
    assert_eq!(claims["sub"], "writer");
    assert_eq!((&claims["iss"], &claims["aud"]), (&"registry".into(), &"registry".into()));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    let access = serde_json::json!([
        { "type": "repository", "name": "team/app", "actions": ["pull", "push"] },
        { "type": "repository", "name": "public/app", "actions": ["pull"] },
    ]);
    assert_eq!(claims["access"], access);
    assert_eq!(decoded(&parts(body["token"].as_str().unwrap())[0])["alg"], "EdDSA");
}

#[tokio::test]
async fn who_shows_nothing_gets_a_token_of_nobody_and_who_shows_something_bad_gets_none() {
    let kit = Kit::new();
    let token = kit.token("", "repository:public/app:pull,push").await;
    kit.image("public/app").await;
    kit.ask(&token, "GET", "/v2/public/app/manifests/v1", "").await.assert(200);
    kit.ask(&token, "GET", "/v2/", "").await.assert(200);
    kit.ask(&token, "POST", "/v2/public/app/blobs/uploads/", "").await.assert(401);
    for bad in [
        basic("writer", "wrong horse"),
        basic("nobody", PASSWORD),
        "Basic !".to_owned(),
        "Negotiate x".to_owned(),
        "Bearer a.b.c".to_owned(),
    ] {
        let answer = kit.ask(&bad, "GET", "/token?service=registry", "").await;
        answer.assert_error(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").starts_with("Basic "), "{answer:?}");
    }
    let again = kit.ask(&token, "GET", "/token?service=registry", "").await;
    assert_eq!(again.status, 401, "a token for a token would never end");
    kit.ask(&basic("writer", PASSWORD), "GET", "/token?service=another", "").await.assert(400);
    let many = format!("/token?scope={}", "repository:a:pull+".repeat(31));
    kit.ask(&basic("writer", PASSWORD), "GET", &many, "").await.assert(400);
}

#[tokio::test]
async fn processes_with_the_same_keys_accept_each_others_tokens() {
    let kit = Kit::new();
    let other = {
        let auth = Auth::new(Arc::new(Htpasswd::open(kit.dir.path().join("users")).unwrap()))
            .with_tokens(Tokens::open(kit.dir.path().join("keys"), TokenOptions::default()).unwrap())
            .with_authorizer(Arc::new(super::kit::policy()));
        kit.open.again(HttpOptions::default().with_auth(auth))
    };
    kit.image("team/app").await;
    let token = kit.token(&basic("reader", PASSWORD), "repository:team/app:pull").await;
    other.request("GET", "/v2/team/app/manifests/v1").header("authorization", &token).send().await.assert(200);
}

#[tokio::test]
async fn who_is_removed_is_out_at_once_whatever_tokens_there_are() {
    let kit = Kit::new();
    kit.image("team/app").await;
    let token = kit.token(&basic("reader", PASSWORD), "repository:team/app:pull").await;
    kit.ask(&token, "GET", "/v2/team/app/manifests/v1", "").await.assert(200);
    HtpasswdEditor::new(kit.dir.path().join("users")).remove("reader").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for credentials in [token, basic("reader", PASSWORD)] {
        kit.ask(&credentials, "GET", "/v2/team/app/manifests/v1", "").await.assert_error(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn a_registry_without_users_is_open_until_the_first_one_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    let auth = Auth::new(Arc::new(Htpasswd::open(&users).unwrap()))
        .with_tokens(Tokens::open(dir.path().join("keys"), TokenOptions::default()).unwrap());
    let fixture = Fixture::with(HttpOptions::default().with_auth(auth));
    fixture.get("/v2/").await.assert(200);
    fixture.push("team/app", "x").await;
    add_users(&users, &["alice"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    fixture.get("/v2/").await.assert(401);
    fixture.get("/v2/team/app/tags/list").await.assert(401);
    let alice = basic("alice", PASSWORD);
    let ask = |method: &'static str| fixture.request(method, "/v2/team/app/blobs/uploads/").header("authorization", &alice).send();
    ask("POST").await.assert_error(403, "DENIED");
    HtpasswdEditor::new(&users).set_groups("alice", &["writers".to_owned()]).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ask("POST").await.assert(202);
    // Taking the file away does not open it again.
    std::fs::remove_file(&users).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    fixture.get("/v2/").await.assert(401);
    ask("POST").await.assert(503);
}

#[tokio::test]
async fn without_tokens_passwords_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    add_users(&dir.path().join("users"), &["alice"]);
    let fixture = Fixture::with(HttpOptions::default().with_auth(Auth::new(Arc::new(Htpasswd::open(dir.path().join("users")).unwrap()))));
    assert_eq!(fixture.get("/v2/").await.assert(401).header("www-authenticate"), "Basic realm=\"registry\",charset=\"UTF-8\"");
    fixture.get("/token").await.assert(404);
    fixture.request("GET", "/v2/").header("authorization", &basic("alice", PASSWORD)).send().await.assert(200);
}
