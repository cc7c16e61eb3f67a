//! Tokens, and what is said when one cannot be had.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::WriteOptions;
use registry_core::{BlobStore as _, BlobStoreExt as _, ErrorKind};
use serde_json::json;
use storage_swift::{Interface, Secret, SwiftConfig};

use crate::blobs_support::content;
use crate::service::{self, before, builder, log_in, logged_in, open, swift};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_live_five_seconds_do_for_many_blobs_and_a_slow_one() {
    let Some(mut config) = service::keystone() else { return };
    config.auth_url = swift("SHORT_AUTH_URL");
    config.storage_url = logged_in(config.clone()).await.storage_url;
    let (proxy, config) = before(&config).await;
    let store = builder(&config).with_segment_size(256 << 10).build_blob_store().await.unwrap();
    let slow = {
        let (store, (digest, bytes)) = (store.clone(), content(1, 4 << 20));
        tokio::spawn(async move {
            // Twelve seconds, and segments all the while: more than two lives of a token.
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
    let puts: Vec<_> = proxy.seen().into_iter().filter(|seen| seen.method == "PUT" && seen.target.contains("_segments/")).collect();
    assert!(puts.iter().map(|seen| seen.header("X-Auth-Token")).collect::<BTreeSet<_>>().len() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_renewed() {
    let Some(mut config) = service::keystone() else { return };
    // A user whom no other test logs in as: tokens that Keystone gave him in the same second go with this one.
    config.username = swift("STRANGER");
    config.project_id = None;
    config.project_name = swift("STRANGER_PROJECT");
    let url = config.auth_url.clone().unwrap();
    config.storage_url = logged_in(config.clone()).await.storage_url;
    let account = config.storage_url.clone().unwrap();
    let (proxy, config) = before(&config).await;
    let store = open(&config).await;
    let (digest, bytes) = content(2, 1000);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let old = proxy.seen().last().unwrap().header("X-Auth-Token").to_owned();
    let http = reqwest::Client::new();
    let revoked =
        http.delete(format!("{url}/auth/tokens")).header("X-Auth-Token", &old).header("X-Subject-Token", &old).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    assert_eq!(http.head(&account).header("X-Auth-Token", &old).send().await.unwrap().status(), 401);
    let reads = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.read_all(&digest).await })
    });
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap().unwrap(), bytes);
    }
    assert_ne!(proxy.seen().last().unwrap().header("X-Auth-Token"), old);
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
async fn a_log_in_by_names_or_ids_does() {
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
    let project = json!({ "id": config.project_id.as_deref().unwrap() });
    let url = config.auth_url.as_deref().unwrap();
    let (_, about) = log_in(url, config.username.as_deref().unwrap(), &swift("PASSWORD").unwrap(), project).await;
    let mut by_id = config.clone();
    (by_id.username, by_id.user_domain_name) = (None, None);
    by_id.user_id = Some(about["token"]["user"]["id"].as_str().unwrap().to_owned());
    open(&by_id).await;
    let mut with_domain_ids = by_name.clone();
    with_domain_ids.user_domain_id = Some("default".to_owned());
    with_domain_ids.project_domain_id = Some("default".to_owned());
    open(&with_domain_ids).await;
    let mut with_domain_names = by_name;
    with_domain_names.user_domain_name = swift("DOMAIN");
    with_domain_names.project_domain_name = swift("DOMAIN");
    open(&with_domain_names).await;
}

/// An application credential of the user's: its id, name and secret.
async fn application_credential(config: &SwiftConfig) -> (String, String, String) {
    let url = config.auth_url.as_deref().unwrap();
    let project = json!({ "id": config.project_id.as_deref().unwrap() });
    let (token, about) = log_in(url, config.username.as_deref().unwrap(), &swift("PASSWORD").unwrap(), project).await;
    let user = about["token"]["user"]["id"].as_str().unwrap();
    let name = service::new_container();
    let wanted = json!({ "application_credential": { "name": name } });
    for _ in 0..10 {
        let request = reqwest::Client::new().post(format!("{url}/users/{user}/application_credentials")).header("X-Auth-Token", &token);
        let answer = request.header("Content-Type", "application/json").body(wanted.to_string()).send().await.unwrap();
        let (status, made) = (answer.status(), answer.bytes().await.unwrap());
        let made: serde_json::Value = serde_json::from_slice(&made).unwrap_or_default();
        let of = |key: &str| made["application_credential"][key].as_str().map(ToOwned::to_owned);
        if let Some((id, secret)) = of("id").zip(of("secret")) {
            return (id, name, secret);
        }
        // Its database is a file, which others are writing to.
        eprintln!("Keystone makes no application credential: {status}: {made}");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    panic!("Keystone makes no application credential")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_credential_logs_in_by_id_and_by_name() {
    let Some(config) = service::keystone() else { return };
    let (id, name, secret) = application_credential(&config).await;
    let mut by_id = config.clone();
    (by_id.username, by_id.password, by_id.project_id) = (None, None, None);
    by_id.application_credential_secret = Some(Secret::from(secret.clone()));
    let mut by_name = by_id.clone();
    by_id.application_credential_id = Some(id);
    (by_name.application_credential_name, by_name.username) = (Some(name), config.username);
    let (digest, bytes) = content(4, 1000);
    for config in [&by_id, &by_name] {
        open(config).await.put_bytes(&digest, bytes.clone()).await.unwrap();
    }
    let said = async |mut config: SwiftConfig| {
        config.application_credential_secret = Some(Secret::from("wrong"));
        service::without_transaction(builder(&config).build_blob_store().await.unwrap_err().message())
    };
    let refused = "the log-in is refused. Keystone does not say which is wrong of";
    let message = said(by_id).await;
    assert!(message.ends_with(&format!("{refused} application_credential_id and application_credential_secret")), "{message}");
    let message = said(by_name).await;
    let settings = "application_credential_name, application_credential_secret, username and user_domain_name";
    assert!(message.ends_with(&format!("{refused} {settings}")), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_token_does_with_the_address_of_the_account_or_with_keystone_to_ask_for_it() {
    let Some(config) = service::keystone() else { return };
    let mut with_address = logged_in(config).await;
    (with_address.username, with_address.password) = (None, None);
    let mut asking = with_address.clone();
    with_address.auth_url = None;
    asking.storage_url = None;
    let (digest, bytes) = content(5, 1000);
    for config in [&with_address, &asking] {
        open(config).await.put_bytes(&digest, bytes.clone()).await.unwrap();
    }
    // Nobody has the password to renew it.
    with_address.token = Some(Secret::from("expired"));
    let error = builder(&with_address).build_blob_store().await.unwrap_err();
    let message = "the token is not accepted any more; give user and password to have it renewed";
    assert_eq!((error.kind(), error.message()), (ErrorKind::Denied, message));
    asking.token = Some(Secret::from("expired"));
    let error = builder(&asking).build_blob_store().await.unwrap_err();
    let message = "the log-in is refused. Keystone does not say which is wrong of token and the project";
    assert!(error.kind() == ErrorKind::Denied && error.message().contains(&format!("{message} (transaction req-")), "{error}");
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
    Some(service::without_transaction(&error.to_string()).replace(&port, "PORT"))
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
