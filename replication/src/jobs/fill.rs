//! Filling a zone that lacks much of what is to be there, because it is new or was out of use: what is to be there is owed to it little by little, so that what is pushed meanwhile does not wait behind all of it, and
//! image by image, those that were used last first, so that the zone is of use long before it has everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use registry_core::metadata::{HeldBlob, ManifestUse};
use registry_core::{Digest, Error, ErrorKind, MetadataStore, Result, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{keeping, save, zone_of};
use crate::cluster::{Cluster, is_visible};
use crate::ledger::{Backlog, Desired, Job, JobState, Placement, ZoneId, ZoneState};
use crate::member::Member;
use crate::reconcile::{self, Filling};
use crate::workers::Stop;

/// Manifests that are looked at in one go, and blobs.
const MANIFESTS: u32 = 100;
const BLOBS: u32 = 500;

/// How much the zone is owed at once, at most: who pushes waits behind that.
const AHEAD: u64 = 32;
const AHEAD_BYTES: u64 = 256 << 20;

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// Counting what is to be there, and what is to be there already.
    #[default]
    Count,
    /// The manifests.
    Manifests,
    /// What they need.
    Images,
    /// What is held otherwise, or was pushed since.
    Rest,
    /// Waiting for the last copies.
    Last,
}

/// Where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Marker {
    step: Step,
    /// The last blob that was looked at.
    after: Option<String>,
    /// The last manifest: when it was used, its repository and digest.
    after_manifest: Option<(i64, String, String)>,
    /// Blobs that are to be in the zone, and those that were to be there before.
    wanted: u64,
    before: u64,
    /// Blobs that the zone is owed since.
    owed: u64,
}

impl Marker {
    fn read(job: &Job) -> Self {
        if job.marker.is_empty() { Self::default() } else { serde_json::from_slice(&job.marker).unwrap_or_default() }
    }

    fn write(&self, job: &mut Job) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::new(ErrorKind::Internal, "encoding a marker").with_source(error))?;
        job.marker = text.into();
        Ok(())
    }

    fn after(&self) -> Option<Digest> {
        self.after.as_ref().and_then(|digest| digest.parse().ok())
    }

    fn after_manifest(&self) -> Option<ManifestUse> {
        let (used_at, repository, digest) = self.after_manifest.as_ref()?;
        Some(ManifestUse { used_at: Timestamp::from_millis(*used_at), repository: repository.parse().ok()?, digest: digest.parse().ok()? })
    }

    fn next_step(&mut self, step: Step) {
        (self.step, self.after, self.after_manifest) = (step, None, None);
    }
}

/// Whether all that the zone lacks is owed to it by now.
pub(super) fn owes_all(job: &Job) -> bool {
    Marker::read(job).step == Step::Last
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<JobState> {
    let member = Arc::clone(zone_of(cluster, job)?);
    let Some(metadata) = cluster.metadata.clone() else {
        return Err(Error::new(ErrorKind::InvalidInput, "without metadata nobody knows what is to be in it").with_zone(&member.name));
    };
    let Some(zone) = member.id().cloned() else { return Err(Error::new(ErrorKind::Internal, "a zone without identity")) };
    let mut all_is_owed: Option<Instant> = None;
    let mut fill = Fill { cluster, metadata: &*metadata, zone: &zone, marker: Marker::read(job) };
    loop {
        cluster.hear_states().await?;
        if !matches!(member.state(), ZoneState::Active | ZoneState::Cordoned) {
            return Ok(JobState::Cancelled);
        }
        match fill.marker.step {
            Step::Count => keeping(cluster, job, stop, fill.count()).await??,
            Step::Last => {
                let since = *all_is_owed.get_or_insert_with(Instant::now);
                let backlog = keeping(cluster, job, stop, fill.backlog()).await??;
                fill.tell(job, &member, &backlog)?;
                // What came to be owed later came by itself.
                if backlog.oldest.is_none() || backlog.lag < since.elapsed() {
                    job.done = job.total.unwrap_or(job.done);
                    job.note = String::new();
                    return Ok(JobState::Done);
                }
                save(cluster, job).await?;
                keeping(cluster, job, stop, fill.pause()).await?;
            }
            step => {
                let page = keeping(cluster, job, stop, fill.page(step)).await??;
                for some in page.digests.chunks(AHEAD as usize) {
                    loop {
                        let backlog = keeping(cluster, job, stop, fill.backlog()).await??;
                        fill.tell(job, &member, &backlog)?;
                        if backlog.copies.saturating_sub(backlog.failing) < AHEAD && backlog.copy_bytes < AHEAD_BYTES {
                            break;
                        }
                        save(cluster, job).await?;
                        keeping(cluster, job, stop, fill.pause()).await?;
                    }
                    keeping(cluster, job, stop, fill.owe(some)).await??;
                }
                fill.turn(step, page);
            }
        }
        fill.marker.write(job)?;
        save(cluster, job).await?;
    }
}

/// What a step looks at in one go.
struct Page {
    digests: Vec<Digest>,
    after: Option<Digest>,
    after_manifest: Option<ManifestUse>,
    is_last: bool,
}

struct Fill<'a> {
    cluster: &'a Arc<Cluster>,
    metadata: &'a dyn MetadataStore,
    zone: &'a ZoneId,
    marker: Marker,
}

impl Fill<'_> {
    /// Until something was copied, or for a while.
    async fn pause(&self) {
        let progress = self.cluster.progress.notified();
        drop(tokio::time::timeout(self.cluster.options.poll_interval, progress).await);
    }

    async fn backlog(&self) -> Result<Backlog> {
        let backlogs = self.cluster.ledger.backlog().await?;
        Ok(backlogs.into_iter().find(|backlog| backlog.zone == *self.zone).unwrap_or_else(|| Backlog::new(self.zone.clone())))
    }

    /// How far it is.
    fn tell(&self, job: &mut Job, member: &Member, backlog: &Backlog) -> Result<()> {
        let Marker { wanted, before, owed, .. } = self.marker;
        job.total = Some(wanted.max(before + owed));
        job.done = (before + owed).saturating_sub(backlog.copies);
        job.note = match (member.state(), backlog.failing) {
            (ZoneState::Cordoned, _) => "the zone is cordoned: copies wait".to_owned(),
            (_, 0) => String::new(),
            (_, failing) => format!("{failing} copies fail, and are tried again"),
        };
        self.marker.write(job)
    }

    /// Counts a page of what is to be there.
    async fn count(&mut self) -> Result<()> {
        let held = self.metadata.held_blobs(self.marker.after().as_ref(), BLOBS).await?;
        let is_wanted = |held: &&HeldBlob| self.wants(held);
        let wanted: Vec<_> = held.iter().filter(is_wanted).map(|held| held.digest).collect();
        let placements = self.cluster.ledger.placements(&wanted).await?;
        let before = placements.iter().filter(|placement| placement.zone == *self.zone && placement.desired == Desired::Present).count();
        self.marker.wanted += wanted.len() as u64;
        self.marker.before += before as u64;
        self.marker.after = held.last().map(|held| held.digest.to_string());
        if held.len() < BLOBS as usize {
            self.marker.next_step(Step::Manifests);
        }
        Ok(())
    }

    fn wants(&self, held: &HeldBlob) -> bool {
        self.cluster.union(held.repositories.iter().map(|name| name.as_str())).contains(self.zone)
    }

    /// What comes next.
    async fn page(&self, step: Step) -> Result<Page> {
        if step == Step::Rest {
            let held = self.metadata.held_blobs(self.marker.after().as_ref(), BLOBS).await?;
            let is_last = held.len() < BLOBS as usize;
            let after = held.last().map(|held| held.digest);
            return Ok(Page { digests: held.into_iter().map(|held| held.digest).collect(), after, after_manifest: None, is_last });
        }
        let used = self.metadata.manifests_by_use(self.marker.after_manifest().as_ref(), MANIFESTS).await?;
        let is_last = used.len() < MANIFESTS as usize;
        let after_manifest = used.last().map(|used| used.last_use.clone());
        let mut digests = Vec::new();
        for used in used {
            if step == Step::Manifests { digests.push(used.last_use.digest) } else { digests.extend(used.needs) }
        }
        Ok(Page { digests, after: None, after_manifest, is_last })
    }

    fn turn(&mut self, step: Step, page: Page) {
        let after = |used: ManifestUse| (used.used_at.as_millis(), used.repository.to_string(), used.digest.to_string());
        match (step, page.is_last) {
            (Step::Manifests, true) => self.marker.next_step(Step::Images),
            (Step::Images, true) => self.marker.next_step(Step::Rest),
            (_, true) => self.marker.next_step(Step::Last),
            (_, false) => {
                self.marker.after = page.after.map(|digest| digest.to_string());
                self.marker.after_manifest = page.after_manifest.map(after);
            }
        }
    }

    /// Sees to it that these are to be where their repositories want them, this zone among them.
    async fn owe(&mut self, digests: &[Digest]) -> Result<()> {
        let cluster = self.cluster;
        let mut placements: BTreeMap<_, Vec<Placement>> = BTreeMap::new();
        for placement in cluster.ledger.placements(digests).await? {
            placements.entry(placement.digest).or_default().push(placement);
        }
        let mut others = Filling::but(cluster, self.zone).await?;
        for digest in digests {
            let placements = placements.get(digest).map_or(&[][..], Vec::as_slice);
            let is_there = |placement: &Placement| placement.zone == *self.zone && placement.desired == Desired::Present;
            if placements.iter().any(is_there) {
                continue;
            }
            let held = HeldBlob::new(*digest, 0, self.metadata.holders(digest).await?);
            // Nobody holds it any more, or the ledger has to hear of it first, which the comparison with policies sees to.
            if self.wants(&held) && is_visible(placements) {
                reconcile::retarget(cluster, &held, placements, &mut others).await?;
                self.marker.owed += 1;
            }
        }
        Ok(())
    }
}
