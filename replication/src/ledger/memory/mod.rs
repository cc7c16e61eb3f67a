//! [`MemoryLedger`].

mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::{Clock, Digest, Result, SystemClock, Timestamp};

use self::state::State;
use super::{
    Backlog, Claim, Commit, Intent, Job, JobKind, ListPlacements, Outcome, Placement, PlacementLedger, Retarget, Sighting, Task, Totals,
    ZoneId, ZoneRecord, ZoneState,
};

/// A [`PlacementLedger`] in memory: gone with the process, and durable in no other sense.
///
/// A clone is another handle on the same rows, as another process would have on one database.
#[derive(Clone)]
pub struct MemoryLedger {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

impl MemoryLedger {
    /// An empty ledger that takes the time from `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// The rows, and the time, which is read under the lock, so that what is done later is not earlier.
    ///
    /// A poisoned lock is taken all the same: no command panics between two of its changes.
    fn begin(&self) -> (MutexGuard<'_, State>, Timestamp) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (state, now)
    }
}

impl Default for MemoryLedger {
    /// An empty ledger that goes by the machine's clock.
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLedger").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl PlacementLedger for MemoryLedger {
    async fn register_zone(&self, zone: &ZoneRecord) -> Result<()> {
        self.begin().0.register_zone(zone)
    }

    async fn zones(&self) -> Result<Vec<ZoneRecord>> {
        Ok(self.begin().0.zones())
    }

    async fn set_zone_state(&self, zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> Result<ZoneState> {
        let (mut state, now) = self.begin();
        state.set_zone_state(zone, from, to, now)
    }

    async fn forget(&self, zone: &ZoneId, digests: &[Digest]) -> Result<Vec<Digest>> {
        let (mut state, now) = self.begin();
        state.forget(zone, digests, now)
    }

    async fn remove_zone(&self, zone: &ZoneId) -> Result<()> {
        let (mut state, now) = self.begin();
        state.remove_zone(zone, now)
    }

    async fn intend(&self, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent> {
        let (mut state, now) = self.begin();
        Ok(state.with(digest, |blob| blob.intend(size, targets, now)))
    }

    async fn committed(&self, commit: &Commit) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(&commit.digest, |blob| blob.committed(commit, now))
    }

    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(digest, |blob| blob.condemn(untouched_since, trash_delay, zones, now))
    }

    async fn retain(&self, digest: &Digest, targets: &[ZoneId]) -> Result<bool> {
        let (mut state, now) = self.begin();
        Ok(state.with(digest, |blob| blob.retain(targets, now)))
    }

    async fn retarget(&self, digest: &Digest, retarget: &Retarget) -> Result<bool> {
        let (mut state, now) = self.begin();
        state.with(digest, |blob| blob.retarget(retarget, now))
    }

    async fn placements(&self, digests: &[Digest]) -> Result<Vec<Placement>> {
        let (state, now) = self.begin();
        Ok(state.placements(digests, now))
    }

    async fn observe(&self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(digest, |blob| blob.observe(zone, generation, sighting, now));
        Ok(())
    }

    async fn stray(&self, digest: &Digest, zone: &ZoneId) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(digest, |blob| blob.stray(zone, now));
        Ok(())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Task>> {
        let (mut state, now) = self.begin();
        Ok(state.claim(claim, now))
    }

    async fn renew(&self, task: &Task, lease: Duration, progress: Option<Bytes>) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(&task.digest, |blob| blob.renew(task, lease, progress, now))
    }

    async fn complete(&self, task: &Task, outcome: &Outcome) -> Result<Duration> {
        let (mut state, now) = self.begin();
        state.with(&task.digest, |blob| blob.complete(task, outcome, now))
    }

    async fn defer(&self, task: &Task, delay: Duration, error: &str) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(&task.digest, |blob| blob.defer(task, delay, error, now))
    }

    async fn give_back(&self, task: &Task) -> Result<()> {
        let (mut state, now) = self.begin();
        state.with(&task.digest, |blob| blob.give_back(task, now))
    }

    async fn replay(&self, zone: Option<&ZoneId>) -> Result<u64> {
        let (mut state, now) = self.begin();
        Ok(state.replay(zone, now))
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        let (state, now) = self.begin();
        Ok(state.backlog(now))
    }

    async fn totals(&self) -> Result<Vec<Totals>> {
        Ok(self.begin().0.totals())
    }

    async fn list(&self, list: &ListPlacements) -> Result<Vec<Placement>> {
        let (state, now) = self.begin();
        Ok(state.list(list, now))
    }

    async fn tidy(&self, keep: Duration, limit: u32) -> Result<u32> {
        let (mut state, now) = self.begin();
        Ok(state.tidy(keep, limit, now))
    }

    async fn begin_job(&self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Result<Job> {
        let (mut state, now) = self.begin();
        state.begin_job(kind, zone, marker, now)
    }

    async fn take_job(&self, zones: &[ZoneId], lease: Duration) -> Result<Option<Job>> {
        let (mut state, now) = self.begin();
        state.take_job(zones, lease, now)
    }

    async fn save_job(&self, job: &Job, lease: Duration) -> Result<()> {
        let (mut state, now) = self.begin();
        state.save_job(job, lease, now)
    }

    async fn end_job(&self, job: &Job) -> Result<()> {
        let (mut state, now) = self.begin();
        state.end_job(job, now)
    }

    async fn cancel_job(&self, kind: JobKind, zone: Option<&ZoneId>) -> Result<bool> {
        let (mut state, now) = self.begin();
        Ok(state.cancel_job(kind, zone, now))
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        let (state, now) = self.begin();
        Ok(state.jobs(limit, now))
    }
}
