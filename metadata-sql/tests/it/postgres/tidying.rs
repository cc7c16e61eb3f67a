use std::sync::Arc;

use registry_core::testing::ManualClock;

use super::{drop_schema, fresh_schema, open, options, outsider, server};
use crate::support::dynamic;
use crate::tidying;

/// A statement that changes rows comes to nothing.
macro_rules! with_store {
    ($name:literal, $test:path) => {
        let Some(url) = server($name) else { return };
        let schema = fresh_schema();
        let clock = Arc::new(ManualClock::default());
        let store = open(&url, options(&schema).with_clock(dynamic(&clock))).await;
        let outsider = outsider(&url).await;
        outsider.batch_execute(&format!("SET search_path = \"{schema}\"")).await.unwrap();
        $test(&store, &clock, async |sql: String| outsider.query(&sql, &[]).await.unwrap().first().map_or(0, |row| row.get(0))).await;
        store.close().await;
        drop_schema(&url, &schema).await;
    };
}

#[tokio::test]
async fn history_goes_by_age_and_in_pages() {
    with_store!("history_goes_by_age_and_in_pages", tidying::history_goes_by_age_and_in_pages);
}

#[tokio::test]
async fn a_forgotten_repositorys_history_goes_in_pages() {
    with_store!("a_forgotten_repositorys_history_goes_in_pages", tidying::a_forgotten_repositorys_history_goes_in_pages);
}
