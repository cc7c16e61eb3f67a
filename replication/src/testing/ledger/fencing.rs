//! What keeps those who delete and those who write apart.

use std::time::Duration;

use registry_core::ErrorKind;

use super::Fixture;
use super::kit::{FENCE, LEASE, MINUTE, SECOND, SIZE, TRASH, blob, fails};
use crate::ledger::{Desired, Observed, Outcome, TaskKind};

pub(super) async fn nobody_writes_while_it_is_being_deleted(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let deleting = f.start_deleting(&digest, "a").await;
    f.pass(MINUTE);
    let intent = f.intend(&digest, &["a", "b"]).await;
    assert_eq!(intent.targets[0].fenced_for, Some(FENCE - MINUTE), "for how long is said");
    assert_eq!(intent.targets[1].fenced_for, None, "nobody is deleting there");
    assert!(f.row(&digest, "b").await.is_source(), "that one was taken back");
    let row = f.row(&digest, "a").await;
    assert_eq!((row.desired, row.observed), (Desired::Present, Observed::Deleting));
    assert!(row.generation > deleting.generation && !row.is_source(), "{row:?}");
    fails(f.try_commit(&digest, "a", row.generation).await, ErrorKind::Conflict);
    assert_eq!(f.row(&digest, "a").await, row, "nothing was changed");
    for sighting in [crate::ledger::Sighting::Found(SIZE), crate::ledger::Sighting::Good] {
        f.see(&digest, "a", sighting).await;
    }
    assert_eq!(f.row(&digest, "a").await, row, "what somebody sees there is about to go");
    f.pass(FENCE - MINUTE * 2);
    f.assert_idle("a", "a delete may be on its way").await;
    assert_eq!(f.intend_in(&digest, "a").await.fenced_for, Some(MINUTE));
    assert!(f.ledger.retain(&digest, &[crate::ledger::ZoneId::new("a")]).await.expect("retain"));
    f.assert_idle("a", "whoever wants it there").await;
}

pub(super) async fn it_may_be_written_when_the_delete_is_done(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let deleting = f.start_deleting(&digest, "a").await;
    let fenced = f.intend(&digest, &["a", "b"]).await;
    assert!(fenced.targets[0].fenced_for.is_some());
    // Though the generation moved on.
    f.complete(&deleting, Outcome::Deleted).await;
    let row = f.row(&digest, "a").await;
    assert_eq!((row.desired, row.observed, row.due_at), (Desired::Present, Observed::Absent, Some(f.now())));
    let again = f.intend_in(&digest, "a").await;
    assert_eq!(again.fenced_for, None);
    f.claim_one(&digest, "a", TaskKind::Copy).await;
    f.commit(&digest, "a", again.generation).await;
    assert!(f.row(&digest, "a").await.is_source());
}

pub(super) async fn it_may_be_written_when_nobody_can_be_deleting(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.start_deleting(&digest, "a").await;
    f.pass(LEASE + SECOND);
    assert!(f.intend(&digest, &["a", "b"]).await.targets[0].fenced_for.is_some(), "its lease is over, and its requests may not be");
    f.assert_idle("a", "for copies as well").await;
    f.pass(FENCE - LEASE);
    f.claim_one(&digest, "a", TaskKind::Copy).await;
    let target = f.intend_in(&digest, "a").await;
    assert_eq!(target.fenced_for, None);
    f.commit(&digest, "a", target.generation).await;
    assert!(f.row(&digest, "a").await.is_source());
    // If nobody wants it, it is deleted by another.
    let digest = blob("another layer");
    f.push(&digest, &["c"]).await;
    let first = f.start_deleting(&digest, "c").await;
    f.pass(LEASE + SECOND);
    f.assert_idle("c", "two deletes are as bad").await;
    f.pass(FENCE - LEASE);
    let second = f.claim_one(&digest, "c", TaskKind::Delete).await;
    assert_eq!((second.attempts, second.epoch), (1, 2));
    assert_eq!(f.intend_in(&digest, "c").await.fenced_for, Some(FENCE), "the fence is the second's");
    fails(f.ledger.complete(&first, &Outcome::Deleted).await, ErrorKind::LeaseLost);
    assert!(f.intend_in(&digest, "c").await.fenced_for.is_some());
}

pub(super) async fn a_delete_is_renewed_whatever_is_desired(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let deleting = f.start_deleting(&digest, "a").await;
    f.pass(LEASE);
    f.ledger.renew(&deleting, LEASE, None).await.expect("renew");
    f.intend(&digest, &["a", "b"]).await;
    f.pass(LEASE);
    // Its lease may be over, as long as its fence is not.
    f.pass(SECOND);
    f.ledger.renew(&deleting, LEASE, None).await.expect("it cannot be recalled");
    assert_eq!(f.intend_in(&digest, "a").await.fenced_for, Some(FENCE));
    f.pass(LEASE + SECOND);
    f.assert_idle("a", "its fence was kept up").await;
    f.complete(&deleting, Outcome::Deleted).await;
    assert_eq!(f.intend_in(&digest, "a").await.fenced_for, None);
}

pub(super) async fn a_delete_is_not_renewed_once_its_fence_is_over(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let deleting = f.start_deleting(&digest, "a").await;
    f.intend(&digest, &["a", "b"]).await;
    f.pass(FENCE + SECOND);
    let target = f.intend_in(&digest, "a").await;
    assert_eq!(target.fenced_for, None, "somebody is writing from here on");
    fails(f.ledger.renew(&deleting, LEASE, None).await, ErrorKind::LeaseLost);
    f.commit(&digest, "a", target.generation).await;
    fails(f.ledger.renew(&deleting, LEASE, None).await, ErrorKind::LeaseLost);
    assert!(f.row(&digest, "a").await.is_source());
}

pub(super) async fn a_deleter_that_is_late_takes_nothing_away(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let late = f.start_deleting(&digest, "a").await;
    f.pass(FENCE + SECOND);
    let target = f.intend_in(&digest, "a").await;
    fails(f.ledger.complete(&late, &Outcome::Deleted).await, ErrorKind::LeaseLost);
    f.commit(&digest, "a", target.generation).await;
    fails(f.ledger.complete(&late, &Outcome::Deleted).await, ErrorKind::LeaseLost);
    fails(f.ledger.defer(&late, MINUTE, "too late").await, ErrorKind::LeaseLost);
    assert!(f.row(&digest, "a").await.is_source());
    // The same if it was condemned once more, after somebody may have written: it has to be deleted once more.
    f.condemn(&digest).await;
    f.pass(TRASH + SECOND);
    let late = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.pass(FENCE + SECOND);
    f.intend(&digest, &["a"]).await;
    f.condemn(&digest).await;
    fails(f.ledger.complete(&late, &Outcome::Deleted).await, ErrorKind::LeaseLost);
    f.pass(TRASH + SECOND);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}

pub(super) async fn a_deferred_delete_keeps_its_fence(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let deleting = f.start_deleting(&digest, "a").await;
    f.pass(MINUTE);
    f.ledger.defer(&deleting, Duration::ZERO, "time-out").await.expect("defer");
    let row = f.row(&digest, "a").await;
    assert_eq!((row.observed, row.attempts, row.leased), (Observed::Deleting, 1, false));
    f.pass(LEASE);
    f.assert_idle("a", "it may still be on its way").await;
    f.pass(FENCE - LEASE);
    let deleting = f.claim_one(&digest, "a", TaskKind::Delete).await;
    // The same if it is wanted by now.
    f.intend(&digest, &["a"]).await;
    f.ledger.defer(&deleting, Duration::ZERO, "time-out").await.expect("defer");
    assert_eq!(f.intend_in(&digest, "a").await.fenced_for, Some(FENCE));
    f.pass(FENCE + SECOND);
    assert_eq!(f.intend_in(&digest, "a").await.fenced_for, None);
}

pub(super) async fn a_copy_after_a_dead_deleter_is_no_fence(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.start_deleting(&digest, "a").await;
    assert!(f.ledger.retain(&digest, &[]).await.is_ok_and(|visible| !visible));
    f.intend(&digest, &["a", "b"]).await;
    f.pass(FENCE + SECOND);
    let task = f.claim_one(&digest, "a", TaskKind::Copy).await;
    let target = f.intend_in(&digest, "a").await;
    assert_eq!(target.fenced_for, None, "a copier does not keep writers away");
    f.commit(&digest, "a", target.generation).await;
    fails(f.ledger.complete(&task, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
    assert!(f.row(&digest, "a").await.is_source());
}

pub(super) async fn a_copier_that_lost_keeps_the_deleter_away(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let copying = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.ledger.condemn(&digest, None, Duration::ZERO, &[]).await.expect("condemn");
    f.pass(LEASE + SECOND);
    f.assert_idle("b", "what the copier has sent may arrive after the delete").await;
    fails(f.ledger.renew(&copying, LEASE, None).await, ErrorKind::LeaseLost);
    f.pass(FENCE - LEASE);
    f.claim_one(&digest, "b", TaskKind::Delete).await;
    // Bytes that a writer has put in place do not make a copier's requests come back.
    let digest = blob("another layer");
    f.push(&digest, &["a", "c"]).await;
    f.claim_one(&digest, "c", TaskKind::Copy).await;
    let generation = f.intend_in(&digest, "c").await.generation;
    f.commit(&digest, "c", generation).await;
    f.ledger.condemn(&digest, None, Duration::ZERO, &[]).await.expect("condemn");
    f.pass(LEASE + SECOND);
    f.assert_idle("c", "what the copier has sent may arrive after the delete").await;
    f.pass(FENCE - LEASE);
    f.claim_one(&digest, "c", TaskKind::Delete).await;
}

pub(super) async fn a_copier_that_is_done_makes_way_for_the_deleter(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let copying = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.ledger.condemn(&digest, None, MINUTE, &[]).await.expect("condemn");
    fails(f.ledger.complete(&copying, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
    f.pass(MINUTE - SECOND);
    f.assert_idle("b", "it is kept as long as it was to be").await;
    f.pass(SECOND * 2);
    f.claim_one(&digest, "b", TaskKind::Delete).await;
}

pub(super) async fn a_copy_given_back_may_still_arrive(f: Fixture) {
    // Given back before the blob is condemned, and after.
    for before in [true, false] {
        let digest = blob(&format!("layer {before}"));
        f.push(&digest, &["a", "b"]).await;
        let copying = f.claim_one(&digest, "b", TaskKind::Copy).await;
        let give_back = async || f.ledger.defer(&copying, Duration::ZERO, "time-out").await.expect("defer");
        if before {
            give_back().await;
        }
        f.ledger.condemn(&digest, None, Duration::ZERO, &[]).await.expect("condemn");
        if !before {
            give_back().await;
        }
        f.pass(LEASE + SECOND);
        f.assert_idle("b", "what the copier has sent may arrive after the delete").await;
        f.pass(FENCE - LEASE);
        let deleting = f.claim_one(&digest, "b", TaskKind::Delete).await;
        f.complete(&deleting, Outcome::Deleted).await;
    }
    // It keeps nobody else away.
    let digest = blob("another layer");
    f.push(&digest, &["a", "b"]).await;
    let copying = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.ledger.defer(&copying, Duration::ZERO, "time-out").await.expect("defer");
    assert_eq!(f.intend_in(&digest, "b").await.fenced_for, None);
    f.claim_one(&digest, "b", TaskKind::Copy).await;
}

pub(super) async fn an_earlier_copier_keeps_the_deleter_away_as_well(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    // The first has vanished, and the second says that it is done: nobody knows of the first.
    f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.pass(LEASE + SECOND);
    let second = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&second, Outcome::Copied(SIZE)).await;
    f.ledger.condemn(&digest, None, Duration::ZERO, &[]).await.expect("condemn");
    f.pass(SECOND);
    f.assert_idle("b", "the first may still be writing").await;
    f.pass(FENCE - LEASE);
    f.claim_one(&digest, "b", TaskKind::Delete).await;
}

pub(super) async fn a_copy_taken_back_waits_for_its_old_worker(f: Fixture) {
    for lets_go in [true, false] {
        let digest = blob(&format!("layer {lets_go}"));
        f.push(&digest, &["a", "b"]).await;
        let old = f.claim_one(&digest, "b", TaskKind::Copy).await;
        f.condemn(&digest).await;
        f.intend(&digest, &["a", "b"]).await;
        f.assert_idle("b", "somebody has it").await;
        if lets_go {
            fails(f.ledger.complete(&old, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
        } else {
            f.pass(LEASE + SECOND);
        }
        let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
        assert_eq!(task.epoch, 2);
        f.complete(&task, Outcome::Copied(SIZE)).await;
    }
}
