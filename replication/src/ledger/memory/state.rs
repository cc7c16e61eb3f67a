//! The rows, and how they are found: what is done to them is in [`rules`](crate::ledger::rules).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use crate::ledger::rules::{Blob, JobRow, lost, removed};
use crate::ledger::{
    Backlog, Claim, Desired, Job, JobKind, JobState, ListPlacements, Observed, Placement, Task, Totals, ZoneId, ZoneRecord, ZoneState,
};

/// Jobs that have ended and are remembered.
const ENDED_JOBS: usize = 100;

/// Everything the ledger knows.
#[derive(Debug, Default)]
pub(super) struct State {
    zones: BTreeMap<ZoneId, (String, ZoneState)>,
    /// None of them is without rows.
    blobs: BTreeMap<(u8, Digest), Blob>,
    /// See [`Blob::floor`].
    floor: u64,
    /// In the order in which they were begun.
    jobs: Vec<JobRow>,
}

impl State {
    pub(super) fn register_zone(&mut self, zone: &ZoneRecord) -> Result<()> {
        let conflict = |message: String| Err(Error::new(ErrorKind::Conflict, message).with_zone(&zone.name).with_key(&zone.id));
        if let Some((name, state)) = self.zones.get(&zone.id) {
            return match state {
                ZoneState::Removed => Err(removed(zone)),
                _ if *name == zone.name => Ok(()),
                _ => conflict(format!("this zone is known under the name {name}")),
            };
        }
        let namesake = self.zones.iter().find(|(_, (name, state))| *name == zone.name && *state != ZoneState::Removed);
        if let Some((id, _)) = namesake {
            return conflict(format!("the zone of this name is known to have the id {id}"));
        }
        self.zones.insert(zone.id.clone(), (zone.name.clone(), zone.state));
        Ok(())
    }

    pub(super) fn zones(&self) -> Vec<ZoneRecord> {
        let known = self.zones.iter().filter(|(_, (_, state))| *state != ZoneState::Removed);
        let mut zones: Vec<_> = known.map(|(id, (name, state))| ZoneRecord::new(id.clone(), name).with_state(*state)).collect();
        zones.sort_by(|one, other| one.name.cmp(&other.name));
        zones
    }

    pub(super) fn set_zone_state(&mut self, zone: &ZoneId, from: &[ZoneState], to: ZoneState, now: Timestamp) -> Result<ZoneState> {
        if to == ZoneState::Removed {
            return Err(Error::new(ErrorKind::InvalidInput, "a zone is not removed by changing its state").with_key(zone));
        }
        match self.zones.get_mut(zone) {
            None | Some((_, ZoneState::Removed)) => Err(Error::new(ErrorKind::NotFound, "the zone is not known").with_key(zone)),
            Some((_, state)) if from.contains(state) => {
                let was = std::mem::replace(state, to);
                if to == ZoneState::Active {
                    self.blobs.values_mut().filter_map(|blob| blob.rows.get_mut(zone)).for_each(|row| row.hasten(now));
                }
                Ok(was)
            }
            Some((name, state)) => Err(Error::new(ErrorKind::Conflict, format!("the zone is {}", state.as_str())).with_zone(name.clone())),
        }
    }

    fn is_draining(&self, zone: &ZoneId) -> Result<()> {
        match self.zones.get(zone) {
            Some((_, ZoneState::Draining)) => Ok(()),
            _ => Err(Error::new(ErrorKind::Conflict, "the zone is not draining").with_key(zone)),
        }
    }

    pub(super) fn forget(&mut self, zone: &ZoneId, digests: &[Digest], now: Timestamp) -> Result<Vec<Digest>> {
        self.is_draining(zone)?;
        let mut stay = Vec::new();
        for digest in digests {
            let mut floor = self.floor;
            let is_forgotten = self.with(digest, |blob| {
                floor = floor.max(blob.rows.get(zone).map_or(0, |row| blob.floor_without(row)));
                blob.forget(zone, now)
            });
            if is_forgotten {
                self.floor = floor;
            } else {
                stay.push(*digest);
            }
        }
        Ok(stay)
    }

    pub(super) fn remove_zone(&mut self, zone: &ZoneId, now: Timestamp) -> Result<()> {
        if self.zones.get(zone).is_some_and(|(_, state)| *state == ZoneState::Removed) {
            return Ok(());
        }
        self.is_draining(zone)?;
        if self.blobs.values().any(|blob| blob.rows.contains_key(zone)) {
            return Err(Error::new(ErrorKind::Conflict, "there are placements in the zone").with_key(zone));
        }
        self.zones.entry(zone.clone()).and_modify(|(_, state)| *state = ZoneState::Removed);
        for row in self.jobs.iter_mut().filter(|row| row.job.is_open() && row.job.zone.as_ref() == Some(zone)) {
            row.conclude(JobState::Done, now);
        }
        Ok(())
    }

    fn job(&mut self, job: &Job) -> Result<&mut JobRow> {
        self.jobs.iter_mut().find(|row| row.job.id == job.id).ok_or_else(|| lost(job))
    }

    pub(super) fn begin_job(&mut self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes, now: Timestamp) -> Result<Job> {
        let is_removed = |zone: &ZoneId| self.zones.get(zone).is_some_and(|(_, state)| *state == ZoneState::Removed);
        if let Some(zone) = zone.filter(|zone| is_removed(zone)) {
            return Err(Error::new(ErrorKind::NotFound, "the zone was removed").with_key(zone));
        }
        if let Some(row) = self.jobs.iter().find(|row| row.is_open_for(kind, zone)) {
            return Ok(row.seen(now));
        }
        let row = JobRow::new(kind, zone.cloned(), marker, now);
        let job = row.seen(now);
        self.jobs.push(row);
        let mut ended = self.jobs.iter().filter(|row| !row.job.is_open()).count();
        self.jobs.retain(|row| {
            let goes = !row.job.is_open() && ended > ENDED_JOBS;
            ended -= usize::from(goes);
            !goes
        });
        Ok(job)
    }

    pub(super) fn take_job(&mut self, zones: &[ZoneId], lease: Duration, now: Timestamp) -> Result<Option<Job>> {
        let is_ours = |row: &&mut JobRow| row.is_free(now) && row.job.zone.as_ref().is_none_or(|zone| zones.contains(zone));
        self.jobs.iter_mut().find(is_ours).map(|row| row.take(lease, now)).transpose()
    }

    pub(super) fn save_job(&mut self, job: &Job, lease: Duration, now: Timestamp) -> Result<()> {
        self.job(job)?.save(job, lease, now)
    }

    pub(super) fn end_job(&mut self, job: &Job, now: Timestamp) -> Result<()> {
        self.job(job)?.end(job, now)
    }

    pub(super) fn cancel_job(&mut self, kind: JobKind, zone: Option<&ZoneId>, now: Timestamp) -> bool {
        let row = self.jobs.iter_mut().find(|row| row.is_open_for(kind, zone));
        row.map(|row| row.conclude(JobState::Cancelled, now)).is_some()
    }

    pub(super) fn jobs(&self, limit: u32, now: Timestamp) -> Vec<Job> {
        let newest = || self.jobs.iter().rev();
        let ended = newest().filter(|row| !row.job.is_open());
        newest().filter(|row| row.job.is_open()).chain(ended).take(limit as usize).map(|row| row.seen(now)).collect()
    }

    /// Applies a rule to a blob, known or not, and keeps what came out.
    pub(super) fn with<T>(&mut self, digest: &Digest, rule: impl FnOnce(&mut Blob) -> T) -> T {
        let key = (digest.shard(), *digest);
        let floor = self.floor;
        let blob = self.blobs.entry(key).or_insert_with(|| Blob::new(*digest, floor));
        blob.floor = floor;
        let outcome = rule(blob);
        blob.rows.retain(|zone, _| self.zones.get(zone).is_none_or(|(_, state)| *state != ZoneState::Removed));
        if blob.rows.is_empty() {
            self.blobs.remove(&key);
        }
        outcome
    }

    pub(super) fn placements(&self, digests: &[Digest], now: Timestamp) -> Vec<Placement> {
        let mut digests = digests.to_vec();
        digests.sort_unstable();
        digests.dedup();
        let found = digests.iter().filter_map(|digest| self.blobs.get(&(digest.shard(), *digest)));
        found.flat_map(|blob| blob.placements(now)).collect()
    }

    pub(super) fn claim(&mut self, claim: &Claim, now: Timestamp) -> Vec<Task> {
        let due = |blob: &Blob| blob.rows.get(&claim.zone)?.due_at.filter(|due| *due <= now);
        let mut candidates: Vec<_> = self.blobs.values().filter_map(|blob| Some((due(blob)?, blob.digest))).collect();
        candidates.sort_unstable();
        candidates.truncate(claim.looks_at());
        let mut tasks = Vec::new();
        for (_, digest) in candidates {
            if tasks.len() == claim.limit as usize {
                break;
            }
            tasks.extend(self.with(&digest, |blob| blob.take(claim, now)));
        }
        tasks
    }

    pub(super) fn replay(&mut self, zone: Option<&ZoneId>, now: Timestamp) -> u64 {
        self.blobs.values_mut().map(|blob| blob.replay(zone, now)).sum()
    }

    pub(super) fn backlog(&self, now: Timestamp) -> Vec<Backlog> {
        let mut zones: BTreeMap<&ZoneId, (Backlog, Timestamp)> = BTreeMap::new();
        for blob in self.blobs.values() {
            for (zone, row) in blob.rows.iter().filter(|(_, row)| !row.is_settled()) {
                let (backlog, failed_at) = zones.entry(zone).or_insert_with(|| (Backlog::new(zone.clone()), Timestamp::default()));
                let mut waits_since = row.waits_since().filter(|since| *since <= now);
                match (row.desired, row.observed) {
                    (Desired::Absent, _) => backlog.deletes += 1,
                    (Desired::Present, Observed::Suspect | Observed::Damaged) => backlog.suspects += 1,
                    (Desired::Present, _) if blob.has_source(zone, None) => {
                        backlog.copies += 1;
                        let waited = waits_since.map_or(Duration::ZERO, |since| now.since(since));
                        backlog.copy_lag = backlog.copy_lag.max(waited);
                        backlog.copy_bytes += blob.size.unwrap_or(0);
                        if !row.is_leased(now) && row.due_at.is_some_and(|due| due > now) {
                            backlog.put_off += 1;
                            backlog.put_off_bytes += blob.size.unwrap_or(0);
                        }
                    }
                    (Desired::Present, _) => {
                        backlog.sourceless += 1;
                        waits_since = None;
                    }
                }
                backlog.oldest = [backlog.oldest, waits_since].into_iter().flatten().min();
                backlog.failing += u64::from(row.attempts > 0);
                if let Some(error) = row.last_error.as_ref().filter(|_| row.attempts > 0 && row.failed_at >= *failed_at) {
                    *failed_at = row.failed_at;
                    backlog.last_error = Some((blob.digest, error.clone()));
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
        let blobs = self.blobs.range((from, Bound::Unbounded)).map(|(_, blob)| blob);
        let selected = blobs.flat_map(|blob| blob.placements(now)).filter(|row| {
            list.shard.is_none_or(|shard| shard == row.digest.shard())
                && list.after.as_ref().is_none_or(|(digest, zone)| row.digest != *digest || row.zone > *zone)
                && list.zone.as_ref().is_none_or(|only| *only == row.zone)
                && (!list.failing || row.attempts > 0)
        });
        selected.take(list.limit as usize).collect()
    }

    pub(super) fn tidy(&mut self, keep: Duration, limit: u32, now: Timestamp) -> u32 {
        let mut dropped = 0;
        let mut floor = self.floor;
        self.blobs.retain(|_, blob| {
            let gone = |row: &&ZoneId| blob.rows[*row].is_gone_since(now - keep);
            let gone: Vec<_> = blob.rows.keys().filter(gone).take((limit - dropped) as usize).cloned().collect();
            for zone in gone {
                if let Some(row) = blob.rows.remove(&zone) {
                    floor = floor.max(blob.floor_without(&row));
                    dropped += 1;
                }
            }
            !blob.rows.is_empty()
        });
        self.floor = floor;
        dropped
    }
}
