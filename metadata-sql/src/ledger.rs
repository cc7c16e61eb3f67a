//! [`SqlLedger`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::{Digest, Result, Timestamp};
use replication::ledger::rules::Blob;
use replication::ledger::{
    Backlog, Claim, Commit, Intent, Job, JobKind, ListPlacements, Outcome, Placement, PlacementLedger, Retarget, Sighting, Task, Totals,
    ZoneId, ZoneRecord, ZoneState,
};

use crate::commands::ledger::{
    Apply, BacklogOf, BeginJob, CancelJob, Failing, Forget, HasGone, IsDue, Jobs, List, NoteJob, Placements, RegisterZone, RemoveZone,
    Replay, SetZoneState, Take, TakeJob, Tidy, TotalsOf, Touch, Zones,
};
use crate::database::Database;

/// How many placements a claim looks at first, and at a time at most.
const FIRST_PAGE: usize = 16;
const LONGEST_PAGE: usize = 250;

/// How many blobs are tried again in one transaction, so that nobody waits long behind it.
const PAGE: u32 = 500;

/// A [`PlacementLedger`] in the database of an [`SqlMetadataStore`](crate::SqlMetadataStore), from [`ledger`](crate::SqlMetadataStore::ledger). Cheap to
/// clone: clones share the connections.
///
/// The time is the store's. A caller that drops the future of a change leaves the change to happen wholly or not at all; only
/// [`replay`](PlacementLedger::replay) is made of many, some hundred blobs each. An `intend` or `retain` that does nothing but touch a blob is not flushed
/// to the disk: what it kept from going is somebody's who is gone after a power loss as well.
#[derive(Clone, Debug)]
pub struct SqlLedger {
    database: Arc<Database>,
}

impl SqlLedger {
    pub(crate) fn over(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// Applies a rule that may do no more than touch the blob.
    async fn touch<F, O>(&self, digest: &Digest, rule: F) -> Result<O>
    where
        F: Fn(&mut Blob, Timestamp) -> O + Clone + Send + Sync + 'static,
        O: Send + 'static,
    {
        let touch = || Touch { digest: *digest, rule: rule.clone() };
        if self.database.read(touch()).await?
            && let Some(outcome) = self.database.write(touch()).await?
        {
            return Ok(outcome);
        }
        self.database.write(Apply::durable(digest, rule)).await
    }
}

#[async_trait]
impl PlacementLedger for SqlLedger {
    async fn register_zone(&self, zone: &ZoneRecord) -> Result<()> {
        self.database.write(RegisterZone(zone.clone())).await
    }

    async fn zones(&self) -> Result<Vec<ZoneRecord>> {
        self.database.read(Zones).await
    }

    async fn set_zone_state(&self, zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> Result<ZoneState> {
        self.database.write(SetZoneState { zone: zone.clone(), from: from.to_vec(), to }).await
    }

    async fn forget(&self, zone: &ZoneId, digests: &[Digest]) -> Result<Vec<Digest>> {
        self.database.write(Forget { zone: zone.clone(), digests: digests.to_vec() }).await
    }

    async fn remove_zone(&self, zone: &ZoneId) -> Result<()> {
        self.database.write(RemoveZone(zone.clone())).await
    }

    async fn intend(&self, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent> {
        let targets = targets.to_vec();
        self.touch(digest, move |blob: &mut Blob, now| blob.intend(size, &targets, now)).await
    }

    async fn committed(&self, commit: &Commit) -> Result<()> {
        let (digest, commit) = (commit.digest, commit.clone());
        self.database.write(Apply::durable(&digest, move |blob: &mut Blob, now| blob.committed(&commit, now))).await?
    }

    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> Result<()> {
        let zones = zones.to_vec();
        let rule = move |blob: &mut Blob, now| blob.condemn(untouched_since, trash_delay, &zones, now);
        self.database.write(Apply::durable(digest, rule)).await?
    }

    async fn retain(&self, digest: &Digest, targets: &[ZoneId]) -> Result<bool> {
        let targets = targets.to_vec();
        self.touch(digest, move |blob: &mut Blob, now| blob.retain(&targets, now)).await
    }

    async fn retarget(&self, digest: &Digest, retarget: &Retarget) -> Result<bool> {
        let retarget = retarget.clone();
        self.database.write(Apply::durable(digest, move |blob: &mut Blob, now| blob.retarget(&retarget, now))).await?
    }

    async fn placements(&self, digests: &[Digest]) -> Result<Vec<Placement>> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        self.database.read(Placements(digests.to_vec())).await
    }

    async fn observe(&self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> Result<()> {
        let (zone, sighting) = (zone.clone(), sighting.clone());
        let rule = move |blob: &mut Blob, now| blob.observe(&zone, generation, &sighting, now);
        self.database.write(Apply::fleeting(digest, rule)).await
    }

    async fn stray(&self, digest: &Digest, zone: &ZoneId) -> Result<()> {
        let zone = zone.clone();
        self.database.write(Apply::durable(digest, move |blob: &mut Blob, now| blob.stray(&zone, now))).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Task>> {
        if claim.limit == 0 || !self.database.read(IsDue(claim.zone.clone())).await? {
            return Ok(Vec::new());
        }
        // A few at first: mostly the first that is due can be done. The more cannot, the more are looked at in one go.
        let mut page = (claim.limit as usize).max(FIRST_PAGE);
        let mut looked_at = 0;
        let mut tasks = Vec::new();
        loop {
            let mut rest = claim.clone();
            rest.limit -= u32::try_from(tasks.len()).unwrap_or(rest.limit);
            page = page.min(claim.looks_at() - looked_at);
            match self.database.write(Take { claim: rest, page }).await {
                Ok(taken) => {
                    tasks.extend(taken.tasks);
                    looked_at += page;
                    if !taken.more || tasks.len() >= claim.limit as usize || looked_at >= claim.looks_at() {
                        return Ok(tasks);
                    }
                }
                // What was claimed so far is the caller's.
                Err(_) if !tasks.is_empty() => return Ok(tasks),
                Err(error) => return Err(error),
            }
            page = (page * 4).min(LONGEST_PAGE);
        }
    }

    async fn renew(&self, task: &Task, lease: Duration, progress: Option<Bytes>) -> Result<()> {
        let (digest, task) = (task.digest, task.clone());
        let rule = move |blob: &mut Blob, now| blob.renew(&task, lease, progress.clone(), now);
        self.database.write(Apply::fleeting(&digest, rule)).await?
    }

    async fn complete(&self, task: &Task, outcome: &Outcome) -> Result<Duration> {
        let (digest, task, outcome) = (task.digest, task.clone(), outcome.clone());
        self.database.write(Apply::durable(&digest, move |blob: &mut Blob, now| blob.complete(&task, &outcome, now))).await?
    }

    async fn defer(&self, task: &Task, delay: Duration, error: &str) -> Result<()> {
        let (digest, task, error) = (task.digest, task.clone(), error.to_owned());
        self.database.write(Apply::fleeting(&digest, move |blob: &mut Blob, now| blob.defer(&task, delay, &error, now))).await?
    }

    async fn give_back(&self, task: &Task) -> Result<()> {
        let (digest, task) = (task.digest, task.clone());
        self.database.write(Apply::fleeting(&digest, move |blob: &mut Blob, now| blob.give_back(&task, now))).await?
    }

    async fn replay(&self, zone: Option<&ZoneId>) -> Result<u64> {
        let (mut count, mut after) = (0, 0);
        loop {
            let blobs = self.database.read(Failing { after, limit: PAGE }).await?;
            let Some(last) = blobs.last() else { return Ok(count) };
            after = *last;
            count += self.database.write(Replay { zone: zone.cloned(), blobs }).await?;
        }
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        self.database.read(BacklogOf).await
    }

    async fn totals(&self) -> Result<Vec<Totals>> {
        self.database.read(TotalsOf).await
    }

    async fn list(&self, list: &ListPlacements) -> Result<Vec<Placement>> {
        self.database.read(List(list.clone())).await
    }

    async fn tidy(&self, keep: Duration, limit: u32) -> Result<u32> {
        if limit == 0 || !self.database.read(HasGone(keep)).await? {
            return Ok(0);
        }
        self.database.write(Tidy { keep, limit }).await
    }

    async fn begin_job(&self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Result<Job> {
        self.database.write(BeginJob { kind, zone: zone.cloned(), marker }).await
    }

    async fn take_job(&self, zones: &[ZoneId], lease: Duration) -> Result<Option<Job>> {
        let take = || TakeJob { zones: zones.to_vec(), lease };
        if self.database.read(take()).await? { self.database.write(take()).await } else { Ok(None) }
    }

    async fn save_job(&self, job: &Job, lease: Duration) -> Result<()> {
        self.database.write(NoteJob::<false> { job: job.clone(), lease }).await
    }

    async fn end_job(&self, job: &Job) -> Result<()> {
        self.database.write(NoteJob::<true> { job: job.clone(), lease: Duration::ZERO }).await
    }

    async fn cancel_job(&self, kind: JobKind, zone: Option<&ZoneId>) -> Result<bool> {
        self.database.write(CancelJob { kind, zone: zone.cloned() }).await
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.database.read(Jobs(limit)).await
    }
}
