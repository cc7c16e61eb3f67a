//! The memory store keeps the contract of the database.

use std::sync::Arc;

use registry_core::memory::MemoryMetadataStore;
use registry_core::testing::metadata_store::{self, Fixture};
use registry_core::testing::{ManualClock, Report};

fn fixture() -> Fixture {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryMetadataStore::with_clock(Arc::clone(&clock) as Arc<_>);
    let other = store.clone();
    Fixture::new(Arc::new(store), clock).with_reopen(move || {
        let other = other.clone();
        async move { Arc::new(other) as Arc<_> }
    })
}

fn assert_complete(report: &Report) {
    report.assert_passed();
    assert_eq!(report.passed, metadata_store::CASES, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_passes_every_case_on_two_threads() {
    assert_complete(&metadata_store::run(|| async { fixture() }).await);
}

#[tokio::test(flavor = "current_thread")]
async fn the_memory_store_passes_every_case_on_one_thread() {
    assert_complete(&metadata_store::run(|| async { fixture() }).await);
}
