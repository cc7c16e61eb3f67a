//! A store over many zones is a blob store like any other.

use std::sync::Arc;

use registry_core::testing::blob_store::{self, Fixture};

use crate::support::{World, quick};

async fn fixture(zones: usize, workers: bool) -> Fixture {
    let world = World::new(zones);
    let store = world.process(quick()).await;
    let running = workers.then(|| store.start());
    let reopened = world.clone();
    Fixture::new(Arc::new(store))
        .with_reopen(move || {
            let world = reopened.clone();
            async move { Arc::new(world.process(quick()).await) as Arc<dyn registry_core::BlobStore> }
        })
        .with_guard(running)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_zones_pass_the_suite() {
    blob_store::check(|| fixture(2, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_zones_pass_the_suite() {
    blob_store::check(|| fixture(3, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_zones_pass_the_suite_while_nobody_copies() {
    blob_store::check(|| fixture(2, false)).await;
}
