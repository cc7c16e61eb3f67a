//! [`Blob`]: a blob's placements, and what writers and readers do to them.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use super::Row;
use crate::ledger::{Commit, Desired, IntendedTarget, Intent, Observed, Placement, Retarget, Sighting, ZoneId};

/// A blob and its placements, as a ledger keeps them. A blob without any is one that the ledger does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blob {
    /// The blob.
    pub digest: Digest,
    /// As [`Placement::size`].
    pub size: Option<u64>,
    /// As [`Placement::touched_at`].
    pub touched_at: Timestamp,
    /// No generation up to this one is given to a new row: it has been that of a row that is gone. Only asked when rows are made.
    pub floor: u64,
    /// Its placements.
    pub rows: BTreeMap<ZoneId, Row>,
}

/// The next generation: the time, so that it means something to people, but always above the last one.
fn above(generation: u64, now: Timestamp) -> u64 {
    generation.saturating_add(1).max(u64::try_from(now.as_millis()).unwrap_or(0))
}

fn millis(time: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(time).unwrap_or(i64::MAX))
}

impl Blob {
    /// A blob that is not known. `floor` is the highest of what [`floor_without`](Self::floor_without) said of all rows that were ever dropped.
    pub fn new(digest: Digest, floor: u64) -> Self {
        Self { digest, size: None, touched_at: millis(floor), floor, rows: BTreeMap::new() }
    }

    /// What has to be remembered when `row` is dropped, so that neither a generation nor a touch ever repeats, even if the clock steps back.
    pub fn floor_without(&self, row: &Row) -> u64 {
        row.generation.max(u64::try_from(self.touched_at.as_millis()).unwrap_or(0))
    }

    /// Whether the blob is to be anywhere.
    pub fn is_visible(&self) -> bool {
        self.rows.values().any(|row| row.desired == Desired::Present)
    }

    /// Whether another zone has a copy that can be read; one of `among`, or any.
    pub fn has_source(&self, but: &ZoneId, among: Option<&[ZoneId]>) -> bool {
        let mut sources = self.rows.iter().filter(|(zone, row)| *zone != but && row.observed == Observed::Present);
        sources.any(|(zone, _)| among.is_none_or(|zones| zones.contains(zone)))
    }

    /// Whether everything that is to be there is, so that what is not wanted may go.
    pub(super) fn is_safe(&self) -> bool {
        self.rows.values().filter(|row| row.desired == Desired::Present).all(|row| row.observed == Observed::Present)
    }

    /// What onlookers see, in the order of zones.
    pub fn placements(&self, now: Timestamp) -> impl Iterator<Item = Placement> + '_ {
        self.rows.iter().map(move |(zone, row)| row.placement(self.digest, zone, self, now))
    }

    fn touch(&mut self, now: Timestamp) {
        self.touched_at = now.max(self.touched_at + Duration::from_millis(1));
    }

    /// Each of these is to have it.
    fn widen(&mut self, targets: &[ZoneId], now: Timestamp) {
        for zone in targets {
            let has_source = self.has_source(zone, None);
            match self.rows.get_mut(zone) {
                Some(row) if row.desired == Desired::Present => {}
                Some(row) => row.want(above(row.generation, now), now),
                None => {
                    let mut row = Row::new(Desired::Present, above(self.floor, now), now);
                    // Without a source there is nothing to do before somebody has committed one.
                    row.due_at = has_source.then_some(now);
                    self.rows.insert(zone.clone(), row);
                }
            }
        }
    }

    /// A copy became good: what waited for that is due. If it is the first, copies wait since now.
    pub(super) fn wake(&mut self, good: &ZoneId, now: Timestamp) {
        let is_first = !self.has_source(good, None);
        for (_, row) in self.rows.iter_mut().filter(|(zone, row)| *zone != good && !row.is_settled()) {
            if is_first && row.desired == Desired::Present {
                row.since = Some(now);
            }
            row.reschedule(now, now);
        }
    }

    /// [`intend`](crate::ledger::PlacementLedger::intend).
    pub fn intend(&mut self, size: Option<u64>, targets: &[ZoneId], now: Timestamp) -> Intent {
        self.widen(targets, now);
        if self.rows.is_empty() {
            return Intent::new(Vec::new());
        }
        self.touch(now);
        self.size = self.size.or(size);
        let mut intended = Vec::with_capacity(targets.len());
        for zone in targets {
            let Some(row) = self.rows.get_mut(zone) else { continue };
            if row.observed == Observed::Deleting && !row.is_fenced(now) {
                // From here on somebody may write, so whoever was deleting must not come back to it.
                row.observed = Observed::Unknown;
                row.lease = None;
                row.reschedule(now, now);
            }
            let fenced_for = row.is_fenced(now).then(|| row.fence.since(now));
            intended.push(IntendedTarget::new(zone.clone(), row.generation, fenced_for));
        }
        Intent::new(intended)
    }

    /// [`committed`](crate::ledger::PlacementLedger::committed).
    pub fn committed(&mut self, commit: &Commit, now: Timestamp) -> Result<()> {
        let row = self.rows.get_mut(&commit.zone);
        let row = row.filter(|row| row.generation == commit.generation && row.desired == Desired::Present && !row.is_fenced(now));
        let Some(row) = row else {
            let message = "the blob was deleted meanwhile, or is being: write it again";
            return Err(Error::new(ErrorKind::Conflict, message).with_key(commit.digest));
        };
        row.good(now);
        self.size = Some(commit.size);
        self.wake(&commit.zone, now);
        Ok(())
    }

    /// [`condemn`](crate::ledger::PlacementLedger::condemn).
    pub fn condemn(&mut self, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId], now: Timestamp) -> Result<()> {
        if !self.rows.is_empty() && untouched_since.is_some_and(|seen| self.touched_at > seen) {
            let message = "somebody means to write the blob, or to refer to it";
            return Err(Error::new(ErrorKind::Conflict, message).with_key(self.digest));
        }
        let keep_until = now + trash_delay;
        if self.rows.is_empty() && !zones.is_empty() {
            self.touch(now);
            for zone in zones {
                let mut row = Row::new(Desired::Absent, above(self.floor, now), now);
                row.keep_until = keep_until;
                row.due_at = Some(keep_until);
                self.rows.insert(zone.clone(), row);
            }
        }
        for row in self.rows.values_mut().filter(|row| row.desired == Desired::Present) {
            row.condemn(above(row.generation, now), keep_until, now);
        }
        Ok(())
    }

    /// [`retain`](crate::ledger::PlacementLedger::retain).
    pub fn retain(&mut self, targets: &[ZoneId], now: Timestamp) -> bool {
        let is_visible = self.is_visible();
        if is_visible {
            self.touch(now);
            self.widen(targets, now);
        }
        is_visible
    }

    /// [`retarget`](crate::ledger::PlacementLedger::retarget).
    pub fn retarget(&mut self, retarget: &Retarget, now: Timestamp) -> Result<bool> {
        if retarget.targets.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a blob is to be in no zone at all").with_key(self.digest));
        }
        if !self.is_visible() {
            return Ok(false);
        }
        let may_narrow = self.touched_at <= now - retarget.untouched_for;
        self.widen(&retarget.targets, now);
        let mut is_exact = true;
        for (zone, row) in self.rows.iter_mut().filter(|(_, row)| row.desired == Desired::Present) {
            if retarget.targets.contains(zone) {
                continue;
            }
            if may_narrow {
                row.condemn(above(row.generation, now), now + retarget.trash_delay, now);
            } else {
                is_exact = false;
            }
        }
        Ok(is_exact)
    }

    /// [`observe`](crate::ledger::PlacementLedger::observe).
    pub fn observe(&mut self, zone: &ZoneId, generation: u64, sighting: &Sighting, now: Timestamp) {
        let row = self.rows.get_mut(zone).filter(|row| row.generation == generation && !row.is_leased(now));
        let Some(row) = row else { return };
        match sighting {
            Sighting::Suspect(reason) if row.observed == Observed::Present => {
                row.observed = Observed::Suspect;
                row.verified_at = None;
                row.note(reason);
                row.reschedule(now, now);
            }
            Sighting::Good if row.observed == Observed::Present => row.verified_at = Some(now),
            Sighting::Found(size) if row.desired == Desired::Present && row.may_be_found(now) => {
                row.observed = Observed::Suspect;
                row.lease = None;
                // What a worker noted was about the copy that it was making.
                row.progress = None;
                row.reschedule(now, now);
                self.size = self.size.or(Some(*size));
            }
            _ => {}
        }
    }

    /// [`stray`](crate::ledger::PlacementLedger::stray).
    pub fn stray(&mut self, zone: &ZoneId, now: Timestamp) {
        match self.rows.get_mut(zone) {
            // When its deleter is done, it was about another generation, so that it is deleted again.
            Some(row) if row.desired == Desired::Absent && row.observed == Observed::Deleting => {
                row.generation = above(row.generation, now);
            }
            Some(row) if row.desired == Desired::Absent && row.observed == Observed::Absent => {
                row.observed = Observed::Unknown;
                row.reschedule(now, now);
            }
            // It is wanted, or about to go anyhow; a good copy until then, since right bytes cannot make it worse.
            Some(_) => {}
            None => {
                if self.rows.is_empty() {
                    self.touch(now);
                }
                let mut row = Row::new(Desired::Absent, above(self.floor, now), now);
                row.due_at = Some(now);
                self.rows.insert(zone.clone(), row);
            }
        }
    }

    /// [`forget`](crate::ledger::PlacementLedger::forget): whether there is no placement in the zone any more. The caller remembers what
    /// [`floor_without`](Self::floor_without) says of the row that goes.
    pub fn forget(&mut self, zone: &ZoneId, now: Timestamp) -> bool {
        let is_elsewhere =
            |other: &ZoneId, row: &Row| other != zone && row.desired == Desired::Present && row.observed == Observed::Present;
        let Some(row) = self.rows.get(zone) else { return true };
        if row.is_leased(now) || row.fence.max(row.old_fence) > now {
            // What was sent may yet arrive, and take away what is written there if the zone stays after all.
            return false;
        }
        let is_gone = row.desired == Desired::Absent && row.observed == Observed::Absent;
        if is_gone || !self.is_visible() || self.rows.iter().any(|(other, row)| is_elsewhere(other, row)) {
            self.rows.remove(zone);
            return true;
        }
        false
    }

    /// [`replay`](crate::ledger::PlacementLedger::replay); returns how many placements it was about.
    pub fn replay(&mut self, zone: Option<&ZoneId>, now: Timestamp) -> u64 {
        let mut count = 0;
        for (at, row) in &mut self.rows {
            if row.attempts > 0 && !row.is_leased(now) && zone.is_none_or(|zone| zone == at) {
                row.attempts = 0;
                row.reschedule(now, now);
                count += 1;
            }
        }
        count
    }
}
