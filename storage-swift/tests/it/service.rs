//! The services that `scripts/services/swift` and `scripts/services/rgw` start.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::ObjectStore as _;
use object_store::path::Path;
use storage_swift::{Secret, SwiftBlobStore, SwiftBuilder, SwiftConfig};

use crate::proxy::Proxy;
use crate::whole::Blob;

/// A variable of a service; without it a test is skipped, or fails where services are required.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not set, and services are required");
        eprintln!("skipped: {name} is not set");
    }
    value
}

pub(crate) fn swift(name: &str) -> Option<String> {
    variable(&format!("REGISTRY_TEST_SWIFT_{name}"))
}

/// A proxy before the Swift whose address is `storage_url`; with the configuration of who goes through it.
pub(crate) async fn before(config: &SwiftConfig) -> (Proxy, SwiftConfig) {
    let proxy = Proxy::new(config.storage_url.as_deref().unwrap()).await;
    let mut config = config.clone();
    config.storage_url = config.storage_url.map(|url| proxy.instead_of(&url));
    (proxy, config)
}

/// A container's name that nobody else uses.
pub(crate) fn new_container() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let random = &registry_core::random_id()[..12];
    format!("test-{random}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Keystone and Swift, as somebody who may write there, in a container that is made at first use.
pub(crate) fn keystone() -> Option<SwiftConfig> {
    let mut config = SwiftConfig::default();
    config.auth_url = Some(swift("AUTH_URL")?);
    config.username = swift("USERNAME");
    config.password = swift("PASSWORD").map(Secret::from);
    config.user_domain_name = swift("DOMAIN");
    config.project_id = swift("PROJECT_ID");
    config.region = swift("REGION");
    config.container = new_container();
    config.create_container = true;
    Some(config)
}

/// The region that takes only small objects.
pub(crate) fn small() -> Option<SwiftConfig> {
    let mut config = keystone()?;
    config.region = swift("SMALL_REGION");
    Some(config)
}

/// Swift's own log-in of version 1.
pub(crate) fn tempauth() -> Option<SwiftConfig> {
    let mut config = SwiftConfig::default();
    config.auth_version = Some(1);
    config.auth_url = Some(swift("V1_AUTH_URL")?);
    config.username = swift("V1_USER");
    config.password = swift("V1_KEY").map(Secret::from);
    config.container = new_container();
    config.create_container = true;
    Some(config)
}

/// RadosGW's Swift interface.
pub(crate) fn rgw() -> Option<SwiftConfig> {
    let mut config = SwiftConfig::default();
    config.auth_version = Some(1);
    config.auth_url = Some(variable("REGISTRY_TEST_RGW_SWIFT_AUTH_URL")?);
    config.username = variable("REGISTRY_TEST_RGW_SWIFT_USER");
    config.password = variable("REGISTRY_TEST_RGW_SWIFT_KEY").map(Secret::from);
    config.container = new_container();
    config.create_container = true;
    Some(config)
}

pub(crate) fn builder(config: &SwiftConfig) -> SwiftBuilder {
    SwiftBuilder::new(config.clone())
}

pub(crate) async fn open(config: &SwiftConfig) -> SwiftBlobStore {
    builder(config).build_blob_store().await.unwrap()
}

/// Everything in the container.
pub(crate) async fn names(config: &SwiftConfig) -> Vec<String> {
    let listed: Vec<_> = builder(config).build().unwrap().list(None::<&Path>).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

/// A message without what the service called the request.
pub(crate) fn without_transaction(message: &str) -> String {
    match message.split_once(" (transaction ") {
        Some((start, rest)) => format!("{start}{}", rest.split_once(')').unwrap().1),
        None => message.to_owned(),
    }
}

/// A log-in at Keystone by hand: the token, and what it is about.
pub(crate) async fn log_in(auth_url: &str, username: &str, password: &str, project: serde_json::Value) -> (String, serde_json::Value) {
    let request = serde_json::json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": { "name": username, "domain": { "id": "default" }, "password": password } } },
        "scope": { "project": project } } });
    let request = reqwest::Client::new().post(format!("{auth_url}/auth/tokens")).body(request.to_string());
    let answer = request.header("Content-Type", "application/json").send().await.unwrap();
    let token = answer.headers()["X-Subject-Token"].to_str().unwrap().to_owned();
    (token, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

/// The same with a token and the account's address instead of the user: for who does not want to log in again and again.
pub(crate) async fn logged_in(mut config: SwiftConfig) -> SwiftConfig {
    let (token, about) = {
        let text = |value: &Option<String>| value.clone().unwrap();
        let project = match &config.project_id {
            Some(id) => serde_json::json!({ "id": id }),
            None => serde_json::json!({ "name": text(&config.project_name), "domain": { "id": "default" } }),
        };
        log_in(&text(&config.auth_url), &text(&config.username), &swift("PASSWORD").unwrap(), project).await
    };
    let services = about["token"]["catalog"].as_array().unwrap();
    let service = services.iter().find(|service| service["type"] == "object-store").unwrap();
    let is_meant =
        |endpoint: &&serde_json::Value| endpoint["interface"] == "public" && endpoint["region_id"].as_str() == config.region.as_deref();
    let endpoint = service["endpoints"].as_array().unwrap().iter().find(is_meant).unwrap();
    config.storage_url = Some(endpoint["url"].as_str().unwrap().to_owned());
    config.token = Some(Secret::from(token));
    config
}

/// The same in a container of its own.
pub(crate) fn elsewhere(config: &SwiftConfig) -> SwiftConfig {
    let mut config = config.clone();
    config.container = new_container();
    config
}

/// Where the tests of stalls run.
pub(crate) struct Place(SwiftConfig);

pub(crate) async fn stalling() -> Option<Place> {
    Some(Place(logged_in(keystone()?).await))
}

impl Place {
    pub(crate) fn elsewhere(&self) -> Self {
        Self(elsewhere(&self.0))
    }

    pub(crate) async fn proxied(&self) -> (Proxy, Self) {
        let (proxy, through) = before(&self.0).await;
        (proxy, Self(through))
    }

    pub(crate) async fn open_with(&self, segment: u64, idle: Duration, retries: u32) -> SwiftBlobStore {
        let builder = builder(&self.0).with_segment_size(segment).with_idle_timeout(idle).with_retries(retries, Duration::from_secs(20));
        builder.build_blob_store().await.unwrap()
    }

    /// See [`Blob::check`].
    pub(crate) async fn check(&self, blob: &Blob) -> bool {
        blob.check(&self.open_with(64 << 20, Duration::from_secs(30), 5).await, &self.0).await
    }
}
