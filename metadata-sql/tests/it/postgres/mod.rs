//! PostgreSQL, if `REGISTRY_TEST_POSTGRES` says where there is one.

mod conformance;
mod figures;
#[cfg(feature = "ledger")]
mod ledger;
mod opening;
mod sharing;
mod tidying;
mod tls;

use std::sync::atomic::{AtomicU32, Ordering};

use metadata_sql::{PostgresOptions, SqlMetadataStore};
use registry_core::random_id;
use tokio_postgres::{Client, NoTls};

/// A variable of the environment. Without it the test is skipped, which it says by name; where services are required that is a failure.
fn needed(test: &str, variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "{test}: {variable} is not set, and services are required");
        println!("SKIPPED {test}: {variable} is not set");
    }
    value
}

/// The server's URL.
fn server(test: &str) -> Option<String> {
    needed(test, "REGISTRY_TEST_POSTGRES")
}

/// A schema of its own for each test.
fn fresh_schema() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}_{}", NEXT.fetch_add(1, Ordering::Relaxed), &random_id()[..16])
}

fn options(schema: &str) -> PostgresOptions {
    PostgresOptions::default().with_readers(3).with_schema(schema)
}

async fn open(url: &str, options: PostgresOptions) -> SqlMetadataStore {
    SqlMetadataStore::postgres(url, options).await.expect("a database")
}

/// Another program that uses the server.
async fn outsider(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The lock by which the writers of a schema take turns, as a statement that waits for it.
fn lock(schema: &str) -> String {
    format!("SELECT pg_advisory_xact_lock({}, hashtext('{schema}'))", 0x0c1_de9)
}

/// Takes the schema down again.
async fn drop_schema(url: &str, schema: &str) {
    outsider(url).await.batch_execute(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await.expect("a schema that nobody uses");
}
