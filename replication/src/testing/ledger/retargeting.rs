//! Where a blob is to be changes.

use std::time::Duration;

use registry_core::ErrorKind;

use super::Fixture;
use super::kit::{HOUR, MINUTE, SECOND, SIZE, TRASH, blob, fails, retarget, zones};
use crate::ledger::{Desired, Observed, Outcome, TaskKind};

pub(super) async fn retaining_widens_and_touches(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let before = f.row(&digest, "a").await;
    f.pass(MINUTE);
    assert!(f.ledger.retain(&digest, &zones(&["b"])).await.expect("retain"));
    let rows = f.rows(&digest).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.touched_at == f.now() && row.desired == Desired::Present), "{rows:?}");
    assert_eq!(rows[0].generation, before.generation, "nothing is narrowed");
    assert_eq!((rows[1].since, rows[1].due_at), (Some(f.now()), Some(f.now())));
    f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.pass(SECOND);
    assert!(f.ledger.retain(&digest, &[]).await.expect("retain"), "it is still a touch");
    assert_eq!(f.row(&digest, "a").await.touched_at, f.now());
}

pub(super) async fn a_blob_that_is_not_visible_is_not_retained(f: Fixture) {
    let digest = blob("layer");
    assert!(!f.ledger.retain(&digest, &zones(&["a"])).await.expect("retain"));
    assert!(f.rows(&digest).await.is_empty());
    f.push(&digest, &["a"]).await;
    f.condemn(&digest).await;
    let before = f.rows(&digest).await;
    f.pass(MINUTE);
    assert!(!f.ledger.retain(&digest, &zones(&["a", "b"])).await.expect("retain"));
    assert_eq!(f.rows(&digest).await, before, "nothing was changed");
}

pub(super) async fn a_blob_moves_and_its_old_copy_goes_last(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.pass(HOUR);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], MINUTE)).await.expect("retarget"));
    let old = f.row(&digest, "a").await;
    assert_eq!((old.desired, old.due_at), (Desired::Absent, Some(f.now() + TRASH)));
    assert!(old.is_source(), "it is what the other is copied from");
    f.pass(TRASH * 2);
    f.assert_idle("a", "it is the only copy").await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.pass(MINUTE);
    f.complete(&task, Outcome::Copied(SIZE)).await;
    f.pass(MINUTE * 10);
    let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
    assert!(f.rows(&digest).await.iter().all(|row| row.is_converged()));
}

pub(super) async fn a_touched_blob_is_only_widened(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.pass(MINUTE);
    let before = f.row(&digest, "a").await;
    assert!(!f.ledger.retarget(&digest, &retarget(&["b"], HOUR)).await.expect("retarget"), "somebody may be about to refer to it");
    assert_eq!(f.row(&digest, "a").await, before);
    assert_eq!(f.row(&digest, "b").await.desired, Desired::Present);
    f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.pass(HOUR);
    f.intend(&digest, &["a"]).await;
    f.pass(MINUTE);
    assert!(!f.ledger.retarget(&digest, &retarget(&["b"], HOUR)).await.expect("retarget"), "it was touched again");
    f.pass(HOUR);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], HOUR)).await.expect("retarget"));
    assert_eq!(f.row(&digest, "a").await.desired, Desired::Absent);
}

pub(super) async fn retargeting_is_no_touch(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let touched = f.row(&digest, "a").await.touched_at;
    f.pass(MINUTE);
    for (targets, exact) in [(["a", "b"], true), (["b", "c"], false)] {
        assert_eq!(f.ledger.retarget(&digest, &retarget(&targets, HOUR)).await.expect("retarget"), exact);
    }
    assert!(f.rows(&digest).await.iter().all(|row| row.touched_at == touched));
    f.pass(HOUR);
    assert!(f.ledger.retarget(&digest, &retarget(&["c"], HOUR)).await.expect("retarget"));
    assert!(f.rows(&digest).await.iter().all(|row| row.touched_at == touched));
}

pub(super) async fn a_blob_cannot_be_retargeted_to_nowhere(f: Fixture) {
    let digest = blob("layer");
    fails(f.ledger.retarget(&digest, &retarget(&[], Duration::ZERO)).await, ErrorKind::InvalidInput);
    f.push(&digest, &["a"]).await;
    f.pass(HOUR);
    let before = f.rows(&digest).await;
    fails(f.ledger.retarget(&digest, &retarget(&[], Duration::ZERO)).await, ErrorKind::InvalidInput);
    assert_eq!(f.rows(&digest).await, before);
}

pub(super) async fn a_blob_that_is_not_visible_is_not_retargeted(f: Fixture) {
    let digest = blob("layer");
    let to_b = retarget(&["b"], Duration::ZERO);
    assert!(!f.ledger.retarget(&digest, &to_b).await.expect("retarget"));
    assert!(f.rows(&digest).await.is_empty());
    f.push(&digest, &["a"]).await;
    f.condemn(&digest).await;
    let before = f.rows(&digest).await;
    assert!(!f.ledger.retarget(&digest, &to_b).await.expect("retarget"));
    assert_eq!(f.rows(&digest).await, before);
}

pub(super) async fn retargeting_to_where_it_is_changes_nothing(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    f.pass(HOUR);
    let before = f.rows(&digest).await;
    for untouched_for in [Duration::ZERO, HOUR * 2] {
        assert!(f.ledger.retarget(&digest, &retarget(&["b", "a"], untouched_for)).await.expect("retarget"), "it is so");
    }
    assert_eq!(f.rows(&digest).await, before);
}

pub(super) async fn a_copy_that_is_wanted_again_is_taken_back(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.pass(HOUR);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], MINUTE)).await.expect("retarget"));
    let given_up = f.row(&digest, "a").await;
    f.pass(MINUTE);
    assert!(f.ledger.retarget(&digest, &retarget(&["a"], Duration::ZERO)).await.expect("retarget"));
    let row = f.row(&digest, "a").await;
    assert!(row.generation > given_up.generation && row.is_converged() && row.observed == Observed::Present, "{row:?}");
    assert_eq!(f.row(&digest, "b").await.desired, Desired::Absent);
    f.pass(TRASH + SECOND);
    f.assert_idle("a", "it is wanted").await;
    f.claim_one(&digest, "b", TaskKind::Delete).await;
    // Whoever retains a blob takes its copies back as well.
    let digest = blob("another layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], Duration::ZERO)).await.expect("retarget"));
    assert!(f.ledger.retain(&digest, &zones(&["a"])).await.expect("retain"));
    assert!(f.rows(&digest).await.iter().all(|row| row.is_source() && row.is_converged()));
}
