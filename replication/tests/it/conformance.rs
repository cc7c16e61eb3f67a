//! A store over many zones is a blob store like any other.

use std::sync::Arc;

use registry_core::testing::FaultPlan;
use registry_core::testing::blob_store::{self, Fixture};

use crate::support::{World, quick};

async fn fixture(zones: usize, workers: bool) -> Fixture {
    over(&World::new(zones), workers).await
}

/// Zones one of which has a fault once it has said who it is.
async fn with_fault(zones: usize, sick: usize, fault: FaultPlan) -> Fixture {
    let world = World::new(zones);
    let fixture = over(&world, true).await;
    world.zones[sick].set_plan(fault);
    fixture
}

async fn over(world: &World, workers: bool) -> Fixture {
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

#[tokio::test(flavor = "multi_thread")]
async fn two_zones_pass_the_suite_while_the_closest_is_down() {
    blob_store::check(|| with_fault(2, 0, FaultPlan::down())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_zones_pass_the_suite_while_the_second_is_down() {
    blob_store::check(|| with_fault(3, 1, FaultPlan::down())).await;
}
