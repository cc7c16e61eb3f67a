//! The rows, and how they are found: what is done to them is in [`rules`](crate::ledger::rules).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use crate::ledger::rules::Blob;
use crate::ledger::{Backlog, Claim, Desired, ListPlacements, Observed, Placement, Task, Totals, ZoneId, ZoneRecord};

/// Everything the ledger knows.
#[derive(Debug, Default)]
pub(super) struct State {
    zones: BTreeMap<ZoneId, String>,
    /// None of them is without rows.
    blobs: BTreeMap<(u8, Digest), Blob>,
    /// See [`Blob::floor`].
    floor: u64,
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

    /// Applies a rule to a blob, known or not, and keeps what came out.
    pub(super) fn with<T>(&mut self, digest: &Digest, rule: impl FnOnce(&mut Blob) -> T) -> T {
        let key = (digest.shard(), *digest);
        let floor = self.floor;
        let blob = self.blobs.entry(key).or_insert_with(|| Blob::new(*digest, floor));
        blob.floor = floor;
        let outcome = rule(blob);
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
                        backlog.copy_bytes += blob.size.unwrap_or(0);
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
