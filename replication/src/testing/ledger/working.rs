//! How work ends.

use std::time::Duration;

use bytes::Bytes;
use registry_core::ErrorKind;

use super::Fixture;
use super::kit::{HOUR, LEASE, MINUTE, SECOND, SIZE, TRASH, blob, fails, retarget, zone};
use crate::ledger::{Desired, Observed, Outcome, Placement, Task, TaskKind};

fn wrong() -> Outcome {
    Outcome::Wrong { reason: "the digest is another".to_owned(), look_again: HOUR }
}

pub(super) async fn a_copied_blob_is_there(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    f.pass(MINUTE);
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    let before = f.row(&digest, "b").await;
    f.pass(MINUTE);
    assert_eq!(f.complete(&task, Outcome::Copied(9)).await, MINUTE * 2, "since the first was there");
    let expected = Placement {
        size: Some(9),
        observed: Observed::Present,
        verified_at: Some(f.now()),
        since: None,
        due_at: None,
        leased: false,
        ..before
    };
    assert_eq!(f.row(&digest, "b").await, expected);
    fails(f.ledger.complete(&task, &Outcome::Copied(9)).await, ErrorKind::LeaseLost);
    assert_eq!(f.row(&digest, "b").await, expected);
    f.pass(TRASH);
    f.assert_idle("b", "it is what it is to be").await;
}

pub(super) async fn a_copy_wakes_the_others(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b", "c"]).await;
    // The worker in `c` cannot read from `a`.
    assert!(f.claim("c", &["b"]).await.is_empty());
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&task, Outcome::Copied(SIZE)).await;
    assert_eq!(f.claim("c", &["b"]).await.len(), 1, "now there is one that it can read from");
}

pub(super) async fn a_renewed_claim_holds_on(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    for _ in 0..3 {
        f.pass(LEASE - SECOND);
        f.ledger.renew(&task, LEASE, None).await.expect("renew");
        f.pass(SECOND * 2);
        f.assert_idle("b", "the first lease would be over, and was renewed").await;
    }
    assert!(f.row(&digest, "b").await.leased);
    f.pass(LEASE - SECOND);
    assert_eq!(f.claim_one(&digest, "b", TaskKind::Copy).await.epoch, 2, "the last one is over");
}

pub(super) async fn a_moved_generation_loses_the_lease(f: Fixture) {
    let digest = blob("layer");
    for end in 0..2 {
        f.push(&digest, &["a", "b"]).await;
        let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
        f.condemn(&digest).await;
        let condemned = f.row(&digest, "b").await;
        fails(f.ledger.renew(&task, LEASE, Some(Bytes::from_static(b"x"))).await, ErrorKind::LeaseLost);
        assert_eq!(f.row(&digest, "b").await, condemned, "nothing was changed");
        if end == 0 {
            fails(f.ledger.complete(&task, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
        } else {
            f.ledger.defer(&task, MINUTE, "cancelled").await.expect("it lets go, and that is all");
        }
        let row = f.row(&digest, "b").await;
        assert_eq!(row, Placement { leased: false, due_at: row.due_at, ..condemned }, "it has let go, and nothing else was changed");
        fails(f.ledger.complete(&task, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
        fails(f.ledger.defer(&task, MINUTE, "again").await, ErrorKind::LeaseLost);
        assert_eq!(f.row(&digest, "b").await, row);
    }
}

pub(super) async fn a_worker_that_lost_its_lease_changes_nothing(f: Fixture) {
    // Between the two, the blob was condemned and taken back: it is as desired as before, and still another generation.
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.condemn(&digest).await;
    f.intend(&digest, &["a", "b"]).await;
    fails(f.ledger.renew(&task, LEASE, None).await, ErrorKind::LeaseLost);
    fails(f.ledger.complete(&task, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
    let row = f.row(&digest, "b").await;
    assert_eq!((row.observed, row.desired, row.attempts), (Observed::Unknown, Desired::Present, 0));
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&task, Outcome::Copied(SIZE)).await;
}

pub(super) async fn what_was_never_claimed_is_lost(f: Fixture) {
    let digest = blob("layer");
    let made_up = |generation| Task::new(digest, zone("b"), TaskKind::Copy, generation, "made up");
    fails(f.ledger.complete(&made_up(1), &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
    assert!(f.rows(&digest).await.is_empty());
    f.push(&digest, &["a", "b"]).await;
    let before = f.row(&digest, "b").await;
    let task = made_up(before.generation);
    fails(f.ledger.renew(&task, LEASE, None).await, ErrorKind::LeaseLost);
    fails(f.ledger.complete(&task, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
    fails(f.ledger.defer(&task, MINUTE, "made up").await, ErrorKind::LeaseLost);
    assert_eq!(f.row(&digest, "b").await, before);
}

pub(super) async fn a_task_that_is_given_back_has_not_failed(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    for epoch in 1..4 {
        let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
        assert_eq!((task.epoch, task.attempts), (epoch, 0));
        f.ledger.renew(&task, LEASE, Some(Bytes::from_static(b"half of it"))).await.expect("renew");
        f.ledger.give_back(&task).await.expect("give back");
        let row = f.row(&digest, "b").await;
        assert_eq!((row.leased, row.attempts, row.last_error, row.due_at), (false, 0, None, Some(f.now())));
        fails(f.ledger.give_back(&task).await, ErrorKind::LeaseLost);
    }
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    assert_eq!(task.progress.as_deref(), Some(b"half of it".as_slice()), "somebody else goes on from there");
}

pub(super) async fn a_deferred_task_comes_again(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let since = f.row(&digest, "b").await.since;
    for attempts in 1..4 {
        let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
        assert_eq!((task.attempts, task.epoch), (attempts - 1, u64::from(attempts)));
        let reason = format!("time-out {attempts}");
        f.ledger.defer(&task, HOUR, &reason).await.expect("defer");
        let row = f.row(&digest, "b").await;
        assert_eq!((row.attempts, row.last_error, row.leased), (attempts, Some(reason), false));
        assert_eq!((row.due_at, row.since), (Some(f.now() + HOUR), since));
        fails(f.ledger.renew(&task, LEASE, None).await, ErrorKind::LeaseLost);
        f.pass(HOUR - SECOND);
        f.assert_idle("b", "it was put off").await;
        f.pass(SECOND * 2);
    }
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&task, Outcome::Copied(SIZE)).await;
    let row = f.row(&digest, "b").await;
    assert_eq!((row.attempts, row.last_error), (0, None), "in a row");
    // However much a store has to say.
    let digest = blob("another layer");
    f.push(&digest, &["a", "b"]).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.ledger.defer(&task, Duration::ZERO, &"§".repeat(1_000_000)).await.expect("defer");
    assert!(f.row(&digest, "b").await.last_error.expect("an error").starts_with('§'));
}

pub(super) async fn a_verified_suspect_is_trusted_again(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.pass(MINUTE);
    f.suspect(&digest, "a").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    assert!(task.is_trusted, "{task:?}");
    f.pass(MINUTE);
    assert_eq!(f.complete(&task, Outcome::Verified(SIZE)).await, MINUTE);
    let row = f.row(&digest, "a").await;
    assert!(row.is_source() && row.verified_at == Some(f.now()) && row.last_error.is_none(), "{row:?}");
}

pub(super) async fn a_wrong_copy_is_quarantined_if_there_is_another(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.suspect(&digest, "a").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.pass(SECOND);
    f.complete(&task, wrong()).await;
    let row = f.row(&digest, "a").await;
    assert!(row.observed == Observed::Quarantined && row.is_proven_bad() && !row.is_source(), "{row:?}");
    assert_eq!((row.due_at, row.last_error.as_deref()), (Some(f.now()), Some("the digest is another")));
    let task = f.claim_one(&digest, "a", TaskKind::Copy).await;
    assert!(task.repairs, "{task:?}");
    f.complete(&task, Outcome::Copied(SIZE)).await;
    assert!(f.row(&digest, "a").await.is_source());
    // Another that is no longer wanted is another: the wrong one is not taken for the last.
    let digest = blob("another layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.condemn(&digest).await;
    f.intend(&digest, &["a"]).await;
    f.suspect(&digest, "a").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&task, wrong()).await;
    assert_eq!(f.row(&digest, "a").await.observed, Observed::Quarantined);
    f.pass(TRASH + SECOND);
    f.assert_idle("b", "it is the only good one").await;
    f.claim_one(&digest, "a", TaskKind::Copy).await;
}

pub(super) async fn a_wrong_copy_that_is_the_last_is_kept(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    f.suspect(&digest, "a").await;
    for attempts in 1..3 {
        let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
        assert_eq!(task.is_trusted, attempts == 1, "{task:?}");
        f.complete(&task, wrong()).await;
        let row = f.row(&digest, "a").await;
        assert!(row.observed == Observed::Damaged && row.is_proven_bad() && !row.is_source(), "{row:?}");
        assert_eq!((row.attempts, row.due_at), (attempts, Some(f.now() + HOUR)));
        assert_eq!(row.last_error.as_deref(), Some("the digest is another"));
        f.assert_idle("b", "there is nothing to copy").await;
        f.pass(HOUR - SECOND);
        f.assert_idle("a", "it was looked at").await;
        f.pass(SECOND * 2);
    }
    // A good one turns up elsewhere, and this one can be replaced.
    let generation = f.intend_in(&digest, "b").await.generation;
    f.commit(&digest, "b", generation).await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&task, wrong()).await;
    assert_eq!(f.row(&digest, "a").await.observed, Observed::Quarantined);
    f.claim_one(&digest, "a", TaskKind::Copy).await;
}

pub(super) async fn a_missing_copy_is_made_again(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.suspect(&digest, "a").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&task, Outcome::Missing).await;
    let row = f.row(&digest, "a").await;
    assert_eq!((row.observed, row.due_at, row.verified_at), (Observed::Absent, Some(f.now()), None));
    assert!(!row.is_converged() && row.since.is_some(), "{row:?}");
    let task = f.claim_one(&digest, "a", TaskKind::Copy).await;
    assert!(task.repairs, "{task:?}");
    f.complete(&task, Outcome::Copied(SIZE)).await;
    assert!(f.row(&digest, "a").await.is_source());
}

pub(super) async fn a_deleted_copy_is_absent(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let task = f.start_deleting(&digest, "a").await;
    f.pass(MINUTE);
    let waited = f.complete(&task, Outcome::Deleted).await;
    assert!(waited < HOUR, "the time in the trash is not waited for: {waited:?}");
    let row = f.row(&digest, "a").await;
    assert_eq!((row.desired, row.observed, row.verified_at), (Desired::Absent, Observed::Absent, None));
    assert_eq!((row.since, row.due_at, row.leased, row.attempts), (None, None, false, 0));
    fails(f.ledger.complete(&task, &Outcome::Deleted).await, ErrorKind::LeaseLost);
    f.push(&digest, &["a"]).await;
    assert!(f.row(&digest, "a").await.is_source(), "it is pushed again");
}

pub(super) async fn a_delete_ends_by_a_delete_only(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let copy = f.claim_one(&digest, "b", TaskKind::Copy).await;
    assert!(!copy.repairs, "there was none before");
    let before = f.rows(&digest).await;
    for wrong in [Outcome::Deleted, spared()] {
        fails(f.ledger.complete(&copy, &wrong).await, ErrorKind::InvalidInput);
    }
    assert_eq!(f.rows(&digest).await, before);
    f.complete(&copy, Outcome::Copied(SIZE)).await;
    let delete = f.start_deleting(&digest, "a").await;
    let before = f.rows(&digest).await;
    for wrong in [Outcome::Copied(SIZE), Outcome::Verified(SIZE), Outcome::Missing, wrong()] {
        fails(f.ledger.complete(&delete, &wrong).await, ErrorKind::InvalidInput);
    }
    assert_eq!(f.rows(&digest).await, before);
    f.complete(&delete, Outcome::Deleted).await;
}

fn spared() -> Outcome {
    Outcome::Spared { reason: "no other copy could be seen".to_owned(), look_again: HOUR }
}

pub(super) async fn a_spared_copy_is_what_it_was(f: Fixture) {
    // One that was good is a source again, and what waits for one is woken.
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.pass(HOUR);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], MINUTE)).await.expect("retarget"));
    f.pass(TRASH + SECOND);
    let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.suspect(&digest, "b").await;
    let verify = f.claim_one(&digest, "b", TaskKind::Verify).await;
    f.complete(&verify, Outcome::Missing).await;
    f.assert_idle("b", "there is nothing to copy").await;
    f.complete(&task, spared()).await;
    let row = f.row(&digest, "a").await;
    assert!(row.is_source() && row.desired == Desired::Absent && !row.leased, "{row:?}");
    assert_eq!((row.attempts, row.due_at), (1, Some(f.now() + HOUR)));
    assert_eq!(row.last_error.as_deref(), Some("no other copy could be seen"));
    let copy = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.complete(&copy, Outcome::Copied(SIZE)).await;
    f.pass(HOUR + SECOND);
    let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
    f.complete(&task, Outcome::Deleted).await;
    // One that nobody had verified is not.
    let digest = blob("another layer");
    f.intend(&digest, &["c"]).await;
    let task = f.start_deleting(&digest, "c").await;
    f.complete(&task, spared()).await;
    let row = f.row(&digest, "c").await;
    assert_eq!((row.observed, row.attempts), (Observed::Unknown, 1));
    f.pass(HOUR + SECOND);
    f.claim_one(&digest, "c", TaskKind::Delete).await;
    // Nor one that somebody doubted.
    let digest = blob("a third layer");
    f.push(&digest, &["b"]).await;
    f.suspect(&digest, "b").await;
    let task = f.start_deleting(&digest, "b").await;
    f.complete(&task, spared()).await;
    assert!(!f.row(&digest, "b").await.is_source());
}

pub(super) async fn a_spared_copy_that_an_earlier_worker_may_have_deleted_is_none(f: Fixture) {
    for digest in [blob("vanished"), blob("deferred")] {
        f.push(&digest, &["a"]).await;
        let task = f.start_deleting(&digest, "a").await;
        if digest == blob("deferred") {
            f.ledger.defer(&task, SECOND, "no answer").await.expect("defer");
        }
        f.pass(HOUR);
        let task = f.claim_one(&digest, "a", TaskKind::Delete).await;
        f.intend(&digest, &["a"]).await;
        f.complete(&task, spared()).await;
        let row = f.row(&digest, "a").await;
        assert_eq!((row.observed, row.verified_at), (Observed::Unknown, None), "{row:?}");
    }
}

pub(super) async fn a_spared_copy_that_is_wanted_again_is_kept(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let task = f.start_deleting(&digest, "a").await;
    assert!(f.intend_in(&digest, "a").await.fenced_for.is_some());
    // Though the generation moved on.
    f.complete(&task, spared()).await;
    let row = f.row(&digest, "a").await;
    assert!(row.is_source() && row.is_converged(), "{row:?}");
    assert_eq!((row.attempts, row.since, row.due_at), (0, None, None));
    assert_eq!(f.intend_in(&digest, "a").await.fenced_for, None);
    fails(f.ledger.complete(&task, &spared()).await, ErrorKind::LeaseLost);
}
