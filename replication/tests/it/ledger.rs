//! The ledger in memory keeps the contract.

use std::sync::Arc;

use registry_core::testing::{ManualClock, Report};
use replication::ledger::MemoryLedger;
use replication::testing::ledger::{self, Fixture};

fn fixture() -> Fixture {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryLedger::with_clock(Arc::clone(&clock) as Arc<_>);
    let other = store.clone();
    Fixture::new(Arc::new(store), clock).with_reopen(move || {
        let other = other.clone();
        async move { Arc::new(other) as Arc<_> }
    })
}

fn assert_complete(report: &Report) {
    report.assert_passed();
    assert_eq!(report.passed, ledger::CASES, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_in_memory_passes_every_case_on_two_threads() {
    assert_complete(&ledger::run(|| async { fixture() }).await);
}

#[tokio::test(flavor = "current_thread")]
async fn the_ledger_in_memory_passes_every_case_on_one_thread() {
    assert_complete(&ledger::run(|| async { fixture() }).await);
}
