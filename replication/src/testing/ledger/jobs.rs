//! Jobs.

use bytes::Bytes;
use registry_core::{Error, ErrorKind};

use super::Fixture;
use super::kit::{LEASE, MINUTE, SECOND, fails, zone, zones};
use crate::ledger::{Job, JobKind, JobState};

async fn take(f: &Fixture, of: &[&str]) -> Option<Job> {
    f.ledger.take_job(&zones(of), LEASE).await.expect("take_job")
}

async fn begin(f: &Fixture, of: &str) -> Job {
    f.ledger.begin_job(JobKind::Drain, Some(&zone(of)), Bytes::new()).await.expect("begin_job")
}

async fn all(f: &Fixture) -> Vec<Job> {
    f.ledger.jobs(1000).await.expect("jobs")
}

pub(super) async fn a_job_is_begun_once(f: Fixture) {
    let job = begin(&f, "a").await;
    assert_eq!((job.kind, job.zone.clone(), job.state, job.lease_id.clone()), (JobKind::Drain, Some(zone("a")), JobState::Open, None));
    assert_eq!((job.done, job.total, job.begun_at), (0, None, f.now()));
    assert_eq!(job.marker, Bytes::new());
    f.pass(MINUTE);
    let again = f.other().await.begin_job(JobKind::Drain, Some(&zone("a")), Bytes::new()).await.expect("begin_job");
    assert_eq!(again, job, "it has not ended");
    assert_ne!(begin(&f, "b").await.id, job.id);
    let other = f.ledger.begin_job(JobKind::Remove, Some(&zone("a")), Bytes::new()).await.expect("begin_job");
    let nowhere = f.ledger.begin_job(JobKind::Drain, None, Bytes::from_static(b"here")).await.expect("begin_job");
    assert_eq!(nowhere.marker, &b"here"[..]);
    let again = f.ledger.begin_job(JobKind::Drain, None, Bytes::from_static(b"there")).await.expect("begin_job");
    assert_eq!(again, nowhere, "it stays where it is");
    assert_eq!(all(&f).await.len(), 4);
    assert_eq!(all(&f).await[..2], [nowhere, other], "newest first");
    assert_eq!(f.ledger.jobs(1).await.expect("jobs").len(), 1);
}

pub(super) async fn a_job_is_one_processs_at_a_time(f: Fixture) {
    assert!(take(&f, &["a"]).await.is_none());
    let job = begin(&f, "a").await;
    assert!(take(&f, &["b"]).await.is_none(), "whoever has no such zone cannot do it");
    let taken = take(&f, &["b", "a"]).await.expect("a job");
    assert_eq!(taken.id, job.id);
    assert!(take(&f, &["a"]).await.is_none());
    let other = f.other().await;
    assert!(other.take_job(&zones(&["a"]), LEASE).await.expect("take_job").is_none());
    assert!(other.jobs(1).await.expect("jobs")[0].lease_id.is_some(), "somebody is at it");
    // As long as its holder says so.
    f.pass(LEASE - SECOND);
    f.ledger.save_job(&taken, LEASE).await.expect("save_job");
    f.pass(LEASE - SECOND);
    assert!(take(&f, &["a"]).await.is_none());
    f.pass(SECOND * 2);
    assert!(all(&f).await[0].lease_id.is_none(), "nobody is at it");
    let next = take(&f, &["a"]).await.expect("a job");
    assert_eq!(next.id, job.id);
    fails(f.ledger.save_job(&taken, LEASE).await, ErrorKind::LeaseLost);
    fails(f.ledger.end_job(&taken).await, ErrorKind::LeaseLost);
    f.ledger.save_job(&next, LEASE).await.expect("save_job");
}

pub(super) async fn a_jobs_successor_goes_on_where_it_stood(f: Fixture) {
    begin(&f, "a").await;
    let mut job = take(&f, &["a"]).await.expect("a job");
    job.done = 3;
    job.total = Some(7);
    job.note = "waits for the moon".to_owned();
    job.count("missing", 12);
    job.count("missing", 1);
    job.count("never", 0);
    job.marker = Bytes::from_static(b"\0marker\xff");
    f.ledger.save_job(&job, LEASE).await.expect("save_job");
    let at = f.now();
    f.pass(LEASE + SECOND);
    let next = take(&f, &["a"]).await.expect("a job");
    let same = |job: &Job| (job.done, job.total, job.note.clone(), job.counts.clone(), job.marker.clone(), job.state);
    assert_eq!(same(&next), same(&job));
    assert_eq!(next.updated_at, at);
    assert_eq!(next.counts, [("missing".to_owned(), 13)].into());
    assert_ne!(next.lease_id, job.lease_id);
    // Given back, it is anybody's at once.
    let mut back = next;
    back.done = 4;
    f.ledger.end_job(&back).await.expect("end_job");
    let last = f.other().await.take_job(&zones(&["a"]), LEASE).await.expect("take_job").expect("a job");
    assert_eq!(last.done, 4);
}

pub(super) async fn a_job_that_has_ended_is_nobodys(f: Fixture) {
    let first = begin(&f, "a").await;
    let mut job = take(&f, &["a"]).await.expect("a job");
    job.state = JobState::Failed;
    job.error = Some("no more room".to_owned());
    job.done = 9;
    f.ledger.end_job(&job).await.expect("end_job");
    let ended = all(&f).await.remove(0);
    assert_eq!((ended.state, ended.error.as_deref(), ended.done, ended.lease_id), (JobState::Failed, Some("no more room"), 9, None));
    assert!(take(&f, &["a"]).await.is_none());
    let lost: [Error; 2] =
        [fails(f.ledger.save_job(&job, LEASE).await, ErrorKind::LeaseLost), fails(f.ledger.end_job(&job).await, ErrorKind::LeaseLost)];
    drop(lost);
    assert!(!f.ledger.cancel_job(JobKind::Drain, Some(&zone("a"))).await.expect("cancel_job"));
    let next = begin(&f, "a").await;
    assert_ne!(next.id, first.id, "another one");
    assert_eq!(all(&f).await.len(), 2);
}

pub(super) async fn a_job_is_called_off_whoever_has_it(f: Fixture) {
    begin(&f, "a").await;
    begin(&f, "b").await;
    let job = take(&f, &["a"]).await.expect("a job");
    assert!(f.other().await.cancel_job(JobKind::Drain, Some(&zone("a"))).await.expect("cancel_job"));
    assert!(!f.ledger.cancel_job(JobKind::Drain, Some(&zone("a"))).await.expect("cancel_job"));
    assert!(!f.ledger.cancel_job(JobKind::Remove, Some(&zone("b"))).await.expect("cancel_job"));
    fails(f.ledger.save_job(&job, LEASE).await, ErrorKind::LeaseLost);
    let states: Vec<_> = all(&f).await.into_iter().map(|job| (job.zone, job.state)).collect();
    assert_eq!(states, [(Some(zone("b")), JobState::Open), (Some(zone("a")), JobState::Cancelled)]);
}

pub(super) async fn the_last_hundred_jobs_are_remembered(f: Fixture) {
    let open = begin(&f, "open").await;
    for _ in 0..130 {
        begin(&f, "a").await;
        assert!(f.ledger.cancel_job(JobKind::Drain, Some(&zone("a"))).await.expect("cancel_job"));
    }
    let jobs = all(&f).await;
    assert!((101..131).contains(&jobs.len()), "{} jobs", jobs.len());
    assert!(jobs.iter().any(|job| job.id == open.id), "one that has not ended is never forgotten");
}

pub(super) async fn jobs_that_have_not_ended_come_first(f: Fixture) {
    let old = begin(&f, "old").await;
    for zone_id in ["a", "b"] {
        begin(&f, zone_id).await;
        assert!(f.ledger.cancel_job(JobKind::Drain, Some(&zone(zone_id))).await.expect("cancel_job"));
    }
    let new = begin(&f, "new").await;
    let order: Vec<_> = all(&f).await.into_iter().map(|job| job.zone.expect("a zone").to_string()).collect();
    assert_eq!(order, ["new", "old", "b", "a"]);
    let first: Vec<_> = f.ledger.jobs(2).await.expect("jobs").into_iter().map(|job| job.id).collect();
    assert_eq!(first, [new.id, old.id]);
}

pub(super) async fn whatever_is_said_of_a_job_can_be_noted(f: Fixture) {
    begin(&f, "a").await;
    let mut job = take(&f, &["a"]).await.expect("a job");
    job.note = format!("a zero \0 and {}", "ä".repeat(100_000));
    f.ledger.save_job(&job, LEASE).await.expect("save_job");
    job.error = Some("\0".repeat(10_000));
    job.state = JobState::Failed;
    f.ledger.end_job(&job).await.expect("end_job");
    let ended = all(&f).await.remove(0);
    assert!(ended.note.starts_with("a zero ") && ended.note.len() < 10_000 && ended.error.is_some_and(|error| error.len() < 40_000));
}
