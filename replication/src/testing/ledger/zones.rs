//! Which zones there are.

use registry_core::ErrorKind;

use super::Fixture;
use super::kit::{FENCE, LEASE, SECOND, TRASH, blob, fails, retarget, zone};
use crate::ledger::{JobKind, JobState, TaskKind, ZoneId, ZoneRecord, ZoneState};

fn record(id: &str, name: &str) -> ZoneRecord {
    ZoneRecord::new(ZoneId::new(id), name)
}

async fn known(f: &Fixture) -> Vec<ZoneRecord> {
    f.ledger.zones().await.expect("zones")
}

pub(super) async fn zones_are_registered_once_and_again(f: Fixture) {
    assert!(known(&f).await.is_empty());
    for zone in [record("2f", "leo"), record("9a", "boston"), record("2f", "leo")] {
        f.ledger.register_zone(&zone).await.expect("register_zone");
    }
    let other = f.other().await;
    other.register_zone(&record("00", "gce")).await.expect("register_zone");
    other.register_zone(&record("9a", "boston")).await.expect("the same again");
    let expected = [record("9a", "boston"), record("00", "gce"), record("2f", "leo")];
    assert_eq!(known(&f).await, expected, "by name");
    assert_eq!(other.zones().await.expect("zones"), expected);
    // A zone that only has placements was never registered.
    f.intend(&blob("layer"), &["somewhere"]).await;
    assert_eq!(known(&f).await, expected);
    f.ledger.register_zone(&record("somewhere", "ait")).await.expect("register_zone");
    assert_eq!(known(&f).await.len(), 4);
}

pub(super) async fn a_zone_under_another_name_is_a_conflict(f: Fixture) {
    f.ledger.register_zone(&record("2f", "leo")).await.expect("register_zone");
    fails(f.ledger.register_zone(&record("2f", "boston")).await, ErrorKind::Conflict);
    assert_eq!(known(&f).await, [record("2f", "leo")], "nothing was changed");
    f.ledger.register_zone(&record("9a", "boston")).await.expect("the name is free");
    fails(f.ledger.register_zone(&record("2f", "boston")).await, ErrorKind::Conflict);
}

pub(super) async fn a_name_with_another_zone_is_a_conflict(f: Fixture) {
    f.ledger.register_zone(&record("2f", "leo")).await.expect("register_zone");
    fails(f.other().await.register_zone(&record("9a", "leo")).await, ErrorKind::Conflict);
    assert_eq!(known(&f).await, [record("2f", "leo")], "nothing was changed");
    f.ledger.register_zone(&record("9a", "boston")).await.expect("the zone is free");
    f.ledger.register_zone(&record("10", "Leo")).await.expect("names differ by case");
}

/// Registers zones of these ids, under the same names.
async fn register(f: &Fixture, ids: &[&str]) {
    for id in ids {
        f.ledger.register_zone(&record(id, id)).await.expect("register_zone");
    }
}

async fn set(f: &Fixture, id: &str, state: ZoneState) {
    let any = [ZoneState::Active, ZoneState::Cordoned, ZoneState::Draining];
    f.ledger.set_zone_state(&zone(id), &any, state).await.expect("set_zone_state");
}

pub(super) async fn a_zones_state_changes_from_what_it_is(f: Fixture) {
    use ZoneState::{Active, Cordoned, Draining, Removed};
    register(&f, &["a"]).await;
    f.ledger.register_zone(&record("b", "b").with_state(Cordoned)).await.expect("register_zone");
    let other = f.other().await;
    assert_eq!(other.set_zone_state(&zone("a"), &[Active, Cordoned], Cordoned).await.expect("set_zone_state"), Active);
    assert_eq!(f.ledger.set_zone_state(&zone("a"), &[Active, Cordoned], Cordoned).await.expect("the same again"), Cordoned);
    fails(f.ledger.set_zone_state(&zone("a"), &[Active], Draining).await, ErrorKind::Conflict);
    fails(f.ledger.set_zone_state(&zone("nowhere"), &[Active], Draining).await, ErrorKind::NotFound);
    fails(f.ledger.set_zone_state(&zone("a"), &[Cordoned], Removed).await, ErrorKind::InvalidInput);
    // Registering it again is no change.
    register(&f, &["a", "b"]).await;
    let states: Vec<_> = known(&f).await.into_iter().map(|zone| zone.state).collect();
    assert_eq!(states, [Cordoned, Cordoned]);
    // A zone that merely has placements was never registered.
    f.intend(&blob("layer"), &["c"]).await;
    fails(f.ledger.set_zone_state(&zone("c"), &[Active], Draining).await, ErrorKind::NotFound);
}

pub(super) async fn what_an_active_zone_is_owed_is_due_at_once(f: Fixture) {
    register(&f, &["a", "b"]).await;
    let (owed, leased) = (blob("owed"), blob("leased"));
    f.push(&leased, &["a", "b"]).await;
    f.claim_one(&leased, "b", TaskKind::Copy).await;
    set(&f, "b", ZoneState::Cordoned).await;
    f.push(&owed, &["a", "b"]).await;
    assert_eq!(f.claim("b", &[]).await, [], "nothing is to be copied there");
    f.assert_idle("b", "it is looked at again later").await;
    set(&f, "b", ZoneState::Cordoned).await;
    f.assert_idle("b", "that is no change").await;
    set(&f, "b", ZoneState::Active).await;
    // Somebody who has not heard of that puts it off once more, and then hears.
    assert_eq!(f.claim("b", &[]).await, []);
    f.assert_idle("b", "it is looked at again later").await;
    set(&f, "b", ZoneState::Active).await;
    f.claim_one(&owed, "b", TaskKind::Copy).await;
    // Both who had them are gone, and it was put off while their leases were still noted.
    f.pass(LEASE);
    assert_eq!(f.claim("b", &[]).await, []);
    f.assert_idle("b", "it is looked at again later").await;
    set(&f, "b", ZoneState::Active).await;
    assert_eq!(f.claim("b", &["a"]).await.len(), 2);
}

pub(super) async fn only_what_is_safe_elsewhere_is_forgotten(f: Fixture) {
    register(&f, &["a", "b"]).await;
    let [safe, waits, only, unwanted, never] = ["safe", "waits", "only", "unwanted", "never"].map(blob);
    f.push_to_all(&safe, &["a", "b"]).await;
    f.push(&waits, &["a", "b"]).await;
    f.push(&only, &["a"]).await;
    f.push(&unwanted, &["a"]).await;
    f.condemn(&unwanted).await;
    let all = [safe, waits, only, unwanted, never];
    fails(f.ledger.forget(&zone("a"), &all).await, ErrorKind::Conflict);
    assert!(f.find(&safe, "a").await.is_some(), "the zone is in use: nothing was changed");
    set(&f, "a", ZoneState::Draining).await;
    let mut stay = f.ledger.forget(&zone("a"), &all).await.expect("forget");
    stay.sort_unstable();
    let mut expected = [waits, only];
    expected.sort_unstable();
    assert_eq!(stay, expected);
    assert_eq!(f.rows(&safe).await.len(), 1);
    assert!(f.row(&safe, "b").await.is_source(), "the other copy is what it was");
    assert!(f.find(&unwanted, "a").await.is_none());
    assert!(f.row(&waits, "a").await.is_source() && f.row(&only, "a").await.is_source());
    // What was doubted elsewhere is no copy to rely on.
    f.push_to_all(&never, &["a", "b"]).await;
    f.suspect(&never, "b").await;
    assert_eq!(f.ledger.forget(&zone("a"), &[never]).await.expect("forget"), [never]);
    // Neither is one that is about to go.
    f.pass(TRASH);
    assert!(f.ledger.retarget(&only, &retarget(&["b"], SECOND)).await.expect("retarget"));
    assert_eq!(f.ledger.forget(&zone("a"), &[only]).await.expect("forget"), [only], "it is nowhere else yet");
}

pub(super) async fn what_a_worker_may_be_at_is_not_forgotten(f: Fixture) {
    register(&f, &["a", "b"]).await;
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    f.pass(TRASH);
    assert!(f.ledger.retarget(&digest, &retarget(&["b"], SECOND)).await.expect("retarget"));
    f.pass(TRASH + SECOND);
    f.claim_one(&digest, "a", TaskKind::Delete).await;
    set(&f, "a", ZoneState::Draining).await;
    assert_eq!(f.ledger.forget(&zone("a"), &[digest]).await.expect("forget"), [digest], "a delete may be on its way");
    f.pass(FENCE - SECOND);
    assert_eq!(f.ledger.forget(&zone("a"), &[digest]).await.expect("forget"), [digest], "and may yet arrive");
    f.pass(SECOND * 2);
    assert_eq!(f.ledger.forget(&zone("a"), &[digest]).await.expect("forget"), []);
    assert_eq!(f.rows(&digest).await.len(), 1);
}

pub(super) async fn what_was_forgotten_never_comes_back_under_its_generation(f: Fixture) {
    register(&f, &["a", "b"]).await;
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    set(&f, "a", ZoneState::Draining).await;
    let was = f.row(&digest, "a").await;
    assert!(f.ledger.forget(&zone("a"), &[digest]).await.expect("forget").is_empty());
    let again = f.intend_in(&digest, "a").await;
    assert!(again.generation > was.generation, "{} after {}", again.generation, was.generation);
    fails(f.try_commit(&digest, "a", was.generation).await, ErrorKind::Conflict);
    // The last one, and then all of it.
    assert!(f.ledger.forget(&zone("a"), &[digest]).await.expect("forget").is_empty());
    f.condemn(&digest).await;
    f.pass(TRASH + FENCE + SECOND);
    let task = f.claim_one(&digest, "b", TaskKind::Delete).await;
    f.complete(&task, crate::ledger::Outcome::Deleted).await;
    set(&f, "b", ZoneState::Draining).await;
    let gone = f.row(&digest, "b").await;
    assert!(f.ledger.forget(&zone("b"), &[digest]).await.expect("forget").is_empty());
    assert!(f.rows(&digest).await.is_empty());
    let again = f.intend_in(&digest, "b").await;
    assert!(again.generation > gone.generation);
    assert!(f.row(&digest, "b").await.touched_at > gone.touched_at);
}

pub(super) async fn a_zone_is_removed_when_it_has_no_placement(f: Fixture) {
    register(&f, &["a", "b"]).await;
    let digest = blob("layer");
    f.push_to_all(&digest, &["a", "b"]).await;
    fails(f.ledger.remove_zone(&zone("a")).await, ErrorKind::Conflict);
    set(&f, "a", ZoneState::Draining).await;
    fails(f.ledger.remove_zone(&zone("a")).await, ErrorKind::Conflict);
    assert_eq!(known(&f).await.len(), 2, "it has a placement");
    assert!(f.ledger.forget(&zone("a"), &[digest]).await.expect("forget").is_empty());
    f.ledger.begin_job(JobKind::Remove, Some(&zone("a")), bytes::Bytes::new()).await.expect("begin_job");
    f.ledger.begin_job(JobKind::Drain, Some(&zone("b")), bytes::Bytes::new()).await.expect("begin_job");
    f.other().await.remove_zone(&zone("a")).await.expect("remove_zone");
    f.ledger.remove_zone(&zone("a")).await.expect("the same again");
    let jobs: Vec<_> = f.ledger.jobs(10).await.expect("jobs").into_iter().map(|job| job.state).collect();
    assert_eq!(jobs, [JobState::Open, JobState::Done], "its own jobs are done");
    assert_eq!(known(&f).await, [record("b", "b")]);
    fails(f.ledger.remove_zone(&zone("nowhere")).await, ErrorKind::Conflict);
    fails(f.ledger.set_zone_state(&zone("a"), &[ZoneState::Removed], ZoneState::Active).await, ErrorKind::NotFound);
}

pub(super) async fn nothing_is_placed_in_a_removed_zone(f: Fixture) {
    register(&f, &["a", "b"]).await;
    set(&f, "a", ZoneState::Draining).await;
    f.ledger.remove_zone(&zone("a")).await.expect("remove_zone");
    let (both, alone) = (blob("both"), blob("alone"));
    let generation = f.intend(&both, &["a", "b"]).await.target(&zone("a")).map_or(1, |target| target.generation);
    assert_eq!(f.rows(&both).await.len(), 1);
    fails(f.try_commit(&both, "a", generation).await, ErrorKind::Conflict);
    f.intend(&alone, &["a"]).await;
    f.ledger.stray(&alone, &zone("a")).await.expect("stray");
    assert!(f.rows(&alone).await.is_empty());
    f.assert_idle("a", "there is nothing to do").await;
    fails(f.ledger.begin_job(JobKind::Drain, Some(&zone("a")), bytes::Bytes::new()).await, ErrorKind::NotFound);
    // Its id is burnt, its name is free.
    fails(f.ledger.register_zone(&record("a", "a")).await, ErrorKind::Conflict);
    fails(f.ledger.register_zone(&record("a", "other")).await, ErrorKind::Conflict);
    f.ledger.register_zone(&record("new", "a")).await.expect("the name is free");
    assert_eq!(known(&f).await, [record("new", "a"), record("b", "b")]);
}
