//! [`Book`]: the ledger as it is watched: every command that changes something is written down, and what is seldom is counted.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::{Digest, ErrorKind, Result, Timestamp};
use replication::PlacementLedger;
use replication::ledger::*;

use super::plan::ZONES;
use super::world::{World, zone_id};

#[derive(Debug)]
pub(super) struct Book {
    world: Weak<World>,
    inner: Arc<dyn PlacementLedger>,
}

impl Book {
    pub(super) fn new(world: Weak<World>, inner: Arc<dyn PlacementLedger>) -> Self {
        Self { world, inner }
    }

    fn see(&self, see: impl FnOnce(&World)) {
        if let Some(world) = self.world.upgrade() {
            see(&world);
        }
    }

    fn desired(&self, world: &World, digest: &Digest) -> Vec<ZoneId> {
        let placements = world.placements(digest).into_iter();
        placements.filter(|placement| placement.desired == Desired::Present).map(|placement| placement.zone).collect()
    }

    /// The ledger has just been told that a copy is there.
    fn check_copy(&self, world: &World, digest: &Digest, zone: &ZoneId) {
        let medium = (0..ZONES).find(|medium| zone_id(*medium) == *zone);
        if world.plan.honest && !medium.is_some_and(|medium| world.is_good(medium, digest)) {
            world.violation(format_args!("{} is said to be in {zone}, and is not", world.name_of(digest)));
        }
    }

    fn lost<T>(world: &World, what: &'static str, result: &Result<T>) {
        if result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::Conflict)) {
            world.count(what, 1);
        }
    }
}

fn outcome<T>(result: &Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn task(world: &World, task: &Task) -> String {
    format!("{} {} in {} generation {} epoch {}", task.kind.as_str(), world.name_of(&task.digest), task.zone, task.generation, task.epoch)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PlacementLedger for Book {
    async fn register_zone(&self, zone: &ZoneRecord) -> Result<()> {
        self.inner.register_zone(zone).await
    }

    async fn zones(&self) -> Result<Vec<ZoneRecord>> {
        self.inner.zones().await
    }

    async fn set_zone_state(&self, zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> Result<ZoneState> {
        self.inner.set_zone_state(zone, from, to).await
    }

    async fn forget(&self, zone: &ZoneId, digests: &[Digest]) -> Result<Vec<Digest>> {
        self.inner.forget(zone, digests).await
    }

    async fn remove_zone(&self, zone: &ZoneId) -> Result<()> {
        self.inner.remove_zone(zone).await
    }

    async fn intend(&self, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent> {
        let intent = self.inner.intend(digest, size, targets).await?;
        self.see(|world| {
            world.count("intents fenced", u64::from(intent.targets.iter().any(|target| target.fenced_for.is_some())));
            let targets: Vec<_> = intent.targets.iter().map(|t| (&t.zone, t.generation, t.fenced_for)).collect();
            world.say(format_args!("  ledger: intend {} {targets:?}", world.name_of(digest)));
        });
        Ok(intent)
    }

    async fn committed(&self, commit: &Commit) -> Result<()> {
        let result = self.inner.committed(commit).await;
        self.see(|world| {
            let Commit { zone, generation, .. } = commit;
            Self::lost(world, "commits overtaken", &result);
            if result.is_ok() {
                self.check_copy(world, &commit.digest, zone);
            }
            world.say(format_args!(
                "  ledger: committed {} in {zone} generation {generation}: {}",
                world.name_of(&commit.digest),
                outcome(&result)
            ));
        });
        result
    }

    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> Result<()> {
        let result = self.inner.condemn(digest, untouched_since, trash_delay, zones).await;
        self.see(|world| {
            Self::lost(world, "condemnations refused", &result);
            world.say(format_args!("  ledger: condemn {}: {}", world.name_of(digest), outcome(&result)));
        });
        result
    }

    async fn retain(&self, digest: &Digest, targets: &[ZoneId]) -> Result<bool> {
        let result = self.inner.retain(digest, targets).await;
        self.see(|world| world.say(format_args!("  ledger: retain {} {targets:?}: {result:?}", world.name_of(digest))));
        result
    }

    async fn retarget(&self, digest: &Digest, retarget: &Retarget) -> Result<bool> {
        let mut before = Vec::new();
        self.see(|world| before = self.desired(world, digest));
        let result = self.inner.retarget(digest, retarget).await;
        self.see(|world| {
            let after = self.desired(world, digest);
            world.count("narrowings", u64::from(before.iter().any(|zone| !after.contains(zone))));
            world.count("widenings", u64::from(after.iter().any(|zone| !before.contains(zone))));
            world.say(format_args!("  ledger: retarget {} {before:?} -> {:?}: {result:?}", world.name_of(digest), retarget.targets));
        });
        result
    }

    async fn placements(&self, digests: &[Digest]) -> Result<Vec<Placement>> {
        self.inner.placements(digests).await
    }

    async fn observe(&self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> Result<()> {
        self.see(|world| {
            if matches!(sighting, Sighting::Suspect(_)) {
                world.count("suspicions", 1);
            }
            world.say(format_args!("  ledger: observe {} in {zone} generation {generation} {sighting:?}", world.name_of(digest)));
        });
        self.inner.observe(digest, zone, generation, sighting).await
    }

    async fn stray(&self, digest: &Digest, zone: &ZoneId) -> Result<()> {
        self.see(|world| world.note("strays", format_args!("{} in {zone}", world.name_of(digest))));
        self.inner.stray(digest, zone).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Task>> {
        let mut before = Vec::new();
        self.see(|world| {
            if world.verbose {
                before = world.all_placements();
            }
        });
        let tasks = self.inner.claim(claim).await?;
        self.see(|world| {
            for claimed in &tasks {
                world.count(claimed.kind.as_str(), 1);
                world.count("resumes of a copy", u64::from(claimed.progress.as_ref().is_some_and(|progress| !progress.is_empty())));
                let row = before.iter().find(|row| row.digest == claimed.digest && row.zone == claimed.zone);
                let was = row.map(|row| (row.desired, row.observed, row.attempts));
                world.say(format_args!("  ledger: claim {} {was:?}", task(world, claimed)));
            }
        });
        Ok(tasks)
    }

    async fn renew(&self, claimed: &Task, lease: Duration, progress: Option<Bytes>) -> Result<()> {
        let noted = progress.is_some();
        let result = self.inner.renew(claimed, lease, progress).await;
        self.see(|world| {
            Self::lost(world, "leases lost", &result);
            world.count("checkpoints", u64::from(noted && result.is_ok()));
            world.say(format_args!("  ledger: renew {} progress {noted}: {}", task(world, claimed), outcome(&result)));
        });
        result
    }

    async fn complete(&self, claimed: &Task, end: &Outcome) -> Result<Duration> {
        let result = self.inner.complete(claimed, end).await;
        self.see(|world| {
            Self::lost(world, "work overtaken", &result);
            if result.is_ok() {
                let placements = world.placements(&claimed.digest);
                let row = placements.iter().find(|row| row.zone == claimed.zone);
                match (end, row.map(|row| row.observed)) {
                    (Outcome::Wrong { .. }, Some(Observed::Quarantined)) => world.count("quarantines", 1),
                    (Outcome::Wrong { .. }, _) => world.count("damages", 1),
                    (Outcome::Missing, _) => world.count("losses found", 1),
                    (Outcome::Verified(_), _) => world.count("verified", 1),
                    (Outcome::Copied(_), _) => self.check_copy(world, &claimed.digest, &claimed.zone),
                    _ => {}
                }
            }
            world.say(format_args!("  ledger: complete {} {end:?}: {}", task(world, claimed), outcome(&result)));
        });
        result
    }

    async fn defer(&self, claimed: &Task, delay: Duration, error: &str) -> Result<()> {
        let result = self.inner.defer(claimed, delay, error).await;
        self.see(|world| {
            world.count("deferrals", 1);
            world.say(format_args!("  ledger: defer {} {delay:?} {error}: {}", task(world, claimed), outcome(&result)));
        });
        result
    }

    async fn give_back(&self, claimed: &Task) -> Result<()> {
        let result = self.inner.give_back(claimed).await;
        self.see(|world| world.say(format_args!("  ledger: give back {}: {}", task(world, claimed), outcome(&result))));
        result
    }

    async fn replay(&self, zone: Option<&ZoneId>) -> Result<u64> {
        self.inner.replay(zone).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        self.inner.backlog().await
    }

    async fn totals(&self) -> Result<Vec<Totals>> {
        self.inner.totals().await
    }

    async fn list(&self, list: &ListPlacements) -> Result<Vec<Placement>> {
        self.inner.list(list).await
    }

    async fn tidy(&self, keep: Duration, limit: u32) -> Result<u32> {
        let dropped = self.inner.tidy(keep, limit).await?;
        self.see(|world| world.count("placements forgotten", u64::from(dropped)));
        Ok(dropped)
    }

    async fn begin_job(&self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Result<Job> {
        self.inner.begin_job(kind, zone, marker).await
    }

    async fn take_job(&self, zones: &[ZoneId], lease: Duration) -> Result<Option<Job>> {
        self.inner.take_job(zones, lease).await
    }

    async fn save_job(&self, job: &Job, lease: Duration) -> Result<()> {
        self.inner.save_job(job, lease).await
    }

    async fn end_job(&self, job: &Job) -> Result<()> {
        self.inner.end_job(job).await
    }

    async fn cancel_job(&self, kind: JobKind, zone: Option<&ZoneId>) -> Result<bool> {
        self.inner.cancel_job(kind, zone).await
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.inner.jobs(limit).await
    }
}
