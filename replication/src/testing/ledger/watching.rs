//! What onlookers see, and what is tidied up behind everybody.

use std::time::Duration;

use registry_core::{Algorithm, Digest, Timestamp};

use super::Fixture;
use super::kit::{HOUR, LEASE, MINUTE, SECOND, SIZE, TRASH, blob, claim, kinds, zone, zones};
use crate::ledger::{Backlog, ListPlacements, Outcome, TaskKind, Totals};

pub(super) async fn placements_come_in_order_and_once(f: Fixture) {
    let mut digests: Vec<_> = (0..6).map(|n| blob(&format!("layer {n}"))).collect();
    digests.push(Digest::of(Algorithm::Sha512, b"layer"));
    for digest in &digests {
        f.intend(digest, &["b", "a"]).await;
    }
    digests.sort_unstable();
    let expected: Vec<_> = digests.iter().flat_map(|digest| [(*digest, zone("a")), (*digest, zone("b"))]).collect();
    let mut asked: Vec<_> = digests.iter().rev().copied().collect();
    asked.push(blob("unknown"));
    asked.extend(digests);
    let found = f.ledger.placements(&asked).await.expect("placements");
    assert_eq!(found.into_iter().map(|row| (row.digest, row.zone)).collect::<Vec<_>>(), expected);
    assert!(f.ledger.placements(&[]).await.expect("placements").is_empty());
}

pub(super) async fn the_backlog_is_what_is_to_be_done(f: Fixture) {
    assert!(f.ledger.backlog().await.expect("backlog").is_empty());
    let digests: Vec<_> = (0..10).map(|n| blob(&format!("layer {n}"))).collect();
    // Three copies, one of them claimed, one failing.
    for digest in &digests[..3] {
        f.push(digest, &["a", "b"]).await;
    }
    let tasks = f.ledger.claim(&claim("b", &["a"], 2)).await.expect("claim");
    f.ledger.defer(&tasks[0], HOUR, "time-out").await.expect("defer");
    // Two suspects, one of which turns out to be damaged.
    for digest in &digests[3..5] {
        f.push(digest, &["b"]).await;
        f.suspect(digest, "b").await;
    }
    let task = f.claim("b", &[]).await.into_iter().find(|task| task.kind == TaskKind::Verify).expect("a suspect");
    f.complete(&task, Outcome::Wrong { reason: "flipped".to_owned(), look_again: HOUR }).await;
    // One to delete.
    f.push(&digests[5], &["b"]).await;
    f.condemn(&digests[5]).await;
    // Two without any source, one of them lost.
    f.intend(&digests[6], &["b"]).await;
    f.push(&digests[7], &["b"]).await;
    f.suspect(&digests[7], "b").await;
    let tasks = f.claim("b", &[]).await;
    let task = tasks.iter().find(|task| task.digest == digests[7]).expect("a suspect");
    f.complete(task, Outcome::Missing).await;
    // And two that are fine.
    f.push(&digests[8], &["b"]).await;
    f.push(&digests[9], &["b"]).await;
    let backlog = f.backlog("b").await.expect("a backlog");
    let mut expected = Backlog::new(zone("b"));
    expected.copies = 3;
    expected.copy_bytes = 3 * SIZE;
    // There was nobody to read them from.
    (expected.put_off, expected.put_off_bytes) = (2, 2 * SIZE);
    expected.suspects = 2;
    expected.deletes = 1;
    expected.sourceless = 2;
    expected.failing = 2;
    expected.oldest = Some(f.now());
    expected.last_error.clone_from(&backlog.last_error);
    assert_eq!(backlog, expected);
    assert!(f.backlog("a").await.is_none(), "there is nothing to do");
}

pub(super) async fn the_backlog_tells_what_is_put_off(f: Fixture) {
    let [due, leased, unread, failed] = [blob("due"), blob("leased"), blob("unread"), blob("failed")];
    let put_off = async || {
        let backlog = f.backlog("b").await.expect("a backlog");
        (backlog.copies, backlog.put_off, backlog.put_off_bytes)
    };
    f.push(&leased, &["a", "b"]).await;
    f.claim_one(&leased, "b", TaskKind::Copy).await;
    f.push(&failed, &["a", "b"]).await;
    let task = f.claim_one(&failed, "b", TaskKind::Copy).await;
    assert_eq!(put_off().await, (2, 0, 0), "somebody is at both");
    f.ledger.defer(&task, HOUR, "it does not answer").await.expect("defer");
    assert_eq!(put_off().await, (2, 1, SIZE), "it failed");
    f.push(&unread, &["a", "b"]).await;
    assert!(f.claim("b", &[]).await.is_empty());
    assert_eq!(put_off().await, (3, 2, 2 * SIZE), "no zone that has it can be read");
    f.push(&due, &["a", "b"]).await;
    assert_eq!(put_off().await, (4, 2, 2 * SIZE), "it is due");
    f.pass(LEASE);
    assert_eq!(put_off().await, (4, 1, SIZE), "whoever had one is gone, and another is to be looked at again");
}

pub(super) async fn the_backlog_tells_how_long_it_waits(f: Fixture) {
    let [old, new, lost] = [blob("old"), blob("new"), blob("lost")];
    f.intend(&lost, &["b"]).await;
    f.pass(HOUR);
    f.push(&old, &["a", "b"]).await;
    let begun = f.now();
    f.pass(HOUR);
    f.push(&new, &["a", "b"]).await;
    f.pass(MINUTE);
    let backlog = f.backlog("b").await.expect("a backlog");
    assert_eq!((backlog.oldest, backlog.lag), (Some(begun), HOUR + MINUTE), "what nobody can do does not wait");
    assert_eq!(backlog.copy_lag, HOUR + MINUTE);
    let task = f.ledger.claim(&claim("b", &["a"], 1)).await.expect("claim").remove(0);
    assert_eq!(task.digest, old);
    f.complete(&task, Outcome::Copied(SIZE)).await;
    let backlog = f.backlog("b").await.expect("a backlog");
    assert_eq!((backlog.oldest, backlog.lag), (Some(begun + HOUR), MINUTE));
    f.complete(&f.claim_one(&new, "b", TaskKind::Copy).await, Outcome::Copied(SIZE)).await;
    let backlog = f.backlog("b").await.expect("a backlog");
    assert_eq!((backlog.sourceless, backlog.oldest, backlog.lag), (1, None, Duration::ZERO));
}

pub(super) async fn a_copy_in_the_trash_is_not_late(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    f.condemn(&digest).await;
    f.pass(TRASH / 2);
    let backlog = f.backlog("a").await.expect("a backlog");
    assert_eq!((backlog.deletes, backlog.oldest, backlog.lag), (1, None, Duration::ZERO));
    f.pass(TRASH / 2 + MINUTE);
    let backlog = f.backlog("a").await.expect("a backlog");
    assert_eq!((backlog.deletes, backlog.oldest, backlog.lag), (1, Some(f.now() - MINUTE), MINUTE));
    assert_eq!(backlog.copy_lag, Duration::ZERO, "it is no copy");
}

pub(super) async fn the_backlog_tells_the_last_error(f: Fixture) {
    let digests = [blob("one"), blob("two"), blob("three")];
    for digest in &digests {
        f.push(digest, &["a", "b"]).await;
    }
    assert_eq!(f.backlog("b").await.expect("a backlog").last_error, None);
    let tasks = f.claim("b", &["a"]).await;
    assert_eq!(tasks.len(), 3);
    for (task, reason) in tasks.iter().zip(["first", "second", "third"]) {
        f.pass(SECOND);
        f.ledger.defer(task, TRASH, reason).await.expect("defer");
        let backlog = f.backlog("b").await.expect("a backlog");
        assert_eq!(backlog.last_error, Some((task.digest, reason.to_owned())));
    }
    assert_eq!(f.backlog("b").await.expect("a backlog").failing, 3);
    // The last of those that still fail.
    f.push(&tasks[2].digest, &["b"]).await;
    let backlog = f.backlog("b").await.expect("a backlog");
    assert_eq!((backlog.failing, backlog.last_error), (2, Some((tasks[1].digest, "second".to_owned()))));
}

pub(super) async fn what_failed_is_replayed(f: Fixture) {
    let digests: Vec<_> = (0..4).map(|n| blob(&format!("layer {n}"))).collect();
    for digest in &digests {
        f.push(digest, &["a", "b", "c"]).await;
    }
    for (at, failing) in [("b", 3), ("c", 4)] {
        for task in f.claim(at, &["a"]).await.iter().take(failing) {
            f.ledger.defer(task, TRASH, "time-out").await.expect("defer");
        }
    }
    assert_eq!(f.ledger.replay(Some(&zone("a"))).await.expect("replay"), 0);
    assert_eq!(f.ledger.replay(Some(&zone("unknown"))).await.expect("replay"), 0);
    assert_eq!(f.ledger.replay(Some(&zone("b"))).await.expect("replay"), 3);
    f.assert_idle("c", "that was for b").await;
    let again = f.claim("b", &["a"]).await;
    assert_eq!(again.len(), 3, "and the fourth is claimed");
    assert!(again.iter().all(|task| task.attempts == 0 && task.epoch == 2), "{again:?}");
    // Whoever is at it again is left alone.
    assert_eq!(f.ledger.replay(None).await.expect("replay"), 4);
    assert_eq!(f.claim("c", &["a"]).await.len(), 4);
    assert_eq!(f.ledger.replay(None).await.expect("replay"), 0);
    assert_eq!(f.backlog("c").await.expect("a backlog").failing, 0);
}

pub(super) async fn replaying_passes_no_fence(f: Fixture) {
    let digest = blob("layer");
    f.push(&digest, &["a"]).await;
    let deleting = f.start_deleting(&digest, "a").await;
    f.ledger.defer(&deleting, HOUR, "time-out").await.expect("defer");
    assert_eq!(f.ledger.replay(None).await.expect("replay"), 1);
    f.pass(LEASE);
    f.assert_idle("a", "a delete may be on its way").await;
    f.pass(LEASE / 2 + SECOND);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
}

pub(super) async fn totals_count_what_is_there(f: Fixture) {
    assert!(f.ledger.totals().await.expect("totals").is_empty());
    let [both, one, doubtful, condemned] = [blob("both"), blob("one"), blob("doubtful"), blob("condemned")];
    f.push_to_all(&both, &["a", "b"]).await;
    f.push(&one, &["a", "b"]).await;
    f.push(&doubtful, &["a"]).await;
    f.suspect(&doubtful, "a").await;
    f.push(&condemned, &["a"]).await;
    f.condemn(&condemned).await;
    let mut totals = f.ledger.totals().await.expect("totals");
    totals.sort_by(|one, other| one.zone.cmp(&other.zone));
    assert_eq!(totals, [Totals::new(zone("a"), 2, 2 * SIZE), Totals::new(zone("b"), 1, SIZE)]);
}

/// Digests in the order of lists, with two of different algorithms in one shard.
fn in_order() -> Vec<Digest> {
    let mut digests: Vec<_> = (0..40).map(|n| blob(&format!("layer {n}"))).collect();
    let mut long = digests[7].as_bytes().to_vec();
    long.extend([0; 32]);
    digests.push(Digest::from_bytes(Algorithm::Sha512, &long).expect("a digest"));
    digests.sort_by_key(|digest| (digest.shard(), *digest));
    digests
}

pub(super) async fn placements_are_listed_in_order_of_shards(f: Fixture) {
    let digests = in_order();
    for digest in digests.iter().rev() {
        f.intend(digest, &["b", "a"]).await;
    }
    let expected: Vec<_> = digests.iter().flat_map(|digest| ["a", "b"].map(|zone| (*digest, zone.to_owned()))).collect();
    assert_eq!(f.list(&ListPlacements::new(1000)).await, expected);
    for shard in [digests[0].shard(), digests[20].shard(), 255] {
        let expected: Vec<_> = expected.iter().filter(|(digest, _)| digest.shard() == shard).cloned().collect();
        assert_eq!(f.list(&ListPlacements::new(1000).with_shard(Some(shard))).await, expected, "shard {shard:02x}");
    }
    let only_b: Vec<_> = expected.iter().filter(|(_, at)| at == "b").cloned().collect();
    assert_eq!(f.list(&ListPlacements::new(1000).with_zone(Some(zone("b")))).await, only_b);
    assert!(f.list(&ListPlacements::new(1000).with_zone(Some(zone("unknown")))).await.is_empty());
    assert!(f.list(&ListPlacements::new(0)).await.is_empty());
    let row = f.row(&digests[3], "a").await;
    let listed = f.ledger.list(&ListPlacements::new(1000)).await.expect("list");
    assert_eq!(
        listed.iter().find(|listed| listed.digest == row.digest && listed.zone == row.zone),
        Some(&row),
        "with all there is to tell"
    );
}

pub(super) async fn placements_are_listed_in_pages(f: Fixture) {
    for digest in in_order() {
        f.intend(&digest, &["b", "a", "c"]).await;
    }
    let other = f.other().await;
    let shard = in_order()[9].shard();
    let plain = ListPlacements::new(1000);
    for list in [plain.clone(), plain.clone().with_zone(Some(zone("b"))), plain.with_shard(Some(shard))] {
        let all = f.list(&list).await;
        assert!(!all.is_empty());
        let mut read = Vec::new();
        loop {
            let after = read.last().map(|(digest, at): &(Digest, String)| (*digest, zone(at)));
            let mut page = list.clone().with_after(after);
            page.limit = 4;
            let rows = other.list(&page).await.expect("list");
            assert!(rows.len() <= 4);
            if rows.is_empty() {
                break;
            }
            read.extend(rows.into_iter().map(|row| (row.digest, row.zone.to_string())));
            assert!(read.len() <= all.len(), "a placement came twice");
        }
        assert_eq!(read, all);
    }
    // It need not be there any more.
    let behind = f.list(&ListPlacements::new(1000).with_after(Some((in_order()[0], zone("bb"))))).await;
    assert_eq!(behind[0], (in_order()[0], "c".to_owned()));
    assert_eq!(
        f.list(&ListPlacements::new(1000).with_after(Some((Digest::of(Algorithm::Sha512, b"none"), zone("a")))))
            .await
            .first()
            .map(|row| row.0 > in_order()[0]),
        Some(true)
    );
}

pub(super) async fn only_what_failed_is_listed_if_asked(f: Fixture) {
    let digests = in_order();
    for digest in &digests {
        f.push(digest, &["a", "b", "c"]).await;
    }
    let failing = ListPlacements::new(1000).with_failing(true);
    assert!(f.list(&failing).await.is_empty());
    let mut expected = Vec::new();
    for at in ["b", "c"] {
        for task in f.ledger.claim(&claim(at, &["a"], 3)).await.expect("claim") {
            f.ledger.defer(&task, HOUR, "time-out").await.expect("defer");
            expected.push((task.digest, at.to_owned()));
        }
    }
    expected.sort_by_key(|(digest, at)| (digest.shard(), *digest, at.clone()));
    assert_eq!(expected.len(), 6);
    assert_eq!(f.list(&failing).await, expected);
    let only_b: Vec<_> = expected.iter().filter(|(_, at)| at == "b").cloned().collect();
    assert_eq!(f.list(&failing.clone().with_zone(Some(zone("b")))).await, only_b);
    let shard = expected[2].0.shard();
    let of_shard: Vec<_> = expected.iter().filter(|(digest, _)| digest.shard() == shard).cloned().collect();
    assert_eq!(f.list(&failing.clone().with_shard(Some(shard))).await, of_shard);
    let behind = failing.with_after(Some((expected[1].0, zone(&expected[1].1))));
    assert_eq!(f.list(&behind).await, expected[2..]);
}

pub(super) async fn tidying_drops_what_is_gone(f: Fixture) {
    let mut digests: Vec<_> = (0..5).map(|n| blob(&format!("layer {n}"))).collect();
    for digest in &digests {
        f.push_to_all(digest, &["a"]).await;
    }
    let [kept, absent] = [blob("kept"), blob("absent and wanted")];
    f.push_to_all(&kept, &["a", "b"]).await;
    f.push_to_all(&absent, &["b"]).await;
    f.suspect(&absent, "b").await;
    f.complete(&f.claim_one(&absent, "b", TaskKind::Verify).await, Outcome::Missing).await;
    for digest in &digests {
        f.condemn(digest).await;
    }
    assert_eq!(f.ledger.tidy(Duration::ZERO, 100).await.expect("tidy"), 0, "they are only condemned");
    f.pass(TRASH + SECOND);
    let tasks = f.claim("a", &[]).await;
    digests.sort_unstable();
    assert_eq!(kinds(&tasks), digests.iter().map(|digest| (*digest, TaskKind::Delete)).collect::<Vec<_>>());
    assert_eq!(f.ledger.tidy(Duration::ZERO, 100).await.expect("tidy"), 0, "they are being deleted");
    for task in &tasks {
        f.complete(task, Outcome::Deleted).await;
    }
    f.pass(HOUR);
    assert_eq!(f.ledger.tidy(HOUR * 2, 100).await.expect("tidy"), 0, "they are absent since an hour");
    assert_eq!(f.ledger.tidy(MINUTE, 0).await.expect("tidy"), 0);
    for expected in [2, 2, 1, 0] {
        assert_eq!(f.ledger.tidy(MINUTE, 2).await.expect("tidy"), expected);
    }
    assert!(f.ledger.placements(&digests).await.expect("placements").is_empty());
    assert_eq!(f.rows(&kept).await.len(), 2);
    assert_eq!(f.rows(&absent).await.len(), 1, "it is to be there");
    assert_eq!(f.list(&ListPlacements::new(100)).await.len(), 3);
    // Of a blob that is elsewhere, only what is gone goes.
    f.pass(HOUR);
    let to_b = crate::ledger::Retarget { targets: zones(&["b"]), untouched_for: MINUTE, trash_delay: MINUTE };
    assert!(f.ledger.retarget(&kept, &to_b).await.expect("retarget"));
    f.pass(MINUTE + SECOND);
    f.complete(&f.claim_one(&kept, "a", TaskKind::Delete).await, Outcome::Deleted).await;
    f.pass(SECOND);
    assert_eq!(f.ledger.tidy(Duration::ZERO, 100).await.expect("tidy"), 1);
    assert!(f.row(&kept, "b").await.is_source());
}

pub(super) async fn generations_and_touches_never_repeat(f: Fixture) {
    let start = f.now();
    let digest = blob("layer");
    let (mut last, mut touched) = (0, Timestamp::default());
    for round in 0..4 {
        let target = f.intend_in(&digest, "a").await;
        assert!(target.generation > last, "round {round}: {} after {last}", target.generation);
        let row = f.row(&digest, "a").await;
        assert!(row.touched_at > touched, "round {round}: {:?} after {touched:?}", row.touched_at);
        touched = row.touched_at;
        f.commit(&digest, "a", target.generation).await;
        let task = f.start_deleting(&digest, "a").await;
        assert!(task.generation > target.generation, "round {round}: {task:?}");
        last = task.generation;
        f.complete(&task, Outcome::Deleted).await;
        f.pass(SECOND);
        assert_eq!(f.ledger.tidy(Duration::ZERO, 10).await.expect("tidy"), 1);
        assert!(f.rows(&digest).await.is_empty());
        // Somebody sets the clock back, by more each time.
        f.clock.set(start - HOUR * round);
        // What another blob does in between changes nothing.
        f.intend(&blob(&format!("another {round}")), &["a"]).await;
    }
    f.ledger.condemn(&digest, None, TRASH, &zones(&["a"])).await.expect("condemn");
    let row = f.row(&digest, "a").await;
    assert!(row.generation > last && row.touched_at > touched, "{row:?}");
}
