//! A blob that is to go.

use std::time::Duration;

use registry_core::{ErrorKind, Timestamp};

use super::Fixture;
use super::kit::{FENCE, MINUTE, SECOND, SIZE, TRASH, blob, fails, retarget, zones};
use crate::ledger::{Desired, Observed, Outcome, Placement, TaskKind};

pub(super) async fn a_condemned_blob_is_kept_for_the_trash_delay(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let before = f.rows(&digest).await;
    f.pass(MINUTE);
    f.condemn(&digest).await;
    let condemned = f.rows(&digest).await;
    for (before, row) in before.iter().zip(&condemned) {
        assert!(row.generation > before.generation, "{row:?}");
        let expected = Placement {
            desired: Desired::Absent,
            generation: row.generation,
            since: Some(f.now()),
            due_at: Some(f.now() + TRASH),
            ..before.clone()
        };
        assert_eq!(*row, expected, "nothing else happened yet, and it is no touch");
    }
    f.pass(TRASH - SECOND);
    f.assert_idle("a", "it can still be taken back").await;
    f.pass(SECOND * 2);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
    let row = f.row(&digest, "a").await;
    assert!(row.observed == Observed::Deleting && !row.is_source() && row.leased, "{row:?}");
}

pub(super) async fn a_blob_touched_since_is_not_condemned(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let seen = f.row(&digest, "a").await.touched_at;
    f.intend(&digest, &["a"]).await;
    let before = f.rows(&digest).await;
    for seen in [seen, seen - MINUTE] {
        fails(f.ledger.condemn(&digest, Some(seen), TRASH, &zones(&["c"])).await, ErrorKind::Conflict);
    }
    assert_eq!(f.rows(&digest).await, before, "nothing was changed");
    // Whatever a placement is like otherwise is no touch.
    f.suspect(&digest, "b").await;
    f.ledger.condemn(&digest, Some(before[0].touched_at), TRASH, &[]).await.expect("it was not touched later than that");
    assert!(f.rows(&digest).await.iter().all(|row| row.desired == Desired::Absent));
}

pub(super) async fn a_blob_is_condemned_unseen_only_if_there_is_no_placement(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let never = Some(Timestamp::default());
    fails(f.ledger.condemn(&digest, never, TRASH, &zones(&["a", "b"])).await, ErrorKind::Conflict);
    assert_eq!(f.rows(&digest).await.len(), 1);
    let unknown = blob("never heard of");
    f.ledger.condemn(&unknown, never, TRASH, &zones(&["a", "b"])).await.expect("condemn");
    assert_eq!(f.rows(&unknown).await.len(), 2);
    fails(f.ledger.condemn(&unknown, never, TRASH, &zones(&["c"])).await, ErrorKind::Conflict);
    assert_eq!(f.rows(&unknown).await.len(), 2);
}

pub(super) async fn what_is_unknown_is_condemned_in_each_zone(f: Fixture) {
    let digest = blob("never heard of");
    f.ledger.condemn(&digest, None, TRASH, &[]).await.expect("condemn");
    assert!(f.rows(&digest).await.is_empty());
    f.ledger.condemn(&digest, None, TRASH, &zones(&["b", "a"])).await.expect("condemn");
    let rows = f.rows(&digest).await;
    assert_eq!(rows.iter().map(|row| row.zone.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    for row in rows {
        assert_eq!((row.desired, row.observed, row.size), (Desired::Absent, Observed::Unknown, None));
        assert_eq!((row.since, row.due_at), (Some(f.now()), Some(f.now() + TRASH)));
    }
    // Somebody pushes it just now: their zone keeps it, and the other is cleaned.
    f.push(&digest, &["a"]).await;
    f.pass(TRASH + SECOND);
    f.assert_idle("a", "it was pushed").await;
    let task = f.claim_one(&digest, "b", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
    assert_eq!(f.row(&digest, "a").await.size, Some(SIZE));
    // Once there is a placement, the zones are of no matter.
    f.ledger.condemn(&digest, None, TRASH, &zones(&["c"])).await.expect("condemn");
    assert!(f.find(&digest, "c").await.is_none());
}

pub(super) async fn condemning_again_changes_no_generation(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.condemn(&digest).await;
    let before = f.row(&digest, "a").await;
    f.pass(MINUTE);
    f.condemn(&digest).await;
    let after = f.row(&digest, "a").await;
    assert_eq!((after.generation, after.touched_at, after.desired), (before.generation, before.touched_at, Desired::Absent));
    let deleting = f.start_deleting(&digest, "a").await;
    f.condemn(&digest).await;
    f.complete(&deleting, Outcome::Deleted).await;
    assert_eq!(f.row(&digest, "a").await.observed, Observed::Absent, "it was to go, and still is");
}

pub(super) async fn a_condemned_blob_goes_everywhere(f: Fixture) {
    let digest = blob("layer");
    let kept = blob("another layer");
    f.push(&digest, &["a", "b"]).await;
    f.push(&kept, &["a"]).await;
    f.ledger.condemn(&digest, None, Duration::ZERO, &[]).await.expect("condemn");
    f.pass(SECOND);
    // None of them waits for another: there is nothing to keep.
    let tasks = [f.claim_one(&digest, "b", TaskKind::Delete).await, f.claim_one(&digest, "a", TaskKind::Delete).await];
    for task in &tasks {
        f.complete(task, Outcome::Deleted).await;
        let row = f.row(&digest, task.zone.as_str()).await;
        assert!(row.is_converged() && row.observed == Observed::Absent, "{row:?}");
        assert_eq!((row.since, row.due_at, row.verified_at), (None, None, None));
    }
    f.pass(TRASH);
    f.assert_idle("a", "it is gone").await;
    f.assert_idle("b", "it is gone").await;
    assert!(f.row(&kept, "a").await.is_source());
}

pub(super) async fn what_was_absent_and_wanted_is_deleted_all_the_same(f: Fixture) {
    // A copy that is missing and being made when the blob is condemned: the worker's bytes must not stay.
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    for at in ["a", "b"] {
        f.suspect(&digest, at).await;
        let task = f.claim_one(&digest, at, TaskKind::Verify).await;
        f.complete(&task, if at == "a" { Outcome::Verified(SIZE) } else { Outcome::Missing }).await;
    }
    f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.condemn(&digest).await;
    f.pass(TRASH + FENCE);
    f.claim_one(&digest, "b", TaskKind::Delete).await;
    // The same for a writer who has brought back what was gone, and never commits.
    let digest = blob("another layer");
    f.push_to_all(&digest, &["c"]).await;
    let task = f.start_deleting(&digest, "c").await;
    f.complete(&task, Outcome::Deleted).await;
    f.intend(&digest, &["c"]).await;
    f.condemn(&digest).await;
    f.pass(TRASH + SECOND);
    f.claim_one(&digest, "c", TaskKind::Delete).await;
    // And where only some zones are given up.
    let digest = blob("a third layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.suspect(&digest, "b").await;
    let tasks = f.claim("b", &["a"]).await;
    let task = tasks.iter().find(|task| task.digest == digest).expect("a task");
    f.complete(task, Outcome::Missing).await;
    assert!(f.ledger.retarget(&digest, &retarget(&["a"], Duration::ZERO)).await.expect("retarget"));
    f.pass(TRASH + FENCE);
    assert!(f.claim("b", &["a"]).await.iter().any(|task| task.digest == digest && task.kind == TaskKind::Delete));
}
