//! [`JobRow`]: a job, and what those who do it do to it.

use std::time::Duration;

use bytes::Bytes;
use registry_core::{Error, ErrorKind, Result, Timestamp};

use super::row::short;
use crate::ledger::{Job, JobKind, JobState, ZoneId};

/// A job, as a ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobRow {
    /// The job. Its [`lease_id`](Job::lease_id) is that of whoever had it last, alive or not.
    pub job: Job,
    /// Until when it is theirs.
    pub leased_until: Timestamp,
}

impl JobRow {
    /// A job that was just begun, and that nobody has yet.
    pub fn new(kind: JobKind, zone: Option<ZoneId>, marker: Bytes, now: Timestamp) -> Self {
        let mut job = Job::new(kind, zone, now);
        job.marker = marker;
        Self { job, leased_until: Timestamp::default() }
    }

    /// A job as it was stored.
    pub fn stored(job: Job, leased_until: Timestamp) -> Self {
        Self { job, leased_until }
    }

    /// Whether this is the one to go on with rather than to begin another.
    pub fn is_open_for(&self, kind: JobKind, zone: Option<&ZoneId>) -> bool {
        self.job.is_open() && self.job.kind == kind && self.job.zone.as_ref() == zone
    }

    /// Whether somebody can take it up.
    pub fn is_free(&self, now: Timestamp) -> bool {
        self.job.is_open() && (self.job.lease_id.is_none() || self.leased_until <= now)
    }

    /// Takes it up.
    pub fn take(&mut self, lease: Duration, now: Timestamp) -> Result<Job> {
        if !self.is_free(now) {
            return Err(Error::new(ErrorKind::Conflict, "another process is at it").with_key(&self.job.id));
        }
        self.job.lease_id = Some(registry_core::random_id());
        self.leased_until = now + lease;
        Ok(self.job.clone())
    }

    fn held_by(&mut self, job: &Job) -> Result<&mut Self> {
        let is_theirs = self.job.is_open() && self.job.lease_id.is_some() && self.job.lease_id == job.lease_id;
        if is_theirs { Ok(self) } else { Err(lost(job)) }
    }

    /// [`save_job`](crate::ledger::PlacementLedger::save_job).
    pub fn save(&mut self, job: &Job, lease: Duration, now: Timestamp) -> Result<()> {
        let row = self.held_by(job)?;
        row.note(job, now);
        row.leased_until = now + lease;
        Ok(())
    }

    /// [`end_job`](crate::ledger::PlacementLedger::end_job).
    pub fn end(&mut self, job: &Job, now: Timestamp) -> Result<()> {
        let row = self.held_by(job)?;
        row.note(job, now);
        row.job.state = job.state;
        row.job.error = job.error.as_deref().map(short);
        row.job.lease_id = None;
        Ok(())
    }

    /// Ends it, whoever has it: see [`cancel_job`](crate::ledger::PlacementLedger::cancel_job) and
    /// [`remove_zone`](crate::ledger::PlacementLedger::remove_zone).
    pub fn conclude(&mut self, state: JobState, now: Timestamp) {
        self.job.state = state;
        self.job.updated_at = now;
        self.job.lease_id = None;
    }

    fn note(&mut self, job: &Job, now: Timestamp) {
        self.job.done = job.done;
        self.job.total = job.total;
        self.job.note = short(&job.note);
        self.job.counts.clone_from(&job.counts);
        self.job.marker = job.marker.clone();
        self.job.updated_at = now;
    }

    /// What onlookers see of it.
    pub fn seen(&self, now: Timestamp) -> Job {
        let mut job = self.job.clone();
        if self.leased_until <= now {
            job.lease_id = None;
        }
        job
    }
}

/// What whoever has lost a job is told.
pub fn lost(job: &Job) -> Error {
    Error::new(ErrorKind::LeaseLost, "the job has ended, or another process has it").with_key(&job.id)
}
