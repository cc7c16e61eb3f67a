//! What workers do to the placements of a blob.

use std::time::Duration;

use bytes::Bytes;
use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use super::row::GONE;
use super::{Blob, Lease, Row};
use crate::ledger::{Claim, Desired, Observed, Outcome, Task, TaskKind};

fn lost(digest: Digest) -> Error {
    Error::new(ErrorKind::LeaseLost, "the work was changed, or given to another").with_key(digest)
}

impl Row {
    /// What there is to do, if anybody can do it who reads from what `has_source` is about, and if the other placements are as `others_are_safe` says.
    fn work(&self, has_source: bool, others_are_safe: bool) -> Option<TaskKind> {
        match (self.desired, self.observed) {
            (Desired::Present, Observed::Present) | (Desired::Absent, Observed::Absent) => None,
            (Desired::Present, Observed::Suspect | Observed::Damaged) => Some(TaskKind::Verify),
            (Desired::Present, _) => has_source.then_some(TaskKind::Copy),
            (Desired::Absent, _) if others_are_safe => Some(TaskKind::Delete),
            // Those that are wanted are made from it.
            (Desired::Absent, Observed::Present) => None,
            // Or can be, if it is good: one that was to be deleted may still be there.
            (Desired::Absent, _) => Some(TaskKind::Verify),
        }
    }

    fn lend(&mut self, kind: TaskKind, lease: Duration, now: Timestamp) -> Lease {
        if self.lease.is_some() {
            // It ran out, and nobody has said why.
            self.failed("the worker that had it has vanished", now);
        }
        if self.observed != Observed::Present {
            // Only a good copy that a single worker is about to delete is a good one again if he spares it.
            self.verified_at = None;
        }
        match (kind, self.observed) {
            (TaskKind::Delete, _) => {
                self.observed = Observed::Deleting;
                self.progress = None;
            }
            // The delete is over. While it stands, the fence would be taken for a deleter's.
            (TaskKind::Copy | TaskKind::Verify, Observed::Deleting) => self.observed = Observed::Unknown,
            _ => {}
        }
        let lent = Lease { id: registry_core::random_id(), until: now + lease };
        self.epoch += 1;
        self.old_fence = self.old_fence.max(self.fence);
        self.fence = lent.until + lease / 2;
        self.due_at = Some(if kind == TaskKind::Delete { self.fence } else { lent.until });
        self.lease = Some(lent.clone());
        lent
    }

    fn is_lent(&self, lease_id: &str) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.id == lease_id)
    }
}

impl Blob {
    /// Takes what there is to do in a zone, if it is due and can be done; otherwise sees to it that somebody looks again later. See
    /// [`claim`](crate::ledger::PlacementLedger::claim), of which this is the part about one blob.
    pub fn take(&mut self, claim: &Claim, now: Timestamp) -> Option<Task> {
        let has_source = self.has_source(&claim.zone, Some(&claim.sources));
        let others_are_safe = self.is_safe();
        let row = self.rows.get_mut(&claim.zone).filter(|row| row.due_at.is_some_and(|due| due <= now))?;
        if row.busy_until() > now {
            row.due_at = Some(row.busy_until());
            return None;
        }
        let work = row.work(has_source, others_are_safe);
        if work == Some(TaskKind::Delete) && row.keep_until > now {
            row.due_at = Some(row.keep_until);
            return None;
        }
        let Some(kind) = work else {
            let waited = row.since.map_or(Duration::ZERO, |since| now.since(since));
            let pause = (waited / 8).clamp(claim.look_again, claim.look_again * 30);
            row.due_at = (!row.is_settled()).then_some(now + pause);
            return None;
        };
        let was_lost = row.observed == Observed::Quarantined || (row.observed == Observed::Absent && row.is_known_to_be_gone());
        let is_trusted = row.desired == Desired::Present && row.observed != Observed::Damaged;
        let lease = row.lend(kind, claim.lease, now);
        let mut task = Task::new(self.digest, claim.zone.clone(), kind, row.generation, lease.id);
        task.size = self.size;
        task.epoch = row.epoch;
        task.attempts = row.attempts;
        task.progress.clone_from(&row.progress);
        task.repairs = kind == TaskKind::Copy && was_lost;
        task.is_trusted = kind == TaskKind::Verify && is_trusted;
        Some(task)
    }

    /// The row that the task has claimed.
    fn claimed(&mut self, task: &Task) -> Result<&mut Row> {
        let row = self.rows.get_mut(&task.zone).filter(|row| row.is_lent(&task.lease_id));
        row.ok_or_else(|| lost(task.digest))
    }

    /// [`renew`](crate::ledger::PlacementLedger::renew).
    pub fn renew(&mut self, task: &Task, lease: Duration, progress: Option<Bytes>, now: Timestamp) -> Result<()> {
        let row = self.claimed(task)?;
        let is_delete = task.kind == TaskKind::Delete;
        // Once the fence is over, somebody may have been told that they can write.
        if if is_delete { !row.is_fenced(now) } else { row.generation != task.generation } {
            return Err(lost(task.digest));
        }
        let until = now + lease;
        // What was sent before this may have been given longer.
        row.fence = row.fence.max(until + lease / 2);
        row.due_at = Some(if is_delete { row.busy_until() } else { until });
        if let Some(held) = &mut row.lease {
            held.until = until;
        }
        if progress.is_some() {
            row.progress = progress;
        }
        Ok(())
    }

    /// [`complete`](crate::ledger::PlacementLedger::complete). If the lease is lost because the generation moved on, the worker has let go of the row,
    /// which is to be stored all the same.
    pub fn complete(&mut self, task: &Task, outcome: &Outcome, now: Timestamp) -> Result<Duration> {
        if (task.kind == TaskKind::Delete) != matches!(outcome, Outcome::Deleted | Outcome::Spared { .. }) {
            let message = format!("a task to {} cannot end like this", task.kind.as_str());
            return Err(Error::new(ErrorKind::InvalidInput, message).with_key(task.digest));
        }
        let has_source = self.has_source(&task.zone, None);
        let row = self.claimed(task)?;
        let waited = row.waits_since().map_or(Duration::ZERO, |since| now.since(since));
        row.release();
        row.progress = None;
        if row.generation != task.generation && task.kind != TaskKind::Delete {
            row.reschedule(now, now);
            return Err(lost(task.digest));
        }
        match outcome {
            Outcome::Copied(size) | Outcome::Verified(size) => {
                row.good(now);
                self.size = Some(*size);
                self.wake(&task.zone, now);
            }
            Outcome::Wrong { reason, .. } if has_source => {
                row.observed = Observed::Quarantined;
                row.note(reason);
                row.attempts = 0;
                row.reschedule(now, now);
            }
            Outcome::Wrong { reason, look_again } => {
                row.observed = Observed::Damaged;
                row.failed(reason, now);
                row.reschedule(now + *look_again, now);
            }
            Outcome::Missing => {
                row.observed = Observed::Absent;
                row.verified_at = None;
                row.note(GONE);
                row.reschedule(now, now);
            }
            Outcome::Spared { reason, look_again } => {
                // What was known of it before is true again.
                row.observed = if row.verified_at.is_some() { Observed::Present } else { Observed::Unknown };
                row.failed(reason, now);
                row.reschedule(now + *look_again, now);
                if row.is_settled() {
                    row.attempts = 0;
                }
                if row.verified_at.is_some() {
                    self.wake(&task.zone, now);
                }
            }
            Outcome::Deleted => {
                // Bytes came to it while it was deleted: see `Blob::stray`.
                let once_more = row.desired == Desired::Absent && row.generation != task.generation;
                row.observed = if once_more { Observed::Unknown } else { Observed::Absent };
                row.verified_at = None;
                row.attempts = 0;
                row.last_error = None;
                row.reschedule(now, now);
            }
        }
        Ok(waited)
    }

    /// [`defer`](crate::ledger::PlacementLedger::defer).
    pub fn defer(&mut self, task: &Task, delay: Duration, error: &str, now: Timestamp) -> Result<()> {
        if let Some(row) = self.take_back(task, now)? {
            row.failed(error, now);
            row.reschedule(now + delay, now);
        }
        Ok(())
    }

    /// [`give_back`](crate::ledger::PlacementLedger::give_back).
    pub fn give_back(&mut self, task: &Task, now: Timestamp) -> Result<()> {
        self.take_back(task, now).map(drop)
    }

    /// The worker does not go on with it. The row, if it is still about the same.
    fn take_back(&mut self, task: &Task, now: Timestamp) -> Result<Option<&mut Row>> {
        let row = self.claimed(task)?;
        // What was sent may yet arrive, so the fence stays.
        row.lease = None;
        let is_same = task.kind == TaskKind::Delete || row.generation == task.generation;
        if !is_same {
            row.progress = None;
        }
        row.reschedule(now, now);
        Ok(is_same.then_some(row))
    }
}
