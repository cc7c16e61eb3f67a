//! The matrix: every endpoint × who asks × what is answered, from one table.

use serde_json::json;

use super::kit::{Kit, PASSWORD, basic, decoded, forged, parts};
use crate::support::Answer;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    LogIn,
    Catalog,
    Pull,
    Push,
    Delete,
}

use Need::{Catalog, Delete, LogIn, Pull, Push};

/// **The table.** Every endpoint with each method that it has, what that needs, and what it is answered when it is let through. `TAG`, `MANIFEST`, `BLOB` and
/// `UPLOAD` stand for what is there.
const ENDPOINTS: &[(&str, &str, Need, u16)] = &[
    ("GET", "/v2", LogIn, 200),
    ("HEAD", "/v2", LogIn, 200),
    ("GET", "/v2/", LogIn, 200),
    ("HEAD", "/v2/", LogIn, 200),
    ("GET", "/v2/_catalog", Catalog, 200),
    ("HEAD", "/v2/_catalog", Catalog, 200),
    ("GET", "/v2/team/app/tags/list", Pull, 200),
    ("HEAD", "/v2/team/app/tags/list", Pull, 200),
    ("GET", "/v2/team/app/referrers/MANIFEST", Pull, 200),
    ("HEAD", "/v2/team/app/referrers/MANIFEST", Pull, 200),
    ("GET", "/v2/team/app/manifests/v1", Pull, 200),
    ("HEAD", "/v2/team/app/manifests/v1", Pull, 200),
    ("PUT", "/v2/team/app/manifests/v1", Push, 201),
    ("DELETE", "/v2/team/app/manifests/v1", Delete, 202),
    ("GET", "/v2/team/app/manifests/MANIFEST", Pull, 200),
    ("HEAD", "/v2/team/app/manifests/MANIFEST", Pull, 200),
    ("PUT", "/v2/team/app/manifests/MANIFEST", Push, 201),
    ("DELETE", "/v2/team/app/manifests/MANIFEST", Delete, 202),
    ("GET", "/v2/team/app/blobs/BLOB", Pull, 200),
    ("HEAD", "/v2/team/app/blobs/BLOB", Pull, 200),
    ("DELETE", "/v2/team/app/blobs/BLOB", Delete, 202),
    ("POST", "/v2/team/app/blobs/uploads/", Push, 202),
    ("POST", "/v2/team/app/blobs/uploads", Push, 202),
    ("POST", "/v2/team/app/blobs/uploads/?digest=BLOB", Push, 201),
    ("POST", "/v2/team/app/blobs/uploads/?mount=BLOB&from=team/other", Push, 201),
    ("GET", "/v2/team/app/blobs/uploads/UPLOAD", Push, 204),
    ("HEAD", "/v2/team/app/blobs/uploads/UPLOAD", Push, 204),
    ("PATCH", "/v2/team/app/blobs/uploads/UPLOAD", Push, 202),
    ("PUT", "/v2/team/app/blobs/uploads/UPLOAD?digest=BLOB", Push, 201),
    ("DELETE", "/v2/team/app/blobs/uploads/UPLOAD", Push, 204),
];

const METHODS: &[&str] = &["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"];

/// What a role may do.
const ROLES: &[(&str, &[Need])] = &[
    ("", &[]),
    ("reader", &[LogIn, Catalog, Pull]),
    ("writer", &[LogIn, Catalog, Pull, Push]),
    ("admin", &[LogIn, Catalog, Pull, Push, Delete]),
];

/// What is no good: for each, how it comes to be.
const BAD: &[&str] = &[
    "expired",
    "not yet valid",
    "wrong audience",
    "wrong issuer",
    "tampered",
    "alg none",
    "alg none, unsigned",
    "alg HS256",
    "another key of the same id",
    "another key",
    "removed user",
    "wrong password",
    "unknown user",
    "no password",
    "another scheme",
    "garbage",
];

/// The registry, and what the words of the table stand for.
struct World {
    kit: Kit,
    manifest: String,
    manifest_bytes: bytes::Bytes,
    blob: String,
}

impl World {
    async fn new() -> Self {
        let kit = Kit::new();
        kit.image("team/other").await;
        let (manifest, blob) = kit.image("team/app").await;
        let manifest_bytes = kit.open.get(&format!("/v2/team/app/manifests/{manifest}")).await.body;
        Self { kit, manifest: manifest.to_string(), manifest_bytes, blob: blob.to_string() }
    }

    /// A token for all of it, if they get one.
    async fn token(&self, name: &str) -> String {
        let credentials = if name.is_empty() { String::new() } else { basic(name, PASSWORD) };
        self.kit.token(&credentials, "repository:team/app:* repository:team/other:pull registry:catalog:*").await
    }

    async fn ask(&self, credentials: &str, method: &str, path: &str) -> Answer {
        let mut path = path.replace("MANIFEST", &self.manifest).replace("BLOB", &self.blob);
        if path.contains("UPLOAD") {
            // One's own, if one can have one.
            let owner = self.kit.ask(credentials, "POST", "/v2/team/app/blobs/uploads/", "").await;
            let begun = match owner.status.as_u16() {
                202 => owner,
                _ => self.kit.ask(&basic("writer", PASSWORD), "POST", "/v2/team/app/blobs/uploads/", "").await,
            };
            path = path.replace("UPLOAD", begun.assert(202).header("location").rsplit('/').next().unwrap());
        }
        let body = match method {
            "PUT" if path.contains("/manifests/") => self.manifest_bytes.clone(),
            "PUT" | "POST" if path.contains("?digest=") => bytes::Bytes::from_static(b"layer"),
            "PATCH" => bytes::Bytes::from_static(b"layer"),
            _ => bytes::Bytes::new(),
        };
        self.kit.ask(credentials, method, &path, body).await
    }

    /// What is no good in this way.
    async fn bad(&self, how: &str) -> String {
        let good = self.token("admin").await;
        let [header, claims, signature] = parts(&good);
        let (header_json, claims_json) = (decoded(&header), decoded(&claims));
        let key = self.kit.key();
        let with = |name: &str, value: serde_json::Value| {
            let mut claims = claims_json.clone();
            claims[name] = value;
            forged(&key, &header_json, &claims)
        };
        let with_header = |name: &str, value: serde_json::Value| {
            let mut header = header_json.clone();
            header[name] = value;
            forged(&key, &header, &claims_json)
        };
        let encode = |json: &serde_json::Value| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, json.to_string());
        let other = || aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
        match how {
            "expired" => with("exp", json!(claims_json["iat"].as_i64().unwrap() - 1)),
            "not yet valid" => with("nbf", json!(claims_json["iat"].as_i64().unwrap() + 3600)),
            "wrong audience" => with("aud", json!("another")),
            "wrong issuer" => with("iss", json!("another")),
            "tampered" => {
                let mut claims = decoded(&parts(&self.token("reader").await)[1]);
                claims["sub"] = json!("admin");
                let [header, _, signature] = parts(&self.token("reader").await);
                format!("Bearer {header}.{}.{signature}", encode(&claims))
            }
            "alg none" => with_header("alg", json!("none")),
            "alg none, unsigned" => format!("Bearer {}.{claims}.", encode(&json!({ "alg": "none", "typ": "JWT" }))),
            "alg HS256" => format!("Bearer {}.{claims}.{signature}", encode(&json!({ "alg": "HS256", "kid": header_json["kid"] }))),
            "another key of the same id" => forged(&other(), &header_json, &claims_json),
            "another key" => forged(&other(), &json!({ "alg": "EdDSA", "kid": "another" }), &claims_json),
            // As if there had been one when the token was issued.
            "removed user" => with("sub", json!("carol")),
            "wrong password" => basic("admin", "wrong horse"),
            "unknown user" => basic("carol", PASSWORD),
            "no password" => basic("admin", ""),
            "another scheme" => "Digest username=\"admin\"".to_owned(),
            "garbage" => "Bearer a.b.c".to_owned(),
            _ => unreachable!("{how}"),
        }
    }
}

/// What is answered to who may not do that.
#[track_caller]
fn refused(answer: &Answer, name: &str, what: &str) {
    let (status, code) = if name.is_empty() { (401, "UNAUTHORIZED") } else { (403, "DENIED") };
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    if !answer.body.is_empty() {
        assert_eq!(answer.json()["errors"][0]["code"], code, "{what}");
    }
    assert_eq!(answer.maybe("www-authenticate").is_some(), status == 401, "{what}");
}

#[tokio::test]
async fn each_role_does_what_it_may_and_nothing_else_by_password_and_by_token() {
    for (name, may) in ROLES {
        for (method, path, need, status) in ENDPOINTS {
            for by_token in [false, true] {
                let world = World::new().await;
                let credentials = match (by_token, name.is_empty()) {
                    (true, _) => world.token(name).await,
                    (false, true) => String::new(),
                    (false, false) => basic(name, PASSWORD),
                };
                let what = format!("{name:?} {method} {path} by {}", if by_token { "token" } else { "password" });
                let answer = world.ask(&credentials, method, path).await;
                // Who has a token of nobody's has come as far as that.
                let is_allowed = may.contains(need) || (by_token && matches!(need, LogIn | Catalog));
                if is_allowed {
                    assert_eq!(answer.status, *status, "{what}: {answer:?}");
                } else {
                    refused(&answer, name, &what);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_good_is_let_through_nowhere() {
    for how in BAD {
        let world = World::new().await;
        let credentials = world.bad(how).await;
        for (method, path, _, _) in ENDPOINTS {
            let answer = world.ask(&credentials, method, path).await;
            assert_eq!(answer.status, 401, "{how}: {method} {path}: {answer:?}");
            assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"https://registry.test/token\""), "{how}");
        }
        // Not even where anybody may pull: who shows something that is no good is to know it.
        world.kit.image("public/app").await;
        assert_eq!(world.ask(&credentials, "GET", "/v2/public/app/manifests/v1").await.status, 401, "{how}");
        assert_eq!(world.ask("", "GET", "/v2/public/app/manifests/v1").await.status, 200);
    }
}

#[tokio::test]
async fn a_token_is_good_for_what_it_was_asked_for_only() {
    let world = World::new().await;
    let admin = basic("admin", PASSWORD);
    for (scope, good_for) in [
        ("repository:team/other:*", &[LogIn][..]),
        ("repository:team/ap:*", &[LogIn]),
        ("repository:team/app/more:*", &[LogIn]),
        ("repository:team/app:pull", &[LogIn, Pull]),
        ("repository:team/app:push", &[LogIn, Push]),
        ("repository:team/app:delete", &[LogIn, Delete]),
        ("repository:team/app:pull,push", &[LogIn, Pull, Push]),
        ("registry:catalog:*", &[LogIn, Catalog]),
        ("", &[LogIn]),
    ] {
        let world = World::new().await;
        let token = world.kit.token(&admin, scope).await;
        // Deletes last: what they take away others look for.
        let (deletes, others): (Vec<&_>, Vec<&_>) = ENDPOINTS.iter().partition(|(_, _, need, _)| *need == Delete);
        for (method, path, need, status) in others.into_iter().chain(deletes) {
            if path.contains("mount=") {
                continue;
            }
            let answer = world.ask(&token, method, path).await;
            if good_for.contains(need) {
                let gone = *need == Delete && answer.status == 404;
                assert!(gone || answer.status == *status, "{scope}: {method} {path}: {answer:?}");
            } else {
                assert_eq!(answer.status, 401, "{scope}: {method} {path}");
                assert!(answer.header("www-authenticate").ends_with(",error=\"insufficient_scope\""), "{scope}: {method} {path}");
            }
        }
    }
    // Nor does a token get more than its owner has.
    let token = world.kit.token(&basic("reader", PASSWORD), "repository:team/app:pull,push,delete,*").await;
    assert_eq!(decoded(&parts(&token)[1])["access"][0]["actions"], json!(["pull"]));
    assert_eq!(world.ask(&token, "POST", "/v2/team/app/blobs/uploads/").await.status, 403);
}

#[tokio::test]
async fn nothing_passes_that_is_not_in_the_table() {
    let world = World::new().await;
    let admin = basic("admin", PASSWORD);
    let of = |path: &'static str| path.split('?').next().unwrap_or_default();
    let mut paths: Vec<_> = ENDPOINTS.iter().map(|(_, path, _, _)| of(path)).collect();
    paths.extend([
        "/v2/team/app",
        "/v2/team/app/",
        "/v2//tags/list",
        "/v2/team/app/tags",
        "/v2/../metrics",
        "/v2/team/../secret/tags/list",
        "/v1/",
        "/token/",
        "/v2/token",
        "/metrics",
        "/v2/_catalog/",
    ]);
    for path in paths {
        for method in METHODS {
            if ENDPOINTS.iter().any(|(known, known_path, _, _)| known == method && of(known_path) == path) {
                continue;
            }
            for credentials in ["", admin.as_str()] {
                let answer = world.ask(credentials, method, path).await;
                assert!(matches!(answer.status.as_u16(), 400 | 401 | 404 | 405), "{method} {path}: {answer:?}");
            }
        }
    }
    for method in METHODS.iter().filter(|method| **method != "GET") {
        assert_eq!(world.kit.ask(&admin, method, "/token", "").await.status, 405, "{method}");
    }
}

#[tokio::test]
async fn a_refusal_says_the_same_whether_it_is_there_or_not() {
    let world = World::new().await;
    world.kit.image("hidden/app").await;
    for credentials in [String::new(), basic("reader", PASSWORD)] {
        for (method, path, need, _) in ENDPOINTS.iter().filter(|(_, path, _, _)| path.contains("/team/app/")) {
            let ask = |repository: &str| {
                let path = path.replace("team/app", repository).replace("UPLOAD", "0123456789abcdef0123456789abcdef");
                let (credentials, world) = (credentials.clone(), &world);
                async move { world.ask(&credentials, method, &path).await }
            };
            let (there, nowhere) = (ask("hidden/app").await, ask("hidden/none").await);
            assert_eq!((there.status, &there.body), (nowhere.status, &nowhere.body), "{need:?} {method} {path}");
            assert!(matches!(there.status.as_u16(), 401 | 403));
        }
    }
}
