//! Writers: before the bytes, and after them.

use registry_core::ErrorKind;

use super::Fixture;
use super::kit::{LEASE, MINUTE, SECOND, SIZE, TRASH, blob, fails, zone, zones};
use crate::ledger::{Commit, Desired, Observed, Outcome, Placement, TaskKind};

pub(super) async fn an_intent_makes_a_placement_in_each_target(f: Fixture) {
    let digest = blob("layer");
    let intent = f.intend(&digest, &["b", "a"]).await;
    let targets: Vec<_> = intent.targets.iter().map(|target| target.zone.clone()).collect();
    assert_eq!(targets, zones(&["b", "a"]), "in the order in which they were given");
    assert!(intent.targets.iter().all(|target| target.fenced_for.is_none()), "{intent:?}");
    let mut expected = Vec::new();
    for at in ["a", "b"] {
        let generation = intent.target(&zone(at)).expect("a target").generation;
        let mut row = Placement::new(digest, zone(at), Desired::Present, generation);
        row.size = Some(SIZE);
        row.touched_at = f.now();
        row.since = Some(f.now());
        expected.push(row);
    }
    assert_eq!(f.rows(&digest).await, expected);
    assert_eq!(f.other().await.placements(&[digest]).await.expect("placements"), expected, "another process sees it");
    f.pass(TRASH);
    f.assert_idle("a", "nobody has written it yet").await;
    // No targets at all.
    let other = blob("another");
    assert!(f.intend(&other, &[]).await.targets.is_empty());
    assert!(f.rows(&other).await.is_empty());
}

pub(super) async fn intending_again_keeps_the_generation_and_touches(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let before = f.rows(&digest).await;
    f.pass(MINUTE);
    let intent = f.intend(&digest, &["a", "b"]).await;
    assert!(intent.targets.iter().all(|target| target.fenced_for.is_none()), "{intent:?}");
    let mut expected = before;
    for row in &mut expected {
        assert_eq!(intent.target(&row.zone).expect("a target").generation, row.generation);
        row.touched_at = f.now();
    }
    assert_eq!(f.rows(&digest).await, expected, "only the touch is new");
}

pub(super) async fn intending_for_more_zones_leaves_the_others(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let before = f.rows(&digest).await;
    f.pass(MINUTE);
    f.intend(&digest, &["c"]).await;
    let after = f.rows(&digest).await;
    assert_eq!(after.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.touched_at, f.now(), "the touch is the blob's");
        assert_eq!(*after, Placement { touched_at: after.touched_at, ..before.clone() });
    }
    assert_eq!((after[2].since, after[2].due_at), (Some(f.now()), Some(f.now())), "there is a source, so it is due");
    f.claim_one(&digest, "c", TaskKind::Copy).await;
}

pub(super) async fn a_condemned_copy_is_taken_back_as_good_as_before(f: Fixture) {
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    let before = f.rows(&digest).await;
    f.pass(MINUTE);
    f.condemn(&digest).await;
    let condemned = f.rows(&digest).await;
    assert!(condemned.iter().all(Placement::is_source), "it can still be read: {condemned:?}");
    f.pass(MINUTE);
    let intent = f.intend(&digest, &["a"]).await;
    let row = f.row(&digest, "a").await;
    assert!(row.generation > condemned[0].generation, "{row:?}");
    assert_eq!(intent.targets[0].generation, row.generation);
    assert_eq!(intent.targets[0].fenced_for, None);
    let expected = Placement { generation: row.generation, touched_at: f.now(), ..before[0].clone() };
    assert_eq!(row, expected);
    assert_eq!(f.row(&digest, "b").await.desired, Desired::Absent, "it was no target");
    f.pass(TRASH * 2);
    f.assert_idle("a", "it is wanted").await;
    f.claim_one(&digest, "b", TaskKind::Delete).await;
}

pub(super) async fn the_size_is_what_somebody_knew(f: Fixture) {
    let digest = blob("layer");
    f.ledger.intend(&digest, None, &zones(&["a"])).await.expect("intend");
    assert_eq!(f.row(&digest, "a").await.size, None);
    let generation = f.ledger.intend(&digest, Some(5), &zones(&["a"])).await.expect("intend").targets[0].generation;
    assert_eq!(f.row(&digest, "a").await.size, Some(5));
    f.ledger.intend(&digest, None, &zones(&["b"])).await.expect("intend");
    assert!(f.rows(&digest).await.iter().all(|row| row.size == Some(5)));
    let size = 5_000_000_000_000;
    f.ledger.committed(&Commit { digest, size, zone: zone("a"), generation }).await.expect("committed");
    assert!(f.rows(&digest).await.iter().all(|row| row.size == Some(size)), "who has hashed it knows best");
    assert_eq!(f.claim("b", &["a"]).await[0].size, Some(size));
}

pub(super) async fn touches_are_each_later(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let start = f.now();
    let mut last = f.row(&digest, "a").await.touched_at;
    for round in 0..6 {
        // The clock stands still, and then steps back.
        if round == 3 {
            f.clock.set(start - MINUTE);
        }
        match round % 2 {
            0 => drop(f.intend(&digest, &["a"]).await),
            _ => assert!(f.ledger.retain(&digest, &zones(&["a", "b"])).await.expect("retain")),
        }
        for row in f.rows(&digest).await {
            assert!(row.touched_at > last, "round {round}: {:?} is not behind {last:?}", row.touched_at);
        }
        last = f.row(&digest, "a").await.touched_at;
    }
}

pub(super) async fn a_committed_copy_is_there(f: Fixture) {
    let digest = blob("layer");
    let generation = f.intend_in(&digest, "a").await.generation;
    let before = f.row(&digest, "a").await;
    f.pass(MINUTE);
    f.commit(&digest, "a", generation).await;
    let row = f.other().await.placements(&[digest]).await.expect("placements").remove(0);
    let expected = Placement { observed: Observed::Present, verified_at: Some(f.now()), since: None, due_at: None, ..before };
    assert_eq!(row, expected);
    assert!(row.is_source() && row.is_converged());
    f.pass(TRASH);
    f.assert_idle("a", "it is what it is to be").await;
}

pub(super) async fn a_commit_wakes_the_others(f: Fixture) {
    let digest = blob("layer");
    let intent = f.intend(&digest, &["a", "b", "c"]).await;
    f.pass(MINUTE);
    f.commit(&digest, "b", intent.targets[1].generation).await;
    for at in ["a", "c"] {
        let row = f.row(&digest, at).await;
        assert_eq!(row.due_at, Some(f.now()), "{row:?}");
        assert_eq!(row.since, Some(f.now()), "before, there was nothing to copy: {row:?}");
        let task = f.claim_one(&digest, at, TaskKind::Copy).await;
        assert_eq!((task.size, task.generation, task.zone.as_str()), (Some(SIZE), row.generation, at));
    }
}

pub(super) async fn a_commit_after_the_first_moves_no_others_waiting(f: Fixture) {
    let digest = blob("layer");
    let intent = f.intend(&digest, &["a", "b", "c"]).await;
    f.commit(&digest, "a", intent.targets[0].generation).await;
    let since = f.now();
    let task = f.claim_one(&digest, "c", TaskKind::Copy).await;
    f.ledger.defer(&task, TRASH, "the zone is away").await.expect("defer");
    f.pass(MINUTE);
    f.commit(&digest, "b", intent.targets[1].generation).await;
    let row = f.row(&digest, "c").await;
    assert_eq!(row.since, Some(since), "it could have been copied since the first");
    f.claim_one(&digest, "c", TaskKind::Copy).await;
}

pub(super) async fn a_commit_under_an_old_generation_is_a_conflict(f: Fixture) {
    let digest = blob("layer");
    let old = f.intend_in(&digest, "a").await.generation;
    f.condemn(&digest).await;
    let new = f.intend_in(&digest, "a").await.generation;
    assert!(new > old);
    let before = f.rows(&digest).await;
    for wrong in [old, new + 1, 0] {
        fails(f.try_commit(&digest, "a", wrong).await, ErrorKind::Conflict);
    }
    assert_eq!(f.rows(&digest).await, before, "nothing was changed");
    f.commit(&digest, "a", new).await;
}

pub(super) async fn a_commit_of_what_is_condemned_is_a_conflict(f: Fixture) {
    let digest = blob("layer");
    let old = f.intend_in(&digest, "a").await.generation;
    f.condemn(&digest).await;
    let condemned = f.row(&digest, "a").await;
    for generation in [old, condemned.generation] {
        fails(f.try_commit(&digest, "a", generation).await, ErrorKind::Conflict);
    }
    assert_eq!(f.row(&digest, "a").await, condemned, "nothing was changed");
}

pub(super) async fn a_commit_of_what_is_unknown_is_a_conflict(f: Fixture) {
    let digest = blob("layer");
    fails(f.try_commit(&digest, "a", 1).await, ErrorKind::Conflict);
    assert!(f.rows(&digest).await.is_empty());
    let generation = f.intend_in(&digest, "a").await.generation;
    fails(f.try_commit(&digest, "b", generation).await, ErrorKind::Conflict);
    assert_eq!(f.rows(&digest).await.len(), 1);
}

pub(super) async fn committing_again_heals(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.suspect(&digest, "a").await;
    let task = f.claim_one(&digest, "a", TaskKind::Verify).await;
    f.complete(&task, Outcome::Wrong { reason: "flipped".to_owned(), look_again: MINUTE }).await;
    assert!(f.row(&digest, "a").await.is_proven_bad());
    f.pass(SECOND);
    let generation = f.intend_in(&digest, "a").await.generation;
    f.commit(&digest, "a", generation).await;
    let row = f.row(&digest, "a").await;
    assert!(row.is_source() && row.verified_at == Some(f.now()), "{row:?}");
    assert_eq!((row.attempts, row.last_error, row.since, row.due_at), (0, None, None, None));
    f.pass(TRASH);
    f.assert_idle("a", "it is good").await;
}

pub(super) async fn a_commit_takes_the_work_from_whoever_has_it(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a", "b"]).await;
    let task = f.claim_one(&digest, "b", TaskKind::Copy).await;
    let generation = f.intend_in(&digest, "b").await.generation;
    f.commit(&digest, "b", generation).await;
    let row = f.row(&digest, "b").await;
    assert!(row.is_source() && !row.leased, "{row:?}");
    fails(f.ledger.renew(&task, LEASE, None).await, ErrorKind::LeaseLost);
    fails(f.ledger.complete(&task, &Outcome::Missing).await, ErrorKind::LeaseLost);
    assert_eq!(f.row(&digest, "b").await, row);
}
