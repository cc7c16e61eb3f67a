//! PostgreSQL, if `REGISTRY_TEST_POSTGRES` says where there is one.

mod conformance;

use std::sync::atomic::{AtomicU32, Ordering};

use metadata_sql::PostgresOptions;
use registry_core::random_id;

/// The server's URL. Without one the test is skipped, which it says by name; where services are required that is a failure.
fn server(test: &str) -> Option<String> {
    let url = std::env::var("REGISTRY_TEST_POSTGRES").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        let required = std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "{test}: REGISTRY_TEST_POSTGRES is not set, and services are required");
        println!("SKIPPED {test}: REGISTRY_TEST_POSTGRES is not set");
    }
    url
}

/// A schema of its own for each fixture.
fn fresh() -> PostgresOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PostgresOptions::default().with_readers(3).with_schema(format!("t{number}_{}", &random_id()[..16]))
}
