//! What housekeeping leaves, on either database. An outsider counts rows, since no command of a store tells of a tag's history.

#![allow(dead_code, reason = "each database's tests use it")]

use std::time::Duration;

use metadata_sql::SqlMetadataStore;
use registry_core::testing::ManualClock;
use registry_core::{MetadataStore as _, Reference};

use crate::support::{push_manifest, repository, tag};

const KEEP: Duration = Duration::from_secs(3600);

/// Adds so many entries, at this time, to the history of a tag of a repository, on SQLite or PostgreSQL.
pub(crate) fn insert_history(repository: &str, entries: u32, at: i64) -> String {
    format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {entries})
        INSERT INTO tag_history (repository, name, at) SELECT r.id, 'old', {at} FROM n, repositories r WHERE r.name = '{repository}'"
    )
}

pub(crate) const COUNT_HISTORY: &str = "SELECT COUNT(*) FROM tag_history";

/// `sql` runs a statement, and returns the one number that it comes to.
pub(crate) async fn history_goes_by_age_and_in_pages(store: &SqlMetadataStore, clock: &ManualClock, sql: impl AsyncFn(String) -> i64) {
    let one = push_manifest(store, "team/app", "one", Vec::new(), &["latest"]).await.unwrap();
    let now = registry_core::Clock::now(clock).as_millis();
    sql(insert_history("team/app", 2500, now)).await;
    assert_eq!(sql(COUNT_HISTORY.to_owned()).await, 2501);
    store.tidy(KEEP).await.unwrap();
    assert_eq!(sql(COUNT_HISTORY.to_owned()).await, 2501, "none is old yet");

    clock.advance(2 * KEEP);
    let two = push_manifest(store, "team/app", "two", Vec::new(), &["latest"]).await.unwrap();
    let before = store.stats().transactions;
    store.tidy(KEEP).await.unwrap();
    assert_eq!(sql(COUNT_HISTORY.to_owned()).await, 1);
    // Three pages of history, one of events.
    assert!(store.stats().transactions - before >= 4, "in one piece");
    let latest = store.manifest(&repository("team/app"), &Reference::Tag(tag("latest"))).await.unwrap().unwrap();
    assert_eq!(latest.digest, two);
    assert_ne!(one, two);
}

pub(crate) async fn a_forgotten_repositorys_history_goes_in_pages(
    store: &SqlMetadataStore,
    clock: &ManualClock,
    sql: impl AsyncFn(String) -> i64,
) {
    let gone = push_manifest(store, "team/gone", "one", Vec::new(), &["latest"]).await.unwrap();
    push_manifest(store, "team/kept", "one", Vec::new(), &["latest"]).await.unwrap();
    let now = registry_core::Clock::now(clock).as_millis();
    sql(insert_history("team/gone", 2500, now)).await;
    assert!(store.delete_manifest(&repository("team/gone"), &gone).await.unwrap());
    let before = store.stats().transactions;
    store.tidy(KEEP).await.unwrap();
    assert_eq!(sql(COUNT_HISTORY.to_owned()).await, 1, "that of the other repository");
    assert_eq!(sql("SELECT COUNT(*) FROM repositories".to_owned()).await, 1);
    // Three pages, and one look at events and at history each.
    assert!(store.stats().transactions - before >= 5, "in one piece");
}
