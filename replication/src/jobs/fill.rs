//! Filling a zone that lacks much of what is to be there, because it is new or was out of use: what is to be there is owed to it little by little, so that
//! what is pushed meanwhile does not wait behind all of it, and image by image, those that were used last first, so that the zone is of use long before it
//! has everything.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use registry_core::metadata::{HeldBlob, ManifestUse};
use registry_core::{Digest, Error, ErrorKind, MetadataStore, Result, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{CLOSED, keeping, save, zone_of};
use crate::cluster::{Cluster, Source, is_visible};
use crate::ledger::{Backlog, Desired, Job, JobState, Placement, ZoneId, ZoneState};
use crate::member::Member;
use crate::read::size_of;
use crate::reconcile::{self, Filling};
use crate::workers::Stop;

/// Manifests that are looked at in one go, and blobs.
const MANIFESTS: u32 = 20;
const BLOBS: u32 = 500;

/// How many copies the zone is owed at once, at most: what is pushed waits behind them. If they are not small, as many as leave room for one of what is pushed.
const AHEAD: u64 = 32;
const SMALL: u64 = 4 << 20;

/// And how many of its own the job leaves that do not come, because they fail or their zones have gone away since.
const PUT_OFF: usize = 1000;

/// How long to wait at least before what was in no zone that could be read is looked at again.
const AGAIN: Duration = Duration::from_secs(60);

/// How often it is noted how far it is.
const SAVE: Duration = Duration::from_secs(1);

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
    /// Blobs that it could not be owed in this round, since no zone that has them could be read.
    unread: u64,
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

/// A walk over all there is, and what it cost: the next one waits for four times that.
struct Round {
    begun: Instant,
    looking: Duration,
    is_first: bool,
}

impl Round {
    fn begin(is_first: bool) -> Self {
        Self { begun: Instant::now(), looking: Duration::ZERO, is_first }
    }

    fn pause(&self) -> Duration {
        AGAIN.max(self.looking * 4)
    }
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<JobState> {
    let member = Arc::clone(zone_of(cluster, job)?);
    let Some(metadata) = cluster.metadata.clone() else {
        return Err(Error::new(ErrorKind::InvalidInput, "without metadata nobody knows what is to be in it").with_zone(&member.name));
    };
    let Some(zone) = member.id().cloned() else { return Err(Error::new(ErrorKind::Internal, "a zone without identity")) };
    let mut all_is_owed: Option<Instant> = None;
    let (mut saved, mut round) = (Instant::now(), Round::begin(true));
    let mut fill = Fill { cluster, metadata: &*metadata, zone: &zone, marker: Marker::read(job), coming: Vec::new() };
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
                // What came to be owed later comes by itself.
                let is_over = backlog.copies == 0 || backlog.copy_lag < since.elapsed();
                if round.begun.elapsed() >= round.pause() || (is_over && round.is_first) {
                    let asked = Instant::now();
                    if keeping(cluster, job, stop, fill.lacks_more()).await?? {
                        // It has come to be lacking since: copies that do not come hold up nothing else.
                        fill.marker.next_step(Step::Manifests);
                        (all_is_owed, round) = (None, Round::begin(false));
                    } else if is_over {
                        job.done = job.total.unwrap_or(job.done);
                        job.note = String::new();
                        return Ok(JobState::Done);
                    } else {
                        round = Round { looking: asked.elapsed(), ..Round::begin(round.is_first) };
                    }
                } else {
                    keeping(cluster, job, stop, tokio::time::sleep(SAVE)).await?;
                }
            }
            step => {
                let asked = Instant::now();
                let page = keeping(cluster, job, stop, fill.page(step)).await??;
                round.looking += asked.elapsed();
                let mut left = &page.digests[..];
                while !left.is_empty() {
                    let asked = Instant::now();
                    let backlog = keeping(cluster, job, stop, fill.backlog()).await??;
                    fill.tell(job, &member, &backlog)?;
                    if fill.coming.len() >= PUT_OFF {
                        keeping(cluster, job, stop, fill.forget_what_came()).await??;
                    }
                    let mut owed = Owed::new(&backlog, &member, fill.coming.len());
                    let is_closed = member.throttle.is_closed(cluster.clock.now());
                    let can_come = member.state().takes_writes() && member.health.is_writable() && !is_closed;
                    if owed.is_enough() || !can_come {
                        keeping(cluster, job, stop, fill.pause(asked.elapsed())).await?;
                    } else {
                        left = &left[keeping(cluster, job, stop, fill.owe(left, &mut owed)).await??..];
                        round.looking += asked.elapsed();
                    }
                    if saved.elapsed() >= SAVE {
                        save(cluster, job).await?;
                        saved = Instant::now();
                    }
                }
                fill.turn(step, page);
                if step == Step::Rest && fill.marker.step == Step::Manifests {
                    let backlog = keeping(cluster, job, stop, fill.backlog()).await??;
                    fill.tell(job, &member, &backlog)?;
                    save(cluster, job).await?;
                    keeping(cluster, job, stop, tokio::time::sleep(round.pause())).await?;
                    round = Round::begin(false);
                }
            }
        }
        fill.marker.write(job)?;
        save(cluster, job).await?;
    }
}

/// What the zone is owed.
struct Owed {
    /// Copies that are about to come, and their bytes.
    copies: u64,
    bytes: u64,
    /// Copies that this job has owed, and that may not have come.
    own: usize,
    /// How many large ones may be made at once.
    slots: u64,
}

impl Owed {
    fn new(backlog: &Backlog, member: &Member, own: usize) -> Self {
        let (copies, bytes) = (backlog.copies - backlog.put_off, backlog.copy_bytes - backlog.put_off_bytes);
        let slots = (member.concurrency as u64).saturating_sub(1).max(1);
        Self { copies, bytes, own, slots }
    }

    fn add(&mut self, size: u64) {
        self.copies += 1;
        self.own += 1;
        self.bytes += size;
    }

    fn is_enough(&self) -> bool {
        self.copies >= AHEAD || (self.copies >= self.slots && self.bytes >= SMALL) || self.own >= PUT_OFF
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
    /// What it has owed to the zone, as long as it is not known to have come; others owe it something too.
    coming: Vec<Digest>,
}

impl Fill<'_> {
    /// Keeps in mind only what is still to come.
    async fn forget_what_came(&mut self) -> Result<()> {
        let placements = self.cluster.placements(&self.coming).await?;
        let is_coming =
            |placement: &Placement| placement.zone == *self.zone && placement.desired == Desired::Present && !placement.is_source();
        self.coming
            .retain(|digest| placements.get(digest).is_some_and(|all| all.iter().any(is_coming) && all.iter().any(Placement::is_source)));
        Ok(())
    }

    /// Until something was copied, or for a while; the longer it took to ask for the backlog, the longer.
    async fn pause(&self, asking: Duration) {
        let progress = self.cluster.progress.notified();
        drop(tokio::time::timeout(self.cluster.options.poll_interval, progress).await);
        tokio::time::sleep(asking * 5).await;
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
            (ZoneState::Cordoned, _) => "the zone is cordoned: copies wait until it is not any more".to_owned(),
            _ if member.throttle.is_closed(self.cluster.clock.now()) => CLOSED.to_owned(),
            (_, failing) if failing > 0 => format!("{failing} copies fail, and are tried again"),
            _ if !member.health.is_writable() => "the zone cannot be written to now: copies wait until it can".to_owned(),
            _ if self.marker.step == Step::Last => format!("the last {} copies are waited for", backlog.copies),
            _ if self.marker.unread > 0 => {
                format!("{} blobs are in no zone that can be read now; they are looked at again", self.marker.unread)
            }
            _ if self.coming.len() >= PUT_OFF => format!("{} copies do not come; others wait until some of them have", self.coming.len()),
            _ => String::new(),
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

    /// Whether it is in the way of nothing if it is owed: it can be copied now, or nobody will try, since there is no good copy. That is made from the next
    /// push of the blob.
    fn may_be_owed(&self, placements: &[Placement]) -> bool {
        let now = self.cluster.clock.now();
        let is_open = |source: &Source| !source.member.health.is_open() && !source.member.throttle.is_closed(now);
        self.cluster.sources(placements).iter().any(is_open) || !placements.iter().any(Placement::is_source)
    }

    /// Whether anything that could be owed to the zone is not.
    async fn lacks_more(&self) -> Result<bool> {
        let mut after = None;
        loop {
            let held = self.metadata.held_blobs(after.as_ref(), BLOBS).await?;
            let wanted: Vec<_> = held.iter().filter(|held| self.wants(held)).map(|held| held.digest).collect();
            let placements = self.cluster.placements(&wanted).await?;
            if placements.values().any(|placements| self.is_lacking(placements) && self.may_be_owed(placements)) {
                return Ok(true);
            }
            after = held.last().map(|held| held.digest);
            if held.len() < BLOBS as usize {
                return Ok(false);
            }
        }
    }

    /// Whether it is elsewhere, and not to be here. If it is not there at all, the ledger has to hear of it first, which the comparison with policies sees to.
    fn is_lacking(&self, placements: &[Placement]) -> bool {
        let is_here = |placement: &Placement| placement.zone == *self.zone && placement.desired == Desired::Present;
        !placements.iter().any(is_here) && is_visible(placements)
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
        let (mut digests, mut known) = (Vec::new(), HashSet::new());
        for used in used {
            // What is wanted on behalf of another repository is found there.
            if !self.cluster.targets(Some(used.last_use.repository.as_str())).contains(self.zone) {
                continue;
            }
            let some = if step == Step::Manifests { vec![used.last_use.digest] } else { used.needs };
            digests.extend(some.into_iter().filter(|digest| known.insert(*digest)));
        }
        Ok(Page { digests, after: None, after_manifest, is_last })
    }

    fn turn(&mut self, step: Step, page: Page) {
        let after = |used: ManifestUse| (used.used_at.as_millis(), used.repository.to_string(), used.digest.to_string());
        match (step, page.is_last) {
            (Step::Manifests, true) => self.marker.next_step(Step::Images),
            (Step::Images, true) => {
                // All of it is looked at once more.
                self.marker.unread = 0;
                self.marker.next_step(Step::Rest);
            }
            (_, true) if self.marker.unread > 0 => self.marker.next_step(Step::Manifests),
            (_, true) => self.marker.next_step(Step::Last),
            (_, false) => {
                self.marker.after = page.after.map(|digest| digest.to_string());
                self.marker.after_manifest = page.after_manifest.map(after);
            }
        }
    }

    /// Sees to it that these are to be where their repositories want them, this zone among them, until it is owed enough; how many were looked at.
    async fn owe(&mut self, digests: &[Digest], owed: &mut Owed) -> Result<usize> {
        let cluster = self.cluster;
        let digests = &digests[..digests.len().min(AHEAD as usize)];
        let placements = cluster.placements(digests).await?;
        let mut others = Filling::but(cluster, self.zone).await?;
        for (looked_at, digest) in digests.iter().enumerate() {
            if owed.is_enough() {
                return Ok(looked_at);
            }
            let placements = placements.get(digest).map_or(&[][..], Vec::as_slice);
            if !self.is_lacking(placements) {
                continue;
            }
            let held = HeldBlob::new(*digest, 0, self.metadata.holders(digest).await?);
            if !self.wants(&held) {
                continue;
            }
            if self.may_be_owed(placements) {
                reconcile::retarget(cluster, &held, placements, &mut others).await?;
                self.marker.owed += 1;
                self.coming.push(*digest);
                owed.add(size_of(placements).unwrap_or(0));
            } else {
                self.marker.unread += 1;
            }
        }
        Ok(digests.len())
    }
}
