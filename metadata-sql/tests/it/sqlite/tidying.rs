use std::sync::Arc;

use metadata_sql::{SqlMetadataStore, SqliteOptions};
use registry_core::testing::ManualClock;

use super::{folder, outsider};
use crate::support::dynamic;
use crate::tidying;

/// A statement that changes rows comes to nothing.
macro_rules! with_store {
    ($test:path) => {
        let (_folder, path) = folder();
        let clock = Arc::new(ManualClock::default());
        let store = SqlMetadataStore::sqlite(&path, SqliteOptions::default().with_clock(dynamic(&clock))).await.unwrap();
        let outsider = outsider(&path);
        $test(&store, &clock, async |sql: String| {
            let mut statement = outsider.prepare(&sql).unwrap();
            statement.query([]).unwrap().next().unwrap().map_or(0, |row| row.get(0).unwrap())
        })
        .await;
    };
}

#[tokio::test]
async fn history_goes_by_age_and_in_pages() {
    with_store!(tidying::history_goes_by_age_and_in_pages);
}

#[tokio::test]
async fn a_forgotten_repositorys_history_goes_in_pages() {
    with_store!(tidying::a_forgotten_repositorys_history_goes_in_pages);
}
