//! Comparing what is in a zone with what the ledger and the metadata say of it, and making the ledger true.
//!
//! It never does harm. A zone is counted first. If more than a twentieth of what is to be there is not, it is not believed: it is the wrong place, or somebody
//! has to have a look. If the metadata know nothing of more than a twentieth, they are not believed: it is the wrong database, or an old copy of it. Nothing is deleted or lowered on the word of a list: a blob that a list misses is asked for by name; bytes that nobody knows of go
//! only if the metadata answered that it does not know them either, and if they have been there for a while. What is found is verified before it is trusted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use registry_core::blob::{BlobInfo, ItemStream, ListOptions};
use registry_core::metadata::HeldBlob;
use registry_core::{Digest, Error, ErrorKind, MetadataStore, RepositoryName, Result, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{in_its_hours, keeping, rest, save, zone_of};
use crate::cluster::{Cluster, is_visible};
use crate::ledger::{Desired, Job, JobState, ListPlacements, Observed, Placement, Sighting, ZoneId, ZoneState};
use crate::member::{Member, in_time};
use crate::reconcile;
use crate::workers::Stop;

/// Placements that are looked at in one go.
const PAGE: u32 = 500;

/// Shards of a zone.
const SHARDS: u16 = 256;

/// If more than one blob in so many is not there, or is known to nobody, it is not believed …
const MOST: u64 = 20;

/// … unless they are no more than so many.
const FEW: u64 = 10;

/// What was found in a shard, by name.
type Tally = BTreeMap<&'static str, u64>;

fn tally(found: &mut Tally, name: &'static str, more: u64) {
    *found.entry(name).or_default() += more;
}

/// Where a reconciliation stands: each shard is counted, and then each is put right.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Marker {
    /// When it was begun, by this process's clock: what came later is not its business. In milliseconds since 1970.
    since: i64,
    /// Shards that were counted, and that were put right.
    counted: u16,
    righted: u16,
    /// Copies that are to be in the zone, and those of them that are not.
    expected: u64,
    missing: u64,
    /// Blobs that are in the zone or are to be, and those of them that the metadata know nothing of.
    blobs: u64,
    unknown: u64,
    /// Those are too many: they are left alone.
    spare: bool,
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

    /// Why the zone is not to be believed: too much of what is to be there is not.
    fn doubt(self) -> Option<String> {
        let Self { expected, missing, .. } = self;
        let text = "Is it the right place? If it is, and they are lost, drain it and remove it";
        (missing > FEW && missing.saturating_mul(MOST) > expected)
            .then(|| format!("{missing} of the {expected} blobs that are to be in the zone are not: nothing was changed. {text}"))
    }

    /// Whether the metadata are not to be believed: they know nothing of too much. If they are small, they may be new, and of few blobs a quarter is too much.
    fn knows_too_little(self, nobody_holds_anything: bool) -> bool {
        let Self { blobs, unknown, .. } = self;
        let is_much = unknown.saturating_mul(MOST) > blobs && (unknown > FEW || unknown.saturating_mul(4) > blobs);
        is_much || (nobody_holds_anything && unknown > 0)
    }
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<JobState> {
    let member = Arc::clone(zone_of(cluster, job)?);
    let mut marker = Marker::read(job, cluster.clock.now());
    loop {
        cluster.hear_states().await?;
        if member.state() == ZoneState::Removed {
            return Ok(JobState::Cancelled);
        }
        in_its_hours(cluster, job, stop, &member).await?;
        // A zone that is not the one it was lacks everything, and that means nothing.
        let zone = member.confirm(&*cluster.ledger, cluster.options.request_timeout).await?;
        let began = Instant::now();
        let (since, spare) = (Timestamp::from_millis(marker.since), marker.spare);
        let mut work = Work { cluster, member: &member, zone: &zone, since, spare, saved: Instant::now() };
        if marker.counted < SHARDS {
            work.count(job, stop, shard(marker.counted), &mut marker).await?;
            marker.counted += 1;
            if marker.counted == SHARDS
                && let Some(doubt) = marker.doubt()
            {
                return Err(Error::new(ErrorKind::Corrupt, doubt).with_zone(&member.name));
            }
            marker.spare |= marker.counted == SHARDS && marker.knows_too_little(is_empty(cluster).await?);
        } else if marker.righted < SHARDS {
            // Told with the marker behind it, so that nothing is counted twice.
            for (name, count) in work.put_right(job, stop, shard(marker.righted)).await? {
                job.count(name, count);
            }
            marker.righted += 1;
        } else if marker.spare {
            let Marker { blobs, unknown, .. } = marker;
            let text = "they were left alone, and all else was put right. Is it the right database, and the right place?";
            let message = format!("{unknown} of the {blobs} blobs in the zone are known to nobody: {text}");
            return Err(Error::new(ErrorKind::Corrupt, message).with_zone(&member.name));
        } else {
            return Ok(JobState::Done);
        }
        marker.write(job)?;
        save(cluster, job).await?;
        rest(cluster, job, stop, began.elapsed()).await?;
    }
}

/// Whether there is nothing in the metadata: then they are new, and cannot say what nobody knows.
async fn is_empty(cluster: &Cluster) -> Result<bool> {
    match &cluster.metadata {
        Some(metadata) => Ok(metadata.held_blobs(None, 1).await?.is_empty()),
        None => Ok(false),
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
    /// What nobody knows is left alone.
    spare: bool,
    saved: Instant,
}

impl Work<'_> {
    /// For how long what nobody knows can be had back: the metadata may be older than it.
    fn keep(&self) -> Duration {
        self.cluster.options.keep_unknown.max(self.cluster.options.trash_delay)
    }

    /// Before each blob: keeps the job from time to time.
    async fn go_on(&mut self, job: &Job) -> Result<()> {
        if self.saved.elapsed() > self.cluster.options.lease / 4 {
            save(self.cluster, job).await?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    /// Counts what is there and is to be there, and what is not, or is known to nobody.
    async fn count(&mut self, job: &Job, stop: &mut Stop, shard: u8, marker: &mut Marker) -> Result<()> {
        let mut both = Both::new(self.cluster, self.member, self.zone, shard);
        let mut blobs = Vec::new();
        while let Some((digest, found, row)) = keeping(self.cluster, job, stop, both.next()).await?? {
            self.go_on(job).await?;
            // What is about to be deleted need not be known any more.
            if row.as_ref().map_or(found.is_some(), |row| row.desired == Desired::Present) {
                blobs.push(digest);
                marker.blobs += 1;
            }
            if blobs.len() >= PAGE as usize {
                marker.unknown += self.unknown(&std::mem::take(&mut blobs)).await?;
            }
            let Some(row) = row.filter(is_trusted) else { continue };
            marker.expected += 1;
            if found.is_none() && self.is_missing(&digest, &row).await? {
                marker.missing += 1;
            }
        }
        marker.unknown += self.unknown(&blobs).await?;
        Ok(())
    }

    /// How many of these the metadata know nothing of.
    async fn unknown(&self, digests: &[Digest]) -> Result<u64> {
        match &self.cluster.metadata {
            Some(metadata) => Ok(metadata.unknown_blobs(digests).await?.len() as u64),
            None => Ok(0),
        }
    }

    /// Whether a copy that a list does not have is not there.
    async fn is_missing(&self, digest: &Digest, row: &Placement) -> Result<bool> {
        match self.member.ask(&self.cluster.options, self.member.store.stat(digest)).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It may have been deleted since the list was read.
                Ok(self.row(digest).await?.is_some_and(|now| now.generation == row.generation && is_trusted(&now)))
            }
            Err(error) => self.pass_over(error).map(|()| false),
        }
    }

    /// One object that cannot be looked at is no reason not to look at the others; a zone that cannot be asked is.
    fn pass_over(&self, error: Error) -> Result<()> {
        if self.member.health.is_open() {
            return Err(error);
        }
        tracing::warn!(zone = self.member.name, %error, "a blob could not be looked at, and is passed over");
        Ok(())
    }

    /// The placement as it is now.
    async fn row(&self, digest: &Digest) -> Result<Option<Placement>> {
        let placements = self.cluster.ledger.placements(&[*digest]).await?;
        Ok(placements.into_iter().find(|placement| placement.zone == *self.zone))
    }

    async fn put_right(&mut self, job: &Job, stop: &mut Stop, shard: u8) -> Result<Tally> {
        let mut seen = Tally::new();
        let mut both = Both::new(self.cluster, self.member, self.zone, shard);
        let mut wanted = Vec::new();
        while let Some((digest, found, row)) = keeping(self.cluster, job, stop, both.next()).await?? {
            self.go_on(job).await?;
            // One that was deleted, and that nobody expects, is nothing to look at.
            let is_expected = row.as_ref().is_some_and(|row| row.desired == Desired::Present);
            tally(&mut seen, "blobs", u64::from(found.is_some() || is_expected));
            if let Some(row) = row.as_ref().filter(|row| row.desired == Desired::Present) {
                wanted.push((digest, row.touched_at));
            }
            if wanted.len() >= PAGE as usize {
                self.let_go(&mut seen, &std::mem::take(&mut wanted)).await?;
            }
            match (found, row) {
                (Some(info), Some(row)) => self.compare(&mut seen, &info, &row).await?,
                (Some(info), None) => self.unexpected(&mut seen, &info).await?,
                (None, Some(row)) if is_trusted(&row) && self.is_missing(&digest, &row).await? => {
                    self.cluster.suspect(self.member, &digest, row.generation, "it is not there").await;
                    tally(&mut seen, "missing", 1);
                }
                _ => {}
            }
        }
        self.let_go(&mut seen, &wanted).await?;
        self.cluster.wake(&self.cluster.ids());
        seen.retain(|_, count| *count > 0);
        Ok(seen)
    }

    /// Bytes that the ledger knows of.
    async fn compare(&self, seen: &mut Tally, info: &BlobInfo, row: &Placement) -> Result<()> {
        let ledger = &self.cluster.ledger;
        match (row.desired, row.observed) {
            _ if row.leased => {}
            (Desired::Present, Observed::Present) => {
                let Some(size) = row.size.filter(|size| *size != info.size) else { return Ok(()) };
                // A list may be behind, or know it otherwise.
                match self.member.ask(&self.cluster.options, self.member.store.stat(&info.digest)).await {
                    Ok(found) if found.size != size => {
                        let reason = format!("it has {} bytes instead of {size}", found.size);
                        self.cluster.suspect(self.member, &info.digest, row.generation, &reason).await;
                        tally(seen, "wrong_size", 1);
                    }
                    Err(error) if error.kind() != ErrorKind::NotFound => self.pass_over(error)?,
                    _ => {}
                }
            }
            (Desired::Present, Observed::Unknown | Observed::Absent) => {
                ledger.observe(&info.digest, self.zone, row.generation, &Sighting::Found(info.size)).await?;
                tally(seen, "found", 1);
            }
            // What a list still has may be gone.
            (Desired::Absent, Observed::Absent) if !self.is_young(info) && self.is_there(&info.digest).await? => {
                let placements = ledger.placements(&[info.digest]).await?;
                let holders = match &self.cluster.metadata {
                    Some(metadata) if !is_visible(&placements) => metadata.holders(&info.digest).await?,
                    _ => Vec::new(),
                };
                // Given up, although somebody holds it.
                if let (Some(metadata), false) = (&self.cluster.metadata, holders.is_empty()) {
                    return self.held(seen, info, &**metadata, holders, &placements).await;
                }
                ledger.stray(&info.digest, self.zone).await?;
                tally(seen, "stray", 1);
            }
            _ => {}
        }
        Ok(())
    }

    async fn is_there(&self, digest: &Digest) -> Result<bool> {
        match self.member.ask(&self.cluster.options, self.member.store.stat(digest)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => self.pass_over(error).map(|()| false),
        }
    }

    /// Whether it came after the comparison was begun, or so shortly before that somebody may be at it.
    fn is_young(&self, info: &BlobInfo) -> bool {
        info.modified.is_some_and(|modified| modified + self.cluster.options.keep_unknown > self.since)
    }

    /// Bytes of which the ledger knows nothing in this zone.
    async fn unexpected(&self, seen: &mut Tally, info: &BlobInfo) -> Result<()> {
        let (cluster, digest) = (self.cluster, &info.digest);
        let Some(metadata) = &cluster.metadata else {
            tally(seen, "unknown", 1);
            return Ok(());
        };
        let holders = metadata.holders(digest).await?;
        let placements = cluster.ledger.placements(&[*digest]).await?;
        if placements.iter().any(|placement| placement.zone == *self.zone) || !self.is_there(digest).await? {
            return Ok(());
        }
        if !holders.is_empty() {
            return self.held(seen, info, &**metadata, holders, &placements).await;
        }
        if metadata.unknown_blobs(&[*digest]).await?.is_empty() {
            // Somebody is about to link it, or garbage collection to delete it.
            tally(seen, "unheld", 1);
            return Ok(());
        }
        if self.is_young(info) {
            tally(seen, "young", 1);
            return Ok(());
        }
        if self.spare {
            tally(seen, "unknown", 1);
            return Ok(());
        }
        tracing::warn!(zone = self.member.name, %digest, size = info.size, "nobody knows this blob: it is condemned");
        match cluster.ledger.condemn(digest, Some(Timestamp::default()), self.keep(), std::slice::from_ref(self.zone)).await {
            Ok(()) => tally(seen, "foreign", 1),
            // It is in other zones, where it is forgotten; here it goes afterwards.
            Err(error) if error.kind() == ErrorKind::Conflict => tally(seen, "unheld", 1),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Bytes that a repository holds, and that the ledger does not know in this zone.
    async fn held(
        &self,
        seen: &mut Tally,
        info: &BlobInfo,
        metadata: &dyn MetadataStore,
        holders: Vec<RepositoryName>,
        placements: &[Placement],
    ) -> Result<()> {
        let (cluster, digest) = (self.cluster, &info.digest);
        if !is_visible(placements) {
            let mut report = reconcile::ReconcileReport::default();
            reconcile::adopt(cluster, metadata, &HeldBlob::new(*digest, info.size, holders), &mut report).await?;
            tally(seen, "adopted", report.adopted);
            return Ok(());
        }
        if !cluster.union(holders.iter().map(RepositoryName::as_str)).contains(self.zone) {
            cluster.ledger.stray(digest, self.zone).await?;
            tally(seen, "stray", 1);
            return Ok(());
        }
        cluster.ledger.retain(digest, std::slice::from_ref(self.zone)).await?;
        if let Some(row) = self.row(digest).await? {
            cluster.ledger.observe(digest, self.zone, row.generation, &Sighting::Found(info.size)).await?;
            tally(seen, "found", 1);
        }
        Ok(())
    }

    /// Blobs that are to be here and that the metadata know nothing of: their writers are gone, and garbage collection has never heard of them.
    async fn let_go(&self, seen: &mut Tally, wanted: &[(Digest, Timestamp)]) -> Result<()> {
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
            if self.spare {
                tally(seen, "unknown", 1);
                continue;
            }
            match self.cluster.ledger.condemn(&digest, Some(row.touched_at), self.keep(), &[]).await {
                Ok(()) => {
                    tracing::warn!(%digest, "no repository has ever heard of this blob: it is condemned");
                    tally(seen, "forgotten", 1);
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
