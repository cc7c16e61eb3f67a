//! The services that `scripts/services/swift` and `scripts/services/rgw` start.

use std::sync::atomic::{AtomicU32, Ordering};

use storage_swift::{Secret, SwiftBuilder, SwiftConfig};

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
