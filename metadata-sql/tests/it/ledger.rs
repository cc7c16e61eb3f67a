//! What both databases' ledgers have to do beyond the suite.

#![allow(dead_code, reason = "each database's tests use their part")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metadata_sql::{SqlLedger, SqlMetadataStore};
use registry_core::{Digest, ErrorKind, MetadataStore as _, Timestamp};
use replication::ledger::{Claim, Commit, JobKind, ListPlacements, Outcome, PlacementLedger as _, ZoneId, ZoneRecord, ZoneState};

use crate::support::digest;

/// Makes of a database what a release without a ledger would have left.
pub(crate) const BACK_TO_THE_FIRST_VERSION: &str = "DROP TABLE placements; DROP TABLE placed_blobs; DROP TABLE zones; DROP TABLE jobs;
    DROP INDEX manifests_by_use; ALTER TABLE manifests DROP COLUMN used_at;
    DELETE FROM meta WHERE name = 'placement_floor'; UPDATE meta SET value = 1 WHERE name = 'schema_version'";

/// The same of one whose zones have no states.
pub(crate) const BACK_TO_THE_SECOND_VERSION: &str = "ALTER TABLE zones DROP COLUMN state; DROP TABLE jobs;
    DROP INDEX manifests_by_use; ALTER TABLE manifests DROP COLUMN used_at; UPDATE meta SET value = 2 WHERE name = 'schema_version'";

/// What was there in the second version is there, and what the third and the fourth brought works.
pub(crate) async fn what_a_second_version_had_is_there(store: &SqlMetadataStore) {
    let used = store.manifests_by_use(None, 10).await.unwrap();
    let [used] = &used[..] else { panic!("{used:?}") };
    assert!(used.last_use.digest == digest("{}") && used.last_use.used_at > Timestamp::default(), "a push is a use: {used:?}");
    let ledger = store.ledger();
    assert_eq!(ledger.placements(&[digest("layer")]).await.unwrap().len(), 2);
    let known = ledger.zones().await.unwrap();
    assert_eq!(known, [ZoneRecord::new(ZoneId::new("a"), "boston")]);
    let drained = ledger.set_zone_state(&ZoneId::new("a"), &[ZoneState::Active], ZoneState::Draining).await;
    assert_eq!(drained.unwrap(), ZoneState::Active);
    let job = ledger.begin_job(JobKind::Drain, Some(&ZoneId::new("a")), bytes::Bytes::new()).await.unwrap();
    assert_eq!(ledger.jobs(10).await.unwrap(), [job]);
}

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

/// Figures, printed; nothing is asserted. `fill` has so many blobs in zone `a`, of which so many are still to be copied to `b`, and so many fail.
pub(crate) async fn figures(what: &str, store: &SqlMetadataStore, mut fill: impl AsyncFnMut(u64, u64, u64)) {
    let ledger = store.ledger();
    for (stored, backlog) in [(1_000, 1_000), (1_000_000, 1_000), (1_000_000, 1_000_000)] {
        fill(stored, backlog, 100).await;
        let time = async |name: &str, count: u32, mut call: Box<dyn FnMut(u32) -> BoxFuture<'static, ()>>| {
            let start = std::time::Instant::now();
            for number in 0..count {
                call(number).await;
            }
            println!(
                "{what}: {stored} blobs, backlog of {backlog}: {name}: {:.1} us",
                start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
            );
        };
        let one =
            |ledger: &SqlLedger, call: fn(SqlLedger, u32) -> BoxFuture<'static, ()>| -> Box<dyn FnMut(u32) -> BoxFuture<'static, ()>> {
                let ledger = ledger.clone();
                Box::new(move |number| call(ledger.clone(), number))
            };
        time(
            "placements of one blob",
            2000,
            one(&ledger, |ledger, number| {
                Box::pin(async move { assert!(!ledger.placements(&[numbered(u64::from(number) % 1000 + 1)]).await.unwrap().is_empty()) })
            }),
        )
        .await;
        time(
            "claim of 8",
            50,
            one(&ledger, |ledger, _| Box::pin(async move { assert_eq!(ledger.claim(&claim("b", &["a"], 8)).await.unwrap().len(), 8) })),
        )
        .await;
        time(
            "claim that finds what cannot be done (32 looks)",
            10,
            one(&ledger, |ledger, _| Box::pin(async move { assert!(ledger.claim(&claim("b", &["c"], 8)).await.unwrap().is_empty()) })),
        )
        .await;
        time(
            "claim that finds nothing due",
            2000,
            one(&ledger, |ledger, _| Box::pin(async move { assert!(ledger.claim(&claim("a", &["b"], 8)).await.unwrap().is_empty()) })),
        )
        .await;
        time(
            "list of 100 from the middle",
            20,
            one(&ledger, |ledger, _| {
                Box::pin(async move {
                    let list = ListPlacements::new(100).with_after(Some((numbered(128), ZoneId::new("a"))));
                    assert_eq!(ledger.list(&list).await.unwrap().len(), 100);
                })
            }),
        )
        .await;
        time(
            "list of what fails",
            20,
            one(&ledger, |ledger, _| {
                Box::pin(async move { assert_eq!(ledger.list(&ListPlacements::new(1000).with_failing(true)).await.unwrap().len(), 100) })
            }),
        )
        .await;
        time("backlog", 2, one(&ledger, |ledger, _| Box::pin(async move { assert!(!ledger.backlog().await.unwrap().is_empty()) }))).await;
        time("totals", 1, one(&ledger, |ledger, _| Box::pin(async move { assert!(!ledger.totals().await.unwrap().is_empty()) }))).await;
        time(
            "intend, committed, claim, complete of a new blob",
            50,
            one(&ledger, |ledger, number| {
                Box::pin(async move {
                    let digest = digest(format!("new {number}"));
                    push(&ledger, &digest, &["c", "d"]).await;
                    let tasks = ledger.claim(&claim("d", &["c"], 1)).await.unwrap();
                    ledger.complete(&tasks[0], &Outcome::Copied(5)).await.unwrap();
                })
            }),
        )
        .await;
        time(
            "intend that only touches",
            200,
            one(&ledger, |ledger, number| {
                Box::pin(async move { drop(ledger.intend(&numbered(u64::from(number) + 1), None, &zones(&["a", "b"])).await.unwrap()) })
            }),
        )
        .await;
    }
}

/// The digest of a blob that [`FILL`] makes.
fn numbered(number: u64) -> Digest {
    format!("sha256:{:02x}{number:062x}", number % 256).parse().unwrap()
}

/// Makes the rows that [`figures`] wants, `{stored}`, `{backlog}` and `{failing}` of them, of numbers from the table-like `{numbers}`.
pub(crate) const FILL: &[&str] = &[
    "DELETE FROM placements",
    "DELETE FROM placed_blobs",
    "DELETE FROM zones",
    "INSERT INTO zones (identity) VALUES ('a')",
    "INSERT INTO zones (identity) VALUES ('b')",
    "INSERT INTO placed_blobs (shard, digest, size, touched_at) SELECT {hex2}, 'sha256:' || {hex2} || {hex62}, n, 1 FROM {numbers}",
    "INSERT INTO placements (blob, zone, desired, observed, generation, verified_at, since, due_at, fence, old_fence, keep_until, epoch, attempts, failed_at, settled_at, last_error)
        SELECT b.id, z.id, 0, CASE WHEN z.identity = 'b' AND b.size <= {backlog} THEN 0 ELSE 1 END, 1, 1,
            CASE WHEN z.identity = 'b' AND b.size <= {backlog} THEN 1 END, CASE WHEN z.identity = 'b' AND b.size <= {backlog} THEN b.size END,
            0, 0, 0, 0, CASE WHEN z.identity = 'b' AND b.size <= {failing} THEN 1 ELSE 0 END, 0, 1,
            CASE WHEN z.identity = 'b' AND b.size <= {failing} THEN 'it failed' END
        FROM placed_blobs b CROSS JOIN zones z",
];
