//! [`Row`]: one placement.

use bytes::Bytes;
use registry_core::{Digest, Timestamp};

use super::Blob;
use crate::ledger::{Desired, Observed, Placement, ZoneId};

/// How much of an error's text is kept, in bytes: what a store answers can be of any length.
const LONGEST_ERROR: usize = 2000;

/// What is noted of a copy that should have been there, and of every failure to make it again.
pub(super) const GONE: &str = "it was not there";

/// What is kept of a text that may be of any length.
pub(super) fn short(text: &str) -> String {
    let mut end = text.len().min(LONGEST_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// One placement, as a ledger keeps it.
///
/// Between two commands, a row has a [`since`](Self::since) exactly if what is differs from what is to be, and only then a [`due_at`](Self::due_at) and
/// [`attempts`](Self::attempts); so a database can find what is still to be done by an index on that alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// As [`Placement::desired`].
    pub desired: Desired,
    /// As [`Placement::generation`].
    pub generation: u64,
    /// As [`Placement::observed`].
    pub observed: Observed,
    /// As [`Placement::verified_at`].
    pub verified_at: Option<Timestamp>,
    /// As [`Placement::since`].
    pub since: Option<Timestamp>,
    /// As [`Placement::due_at`]. Never within a fence, a lease, or the delay before a copy that is not wanted goes.
    pub due_at: Option<Timestamp>,
    /// The worker that has it, or vanished with it.
    pub lease: Option<Lease>,
    /// Until when whoever had it last may still be at it: writing, or deleting. `Timestamp::default()` once they said that they are done.
    pub fence: Timestamp,
    /// The same of those who had it before and never said so.
    pub old_fence: Timestamp,
    /// A copy that is not wanted is kept until then.
    pub keep_until: Timestamp,
    /// How often it was claimed.
    pub epoch: u64,
    /// As [`Placement::attempts`].
    pub attempts: u32,
    /// As [`Placement::last_error`].
    pub last_error: Option<String>,
    /// When it failed the last time.
    pub failed_at: Timestamp,
    /// As [`Task::progress`](crate::ledger::Task::progress).
    pub progress: Option<Bytes>,
    /// When it became what it was to be.
    pub settled_at: Timestamp,
}

/// A worker's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// As [`Task::lease_id`](crate::ledger::Task::lease_id).
    pub id: String,
    /// When it runs out.
    pub until: Timestamp,
}

impl Row {
    /// A new row: nobody has looked.
    pub fn new(desired: Desired, generation: u64, now: Timestamp) -> Self {
        Self {
            desired,
            generation,
            observed: Observed::Unknown,
            verified_at: None,
            since: Some(now),
            due_at: None,
            lease: None,
            fence: Timestamp::default(),
            old_fence: Timestamp::default(),
            keep_until: Timestamp::default(),
            epoch: 0,
            attempts: 0,
            last_error: None,
            failed_at: Timestamp::default(),
            progress: None,
            settled_at: now,
        }
    }

    /// Whether what is and what is to be agree.
    pub fn is_settled(&self) -> bool {
        matches!((self.desired, self.observed), (Desired::Present, Observed::Present) | (Desired::Absent, Observed::Absent))
    }

    /// Whether it is absent as desired since that time at least, so that [`tidy`](crate::ledger::PlacementLedger::tidy) may drop it.
    pub fn is_gone_since(&self, time: Timestamp) -> bool {
        self.desired == Desired::Absent && self.observed == Observed::Absent && self.settled_at <= time
    }

    /// Since when it waits to become what it is to be. For a copy that is not wanted, that is since it need not be kept any more, and so may be to come.
    pub fn waits_since(&self) -> Option<Timestamp> {
        match self.desired {
            Desired::Present => self.since,
            Desired::Absent => self.since.map(|since| since.max(self.keep_until)),
        }
    }

    /// Whether a worker has it.
    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until > now)
    }

    /// Whether a delete may be on its way.
    pub(super) fn is_fenced(&self, now: Timestamp) -> bool {
        self.observed == Observed::Deleting && self.fence > now
    }

    /// Whether something that is seen there is news, and nobody is deleting it.
    pub(super) fn may_be_found(&self, now: Timestamp) -> bool {
        matches!(self.observed, Observed::Unknown | Observed::Absent) || (self.observed == Observed::Deleting && !self.is_fenced(now))
    }

    /// Until when no work may be begun here.
    pub(super) fn busy_until(&self) -> Timestamp {
        match &self.lease {
            // Not before it may be deleted: it may have to be verified while it is kept.
            _ if self.desired == Desired::Absent => self.fence.max(self.old_fence),
            _ if self.observed == Observed::Deleting => self.fence,
            Some(lease) => lease.until,
            None => Timestamp::default(),
        }
    }

    /// After any change of what is or is to be: there is nothing more to do, or something at `due`, but not while it is busy.
    pub(super) fn reschedule(&mut self, due: Timestamp, now: Timestamp) {
        if self.is_settled() {
            self.since = None;
            self.due_at = None;
            self.settled_at = now;
        } else {
            self.since.get_or_insert(now);
            self.due_at = Some(due.max(self.busy_until()));
        }
    }

    /// A copy that is owed is due at once.
    pub fn hasten(&mut self, now: Timestamp) {
        if self.desired == Desired::Present && !self.is_leased(now) && self.due_at.is_some_and(|due| due > now) {
            self.due_at = Some(now.max(self.busy_until()));
        }
    }

    /// From now on the copy is to be there.
    pub(super) fn want(&mut self, generation: u64, now: Timestamp) {
        self.desired = Desired::Present;
        self.generation = generation;
        self.keep_until = Timestamp::default();
        if self.is_known_to_be_gone() {
            // It was not to be there.
            self.last_error = None;
        }
        self.since = None;
        self.attempts = 0;
        self.reschedule(now, now);
    }

    /// From now on it is not, and goes at `keep_until`.
    pub(super) fn condemn(&mut self, generation: u64, keep_until: Timestamp, now: Timestamp) {
        self.desired = Desired::Absent;
        self.generation = generation;
        self.keep_until = keep_until;
        self.since = None;
        self.attempts = 0;
        if self.observed == Observed::Absent {
            // It was to be there: whoever saw to that may have it on its way.
            self.observed = Observed::Unknown;
        }
        self.reschedule(keep_until, now);
    }

    /// The copy is good. A worker that is still writing here keeps its fence: its bytes may yet arrive.
    pub(super) fn good(&mut self, now: Timestamp) {
        self.observed = Observed::Present;
        self.verified_at = Some(now);
        self.lease = None;
        self.progress = None;
        self.attempts = 0;
        self.last_error = None;
        self.reschedule(now, now);
    }

    pub(super) fn failed(&mut self, error: &str, now: Timestamp) {
        self.attempts = self.attempts.saturating_add(1);
        if self.is_known_to_be_gone() {
            self.note(&format!("{GONE}; {error}"));
        } else {
            self.note(error);
        }
        self.failed_at = now;
    }

    /// Whether a copy that should have been there was not, since it was wanted.
    pub(super) fn is_known_to_be_gone(&self) -> bool {
        self.last_error.as_ref().is_some_and(|error| error.starts_with(GONE))
    }

    pub(super) fn note(&mut self, error: &str) {
        self.last_error = Some(short(error));
    }

    /// The worker that had it is done with it.
    pub(super) fn release(&mut self) {
        self.lease = None;
        self.fence = self.old_fence;
    }

    /// What onlookers see of it.
    pub fn placement(&self, digest: Digest, zone: &ZoneId, blob: &Blob, now: Timestamp) -> Placement {
        let mut placement = Placement::new(digest, zone.clone(), self.desired, self.generation);
        placement.size = blob.size;
        placement.observed = self.observed;
        placement.touched_at = blob.touched_at;
        placement.verified_at = self.verified_at;
        placement.since = self.since;
        placement.due_at = self.due_at;
        placement.leased = self.is_leased(now);
        placement.attempts = self.attempts;
        placement.last_error.clone_from(&self.last_error);
        placement
    }
}
