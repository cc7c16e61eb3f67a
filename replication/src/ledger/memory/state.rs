//! The rows, and what each command does to them: the reference that the databases are compared with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use crate::ledger::{
    Backlog, Claim, Commit, Desired, IntendedTarget, Intent, ListPlacements, Observed, Outcome, Placement, Retarget, Sighting, Task,
    TaskKind, Totals, ZoneId, ZoneRecord,
};

/// Everything the ledger knows.
#[derive(Debug, Default)]
pub(super) struct State {
    zones: BTreeMap<ZoneId, String>,
    blobs: BTreeMap<(u8, Digest), Blob>,
    /// The highest that was ever given out: with it, a row made anew cannot repeat one of a row that is gone, even if the clock steps back.
    last_generation: u64,
}

/// A blob and its placements.
#[derive(Debug, Default)]
struct Blob {
    size: Option<u64>,
    touched_at: Timestamp,
    rows: BTreeMap<ZoneId, Row>,
}

#[derive(Debug)]
struct Row {
    desired: Desired,
    generation: u64,
    observed: Observed,
    verified_at: Option<Timestamp>,
    since: Option<Timestamp>,
    due_at: Option<Timestamp>,
    lease: Option<Lease>,
    /// Until when a delete may be on its way, or a worker that has lost its lease may still be writing.
    fence: Timestamp,
    epoch: u64,
    attempts: u32,
    last_error: Option<String>,
    failed_at: Timestamp,
    progress: Option<Bytes>,
    /// When it became what it was to be.
    settled_at: Timestamp,
}

#[derive(Debug)]
struct Lease {
    id: String,
    until: Timestamp,
}

impl Row {
    fn new(desired: Desired, generation: u64, now: Timestamp) -> Self {
        Self {
            desired,
            generation,
            observed: Observed::Unknown,
            verified_at: None,
            since: Some(now),
            due_at: None,
            lease: None,
            fence: Timestamp::default(),
            epoch: 0,
            attempts: 0,
            last_error: None,
            failed_at: Timestamp::default(),
            progress: None,
            settled_at: now,
        }
    }

    fn is_settled(&self) -> bool {
        matches!((self.desired, self.observed), (Desired::Present, Observed::Present) | (Desired::Absent, Observed::Absent))
    }

    /// After any change of what is or is to be: nothing more to do, or something at `due`, but never behind a fence.
    fn reschedule(&mut self, due: Timestamp, now: Timestamp) {
        if self.is_settled() {
            self.since = None;
            self.due_at = None;
            self.settled_at = now;
        } else {
            self.since.get_or_insert(now);
            self.due_at = Some(due.max(self.busy_until()));
        }
    }

    /// Until when nothing may be begun here.
    fn busy_until(&self) -> Timestamp {
        match &self.lease {
            _ if self.observed == Observed::Deleting || self.desired == Desired::Absent => self.fence,
            Some(lease) => lease.until,
            None => Timestamp::default(),
        }
    }

    fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until > now)
    }

    /// The worker that had it is done with it.
    fn release(&mut self) {
        self.lease = None;
        self.fence = Timestamp::default();
    }

    /// The copy is good. A worker that is still writing here keeps its fence: its bytes may yet arrive.
    fn good(&mut self, now: Timestamp) {
        self.observed = Observed::Present;
        self.verified_at = Some(now);
        self.lease = None;
        self.progress = None;
        self.attempts = 0;
        self.last_error = None;
        self.reschedule(now, now);
    }

    fn failed(&mut self, error: &str, now: Timestamp) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(error.to_owned());
        self.failed_at = now;
    }

    /// What there is to do, if it can be done by whoever reads from `has_source`, and if the other placements are as `others_safe` says.
    fn work(&self, has_source: bool, others_safe: bool) -> Option<TaskKind> {
        match (self.desired, self.observed) {
            (Desired::Present, Observed::Present) | (Desired::Absent, Observed::Absent) => None,
            (Desired::Present, Observed::Suspect | Observed::Damaged) => Some(TaskKind::Verify),
            (Desired::Present, _) => has_source.then_some(TaskKind::Copy),
            (Desired::Absent, _) => others_safe.then_some(TaskKind::Delete),
        }
    }
}

impl Blob {
    fn is_visible(&self) -> bool {
        self.rows.values().any(|row| row.desired == Desired::Present)
    }

    /// Whether another zone has a copy that can be read.
    fn has_source(&self, but: &ZoneId, among: Option<&[ZoneId]>) -> bool {
        self.rows
            .iter()
            .any(|(zone, row)| zone != but && row.observed == Observed::Present && among.is_none_or(|zones| zones.contains(zone)))
    }

    /// Whether everything that is to be there is.
    fn is_safe(&self) -> bool {
        self.rows.values().filter(|row| row.desired == Desired::Present).all(|row| row.observed == Observed::Present)
    }

    fn touch(&mut self, now: Timestamp) {
        self.touched_at = now.max(self.touched_at + Duration::from_millis(1));
    }

    /// A copy became good: what waited for one is due. If it is the first, they wait since now.
    fn wake(&mut self, good: &ZoneId, now: Timestamp) {
        let first = !self.has_source(good, None);
        for row in self.rows.iter_mut().filter(|(zone, row)| *zone != good && row.desired == Desired::Present && !row.is_settled()) {
            if first {
                row.1.since = Some(now);
            }
            row.1.reschedule(now, now);
        }
    }
}

fn lost(task: &Task) -> Error {
    Error::new(ErrorKind::LeaseLost, "the work was changed, or given to another").with_key(task.digest)
}

impl State {
    pub(super) fn register_zone(&mut self, zone: &ZoneRecord) -> Result<()> {
        let conflict = |message: String| Err(Error::new(ErrorKind::Conflict, message).with_zone(&zone.name).with_key(&zone.id));
        match self.zones.iter().find(|(id, name)| **id == zone.id || **name == zone.name) {
            Some((id, name)) if *id == zone.id && *name == zone.name => Ok(()),
            Some((id, name)) if *id == zone.id => conflict(format!("this zone is known under the name {name}")),
            Some((id, _)) => conflict(format!("the zone of this name is known to have the id {id}")),
            None => {
                self.zones.insert(zone.id.clone(), zone.name.clone());
                Ok(())
            }
        }
    }

    pub(super) fn zones(&self) -> Vec<ZoneRecord> {
        let mut zones: Vec<_> = self.zones.iter().map(|(id, name)| ZoneRecord { id: id.clone(), name: name.clone() }).collect();
        zones.sort_by(|one, other| one.name.cmp(&other.name));
        zones
    }

    fn next_generation(&mut self, now: Timestamp) -> u64 {
        let clock = u64::try_from(now.as_millis()).unwrap_or(0);
        self.last_generation = clock.max(self.last_generation + 1);
        self.last_generation
    }

    fn find(&mut self, digest: &Digest) -> Option<&mut Blob> {
        self.blobs.get_mut(&(digest.shard(), *digest))
    }

    /// Makes these desired present. The blob is there.
    fn widen(&mut self, digest: &Digest, targets: &[ZoneId], now: Timestamp) {
        for zone in targets {
            let generation = self.next_generation(now);
            let blob = self.blobs.entry((digest.shard(), *digest)).or_default();
            let has_source = blob.has_source(zone, None);
            match blob.rows.get_mut(zone) {
                Some(row) if row.desired == Desired::Present => {}
                Some(row) => {
                    row.desired = Desired::Present;
                    row.generation = generation;
                    row.since = None;
                    row.attempts = 0;
                    row.reschedule(now, now);
                }
                None => {
                    let mut row = Row::new(Desired::Present, generation, now);
                    // Without a source there is nothing to do before somebody has committed one.
                    row.due_at = has_source.then_some(now);
                    blob.rows.insert(zone.clone(), row);
                }
            }
        }
    }

    pub(super) fn intend(&mut self, digest: &Digest, size: Option<u64>, targets: &[ZoneId], now: Timestamp) -> Intent {
        self.widen(digest, targets, now);
        let Some(blob) = self.find(digest) else { return Intent::new(Vec::new()) };
        blob.touch(now);
        blob.size = blob.size.or(size);
        let target = |zone: &ZoneId| {
            let row = blob.rows.get(zone)?;
            let fenced = row.observed == Observed::Deleting && row.fence > now;
            Some(IntendedTarget::new(zone.clone(), row.generation, fenced.then(|| row.fence.since(now))))
        };
        Intent::new(targets.iter().filter_map(target).collect())
    }

    pub(super) fn committed(&mut self, commit: &Commit, now: Timestamp) -> Result<()> {
        let moved_on = || {
            let message = "the blob was deleted meanwhile, or is being: write it again";
            Error::new(ErrorKind::Conflict, message).with_key(commit.digest)
        };
        let blob = self.find(&commit.digest).ok_or_else(moved_on)?;
        let row = blob.rows.get_mut(&commit.zone).ok_or_else(moved_on)?;
        let fenced = row.observed == Observed::Deleting && row.fence > now;
        if row.generation != commit.generation || row.desired != Desired::Present || fenced {
            return Err(moved_on());
        }
        row.good(now);
        blob.size = Some(commit.size);
        blob.wake(&commit.zone, now);
        Ok(())
    }

    pub(super) fn condemn(
        &mut self,
        digest: &Digest,
        untouched_since: Option<Timestamp>,
        trash_delay: Duration,
        zones: &[ZoneId],
        now: Timestamp,
    ) -> Result<()> {
        let mut generation = self.next_generation(now);
        let blob = self.blobs.entry((digest.shard(), *digest)).or_default();
        if untouched_since.is_some_and(|seen| blob.touched_at > seen) {
            let message = "somebody means to write the blob, or to refer to it";
            return Err(Error::new(ErrorKind::Conflict, message).with_key(digest));
        }
        if blob.rows.is_empty() {
            blob.touch(now);
            for zone in zones {
                let mut row = Row::new(Desired::Absent, generation, now);
                row.due_at = Some(now + trash_delay);
                blob.rows.insert(zone.clone(), row);
            }
        }
        for row in blob.rows.values_mut().filter(|row| row.desired == Desired::Present) {
            generation += 1;
            row.desired = Desired::Absent;
            row.generation = generation;
            row.since = None;
            row.attempts = 0;
            row.reschedule(now + trash_delay, now);
        }
        if blob.rows.is_empty() {
            self.blobs.remove(&(digest.shard(), *digest));
        }
        self.last_generation = generation;
        Ok(())
    }

    pub(super) fn retain(&mut self, digest: &Digest, targets: &[ZoneId], now: Timestamp) -> bool {
        let Some(blob) = self.find(digest).filter(|blob| blob.is_visible()) else { return false };
        blob.touch(now);
        self.widen(digest, targets, now);
        true
    }

    pub(super) fn retarget(&mut self, digest: &Digest, retarget: &Retarget, now: Timestamp) -> Result<bool> {
        if retarget.targets.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a blob is to be in no zone at all").with_key(digest));
        }
        let Some(blob) = self.find(digest).filter(|blob| blob.is_visible()) else { return Ok(false) };
        let may_narrow = blob.touched_at <= now - retarget.untouched_for;
        self.widen(digest, &retarget.targets, now);
        let mut generation = self.next_generation(now);
        let Some(blob) = self.find(digest) else { return Ok(false) };
        let unwanted = |(zone, row): &(&ZoneId, &mut Row)| row.desired == Desired::Present && !retarget.targets.contains(*zone);
        let mut exact = true;
        for (_, row) in blob.rows.iter_mut().filter(unwanted) {
            if !may_narrow {
                exact = false;
                continue;
            }
            generation += 1;
            row.desired = Desired::Absent;
            row.generation = generation;
            row.since = None;
            row.attempts = 0;
            row.reschedule(now + retarget.trash_delay, now);
        }
        self.last_generation = generation;
        Ok(exact)
    }

    pub(super) fn placements(&self, digests: &[Digest], now: Timestamp) -> Vec<Placement> {
        let mut digests = digests.to_vec();
        digests.sort_unstable();
        digests.dedup();
        let found = digests.iter().filter_map(|digest| Some((digest, self.blobs.get(&(digest.shard(), *digest))?)));
        found.flat_map(|(digest, blob)| blob.rows.iter().map(|(zone, row)| placement(digest, blob, zone, row, now))).collect()
    }

    pub(super) fn observe(&mut self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting, now: Timestamp) {
        let Some(blob) = self.find(digest) else { return };
        let Some(row) = blob.rows.get_mut(zone).filter(|row| row.generation == generation && !row.is_leased(now)) else { return };
        match sighting {
            Sighting::Suspect(reason) if row.observed == Observed::Present => {
                row.observed = Observed::Suspect;
                row.last_error = Some(reason.clone());
                let due = row.due_at.filter(|_| row.desired == Desired::Absent).unwrap_or(now);
                row.reschedule(due, now);
            }
            Sighting::Good if row.observed == Observed::Present => row.verified_at = Some(now),
            Sighting::Found(size) if row.desired == Desired::Present && matches!(row.observed, Observed::Unknown | Observed::Absent) => {
                row.observed = Observed::Suspect;
                row.reschedule(now, now);
                blob.size = blob.size.or(Some(*size));
            }
            _ => {}
        }
    }

    pub(super) fn stray(&mut self, digest: &Digest, zone: &ZoneId, now: Timestamp) {
        let generation = self.next_generation(now);
        let blob = self.blobs.entry((digest.shard(), *digest)).or_default();
        match blob.rows.get_mut(zone) {
            Some(row) if row.desired == Desired::Present => {}
            Some(row) if row.observed == Observed::Deleting => row.lease = None,
            Some(row) => {
                row.observed = Observed::Unknown;
                row.reschedule(now, now);
            }
            None => {
                let mut row = Row::new(Desired::Absent, generation, now);
                row.reschedule(now, now);
                blob.rows.insert(zone.clone(), row);
            }
        }
    }

    pub(super) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Vec<Task> {
        let due = |row: &Row| row.due_at.filter(|due| *due <= now);
        let mut candidates: Vec<_> =
            self.blobs.iter().filter_map(|((_, digest), blob)| Some((due(blob.rows.get(&claim.zone)?)?, *digest))).collect();
        candidates.sort_unstable();
        candidates.truncate((claim.limit as usize).saturating_mul(4).max(16));
        let mut tasks = Vec::new();
        for (_, digest) in candidates {
            if tasks.len() == claim.limit as usize {
                break;
            }
            let Some(blob) = self.find(&digest) else { continue };
            let has_source = blob.has_source(&claim.zone, Some(&claim.sources));
            let (others_safe, size) = (blob.is_safe(), blob.size);
            let Some(row) = blob.rows.get_mut(&claim.zone) else { continue };
            let Some(kind) = row.work(has_source, others_safe) else {
                row.due_at = (!row.is_settled()).then_some(now + claim.look_again);
                continue;
            };
            if row.lease.is_some() {
                // It ran out, and nobody has said why.
                row.failed("the worker that had it has vanished", now);
            }
            let lease = Lease { id: registry_core::random_id(), until: now + claim.lease };
            row.epoch += 1;
            row.fence = now + claim.lease + claim.lease / 2;
            row.due_at = Some(if kind == TaskKind::Delete { row.fence } else { lease.until });
            let mut task = Task::new(digest, claim.zone.clone(), kind, row.generation, &lease.id);
            task.size = size;
            task.epoch = row.epoch;
            task.attempts = row.attempts;
            task.progress = row.progress.clone().filter(|_| kind == TaskKind::Copy);
            row.lease = Some(lease);
            if kind == TaskKind::Delete {
                row.observed = Observed::Deleting;
                row.progress = None;
            }
            tasks.push(task);
        }
        tasks
    }

    /// The row that the task has claimed.
    fn claimed(&mut self, task: &Task) -> Result<&mut Row> {
        let row = self.find(&task.digest).and_then(|blob| blob.rows.get_mut(&task.zone));
        row.filter(|row| row.lease.as_ref().is_some_and(|lease| lease.id == task.lease_id)).ok_or_else(|| lost(task))
    }

    pub(super) fn renew(&mut self, task: &Task, lease: Duration, progress: Option<Bytes>, now: Timestamp) -> Result<()> {
        let row = self.claimed(task)?;
        if task.kind != TaskKind::Delete && row.generation != task.generation {
            return Err(lost(task));
        }
        let until = now + lease;
        row.fence = until + lease / 2;
        row.due_at = Some(if task.kind == TaskKind::Delete { row.fence } else { until });
        if let Some(held) = &mut row.lease {
            held.until = until;
        }
        if progress.is_some() {
            row.progress = progress;
        }
        Ok(())
    }

    pub(super) fn complete(&mut self, task: &Task, outcome: &Outcome, now: Timestamp) -> Result<Duration> {
        let has_source = self.find(&task.digest).is_some_and(|blob| blob.has_source(&task.zone, None));
        let row = self.claimed(task)?;
        let waited = row.since.map_or(Duration::ZERO, |since| now.since(since));
        row.release();
        if *outcome == Outcome::Deleted {
            row.observed = Observed::Absent;
            row.verified_at = None;
            row.attempts = 0;
            row.last_error = None;
            row.reschedule(now, now);
            return Ok(waited);
        }
        if row.generation != task.generation {
            row.let_go(now);
            return Err(lost(task));
        }
        match outcome {
            Outcome::Deleted => {}
            Outcome::Copied(size) | Outcome::Verified(size) => {
                let size = *size;
                row.good(now);
                if let Some(blob) = self.find(&task.digest) {
                    blob.size = Some(size);
                    blob.wake(&task.zone, now);
                }
            }
            Outcome::Wrong { reason, look_again } => {
                row.failed(reason, now);
                if has_source {
                    row.observed = Observed::Quarantined;
                    row.attempts = 0;
                    row.reschedule(now, now);
                } else {
                    row.observed = Observed::Damaged;
                    row.reschedule(now + *look_again, now);
                }
            }
            Outcome::Missing => {
                row.observed = Observed::Absent;
                row.verified_at = None;
                row.last_error = Some("it was not there".to_owned());
                row.reschedule(now, now);
            }
        }
        Ok(waited)
    }

    pub(super) fn defer(&mut self, task: &Task, delay: Duration, error: &str, now: Timestamp) -> Result<()> {
        let row = self.claimed(task)?;
        if task.kind != TaskKind::Delete && row.generation != task.generation {
            row.let_go(now);
            return Ok(());
        }
        row.failed(error, now);
        row.lease = None;
        if task.kind != TaskKind::Delete {
            row.release();
        }
        row.reschedule(now + delay, now);
        Ok(())
    }

    pub(super) fn replay(&mut self, zone: Option<&ZoneId>, now: Timestamp) -> u64 {
        let mut count = 0;
        for blob in self.blobs.values_mut() {
            for (at, row) in &mut blob.rows {
                if row.attempts > 0 && !row.is_leased(now) && zone.is_none_or(|zone| zone == at) {
                    row.attempts = 0;
                    row.reschedule(now, now);
                    count += 1;
                }
            }
        }
        count
    }

    pub(super) fn backlog(&self, now: Timestamp) -> Vec<Backlog> {
        let mut zones: BTreeMap<&ZoneId, (Backlog, Timestamp)> = BTreeMap::new();
        for ((_, digest), blob) in &self.blobs {
            for (zone, row) in blob.rows.iter().filter(|(_, row)| !row.is_settled()) {
                let (backlog, failed_at) = zones.entry(zone).or_insert_with(|| (Backlog::new(zone.clone()), Timestamp::default()));
                let mut counts = true;
                match (row.desired, row.observed) {
                    (Desired::Absent, _) => backlog.deletes += 1,
                    (Desired::Present, Observed::Suspect | Observed::Damaged) => backlog.suspects += 1,
                    (Desired::Present, _) if blob.has_source(zone, None) => {
                        backlog.copies += 1;
                        backlog.copy_bytes += blob.size.unwrap_or(0);
                    }
                    (Desired::Present, _) => {
                        backlog.sourceless += 1;
                        counts = false;
                    }
                }
                backlog.failing += u64::from(row.attempts > 0);
                if counts {
                    backlog.oldest = [backlog.oldest, row.since].into_iter().flatten().min();
                }
                if let Some(error) = row.last_error.as_ref().filter(|_| row.attempts > 0 && row.failed_at >= *failed_at) {
                    *failed_at = row.failed_at;
                    backlog.last_error = Some((*digest, error.clone()));
                }
            }
        }
        let mut backlog: Vec<_> = zones.into_values().map(|(backlog, _)| backlog).collect();
        for zone in &mut backlog {
            zone.lag = zone.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        }
        backlog
    }

    pub(super) fn totals(&self) -> Vec<Totals> {
        let mut zones: BTreeMap<&ZoneId, Totals> = BTreeMap::new();
        for blob in self.blobs.values() {
            for (zone, row) in &blob.rows {
                if row.desired == Desired::Present && row.observed == Observed::Present {
                    let totals = zones.entry(zone).or_insert_with(|| Totals::new(zone.clone(), 0, 0));
                    totals.blobs += 1;
                    totals.bytes += blob.size.unwrap_or(0);
                }
            }
        }
        zones.into_values().collect()
    }

    pub(super) fn list(&self, list: &ListPlacements, now: Timestamp) -> Vec<Placement> {
        let from = match &list.after {
            Some((digest, _)) => Bound::Included((digest.shard(), *digest)),
            None => Bound::Unbounded,
        };
        let rows = self
            .blobs
            .range((from, Bound::Unbounded))
            .flat_map(|(key, blob)| blob.rows.iter().map(move |(zone, row)| (key.1, blob, zone, row)));
        let selected = rows.filter(|(digest, _, zone, row)| {
            list.shard.is_none_or(|shard| shard == digest.shard())
                && list.after.as_ref().is_none_or(|after| (after.0.shard(), after.0, &after.1) < (digest.shard(), *digest, *zone))
                && list.zone.as_ref().is_none_or(|only| only == *zone)
                && (!list.failing || row.attempts > 0)
        });
        selected.take(list.limit as usize).map(|(digest, blob, zone, row)| placement(&digest, blob, zone, row, now)).collect()
    }

    pub(super) fn tidy(&mut self, keep: Duration, limit: u32, now: Timestamp) -> u32 {
        let mut dropped = 0;
        self.blobs.retain(|_, blob| {
            blob.rows.retain(|_, row| {
                let gone = dropped < limit && row.desired == Desired::Absent && row.is_settled() && row.settled_at <= now - keep;
                dropped += u32::from(gone);
                !gone
            });
            !blob.rows.is_empty()
        });
        dropped
    }
}

impl Row {
    /// The worker that had it under another generation is done with it.
    fn let_go(&mut self, now: Timestamp) {
        self.release();
        self.progress = None;
        let due = self.due_at.filter(|_| self.desired == Desired::Absent).unwrap_or(now);
        self.reschedule(due, now);
    }
}

fn placement(digest: &Digest, blob: &Blob, zone: &ZoneId, row: &Row, now: Timestamp) -> Placement {
    let mut placement = Placement::new(*digest, zone.clone(), row.desired, row.generation);
    placement.size = blob.size;
    placement.observed = row.observed;
    placement.touched_at = blob.touched_at;
    placement.verified_at = row.verified_at;
    placement.since = row.since;
    placement.due_at = row.due_at;
    placement.leased = row.is_leased(now);
    placement.attempts = row.attempts;
    placement.last_error.clone_from(&row.last_error);
    placement
}
