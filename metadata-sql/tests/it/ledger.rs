//! What both databases' ledgers have to do beyond the suite.

#![allow(dead_code, reason = "each database's tests use their part")]

use std::collections::BTreeSet;
use std::time::Duration;

use metadata_sql::{SqlLedger, SqlMetadataStore};
use registry_core::{Digest, ErrorKind};
use replication::ledger::{Claim, Commit, Outcome, PlacementLedger as _, ZoneId};

use crate::support::digest;

/// Makes of a database what a release without a ledger would have left.
pub(crate) const BACK_TO_THE_FIRST_VERSION: &str = "DROP TABLE placements; DROP TABLE placed_blobs; DROP TABLE zones;
    DELETE FROM meta WHERE name = 'placement_floor'; UPDATE meta SET value = 1 WHERE name = 'schema_version'";

pub(crate) fn zones(ids: &[&str]) -> Vec<ZoneId> {
    ids.iter().map(ZoneId::new).collect()
}

pub(crate) fn claim(zone: &str, sources: &[&str], limit: u32) -> Claim {
    let (lease, look_again) = (Duration::from_secs(600), Duration::from_secs(300));
    Claim { zone: ZoneId::new(zone), sources: zones(sources), limit, lease, look_again }
}

/// Has a blob written to the first of `targets`; the others wait for copies.
pub(crate) async fn push(ledger: &SqlLedger, digest: &Digest, targets: &[&str]) {
    let intent = ledger.intend(digest, Some(5), &zones(targets)).await.unwrap();
    let target = &intent.targets[0];
    ledger.committed(&Commit { digest: *digest, size: 5, zone: target.zone.clone(), generation: target.generation }).await.unwrap();
}

/// Each store has connections of its own, as another process has.
pub(crate) async fn each_piece_of_work_is_claimed_once(stores: &[SqlMetadataStore]) {
    const BLOBS: usize = 200;
    let digests: BTreeSet<_> = (0..BLOBS).map(|number| digest(format!("layer {number}"))).collect();
    let pushing: Vec<_> = digests
        .iter()
        .enumerate()
        .map(|(number, digest)| {
            let (ledger, digest) = (stores[number % stores.len()].ledger(), *digest);
            tokio::spawn(async move { push(&ledger, &digest, &["a", "b"]).await })
        })
        .collect();
    for one in pushing {
        one.await.unwrap();
    }
    let claiming: Vec<_> = stores
        .iter()
        .map(|store| {
            let ledger = store.ledger();
            tokio::spawn(async move {
                let mut claimed = Vec::new();
                loop {
                    let tasks = ledger.claim(&claim("b", &["a"], 3)).await.unwrap();
                    if tasks.is_empty() {
                        return claimed;
                    }
                    for task in tasks {
                        assert_eq!(task.epoch, 1);
                        ledger.complete(&task, &Outcome::Copied(5)).await.unwrap();
                        claimed.push(task.digest);
                    }
                }
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for one in claiming {
        let some = one.await.unwrap();
        println!("one store claimed {}", some.len());
        claimed.extend(some);
    }
    assert_eq!(claimed.len(), BLOBS, "none twice");
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), digests);
    assert!(stores[0].ledger().backlog().await.unwrap().is_empty());
}

pub(crate) async fn a_claim_that_finds_nothing_due_is_no_transaction(store: &SqlMetadataStore) {
    let ledger = store.ledger();
    // Nothing at all, then only what is settled, what cannot be begun, and what is due elsewhere.
    for stage in 0..3 {
        match stage {
            0 => {}
            1 => push(&ledger, &digest("settled"), &["a"]).await,
            _ => {
                ledger.intend(&digest("pushed"), None, &zones(&["a"])).await.unwrap();
                push(&ledger, &digest("layer"), &["b", "c"]).await;
                ledger.condemn(&digest("condemned"), None, Duration::from_secs(60), &zones(&["a"])).await.unwrap();
            }
        }
        let before = store.stats();
        assert!(ledger.claim(&claim("a", &["b"], 10)).await.unwrap().is_empty());
        assert_eq!(ledger.tidy(Duration::from_secs(60), 10).await.unwrap(), 0);
        assert_eq!(store.stats(), before, "stage {stage}");
    }
    assert_eq!(ledger.claim(&claim("c", &["b"], 10)).await.unwrap().len(), 1);
}

/// Leaves two placements.
pub(crate) async fn the_ledger_is_closed_with_its_store(store: &SqlMetadataStore) {
    let ledger = store.ledger();
    push(&ledger, &digest("layer"), &["a", "b"]).await;
    assert_eq!(store.ledger().placements(&[digest("layer")]).await.unwrap().len(), 2);
    store.close().await;
    let error = ledger.condemn(&digest("layer"), None, Duration::ZERO, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(ledger.placements(&[digest("layer")]).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
