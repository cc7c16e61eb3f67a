//! Comparing what is in a zone with what the ledger and the metadata say of it, and making the ledger true.
//!
//! It never does harm. A zone is counted first, and if more than a twentieth of what is to be there is not, it is not believed: it is the wrong place, or somebody
//! has to have a look. Nothing is deleted or lowered on the word of a list: a blob that a list misses is asked for by name; bytes that nobody knows of go
//! only if the metadata answered that it does not know them either, and if they have been there for a while. What is found is verified before it is trusted.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use registry_core::blob::{BlobInfo, ItemStream, ListOptions};
use registry_core::metadata::HeldBlob;
use registry_core::{Digest, Error, ErrorKind, MetadataStore, RepositoryName, Result, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{End, save, zone_of};
use crate::cluster::{Cluster, is_visible};
use crate::ledger::{Desired, Job, JobState, ListPlacements, Observed, Placement, Sighting, ZoneId, ZoneState};
use crate::member::{Member, in_time};
use crate::reconcile;
use crate::workers::Stop;

/// Placements that are looked at in one go.
const PAGE: u32 = 500;

/// Shards of a zone.
const SHARDS: u16 = 256;

/// A zone that lacks more than one in so many is not believed …
const MOST_MISSING: u64 = 20;

/// … unless it lacks no more than so many.
const FEW: u64 = 10;

/// Where a reconciliation stands: each shard is counted, and then each is put right.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Marker {
    /// When it was begun, by this process's clock: what came later is not its business. In milliseconds since 1970.
    since: i64,
    /// Shards that were counted, and that were put right.
    counted: u16,
    righted: u16,
    /// Copies that are to be in the zone, and that are not.
    expected: u64,
    missing: u64,
}

impl Marker {
    fn read(job: &Job, now: Timestamp) -> Self {
        let begun = Self { since: now.as_millis(), ..Self::default() };
        if job.marker.is_empty() { begun } else { serde_json::from_slice(&job.marker).unwrap_or(begun) }
    }

    fn write(self, job: &mut Job) -> Result<()> {
        let text = serde_json::to_vec(&self).map_err(|error| Error::new(ErrorKind::Internal, "encoding a marker").with_source(error))?;
        job.marker = text.into();
        job.done = u64::from(self.counted) + u64::from(self.righted);
        job.total = Some(u64::from(SHARDS) * 2);
        Ok(())
    }

    fn is_too_much(self) -> bool {
        self.missing > FEW && self.missing * MOST_MISSING > self.expected
    }
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<End> {
    let member = Arc::clone(zone_of(cluster, job)?);
    let mut marker = Marker::read(job, cluster.clock.now());
    loop {
        cluster.hear_states().await?;
        if member.state() == ZoneState::Removed {
            return Ok(End::Ended(JobState::Cancelled));
        }
        // A zone that is not the one it was lacks everything, and that means nothing.
        let zone = member.confirm(&*cluster.ledger, cluster.options.request_timeout).await?;
        if stop.is_set() {
            return Ok(End::Stopped);
        }
        let began = Instant::now();
        let mut work = Work { cluster, member: &member, zone: &zone, since: Timestamp::from_millis(marker.since), saved: Instant::now() };
        if marker.counted < SHARDS {
            let (expected, missing) = work.count(job, shard(marker.counted)).await?;
            marker.counted += 1;
            marker.expected += expected;
            marker.missing += missing;
            if marker.counted == SHARDS && marker.is_too_much() {
                let message = format!(
                    "{} of the {} blobs that are to be in the zone are not: nothing was changed. Is it the right place? If it is, and they are lost, drain it \
                     and remove it",
                    marker.missing, marker.expected
                );
                return Err(Error::new(ErrorKind::Corrupt, message).with_zone(&member.name));
            }
        } else if marker.righted < SHARDS {
            work.put_right(job, shard(marker.righted)).await?;
            marker.righted += 1;
        } else {
            return Ok(End::Ended(JobState::Done));
        }
        marker.write(job)?;
        save(cluster, job).await?;
        if stop.sleep(cluster.background_pause(began.elapsed())).await {
            return Ok(End::Stopped);
        }
    }
}

fn shard(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// What is done to one shard of one zone.
struct Work<'a> {
    cluster: &'a Arc<Cluster>,
    member: &'a Member,
    zone: &'a ZoneId,
    since: Timestamp,
    saved: Instant,
}

impl Work<'_> {
    /// Keeps the job, from time to time.
    async fn keep(&mut self, job: &Job) -> Result<()> {
        if self.saved.elapsed() > self.cluster.options.lease / 4 {
            save(self.cluster, job).await?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    /// How many copies are to be there, and how many of them are not.
    async fn count(&mut self, job: &Job, shard: u8) -> Result<(u64, u64)> {
        let (mut expected, mut missing) = (0, 0);
        let mut both = Both::new(self.cluster, self.member, self.zone, shard);
        while let Some((digest, found, row)) = both.next().await? {
            self.keep(job).await?;
            let Some(row) = row.filter(is_trusted) else { continue };
            expected += 1;
            if found.is_none() && self.is_missing(&digest, &row).await? {
                missing += 1;
            }
        }
        Ok((expected, missing))
    }

    /// Whether a copy that a list does not have is not there.
    async fn is_missing(&self, digest: &Digest, row: &Placement) -> Result<bool> {
        match self.member.ask(&self.cluster.options, self.member.store.stat(digest)).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It may have been deleted since the list was read.
                Ok(self.row(digest).await?.is_some_and(|now| now.generation == row.generation && is_trusted(&now)))
            }
            Err(error) => Err(error),
        }
    }

    /// The placement as it is now.
    async fn row(&self, digest: &Digest) -> Result<Option<Placement>> {
        let placements = self.cluster.ledger.placements(&[*digest]).await?;
        Ok(placements.into_iter().find(|placement| placement.zone == *self.zone))
    }

    async fn put_right(&mut self, job: &mut Job, shard: u8) -> Result<()> {
        let mut both = Both::new(self.cluster, self.member, self.zone, shard);
        let mut wanted = Vec::new();
        while let Some((digest, found, row)) = both.next().await? {
            self.keep(job).await?;
            // One that was deleted, and that nobody expects, is nothing to look at.
            let is_expected = row.as_ref().is_some_and(|row| row.desired == Desired::Present);
            job.count("blobs", u64::from(found.is_some() || is_expected));
            if let Some(row) = row.as_ref().filter(|row| row.desired == Desired::Present) {
                wanted.push((digest, row.touched_at));
            }
            if wanted.len() >= PAGE as usize {
                self.let_go(job, &std::mem::take(&mut wanted)).await?;
            }
            match (found, row) {
                (Some(info), Some(row)) => self.compare(job, &info, &row).await?,
                (Some(info), None) => self.unexpected(job, &info).await?,
                (None, Some(row)) if is_trusted(&row) && self.is_missing(&digest, &row).await? => {
                    self.cluster.suspect(self.member, &digest, row.generation, "it is not there").await;
                    job.count("missing", 1);
                }
                _ => {}
            }
        }
        self.let_go(job, &wanted).await?;
        self.cluster.wake(&self.cluster.ids());
        Ok(())
    }

    /// Bytes that the ledger knows of.
    async fn compare(&self, job: &mut Job, info: &BlobInfo, row: &Placement) -> Result<()> {
        let ledger = &self.cluster.ledger;
        match (row.desired, row.observed) {
            _ if row.leased => {}
            (Desired::Present, Observed::Present) if row.size.is_some_and(|size| size != info.size) => {
                let reason = format!("it has {} bytes instead of {}", info.size, row.size.unwrap_or(0));
                self.cluster.suspect(self.member, &info.digest, row.generation, &reason).await;
                job.count("wrong_size", 1);
            }
            (Desired::Present, Observed::Unknown | Observed::Absent) => {
                ledger.observe(&info.digest, self.zone, row.generation, &Sighting::Found(info.size)).await?;
                job.count("found", 1);
            }
            // What a list still has may be gone.
            (Desired::Absent, Observed::Absent) if !self.is_young(info) && self.is_there(&info.digest).await? => {
                ledger.stray(&info.digest, self.zone).await?;
                job.count("stray", 1);
            }
            _ => {}
        }
        Ok(())
    }

    async fn is_there(&self, digest: &Digest) -> Result<bool> {
        match self.member.ask(&self.cluster.options, self.member.store.stat(digest)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it came after the comparison was begun, or so shortly before that somebody may be at it.
    fn is_young(&self, info: &BlobInfo) -> bool {
        info.modified.is_some_and(|modified| modified + self.cluster.options.keep_unknown > self.since)
    }

    /// Bytes of which the ledger knows nothing in this zone.
    async fn unexpected(&self, job: &mut Job, info: &BlobInfo) -> Result<()> {
        let (cluster, digest) = (self.cluster, &info.digest);
        let Some(metadata) = &cluster.metadata else {
            job.count("unknown", 1);
            return Ok(());
        };
        let holders = metadata.holders(digest).await?;
        let placements = cluster.ledger.placements(&[*digest]).await?;
        if placements.iter().any(|placement| placement.zone == *self.zone) || !self.is_there(digest).await? {
            return Ok(());
        }
        if !holders.is_empty() {
            return self.held(job, info, &**metadata, holders, &placements).await;
        }
        if metadata.unknown_blobs(&[*digest]).await?.is_empty() {
            // Somebody is about to link it, or garbage collection to delete it.
            job.count("unheld", 1);
            return Ok(());
        }
        if self.is_young(info) {
            job.count("young", 1);
            return Ok(());
        }
        tracing::warn!(zone = self.member.name, %digest, size = info.size, "nobody knows this blob: it is deleted");
        // How old it is may not be known; then it is kept for as long from now on.
        let keep = if info.modified.is_some() { cluster.options.trash_delay } else { cluster.options.keep_unknown };
        let zones = std::slice::from_ref(self.zone);
        match cluster.ledger.condemn(digest, Some(Timestamp::default()), keep, zones).await {
            Ok(()) => {}
            // It has placements in other zones.
            Err(error) if error.kind() == ErrorKind::Conflict => cluster.ledger.stray(digest, self.zone).await?,
            Err(error) => return Err(error),
        }
        job.count("foreign", 1);
        Ok(())
    }

    /// Bytes that a repository holds, and that the ledger does not know in this zone.
    async fn held(
        &self,
        job: &mut Job,
        info: &BlobInfo,
        metadata: &dyn MetadataStore,
        holders: Vec<RepositoryName>,
        placements: &[Placement],
    ) -> Result<()> {
        let (cluster, digest) = (self.cluster, &info.digest);
        if !is_visible(placements) {
            let mut report = reconcile::ReconcileReport::default();
            reconcile::adopt(cluster, metadata, &HeldBlob::new(*digest, info.size, holders), &mut report).await?;
            job.count("adopted", report.adopted);
            return Ok(());
        }
        if !cluster.union(holders.iter().map(RepositoryName::as_str)).contains(self.zone) {
            cluster.ledger.stray(digest, self.zone).await?;
            job.count("stray", 1);
            return Ok(());
        }
        cluster.ledger.retain(digest, std::slice::from_ref(self.zone)).await?;
        if let Some(row) = self.row(digest).await? {
            cluster.ledger.observe(digest, self.zone, row.generation, &Sighting::Found(info.size)).await?;
            job.count("found", 1);
        }
        Ok(())
    }

    /// Blobs that are to be here and that the metadata know nothing of: their writers are gone, and garbage collection has never heard of them.
    async fn let_go(&self, job: &mut Job, wanted: &[(Digest, Timestamp)]) -> Result<()> {
        let Some(metadata) = &self.cluster.metadata else { return Ok(()) };
        let digests: Vec<_> = wanted.iter().map(|(digest, _)| *digest).collect();
        for digest in metadata.unknown_blobs(&digests).await? {
            let Some(row) = self.row(&digest).await? else { continue };
            let options = &self.cluster.options;
            // Whoever meant to write it since has told the metadata before.
            let is_as_seen = wanted.iter().any(|(known, touched_at)| *known == digest && *touched_at == row.touched_at);
            if row.desired == Desired::Absent || !is_as_seen || row.touched_at + options.narrow_after > self.since {
                continue;
            }
            match self.cluster.ledger.condemn(&digest, Some(row.touched_at), options.trash_delay, &[]).await {
                Ok(()) => {
                    tracing::warn!(%digest, "no repository has ever heard of this blob: it is deleted");
                    job.count("forgotten", 1);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_trusted(row: &Placement) -> bool {
    row.desired == Desired::Present && row.observed == Observed::Present
}

/// A shard as the zone has it and as the ledger has it, side by side.
struct Both<'a> {
    cluster: &'a Cluster,
    member: &'a Member,
    zone: &'a ZoneId,
    shard: u8,
    listed: ItemStream<'a, BlobInfo>,
    found: Option<BlobInfo>,
    rows: VecDeque<Placement>,
    after: Option<(Digest, ZoneId)>,
    no_more_found: bool,
    no_more_rows: bool,
}

impl<'a> Both<'a> {
    fn new(cluster: &'a Cluster, member: &'a Member, zone: &'a ZoneId, shard: u8) -> Self {
        let listed = member.store.list(ListOptions::default().with_shard(shard));
        let (rows, found, after) = (VecDeque::new(), None, None);
        Self { cluster, member, zone, shard, listed, found, rows, after, no_more_found: false, no_more_rows: false }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.found.is_none() && !self.no_more_found {
            self.found = in_time(self.cluster.options.commit_timeout, &self.member.name, self.listed.try_next()).await?;
            self.no_more_found = self.found.is_none();
        }
        if self.rows.is_empty() && !self.no_more_rows {
            let list =
                ListPlacements::new(PAGE).with_shard(Some(self.shard)).with_zone(Some(self.zone.clone())).with_after(self.after.take());
            let page = self.cluster.ledger.list(&list).await?;
            self.no_more_rows = page.len() < PAGE as usize;
            self.after = page.last().map(|placement| (placement.digest, placement.zone.clone()));
            self.rows = page.into();
        }
        Ok(())
    }

    /// The next blob that either has.
    async fn next(&mut self) -> Result<Option<(Digest, Option<BlobInfo>, Option<Placement>)>> {
        self.fill().await?;
        let (found, row) = (self.found.as_ref().map(|info| info.digest), self.rows.front().map(|row| row.digest));
        let Some(digest) = found.into_iter().chain(row).min() else { return Ok(None) };
        let found = self.found.take_if(|info| info.digest == digest);
        let row = if row == Some(digest) { self.rows.pop_front() } else { None };
        Ok(Some((digest, found, row)))
    }
}
