//! Many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_core::testing::{ManualClock, Rng};
use registry_core::{Digest, ErrorKind, Result};

use super::Fixture;
use super::kit::{HOUR, SIZE, blob, claim, zone, zones};
use crate::ledger::{Claim, Commit, Observed, Outcome, PlacementLedger, TaskKind};

const CLAIMERS: usize = 4;
const WRITERS: u64 = 4;
const WORKERS: u64 = 3;
/// How many steps each takes.
const WRITES: u64 = 20;
const SHIFTS: u64 = 40;
const ZONES: [&str; 2] = ["a", "b"];
/// A step of the clock.
const TICK: Duration = Duration::from_millis(1);
/// A lease that no case is long enough to outlive.
const FOR_EVER: Duration = Duration::from_secs(3_600_000);

pub(super) async fn many_claimers_share_nothing(f: Fixture) {
    let digests: BTreeSet<_> = (0..60).map(|n| blob(&format!("layer {n}"))).collect();
    for digest in &digests {
        f.push(digest, &["a", "b"]).await;
    }
    let mut claimers = Vec::new();
    for _ in 0..CLAIMERS {
        let ledger = f.other().await;
        claimers.push(tokio::spawn(async move {
            let mut tasks = Vec::new();
            loop {
                let some = ledger.claim(&claim("b", &["a"], 3)).await.expect("claim");
                if some.is_empty() {
                    return tasks;
                }
                tasks.extend(some);
                assert!(tasks.len() <= 60, "more than there are");
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut tasks = Vec::new();
    for claimer in claimers {
        tasks.extend(claimer.await.expect("a task"));
    }
    // A ledger may let one claimer pass by what another is about to take, so that a second look is needed.
    tasks.extend(f.claim("b", &["a"]).await);
    assert_eq!(tasks.len(), digests.len(), "none twice");
    assert_eq!(tasks.iter().map(|task| task.digest).collect::<BTreeSet<_>>(), digests);
    assert!(tasks.iter().all(|task| task.epoch == 1));
    let mut workers = Vec::new();
    for task in tasks {
        let ledger = f.other().await;
        workers.push(tokio::spawn(async move { ledger.complete(&task, &Outcome::Copied(SIZE)).await }));
    }
    for worker in workers {
        worker.await.expect("a task").expect("each is its claimer's");
    }
    assert!(f.backlog("b").await.is_none());
}

pub(super) async fn one_of_many_intents_makes_the_placement(f: Fixture) {
    let digest = blob("layer");
    let mut writers = Vec::new();
    for n in 0..8 {
        let ledger = f.other().await;
        writers.push(tokio::spawn(async move {
            let targets = if n % 2 == 0 { zones(&["a", "b"]) } else { zones(&["b", "a"]) };
            let intent = ledger.intend(&digest, Some(SIZE), &targets).await.expect("intend");
            let generation = intent.target(&zone("a")).expect("a target").generation;
            ledger.committed(&Commit { digest, size: SIZE, zone: zone("a"), generation }).await.expect("committed");
            generation
        }));
    }
    let mut generations = BTreeSet::new();
    for writer in writers {
        generations.insert(writer.await.expect("a task"));
    }
    assert_eq!(generations.len(), 1, "all write the same copy: {generations:?}");
    assert_eq!(f.rows(&digest).await.len(), 2);
    assert_eq!(f.claim("b", &["a"]).await.len(), 1);
}

/// What the zones hold, as far as it matters here: for each copy, whether its bytes are there and how often they were deleted.
#[derive(Clone, Default)]
struct Stored(Arc<Mutex<BTreeMap<(Digest, &'static str), (bool, u64)>>>);

impl Stored {
    fn write(&self, digest: Digest, zone: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((digest, zone)).or_default().0 = true;
    }

    fn delete(&self, digest: Digest, zone: &'static str) {
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = copies.entry((digest, zone)).or_default();
        *copy = (false, copy.1 + 1);
    }

    /// How often the bytes were deleted, if they are not there.
    fn missing(&self, digest: Digest, zone: &'static str) -> Option<u64> {
        let (there, deleted) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(digest, zone)).copied().unwrap_or_default();
        (!there).then_some(deleted)
    }

    /// What is `Present` is there. Without a deletion in between, what is missing before and
    /// after was missing all the time that the ledger was asked.
    async fn check(&self, ledger: &dyn PlacementLedger, digest: Digest) {
        let before = ZONES.map(|zone| self.missing(digest, zone));
        let rows = ledger.placements(&[digest]).await.expect("placements");
        for (zone, before) in ZONES.into_iter().zip(before) {
            let row = rows.iter().find(|row| row.zone.as_str() == zone);
            if row.is_some_and(|row| row.observed == Observed::Present) && before.is_some() && before == self.missing(digest, zone) {
                panic!("{digest} is said to be in {zone}, and is not: {rows:?}");
            }
        }
    }
}

/// One of many processes.
struct Process {
    ledger: Arc<dyn PlacementLedger>,
    clock: Arc<ManualClock>,
    stored: Stored,
    rng: Rng,
}

/// The answer, or nothing if somebody else was faster.
fn unless_overtaken<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::LeaseLost) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Process {
    fn zone(&mut self) -> &'static str {
        ZONES[self.rng.below(2) as usize]
    }

    /// Lets others go first, for a while or not at all.
    async fn dawdle(&mut self) {
        for _ in 0..self.rng.below(6) {
            tokio::task::yield_now().await;
        }
    }

    async fn push(&mut self, digest: Digest) {
        let intent = self.ledger.intend(&digest, Some(SIZE), &zones(&ZONES)).await.expect("intend");
        let first = self.zone();
        let mut order = [first, ZONES[usize::from(first == ZONES[0])]].into_iter();
        let free = order
            .find_map(|at| intent.target(&zone(at)).filter(|target| target.fenced_for.is_none()).map(|target| (at, target.generation)));
        let Some((at, generation)) = free else { return };
        self.dawdle().await;
        self.stored.write(digest, at);
        // Some writers die here.
        if self.rng.chance(0.1) {
            return;
        }
        self.dawdle().await;
        unless_overtaken(self.ledger.committed(&Commit { digest, size: SIZE, zone: zone(at), generation }).await);
    }

    async fn work(&mut self) {
        let at = self.zone();
        let claim = Claim { zone: zone(at), sources: zones(&ZONES), limit: 2, lease: FOR_EVER, look_again: TICK * 3 };
        for task in self.ledger.claim(&claim).await.expect("claim") {
            let outcome = match task.kind {
                TaskKind::Copy => {
                    self.dawdle().await;
                    self.stored.write(task.digest, at);
                    Outcome::Copied(SIZE)
                }
                TaskKind::Verify if self.stored.missing(task.digest, at).is_some() => Outcome::Missing,
                TaskKind::Verify => Outcome::Verified(SIZE),
                TaskKind::Delete => {
                    self.dawdle().await;
                    self.stored.delete(task.digest, at);
                    Outcome::Deleted
                }
            };
            self.dawdle().await;
            match task.kind {
                TaskKind::Delete => drop(self.ledger.complete(&task, &outcome).await.expect("nobody else may claim it meanwhile")),
                _ => drop(unless_overtaken(self.ledger.complete(&task, &outcome).await)),
            }
        }
    }

    async fn write_something(&mut self, digest: Digest) {
        self.clock.advance(TICK);
        match self.rng.below(10) {
            0..=5 => self.push(digest).await,
            6 => {
                let wanted = crate::ledger::Retarget { targets: zones(&[self.zone()]), untouched_for: TICK * 8, trash_delay: TICK * 2 };
                self.ledger.retarget(&digest, &wanted).await.expect("retarget");
            }
            7 => drop(self.ledger.retain(&digest, &zones(&ZONES)).await.expect("retain")),
            _ => {
                let touched = self.ledger.placements(&[digest]).await.expect("placements").first().map(|row| row.touched_at);
                self.dawdle().await;
                unless_overtaken(self.ledger.condemn(&digest, touched, TICK * 2, &[]).await);
            }
        }
    }

    async fn run(mut self, digests: &[Digest], is_worker: bool) {
        for _ in 0..if is_worker { SHIFTS } else { WRITES } {
            let digest = digests[self.rng.below(digests.len() as u64) as usize];
            if is_worker {
                self.clock.advance(TICK);
                self.work().await;
            } else {
                self.write_something(digest).await;
            }
            self.stored.check(&*self.ledger, digest).await;
            tokio::task::yield_now().await;
        }
    }
}

pub(super) async fn writers_copiers_and_deleters_at_once_lose_nothing(f: Fixture) {
    let stored = Stored::default();
    let digests: Vec<_> = (0..3).map(|n| blob(&format!("layer {n}"))).collect();
    let mut processes = Vec::new();
    for n in 0..WRITERS + WORKERS {
        let process = Process { ledger: f.other().await, clock: Arc::clone(&f.clock), stored: stored.clone(), rng: Rng::new(n) };
        let digests = digests.clone();
        processes.push(tokio::spawn(async move { process.run(&digests, n >= WRITERS).await }));
    }
    for process in processes {
        process.await.expect("a task");
    }
    // Now that nobody changes anything, workers come to an end, once copiers that were overtaken by a writer are taken for dead.
    f.pass(FOR_EVER * 2);
    let mut last = Process { ledger: Arc::clone(&f.ledger), clock: Arc::clone(&f.clock), stored: stored.clone(), rng: Rng::new(99) };
    for _ in 0..100 {
        last.clock.advance(HOUR);
        last.work().await;
    }
    for digest in &digests {
        stored.check(&*f.ledger, *digest).await;
        let rows = f.rows(digest).await;
        let has_source = rows.iter().any(|row| row.is_source());
        for row in &rows {
            let at = if row.zone.as_str() == "a" { "a" } else { "b" };
            let is_there = stored.missing(*digest, at).is_none();
            match row.observed {
                Observed::Present => assert!(is_there, "{row:?}"),
                Observed::Absent => assert!(!is_there, "{row:?}"),
                _ => {}
            }
            // What waits for a writer who died is all that may be left.
            assert!(row.is_converged() || !has_source, "{row:?}");
        }
    }
}
