//! What readers see, which may only lower trust.

use registry_core::ErrorKind;

use super::Fixture;
use super::kit::{FENCE, LEASE, MINUTE, SECOND, SIZE, TRASH, blob, fails, retarget, zone};
use crate::ledger::{Desired, Observed, Outcome, Placement, Sighting, TaskKind};

pub(super) async fn suspicion_lowers_trust(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let before = f.row(&digest, "a").await;
    f.pass(MINUTE);
    f.see(&digest, "a", Sighting::Suspect("the digest was another".to_owned())).await;
    let row = f.row(&digest, "a").await;
    let expected = Placement {
        observed: Observed::Suspect,
        verified_at: None,
        since: Some(f.now()),
        due_at: Some(f.now()),
        last_error: Some("the digest was another".to_owned()),
        ..before
    };
    assert_eq!(row, expected);
    assert!(!row.is_source());
    assert!(f.row(&digest, "b").await.is_source(), "the other copy is as good as it was");
    f.claim_one(&digest, "a", TaskKind::Verify).await;
}

pub(super) async fn suspicion_of_what_is_not_trusted_is_passed_over(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let before = f.row(&digest, "b").await;
    f.suspect(&digest, "b").await;
    assert_eq!(f.row(&digest, "b").await, before, "nobody has said that it is there");
    // What is not known at all is no failure.
    f.ledger.observe(&digest, &zone("c"), 1, &Sighting::Good).await.expect("observe");
    f.ledger.observe(&blob("unknown"), &zone("a"), 1, &Sighting::Found(1)).await.expect("observe");
    assert_eq!(f.rows(&digest).await.len(), 2);
    assert!(f.rows(&blob("unknown")).await.is_empty());
}

pub(super) async fn a_good_copy_was_verified_later_and_nothing_else(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let before = f.rows(&digest).await;
    f.pass(MINUTE);
    f.see(&digest, "a", Sighting::Good).await;
    assert_eq!(f.row(&digest, "a").await, Placement { verified_at: Some(f.now()), ..before[0].clone() });
    // It raises no trust: not in what is not known to be there, nor in what somebody doubts.
    f.see(&digest, "b", Sighting::Good).await;
    assert_eq!(f.row(&digest, "b").await, before[1]);
    f.suspect(&digest, "a").await;
    let suspect = f.row(&digest, "a").await;
    f.pass(MINUTE);
    f.see(&digest, "a", Sighting::Good).await;
    assert_eq!(f.row(&digest, "a").await, suspect);
}

pub(super) async fn what_is_found_is_verified_before_it_is_trusted(f: Fixture) {
    let digest = blob("layer");
    f.ledger.intend(&digest, None, &[zone("a"), zone("b")]).await.expect("intend");
    f.pass(MINUTE);
    f.see(&digest, "a", Sighting::Found(11)).await;
    let row = f.row(&digest, "a").await;
    assert_eq!((row.observed, row.due_at, row.size), (Observed::Suspect, Some(f.now()), Some(11)));
    f.assert_idle("b", "nobody knows of a good copy yet").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&task, Outcome::Verified(SIZE)).await;
    assert!(f.row(&digest, "a").await.is_source());
    assert_eq!(f.row(&digest, "b").await.size, Some(SIZE), "who has hashed it knows best");
    f.claim_one(&digest, "b", TaskKind::Copy).await;
    // What is trusted is not made worse by being found.
    let before = f.row(&digest, "a").await;
    f.see(&digest, "a", Sighting::Found(11)).await;
    assert_eq!(f.row(&digest, "a").await, before);
}

pub(super) async fn what_is_found_and_not_desired_is_passed_over(f: Fixture) {
    let digest = blob("layer");
    f.intend(&digest, &["a"]).await;
    f.condemn(&digest).await;
    let before = f.row(&digest, "a").await;
    f.see(&digest, "a", Sighting::Found(SIZE)).await;
    assert_eq!(f.row(&digest, "a").await, before, "it goes like any other");
    f.pass(TRASH + SECOND);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}

pub(super) async fn sightings_under_an_old_generation_are_passed_over(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let old = f.row(&digest, "a").await.generation;
    f.condemn(&digest).await;
    f.push(&digest, &["a"]).await;
    f.pass(MINUTE);
    let before = f.row(&digest, "a").await;
    for generation in [old, before.generation + 1] {
        for sighting in [Sighting::Suspect("old".to_owned()), Sighting::Good] {
            f.ledger.observe(&digest, &zone("a"), generation, &sighting).await.expect("observe");
        }
    }
    assert_eq!(f.row(&digest, "a").await, before);
}

pub(super) async fn sightings_of_what_is_claimed_are_passed_over(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    let before = f.row(&digest, "b").await;
    f.see(&digest, "b", Sighting::Found(SIZE)).await;
    assert_eq!(f.row(&digest, "b").await, before, "that is what the worker is writing");
    f.complete(&task, Outcome::Copied(SIZE)).await;
    // A worker that has vanished is no reason.
    let digest = blob("another layer");
    f.push(&digest, &["a", "b"]).await;
    f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.pass(FENCE);
    f.see(&digest, "b", Sighting::Found(SIZE)).await;
    assert_eq!(f.row(&digest, "b").await.observed, Observed::Suspect);
    f.claim_one(&digest, "b", TaskKind::Verify).await;
}

pub(super) async fn a_condemned_copy_under_suspicion_is_kept_as_long(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.condemn(&digest).await;
    f.pass(TRASH / 2);
    f.suspect(&digest, "a").await;
    f.assert_idle("a", "it is still kept").await;
    let row = f.row(&digest, "a").await;
    assert_eq!((row.observed, row.due_at), (Observed::Suspect, Some(f.now() + TRASH / 2)));
    f.pass(TRASH / 2 - SECOND);
    f.assert_idle("a", "it can still be taken back").await;
    f.pass(SECOND * 2);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}

pub(super) async fn what_is_found_after_a_dead_deleter_is_verified(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let task = f.start_deleting(&digest, "a").await;
    f.intend(&digest, &["a"]).await;
    f.pass(FENCE - MINUTE);
    let fenced = f.row(&digest, "a").await;
    f.see(&digest, "a", Sighting::Found(SIZE)).await;
    assert_eq!(f.row(&digest, "a").await, fenced, "the delete may yet come");
    f.pass(MINUTE + SECOND);
    f.see(&digest, "a", Sighting::Found(SIZE)).await;
    assert_eq!(f.row(&digest, "a").await.observed, Observed::Suspect);
    fails(f.ledger.complete(&task, &Outcome::Deleted).await, ErrorKind::LeaseLost);
    let verify = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&verify, Outcome::Verified(SIZE)).await;
}

pub(super) async fn stray_bytes_are_deleted(f: Fixture) {
    // Where the ledger thought that they were gone.
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let task = f.start_deleting(&digest, "a").await;
    f.complete(&task, Outcome::Deleted).await;
    f.ledger.stray(&digest, &zone("a")).await.expect("stray");
    let row = f.row(&digest, "a").await;
    assert_eq!((row.desired, row.observed, row.due_at), (Desired::Absent, Observed::Unknown, Some(f.now())));
    let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
    assert!(f.row(&digest, "a").await.is_converged());
    // Where it has heard of the blob elsewhere, which is touched by that no more than by a deletion.
    f.push(&digest, &["b"]).await;
    let before = f.row(&digest, "b").await;
    f.pass(MINUTE);
    f.ledger.stray(&digest, &zone("c")).await.expect("stray");
    assert_eq!(f.row(&digest, "b").await, before);
    f.claim_one(&digest, "c", TaskKind::Delete).await;
    // And where it has heard of nothing.
    let digest = blob("never heard of");
    f.ledger.stray(&digest, &zone("b")).await.expect("stray");
    assert_eq!(f.rows(&digest).await.len(), 1);
    let task = f.claim_one(&digest, "b", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
}

pub(super) async fn stray_bytes_are_deleted_after_the_delete_at_hand(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let task = f.start_deleting(&digest, "a").await;
    f.ledger.stray(&digest, &zone("a")).await.expect("stray");
    // The delete may take long, and nobody may write there before it is over.
    for _ in 0..3 {
        f.pass(LEASE - SECOND);
        f.ledger.renew(&task, LEASE, None).await.expect("a delete on its way is fenced");
        f.assert_idle("a", "the first delete may be on its way").await;
    }
    f.complete(&task, Outcome::Deleted).await;
    assert_eq!(f.row(&digest, "a").await.observed, Observed::Unknown);
    let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
    assert!(f.row(&digest, "a").await.is_converged());
}

pub(super) async fn stray_bytes_are_deleted_after_a_dead_deleter(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.start_deleting(&digest, "a").await;
    f.ledger.stray(&digest, &zone("a")).await.expect("stray");
    assert!(f.intend_in(&digest, "a").await.fenced_for.is_some());
    f.condemn(&digest).await;
    f.pass(TRASH + FENCE);
    let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
    assert!(f.row(&digest, "a").await.is_converged());
}

pub(super) async fn stray_bytes_of_what_is_wanted_or_condemned_change_nothing(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    f.pass(MINUTE);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], SECOND)).await.expect("retarget"));
    let before = f.rows(&digest).await;
    for at in ["a", "b"] {
        f.ledger.stray(&digest, &zone(at)).await.expect("stray");
    }
    assert_eq!(f.rows(&digest).await, before, "the good copy is still what the other is made from");
    f.claim_one(&digest, "b", TaskKind::Copy).await;
}

pub(super) async fn a_copy_that_was_being_deleted_is_verified_if_the_others_turn_out_to_be_bad(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.pass(MINUTE);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], MINUTE)).await.expect("retarget"));
    f.pass(TRASH + SECOND);
    // Its deleter vanished before it deleted anything, and then the copy that was to stay is gone.
    f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.suspect(&digest, "b").await;
    let task = f.claim_one(&digest, "b", TaskKind::Verify).await;
    f.complete(&task, Outcome::Missing).await;
    f.assert_idle("a", "the delete may be on its way").await;
    f.assert_idle("b", "there is no source").await;
    f.pass(FENCE + SECOND);
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    assert_eq!(f.intend_in(&digest, "b").await.fenced_for, None);
    f.complete(&task, Outcome::Verified(SIZE)).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&task, Outcome::Copied(SIZE)).await;
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}

pub(super) async fn a_doubted_copy_that_is_not_wanted_is_verified_if_the_others_are_to_come_from_it(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.pass(MINUTE);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], MINUTE)).await.expect("retarget"));
    f.suspect(&digest, "a").await;
    f.assert_idle("b", "there is no source").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&task, Outcome::Verified(SIZE)).await;
    assert!(f.row(&digest, "a").await.is_source());
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&task, Outcome::Copied(SIZE)).await;
    f.pass(TRASH + FENCE);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}
