//! Jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use registry_core::{Error, ErrorKind, Result, Timestamp};
use replication::ledger::rules::{JobRow, lost};
use replication::ledger::{Job, JobKind, JobState, ZoneId, ZoneState};

use super::rows::text;
use super::zones::state_of;
use crate::driver::{Command, Query, Reader, Row, Transaction, params};

/// Jobs that have ended and are remembered.
const ENDED: u64 = 100;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, zone, state, done, total, begun_at, updated_at, lease, lease_until, note, error, marker, counts FROM jobs ",
            $rest
        )
    };
}

/// The job of a row; `None` if a newer release has begun it, and this one does not know what it is about.
fn job(mut row: Row) -> Result<Option<JobRow>> {
    let Some(kind) = JobKind::from_name(&row.text(1)?) else { return Ok(None) };
    let zone = row.opt_text(2)?.map(ZoneId::new);
    let mut job = Job::new(kind, zone, row.time(6)?);
    job.id = row.text(0)?;
    let state = row.unsigned(3)?;
    job.state = usize::try_from(state).ok().and_then(|state| JobState::ALL.get(state)).copied().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("a job in the database is in the state {state}, which nobody has given it"))
    })?;
    job.done = row.unsigned(4)?;
    job.total = row.opt_int(5)?.map(|total| u64::try_from(total).unwrap_or(0));
    job.updated_at = row.time(7)?;
    job.lease_id = row.opt_text(8)?;
    let leased_until = row.time(9)?;
    job.note = row.text(10)?;
    job.error = row.opt_text(11)?;
    job.marker = row.bytes(12)?;
    job.counts = counts(&row.text(13)?);
    Ok(Some(JobRow::stored(job, leased_until)))
}

/// What is not understood of it was written by a newer release, and is not told.
fn counts(text: &str) -> BTreeMap<String, u64> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?)))
        .collect()
}

/// The jobs that have not ended, oldest first.
async fn open<R: Reader>(reader: &mut R) -> Result<Vec<JobRow>> {
    let rows = reader.query(select!("WHERE state = 0 ORDER BY number"), &[]).await?;
    rows.into_iter().filter_map(|row| job(row).transpose()).collect()
}

async fn store<T: Transaction>(transaction: &mut T, row: &JobRow) -> Result<()> {
    let Job { id, state, done, total, updated_at, lease_id, note, counts, error, marker, .. } = &row.job;
    let counts: Vec<_> = counts.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let state = JobState::ALL.iter().position(|known| known == state).unwrap_or(0) as u64;
    let sql = "UPDATE jobs SET state = ?2, done = ?3, total = ?4, updated_at = ?5, lease = ?6, lease_until = ?7, note = ?8, error = ?9, marker = ?10, counts = ?11
        WHERE id = ?1";
    let values = params![
        id,
        state,
        *done,
        *total,
        *updated_at,
        lease_id.as_ref(),
        row.leased_until,
        text(note),
        error.as_ref().map(|error| text(error)),
        marker,
        counts.join(" ")
    ];
    transaction.execute(sql, values).await.map(drop)
}

/// [`begin_job`](replication::ledger::PlacementLedger::begin_job).
pub(crate) struct BeginJob {
    pub(crate) kind: JobKind,
    pub(crate) zone: Option<ZoneId>,
    pub(crate) marker: Bytes,
}

impl Command for BeginJob {
    type Output = Job;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Job> {
        let now = transaction.now().await?;
        if let Some(zone) = &self.zone
            && state_of(transaction, zone).await? == Some(ZoneState::Removed)
        {
            return Err(Error::new(ErrorKind::NotFound, "the zone was removed").with_key(zone));
        }
        if let Some(row) = open(transaction).await?.into_iter().find(|row| row.is_open_for(self.kind, self.zone.as_ref())) {
            return Ok(row.seen(now));
        }
        let row = JobRow::new(self.kind, self.zone.clone(), self.marker.clone(), now);
        let sql = "INSERT INTO jobs (id, kind, zone, state, done, begun_at, updated_at, lease_until, note, counts, marker)
            VALUES (?1, ?2, ?3, 0, 0, ?4, ?4, 0, '', '', ?5)";
        let zone = row.job.zone.as_ref().map(|zone| zone.as_str().to_owned());
        transaction.execute(sql, params![&row.job.id, row.job.kind.as_str(), zone.as_ref(), now, &row.job.marker]).await?;
        let sql = "DELETE FROM jobs WHERE state <> 0 AND number <= (SELECT number FROM jobs WHERE state <> 0 ORDER BY number DESC LIMIT 1 OFFSET ?1)";
        transaction.execute(sql, params![ENDED]).await?;
        Ok(row.seen(now))
    }
}

/// [`take_job`](replication::ledger::PlacementLedger::take_job).
pub(crate) struct TakeJob {
    pub(crate) zones: Vec<ZoneId>,
    pub(crate) lease: Duration,
}

impl TakeJob {
    async fn find<R: Reader>(&self, reader: &mut R) -> Result<Option<(JobRow, Timestamp)>> {
        let rows = open(reader).await?;
        let now = reader.now().await?;
        let is_ours = |row: &JobRow| row.is_free(now) && row.job.zone.as_ref().is_none_or(|zone| self.zones.contains(zone));
        Ok(rows.into_iter().find(is_ours).map(|row| (row, now)))
    }
}

/// Whether there is one: beside the writers, since mostly there is not.
impl Query for TakeJob {
    type Output = bool;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<bool> {
        Ok(self.find(reader).await?.is_some())
    }
}

impl Command for TakeJob {
    type Output = Option<Job>;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Option<Job>> {
        let Some((mut row, now)) = self.find(transaction).await? else { return Ok(None) };
        let job = row.take(self.lease, now)?;
        store(transaction, &row).await?;
        Ok(Some(job))
    }
}

/// What whoever has a job says of it. May be lost with the power if it has not ended.
pub(crate) struct NoteJob<const ENDS: bool> {
    pub(crate) job: Job,
    pub(crate) lease: Duration,
}

impl<const ENDS: bool> Command for NoteJob<ENDS> {
    type Output = ();
    const DURABLE: bool = ENDS;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let found = transaction.query(select!("WHERE id = ?1"), params![&self.job.id]).await?.pop();
        let mut row = found.map_or(Ok(None), job)?.ok_or_else(|| lost(&self.job))?;
        let now = transaction.now().await?;
        if ENDS {
            row.end(&self.job, now)?;
        } else {
            row.save(&self.job, self.lease, now)?;
        }
        store(transaction, &row).await
    }
}

/// [`cancel_job`](replication::ledger::PlacementLedger::cancel_job).
pub(crate) struct CancelJob {
    pub(crate) kind: JobKind,
    pub(crate) zone: Option<ZoneId>,
}

impl Command for CancelJob {
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<bool> {
        let row = open(transaction).await?.into_iter().find(|row| row.is_open_for(self.kind, self.zone.as_ref()));
        let Some(mut row) = row else { return Ok(false) };
        row.conclude(JobState::Cancelled, transaction.now().await?);
        store(transaction, &row).await?;
        Ok(true)
    }
}

/// Ends the jobs about a zone that is none of the registry's any more.
pub(super) async fn conclude<T: Transaction>(transaction: &mut T, zone: &ZoneId) -> Result<()> {
    for mut row in open(transaction).await?.into_iter().filter(|row| row.job.zone.as_ref() == Some(zone)) {
        row.conclude(JobState::Done, transaction.now().await?);
        store(transaction, &row).await?;
    }
    Ok(())
}

/// [`jobs`](replication::ledger::PlacementLedger::jobs).
pub(crate) struct Jobs(pub(crate) u32);

impl Query for Jobs {
    type Output = Vec<Job>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Job>> {
        let (rows, now) =
            reader.query_now(select!("ORDER BY CASE WHEN state = 0 THEN 0 ELSE 1 END, number DESC LIMIT ?1"), params![self.0]).await?;
        rows.into_iter().filter_map(|row| job(row).transpose()).map(|row| Ok(row?.seen(now))).collect()
    }
}
