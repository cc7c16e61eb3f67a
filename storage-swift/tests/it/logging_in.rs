//! Tokens, and what is said when one cannot be had.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::WriteOptions;
use registry_core::testing::Rng;
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, ErrorKind};
use storage_swift::{Interface, Secret, SwiftBlobStore, SwiftConfig};

use crate::service::{self, builder, swift};

fn content(seed: u64, len: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(Rng::new(seed).bytes(len));
    (Digest::sha256(&bytes), bytes)
}

async fn open(config: &SwiftConfig) -> SwiftBlobStore {
    builder(config).build_blob_store().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_live_five_seconds_do_for_many_blobs_and_a_slow_one() {
    let Some(mut config) = service::keystone() else { return };
    config.auth_url = swift("SHORT_AUTH_URL");
    let store = open(&config).await;
    let slow = {
        let (store, (digest, bytes)) = (store.clone(), content(1, 4 << 20));
        tokio::spawn(async move {
            // Twelve seconds: more than two lives of a token.
            let chunks: Vec<_> = bytes.chunks(bytes.len() / 24).map(Bytes::copy_from_slice).collect();
            let chunks = futures_util::stream::iter(chunks).then(|chunk| async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(chunk)
            });
            store.put(&digest, WriteOptions::default().with_size(bytes.len() as u64), chunks.boxed()).await.unwrap();
            assert_eq!(store.read_all(&digest).await.unwrap(), bytes);
        })
    };
    for n in 0..200 {
        let (digest, bytes) = content(100 + n, 1000);
        store.put_bytes(&digest, bytes.clone()).await.unwrap();
        assert_eq!(store.read_all(&digest).await.unwrap(), bytes);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    slow.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_renewed_once_for_all() {
    let Some(mut config) = service::keystone() else { return };
    // A user whom no other test logs in as: for a moment he cannot.
    config.username = swift("STRANGER");
    config.project_id = None;
    config.project_name = swift("STRANGER_PROJECT");
    let store = open(&config).await;
    let (digest, bytes) = content(2, 1000);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    // A token that Swift refuses is not kept, whoever revoked it: all of the user's are, by a change that Keystone takes as a reason.
    revoke_all(&config).await;
    let reads = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.read_all(&digest).await })
    });
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap().unwrap(), bytes);
    }
}

/// Obtains tokens as the user, and has Keystone revoke them; the stores' own is among them, since a user's tokens of one second are one to Keystone.
async fn revoke_all(config: &SwiftConfig) {
    let http = reqwest::Client::new();
    let url = format!("{}/auth/tokens", config.auth_url.as_deref().unwrap());
    let admin = serde_json::json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": {
            "name": swift("ADMIN_USERNAME").unwrap(), "domain": { "id": "default" }, "password": swift("ADMIN_PASSWORD").unwrap() } } },
        "scope": { "project": { "name": "admin", "domain": { "id": "default" } } } } });
    let answer = http.post(&url).body(admin.to_string()).header("Content-Type", "application/json").send().await.unwrap();
    let token = answer.headers()["X-Subject-Token"].to_str().unwrap().to_owned();
    // Taking a role away and giving it back revokes what was issued under it.
    let base = config.auth_url.as_deref().unwrap();
    let get = async |path: &str| -> serde_json::Value {
        let answer = http.get(format!("{base}{path}")).header("X-Auth-Token", &token).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    };
    let user = get(&format!("/users?name={}", config.username.as_deref().unwrap())).await["users"][0]["id"].as_str().unwrap().to_owned();
    let role = get("/roles?name=member").await["roles"][0]["id"].as_str().unwrap().to_owned();
    let project =
        get(&format!("/projects?name={}", config.project_name.as_deref().unwrap())).await["projects"][0]["id"].as_str().unwrap().to_owned();
    let grant = format!("{base}/projects/{project}/users/{user}/roles/{role}");
    for method in [http::Method::DELETE, http::Method::PUT] {
        let answer = http.request(method, &grant).header("X-Auth-Token", &token).header("Content-Length", 0).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_is_told_so() {
    let Some(config) = service::keystone() else { return };
    let writer = open(&config).await;
    let (digest, bytes) = content(3, 1000);
    writer.put_bytes(&digest, bytes.clone()).await.unwrap();
    let mut config = config;
    config.username = swift("READER");
    let reader = open(&config).await;
    assert_eq!(reader.read_all(&digest).await.unwrap(), bytes);
    let error = reader.put_bytes(&digest, bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("403") && error.to_string().contains("transaction tx"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_by_names_or_ids_or_a_ready_token_does() {
    let Some(config) = service::keystone() else { return };
    open(&config).await;
    let mut by_name = config.clone();
    by_name.project_id = None;
    by_name.project_name = swift("PROJECT");
    by_name.user_domain_name = None;
    open(&by_name).await;
    let mut without_version = config.clone();
    without_version.auth_url = config.auth_url.as_deref().map(|url| url.trim_end_matches("/v3").to_owned());
    without_version.interface = Interface::Internal;
    open(&without_version).await;
}

/// What is said of a configuration with one thing wrong in it, without what differs from run to run.
async fn said(change: impl FnOnce(&mut SwiftConfig)) -> Option<String> {
    let mut config = service::keystone()?;
    config.container = "no-such-container".to_owned();
    config.create_container = false;
    let url = config.auth_url.clone()?;
    let port = url.trim_end_matches("/v3").rsplit(':').next()?.to_owned();
    change(&mut config);
    let error = builder(&config).with_retries(0, Duration::ZERO).build_blob_store().await.unwrap_err();
    Some(error.to_string().replace(&port, "PORT"))
}

/// A message for each setting that is wrong: it says what, and which setting to change.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_plain_words() {
    let Some(message) = said(|_| {}).await else { return };
    assert_eq!(message, "there is no container no-such-container: check container, or set create_container = true");
    let expected: [(fn(&mut SwiftConfig), &str); 12] = [
        (|c| c.container = String::new(), "container is missing: it is where blobs are stored"),
        (|c| c.auth_url = None, "auth_url is missing: it is where to log in, like https://keystone.example:5000/v3"),
        (|c| c.auth_url = Some("keystone:5000".to_owned()), r#"auth_url = "keystone:5000": it begins with http:// or https://"#),
        (|c| c.auth_version = Some(2), r#"auth_version = "2": it is 3 for Keystone, or 1; Keystone's version 2 is gone since 2018"#),
        (
            |c| c.auth_url = Some("http://127.0.0.1:9/v3".to_owned()),
            "logging in at http://127.0.0.1:9/v3: no connection: Connection refused (os error 111); is auth_url right, and can that host be reached from here?",
        ),
        (
            |c| c.auth_url = c.auth_url.as_ref().map(|url| url.replace("/v3", "/identity")),
            "http://127.0.0.1:PORT/identity/v3: there is no Keystone version 3 there (404 Not Found); auth_url is like https://keystone.example:5000/v3, and auth_version = 1 is for other log-ins",
        ),
        (
            |c| c.password = Some(Secret::from("wrong")),
            "http://127.0.0.1:PORT/v3: the log-in is refused. Keystone does not say which is wrong of username, password, user_domain_name and the project (tenant_id or project_name and project_domain_name)",
        ),
        (
            |c| c.user_domain_name = Some("nowhere".to_owned()),
            "http://127.0.0.1:PORT/v3: the log-in is refused. Keystone does not say which is wrong of username, password, user_domain_name and the project (tenant_id or project_name and project_domain_name)",
        ),
        (
            |c| c.project_id = None,
            "http://127.0.0.1:PORT/v3: the log-in is good, but for no project, so that there is no catalogue: set tenant_id (project_id), or project_name and its domain",
        ),
        (
            |c| c.region = None,
            "http://127.0.0.1:PORT/v3: the catalogue has several regions: RegionOne, RegionTwo; set region to one of them",
        ),
        (
            |c| c.region = Some("RegionX".to_owned()),
            "http://127.0.0.1:PORT/v3: the catalogue has no region RegionX, only RegionOne, RegionTwo; set region to one of them",
        ),
        (
            |c| {
                c.username = swift("READER");
                c.create_container = true;
            },
            "container no-such-container is not there, and this user may not make it",
        ),
    ];
    for (change, expected) in expected {
        assert_eq!(said(change).await.unwrap(), expected);
    }
}
