//! How work is given out.

use std::collections::BTreeSet;

use bytes::Bytes;
use registry_core::{Digest, ErrorKind};

use super::Fixture;
use super::kit::{FENCE, HOUR, LEASE, LOOK_AGAIN, MINUTE, SECOND, SIZE, TRASH, blob, claim, fails, kinds, retarget, zones};
use crate::ledger::{Commit, Observed, Outcome, Sighting, Task, TaskKind};

pub(super) async fn a_copy_is_claimed_where_a_source_can_be_read(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    f.pass(MINUTE);
    for unreadable in [&[][..], &["c"], &["b"]] {
        assert!(f.claim("b", unreadable).await.is_empty(), "its source is in none of {unreadable:?}");
        f.pass(LOOK_AGAIN + SECOND);
    }
    assert!(f.claim("c", &["a"]).await.is_empty(), "it is not wanted there");
    let tasks = f.claim("b", &["c", "a"]).await;
    assert_eq!(kinds(&tasks), [(digest, TaskKind::Copy)]);
    let row = f.row(&digest, "b").await;
    assert!(row.leased && row.attempts == 0, "{row:?}");
    let mut expected = Task::new(digest, row.zone, TaskKind::Copy, row.generation, tasks[0].lease_id.clone());
    expected.size = Some(SIZE);
    assert_eq!(tasks[0], expected);
    assert!(!tasks[0].lease_id.is_empty());
    // What is merely no longer wanted can be copied from.
    let digest = blob("another layer");
    f.push(&digest, &["a"]).await;
    f.pass(HOUR * 2);
    assert!(f.ledger.retarget(&digest, &retarget(&["c"], HOUR)).await.expect("retarget"));
    assert_eq!(kinds(&f.claim("c", &["a"]).await), [(digest, TaskKind::Copy)]);
    // What somebody doubts cannot.
    let digest = blob("a third layer");
    f.push(&digest, &["a", "c"]).await;
    f.suspect(&digest, "a").await;
    assert!(f.claim("c", &["a"]).await.is_empty());
}

pub(super) async fn a_suspect_is_claimed_without_a_source(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.suspect(&digest, "a").await;
    let tasks = f.claim("a", &[]).await;
    assert_eq!(kinds(&tasks), [(digest, TaskKind::Verify)]);
    assert_eq!(f.row(&digest, "a").await.observed, Observed::Suspect);
}

pub(super) async fn an_unwanted_copy_waits_for_the_others_to_be_verified(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b", "c"]).await;
    f.pass(HOUR);
    assert!(f.ledger.retarget(&digest, &retarget(&["b", "c"], MINUTE)).await.expect("retarget"));
    f.suspect(&digest, "c").await;
    f.pass(TRASH + SECOND);
    f.assert_idle("a", "one of the others is doubtful").await;
    assert!(f.row(&digest, "a").await.is_source(), "nothing happened to it");
    let task = f.claim_one(&digest, "c", TaskKind::Verify).await;
    f.pass(LOOK_AGAIN + SECOND);
    f.assert_idle("a", "nobody knows yet").await;
    f.complete(&task, Outcome::Verified(SIZE)).await;
    f.pass(LOOK_AGAIN + SECOND);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}

pub(super) async fn the_longest_due_come_first(f: Fixture) {
    let mut pushed = Vec::new();
    for n in 0..9 {
        let digest = blob(&format!("layer {n}"));
        f.push(&digest, &["a", "b"]).await;
        pushed.push(digest);
        f.pass(SECOND);
    }
    let mut claimed = Vec::new();
    for expected in [4, 4, 1, 0] {
        let tasks = f.ledger.claim(&claim("b", &["a"], 4)).await.expect("claim");
        assert_eq!(tasks.len(), expected);
        claimed.push(tasks.into_iter().map(|task| task.digest).collect::<BTreeSet<_>>());
    }
    let expected: Vec<BTreeSet<_>> = [&pushed[..4], &pushed[4..8], &pushed[8..], &[]].map(|part| part.iter().copied().collect()).into();
    assert_eq!(claimed, expected);
}

pub(super) async fn claims_are_limited_and_nobody_elses(f: Fixture) {
    let digests: BTreeSet<_> = (0..5).map(|n| blob(&format!("layer {n}"))).collect();
    for digest in &digests {
        f.push(digest, &["a", "b"]).await;
    }
    assert!(f.ledger.claim(&claim("b", &["a"], 0)).await.expect("claim").is_empty());
    let other = f.other().await;
    let mut tasks = Vec::new();
    for (ledger, expected) in [(&f.ledger, 2), (&other, 2), (&f.ledger, 1), (&other, 0)] {
        let some = ledger.claim(&claim("b", &["a"], 2)).await.expect("claim");
        assert_eq!(some.len(), expected);
        tasks.extend(some);
    }
    assert_eq!(tasks.iter().map(|task| task.digest).collect::<BTreeSet<_>>(), digests);
    assert_eq!(tasks.iter().map(|task| &task.lease_id).collect::<BTreeSet<_>>().len(), 5, "each is a claim of its own");
    f.pass(LEASE - SECOND);
    f.assert_idle("b", "their leases hold").await;
    f.pass(SECOND * 2);
    assert_eq!(f.claim("b", &["a"]).await.len(), 5);
}

pub(super) async fn what_cannot_be_done_is_looked_at_again_later(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["c", "b"]).await;
    assert!(f.claim("b", &["a"]).await.is_empty());
    assert!(f.claim("b", &["a", "c"]).await.is_empty(), "it was looked at just now");
    f.pass(LOOK_AGAIN - SECOND);
    assert!(f.claim("b", &["a", "c"]).await.is_empty());
    let row = f.row(&digest, "b").await;
    assert!(!row.leased && row.attempts == 0, "that is no failure: {row:?}");
    f.pass(SECOND * 2);
    assert_eq!(kinds(&f.claim("b", &["a", "c"]).await), [(digest, TaskKind::Copy)]);
}

/// Blobs that are in `c` and wanted in `b`, where nobody can read from `c`. Many at a time, so that databases can commit them together.
async fn push_unreadable(f: &Fixture, count: usize) -> Vec<Digest> {
    let digests: Vec<_> = (0..count).map(|n| blob(&format!("unreadable {n}"))).collect();
    for some in digests.chunks(100) {
        let mut pushes = Vec::new();
        for digest in some.iter().copied() {
            let ledger = std::sync::Arc::clone(&f.ledger);
            pushes.push(tokio::spawn(async move {
                let intent = ledger.intend(&digest, Some(SIZE), &zones(&["c", "b"])).await?;
                let commit = Commit { digest, size: SIZE, zone: intent.targets[0].zone.clone(), generation: intent.targets[0].generation };
                ledger.committed(&commit).await
            }));
        }
        for push in pushes {
            push.await.expect("a task").expect("a push");
        }
    }
    digests
}

pub(super) async fn what_cannot_be_done_hides_nothing(f: Fixture) {
    push_unreadable(&f, 1000).await;
    f.pass(SECOND);
    let digest = blob("readable");
    f.push(&digest, &["a", "b"]).await;
    f.pass(SECOND);
    // The clock stands still meanwhile, so that what was looked at is not due again.
    for _ in 0..2 {
        let tasks = f.ledger.claim(&claim("b", &["a"], 8)).await.expect("claim");
        if !tasks.is_empty() {
            assert_eq!(kinds(&tasks), [(digest, TaskKind::Copy)]);
            return;
        }
    }
    panic!("a thousand that cannot be done hide the one that can");
}

pub(super) async fn a_claim_looks_at_a_few_only(f: Fixture) {
    let digests = push_unreadable(&f, 1_200).await;
    f.pass(SECOND);
    assert!(f.ledger.claim(&claim("b", &["a"], 1)).await.expect("claim").is_empty());
    let rows = f.ledger.placements(&digests).await.expect("placements");
    let looked_at = rows.iter().filter(|row| row.due_at.is_some_and(|due| due > f.now())).count();
    assert!((900..=1_000).contains(&looked_at), "{looked_at} of 1200 were looked at for one task");
}

pub(super) async fn a_vanished_workers_task_goes_to_another(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let vanished = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.pass(LEASE + SECOND);
    assert!(!f.row(&digest, "b").await.leased);
    let tasks = f.other().await.claim(&claim("b", &["a"], 10)).await.expect("claim");
    assert_eq!(kinds(&tasks), [(digest, TaskKind::Copy)]);
    let task = &tasks[0];
    assert_ne!(task.lease_id, vanished.lease_id);
    assert_eq!((task.epoch, task.attempts, task.generation), (2, 1, vanished.generation));
    let row = f.row(&digest, "b").await;
    assert!(row.leased && row.attempts == 1 && row.last_error.is_some(), "{row:?}");
    let progress = Some(Bytes::from_static(b"too late"));
    fails(f.ledger.renew(&vanished, LEASE, progress).await, ErrorKind::LeaseLost);
    fails(f.ledger.complete(&vanished, &Outcome::Copied(SIZE)).await, ErrorKind::LeaseLost);
    fails(f.ledger.defer(&vanished, MINUTE, "too late").await, ErrorKind::LeaseLost);
    assert_eq!(f.row(&digest, "b").await, row, "nothing was changed");
    f.complete(task, Outcome::Copied(SIZE)).await;
    let row = f.row(&digest, "b").await;
    assert!(row.is_source() && row.attempts == 0 && row.last_error.is_none(), "{row:?}");
}

pub(super) async fn the_last_progress_is_handed_on(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let mut task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    assert_eq!(task.progress, None);
    let every_byte: Bytes = (0..=255).collect();
    for progress in [Some(Bytes::from_static(b"first")), Some(every_byte.clone()), None] {
        f.ledger.renew(&task, LEASE, progress).await.expect("renew");
    }
    for epoch in 2..4 {
        f.pass(LEASE + SECOND);
        task = f.claim_one(&digest, "b", TaskKind::Copy).await;
        assert_eq!((task.progress.as_ref(), task.epoch), (Some(&every_byte), epoch));
    }
    f.ledger.defer(&task, MINUTE, "the zone is away").await.expect("defer");
    f.pass(MINUTE + SECOND);
    assert_eq!(f.claim_one(&digest, "b", TaskKind::Copy).await.progress, Some(every_byte));
}

pub(super) async fn progress_ends_with_its_task(f: Fixture) {
    let note = || Some(Bytes::from_static(b"half of it"));
    // A copy that was made.
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    f.ledger.renew(&task, LEASE, note()).await.expect("renew");
    f.complete(&task, Outcome::Copied(SIZE)).await;
    f.suspect(&digest, "b").await;
    let task = f.claim_one(&digest, "b", TaskKind::Verify).await;
    assert_eq!(task.progress, None, "that was another task's");
    f.ledger.renew(&task, LEASE, note()).await.expect("renew");
    f.complete(&task, Outcome::Missing).await;
    assert_eq!(f.claim_one(&digest, "b", TaskKind::Copy).await.progress, None);
    // A copy that was found while its worker had vanished.
    let digest = blob("another layer");
    f.push(&digest, &["a", "c"]).await;
    let task = f.claim_one(&digest, "c", TaskKind::Copy).await;
    f.ledger.renew(&task, LEASE, note()).await.expect("renew");
    f.pass(FENCE);
    f.see(&digest, "c", Sighting::Found(SIZE)).await;
    assert_eq!(f.claim_one(&digest, "c", TaskKind::Verify).await.progress, None);
    // A copy that was deleted since.
    let digest = blob("a third layer");
    f.push(&digest, &["b", "a"]).await;
    let task = f.claim_one(&digest, "a", TaskKind::Copy).await;
    f.ledger.renew(&task, LEASE, note()).await.expect("renew");
    let task = f.start_deleting(&digest, "a").await;
    assert_eq!(task.progress, None);
    f.complete(&task, Outcome::Deleted).await;
    f.intend(&digest, &["a", "b"]).await;
    assert_eq!(f.claim_one(&digest, "a", TaskKind::Copy).await.progress, None);
}
