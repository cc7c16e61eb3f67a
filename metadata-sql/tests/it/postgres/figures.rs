use super::{drop_schema, fresh_schema, open, options, server};
use crate::figures::{at_once, pushes, reads, tags};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; see figures.rs"]
async fn postgres_figures() {
    let Some(url) = server("postgres_figures") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema).with_readers(8)).await;
    reads("postgres", &store).await;
    at_once("postgres", &store).await;
    tags("postgres", &store).await;
    pushes("postgres", &store, 200).await;
    store.close().await;
    drop_schema(&url, &schema).await;
}
