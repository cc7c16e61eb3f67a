//! A ledger in memory with one thing wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::testing::ManualClock;
use registry_core::{Clock as _, Digest, ErrorKind, Result, Timestamp};
use replication::ledger::{
    Backlog, Claim, Commit, Desired, Intent, Job, JobKind, JobState, ListPlacements, MemoryLedger, Observed, Outcome, Placement,
    PlacementLedger, Retarget, Sighting, Task, TaskKind, Totals, ZoneId, ZoneRecord, ZoneState,
};
use replication::testing::ledger::Fixture;

/// What is wrong with a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flaw {
    /// The decorator itself, which has to be as good as what it decorates.
    Nothing,
    ZonesAreNeverInConflict,
    OtherHandleSeesNothing,
    IntendChangesGeneration,
    IntendHidesFence,
    IntendForgetsSize,
    CommitIgnoresGeneration,
    CommitMakesItUp,
    CondemnIgnoresTouch,
    CondemnIgnoresTrash,
    CondemnMakesNothing,
    RetainRevives,
    RetainIsNoTouch,
    RetargetIgnoresTouch,
    RetargetToNowhereDeletes,
    RetargetTouches,
    GoodRaisesTrust,
    FoundIsTrusted,
    ObserveIgnoresGeneration,
    ClaimIgnoresSources,
    ClaimIgnoresLimit,
    ClaimLooksAgainAtOnce,
    ClaimSharesTasks,
    ClaimForgetsProgress,
    ClaimForgetsEpoch,
    DeletesGoUnverified,
    CopiersAreNoFence,
    RenewDoesNothing,
    RenewMindsTheGenerationOfDeletes,
    CompleteIgnoresGeneration,
    CompleteIgnoresLease,
    MovedDeletesAreNotHeard,
    WrongIsMissing,
    SparedIsDeleted,
    SparedIsTrusted,
    StrayIsForgotten,
    StrayLosesTrust,
    DeferIsForgotten,
    GiveBackIsAFailure,
    DeferEndsFence,
    ReplayIgnoresZone,
    BacklogTakesAllForCopies,
    BacklogLagsInTheTrash,
    BacklogPutsNothingOff,
    TotalsCountUnwanted,
    ListInOrderOfDigests,
    PagesBeginWithAfter,
    ListIgnoresFailing,
    PlacementsAsAsked,
    TidyIgnoresKeep,
    TidyIgnoresLimit,
    GenerationsBeginAnew,
    BytesGoBeforeTheClaim,
    StatesChangeFromAnything,
    ActiveZonesGoOnWaiting,
    RegisteringChangesTheState,
    ForgetTakesTheLast,
    ForgetIgnoresTheState,
    RemoveForgetsPlacements,
    RemovedZonesComeBack,
    JobsAreBegunTwice,
    JobsAreForAnyZone,
    JobsAreShared,
    SavedJobsForgetTheirMarker,
    EndedJobsGoOn,
    CancelLeavesTheHolder,
}

impl Flaw {
    /// How many there are, without `Nothing`.
    pub(super) const COUNT: usize = Self::CancelLeavesTheHolder as usize;
}

/// A ledger in memory with a flaw. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    inner: MemoryLedger,
    clock: Arc<ManualClock>,
    flaw: Flaw,
    notes: Arc<Mutex<Notes>>,
}

/// What a mutant has to remember to do wrong.
#[derive(Debug, Default)]
struct Notes {
    tasks: Vec<Task>,
    /// How far the generations that are told lie below those that are.
    told: BTreeMap<Digest, u64>,
}

const ALL: [&str; 3] = ["a", "b", "c"];

const HOUR: Duration = Duration::from_secs(3600);
const ANY: [ZoneState; 3] = [ZoneState::Active, ZoneState::Cordoned, ZoneState::Draining];

fn everywhere() -> Vec<ZoneId> {
    ALL.map(ZoneId::new).into()
}

impl Mutant {
    pub(super) fn fixture(flaw: Flaw) -> Fixture {
        let clock = Arc::new(ManualClock::default());
        let inner = MemoryLedger::with_clock(Arc::clone(&clock) as Arc<_>);
        let mutant = Self { inner, clock: Arc::clone(&clock), flaw, notes: Arc::default() };
        let other = match flaw {
            Flaw::OtherHandleSeesNothing => Self { inner: MemoryLedger::with_clock(Arc::clone(&clock) as Arc<_>), ..mutant.clone() },
            _ => mutant.clone(),
        };
        Fixture::new(Arc::new(mutant), clock).with_reopen(move || {
            let other = other.clone();
            async move { Arc::new(other) as Arc<_> }
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn row(&self, digest: &Digest, zone: &ZoneId) -> Option<Placement> {
        self.inner.placements(&[*digest]).await.ok()?.into_iter().find(|row| row.zone == *zone)
    }

    /// Makes a copy good, whatever it was.
    async fn trust(&self, digest: &Digest, zone: &ZoneId) -> Result<()> {
        let Some(row) = self.row(digest, zone).await else { return Ok(()) };
        let commit = Commit { digest: *digest, size: row.size.unwrap_or(7), zone: zone.clone(), generation: row.generation };
        self.inner.committed(&commit).await
    }
}

#[async_trait]
impl PlacementLedger for Mutant {
    async fn register_zone(&self, zone: &ZoneRecord) -> Result<()> {
        match self.inner.register_zone(zone).await {
            Err(_) if self.flaw == Flaw::ZonesAreNeverInConflict => Ok(()),
            Err(_) if self.flaw == Flaw::RemovedZonesComeBack && self.inner.zones().await?.iter().all(|known| known.name != zone.name) => {
                Ok(())
            }
            Ok(()) if self.flaw == Flaw::RegisteringChangesTheState => {
                self.inner.set_zone_state(&zone.id, &ANY, zone.state).await.map(drop)
            }
            outcome => outcome,
        }
    }

    async fn zones(&self) -> Result<Vec<ZoneRecord>> {
        self.inner.zones().await
    }

    async fn set_zone_state(&self, zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> Result<ZoneState> {
        let from = if self.flaw == Flaw::StatesChangeFromAnything { &ANY[..] } else { from };
        let was = self.inner.set_zone_state(zone, from, to).await?;
        if self.flaw == Flaw::ActiveZonesGoOnWaiting {
            let claim = Claim { zone: zone.clone(), sources: Vec::new(), limit: 100, lease: HOUR, look_again: HOUR };
            self.inner.claim(&claim).await?;
        }
        Ok(was)
    }

    async fn forget(&self, zone: &ZoneId, digests: &[Digest]) -> Result<Vec<Digest>> {
        match self.flaw {
            Flaw::ForgetIgnoresTheState => {
                let was = self.inner.set_zone_state(zone, &ANY, ZoneState::Draining).await?;
                let stay = self.inner.forget(zone, digests).await;
                self.inner.set_zone_state(zone, &ANY, was).await?;
                stay
            }
            // What is only there is not told of, and so taken for forgotten.
            Flaw::ForgetTakesTheLast => self.inner.forget(zone, digests).await.map(|_| Vec::new()),
            _ => self.inner.forget(zone, digests).await,
        }
    }

    async fn remove_zone(&self, zone: &ZoneId) -> Result<()> {
        if self.flaw == Flaw::RemoveForgetsPlacements {
            let all = self.inner.list(&ListPlacements::new(1000).with_zone(Some(zone.clone()))).await?;
            let digests: Vec<_> = all.into_iter().map(|row| row.digest).collect();
            drop(self.inner.forget(zone, &digests).await);
        }
        self.inner.remove_zone(zone).await
    }

    async fn intend(&self, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent> {
        if self.flaw == Flaw::IntendChangesGeneration {
            self.inner.condemn(digest, None, Duration::ZERO, &[]).await?;
        }
        let size = size.filter(|_| self.flaw != Flaw::IntendForgetsSize);
        let mut intent = self.inner.intend(digest, size, targets).await?;
        for target in &mut intent.targets {
            match self.flaw {
                Flaw::IntendHidesFence => target.fenced_for = None,
                // As if the first row of a blob had always the generation of its time.
                Flaw::GenerationsBeginAnew => {
                    let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(0);
                    self.notes().told.insert(*digest, target.generation.saturating_sub(now));
                    target.generation = now;
                }
                _ => {}
            }
        }
        Ok(intent)
    }

    async fn committed(&self, commit: &Commit) -> Result<()> {
        let mut commit = commit.clone();
        commit.generation += self.notes().told.get(&commit.digest).copied().unwrap_or(0);
        match self.inner.committed(&commit).await {
            Err(_) if self.flaw == Flaw::CommitIgnoresGeneration => self.trust(&commit.digest, &commit.zone).await,
            Err(_) if self.flaw == Flaw::CommitMakesItUp => {
                self.inner.intend(&commit.digest, None, std::slice::from_ref(&commit.zone)).await?;
                self.trust(&commit.digest, &commit.zone).await
            }
            outcome => outcome,
        }
    }

    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> Result<()> {
        let (mut untouched_since, mut trash_delay, mut zones) = (untouched_since, trash_delay, zones);
        match self.flaw {
            Flaw::CondemnIgnoresTouch => untouched_since = None,
            Flaw::CondemnIgnoresTrash => trash_delay = Duration::ZERO,
            Flaw::CondemnMakesNothing => zones = &[],
            _ => {}
        }
        self.inner.condemn(digest, untouched_since, trash_delay, zones).await?;
        if self.flaw == Flaw::CopiersAreNoFence {
            let tasks: Vec<_> = self.notes().tasks.iter().filter(|task| task.digest == *digest).cloned().collect();
            for task in tasks {
                drop(self.inner.complete(&task, &Outcome::Copied(7)).await);
            }
        }
        Ok(())
    }

    async fn retain(&self, digest: &Digest, targets: &[ZoneId]) -> Result<bool> {
        match self.flaw {
            Flaw::RetainRevives => self.inner.intend(digest, None, targets).await.map(|_| true),
            Flaw::RetainIsNoTouch => {
                let mut all = targets.to_vec();
                all.extend(self.inner.placements(&[*digest]).await?.into_iter().map(|row| row.zone));
                let retarget = Retarget { targets: all, untouched_for: Duration::MAX, trash_delay: Duration::ZERO };
                self.inner.retarget(digest, &retarget).await
            }
            _ => self.inner.retain(digest, targets).await,
        }
    }

    async fn retarget(&self, digest: &Digest, retarget: &Retarget) -> Result<bool> {
        let mut retarget = retarget.clone();
        match self.flaw {
            Flaw::RetargetIgnoresTouch => retarget.untouched_for = Duration::ZERO,
            Flaw::RetargetToNowhereDeletes if retarget.targets.is_empty() => {
                return self.inner.condemn(digest, None, retarget.trash_delay, &[]).await.map(|()| true);
            }
            Flaw::RetargetTouches => {
                let outcome = self.inner.retarget(digest, &retarget).await;
                self.inner.retain(digest, &[]).await?;
                return outcome;
            }
            _ => {}
        }
        self.inner.retarget(digest, &retarget).await
    }

    async fn placements(&self, digests: &[Digest]) -> Result<Vec<Placement>> {
        let mut rows = self.inner.placements(digests).await?;
        match self.flaw {
            Flaw::PlacementsAsAsked => {
                rows.clear();
                for digest in digests {
                    rows.extend(self.inner.placements(&[*digest]).await?);
                }
            }
            // Somebody's bytes are said to be there until they are gone.
            Flaw::BytesGoBeforeTheClaim => {
                for row in rows.iter_mut().filter(|row| row.observed == Observed::Deleting) {
                    row.observed = Observed::Present;
                }
            }
            _ => {}
        }
        Ok(rows)
    }

    async fn observe(&self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> Result<()> {
        match (self.flaw, sighting) {
            (Flaw::GoodRaisesTrust, Sighting::Good) | (Flaw::FoundIsTrusted, Sighting::Found(_)) => self.trust(digest, zone).await,
            (Flaw::ObserveIgnoresGeneration, _) => {
                let generation = self.row(digest, zone).await.map_or(0, |row| row.generation);
                self.inner.observe(digest, zone, generation, sighting).await
            }
            _ => self.inner.observe(digest, zone, generation, sighting).await,
        }
    }

    async fn stray(&self, digest: &Digest, zone: &ZoneId) -> Result<()> {
        match self.flaw {
            Flaw::StrayIsForgotten => Ok(()),
            Flaw::StrayLosesTrust => {
                let generation = self.row(digest, zone).await.map_or(0, |row| row.generation);
                self.inner.observe(digest, zone, generation, &Sighting::Suspect("stray".to_owned())).await
            }
            _ => self.inner.stray(digest, zone).await,
        }
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Task>> {
        let mut claim = claim.clone();
        match self.flaw {
            Flaw::ClaimIgnoresSources => claim.sources = everywhere(),
            Flaw::ClaimIgnoresLimit => claim.limit = 1000,
            Flaw::ClaimLooksAgainAtOnce => claim.look_again = Duration::ZERO,
            _ => {}
        }
        let mut tasks = self.inner.claim(&claim).await?;
        match self.flaw {
            Flaw::ClaimSharesTasks => {
                let known: Vec<_> = self.notes().tasks.iter().filter(|task| task.zone == claim.zone).cloned().collect();
                let room = (claim.limit as usize).saturating_sub(tasks.len());
                self.notes().tasks.extend(tasks.iter().cloned());
                tasks.extend(known.into_iter().take(room.min(1)));
                return Ok(tasks);
            }
            Flaw::DeletesGoUnverified => {
                let all = self.inner.list(&ListPlacements::new(1000).with_zone(Some(claim.zone.clone()))).await?;
                for row in all {
                    let is_trash_over = row.since.is_some_and(|since| self.clock.now() > since + Duration::from_secs(2 * 3600));
                    if row.desired == Desired::Absent && row.observed == Observed::Present && is_trash_over {
                        tasks.push(Task::new(row.digest, row.zone, TaskKind::Delete, row.generation, "made up"));
                    }
                }
            }
            _ => {}
        }
        for task in &mut tasks {
            match self.flaw {
                Flaw::ClaimForgetsProgress => task.progress = None,
                Flaw::ClaimForgetsEpoch => task.epoch = 1,
                _ => {}
            }
        }
        self.notes().tasks.extend(tasks.iter().cloned());
        Ok(tasks)
    }

    async fn renew(&self, task: &Task, lease: Duration, progress: Option<Bytes>) -> Result<()> {
        match self.flaw {
            Flaw::RenewDoesNothing => Ok(()),
            Flaw::RenewMindsTheGenerationOfDeletes
                if self.row(&task.digest, &task.zone).await.is_some_and(|row| row.generation != task.generation) =>
            {
                Err(registry_core::Error::new(ErrorKind::LeaseLost, "the generation moved on"))
            }
            _ => self.inner.renew(task, lease, progress).await,
        }
    }

    async fn complete(&self, task: &Task, outcome: &Outcome) -> Result<Duration> {
        let mut task = task.clone();
        match self.flaw {
            Flaw::CompleteIgnoresGeneration => {
                task.generation = self.row(&task.digest, &task.zone).await.map_or(0, |row| row.generation);
            }
            Flaw::MovedDeletesAreNotHeard
                if self.row(&task.digest, &task.zone).await.is_some_and(|row| row.generation != task.generation) =>
            {
                return Ok(Duration::ZERO);
            }
            Flaw::SparedIsDeleted if matches!(outcome, Outcome::Spared { .. }) => {
                return self.inner.complete(&task, &Outcome::Deleted).await;
            }
            Flaw::WrongIsMissing if matches!(outcome, Outcome::Wrong { .. }) => {
                return self.inner.complete(&task, &Outcome::Missing).await;
            }
            _ => {}
        }
        match self.inner.complete(&task, outcome).await {
            Err(_) if self.flaw == Flaw::CompleteIgnoresLease => {
                self.trust(&task.digest, &task.zone).await?;
                Ok(Duration::ZERO)
            }
            Ok(waited) if self.flaw == Flaw::SparedIsTrusted && matches!(outcome, Outcome::Spared { .. }) => {
                self.trust(&task.digest, &task.zone).await?;
                Ok(waited)
            }
            outcome => outcome,
        }
    }

    async fn defer(&self, task: &Task, delay: Duration, error: &str) -> Result<()> {
        match self.flaw {
            Flaw::DeferIsForgotten => Ok(()),
            Flaw::DeferEndsFence if task.kind == TaskKind::Delete => self.inner.complete(task, &Outcome::Deleted).await.map(drop),
            _ => self.inner.defer(task, delay, error).await,
        }
    }

    async fn give_back(&self, task: &Task) -> Result<()> {
        if self.flaw == Flaw::GiveBackIsAFailure {
            return self.inner.defer(task, Duration::ZERO, "stopped").await;
        }
        self.inner.give_back(task).await
    }

    async fn replay(&self, zone: Option<&ZoneId>) -> Result<u64> {
        self.inner.replay(zone.filter(|_| self.flaw != Flaw::ReplayIgnoresZone)).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        let mut backlog = self.inner.backlog().await?;
        for zone in &mut backlog {
            match self.flaw {
                Flaw::BacklogPutsNothingOff => (zone.put_off, zone.put_off_bytes) = (0, 0),
                Flaw::BacklogTakesAllForCopies => zone.copies += std::mem::take(&mut zone.sourceless),
                Flaw::BacklogLagsInTheTrash => {
                    let rows = self.inner.list(&ListPlacements::new(1000).with_zone(Some(zone.zone.clone()))).await?;
                    zone.oldest = rows.into_iter().filter_map(|row| row.since).min();
                }
                _ => {}
            }
        }
        Ok(backlog)
    }

    async fn totals(&self) -> Result<Vec<Totals>> {
        if self.flaw != Flaw::TotalsCountUnwanted {
            return self.inner.totals().await;
        }
        let mut totals: BTreeMap<ZoneId, Totals> = BTreeMap::new();
        for row in self.inner.list(&ListPlacements::new(1000)).await?.into_iter().filter(Placement::is_source) {
            let totals = totals.entry(row.zone.clone()).or_insert_with(|| Totals::new(row.zone, 0, 0));
            totals.blobs += 1;
            totals.bytes += row.size.unwrap_or(0);
        }
        Ok(totals.into_values().collect())
    }

    async fn list(&self, list: &ListPlacements) -> Result<Vec<Placement>> {
        let mut list = list.clone();
        match self.flaw {
            Flaw::ListIgnoresFailing => list.failing = false,
            Flaw::ListInOrderOfDigests => {
                let mut rows = self.inner.list(&list).await?;
                rows.sort_by_key(|row| (row.digest, row.zone.clone()));
                return Ok(rows);
            }
            Flaw::PagesBeginWithAfter => {
                if let Some((digest, zone)) = list.after.take() {
                    let limit = std::mem::replace(&mut list.limit, u32::MAX);
                    let all = self.inner.list(&list).await?;
                    let from = all.iter().position(|row| row.digest == digest && row.zone == zone).unwrap_or(0);
                    return Ok(all.into_iter().skip(from).take(limit as usize).collect());
                }
            }
            _ => {}
        }
        self.inner.list(&list).await
    }

    async fn tidy(&self, keep: Duration, limit: u32) -> Result<u32> {
        let keep = if self.flaw == Flaw::TidyIgnoresKeep { Duration::ZERO } else { keep };
        let limit = if self.flaw == Flaw::TidyIgnoresLimit { u32::MAX } else { limit };
        self.inner.tidy(keep, limit).await
    }

    async fn begin_job(&self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Result<Job> {
        if self.flaw == Flaw::JobsAreBegunTwice {
            self.inner.cancel_job(kind, zone).await?;
        }
        self.inner.begin_job(kind, zone, marker).await
    }

    async fn take_job(&self, zones: &[ZoneId], lease: Duration) -> Result<Option<Job>> {
        let all = everywhere();
        let zones = if self.flaw == Flaw::JobsAreForAnyZone { &all[..] } else { zones };
        let lease = if self.flaw == Flaw::JobsAreShared { Duration::ZERO } else { lease };
        self.inner.take_job(zones, lease).await
    }

    async fn save_job(&self, job: &Job, lease: Duration) -> Result<()> {
        let mut job = job.clone();
        if self.flaw == Flaw::SavedJobsForgetTheirMarker {
            job.marker = Bytes::new();
        }
        match self.inner.save_job(&job, lease).await {
            Err(_) if self.flaw == Flaw::CancelLeavesTheHolder => Ok(()),
            outcome => outcome,
        }
    }

    async fn end_job(&self, job: &Job) -> Result<()> {
        let mut job = job.clone();
        if self.flaw == Flaw::EndedJobsGoOn {
            job.state = JobState::Open;
        }
        self.inner.end_job(&job).await
    }

    async fn cancel_job(&self, kind: JobKind, zone: Option<&ZoneId>) -> Result<bool> {
        self.inner.cancel_job(kind, zone).await
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.inner.jobs(limit).await
    }
}
