//! Comparing where blobs are to be with what the repositories that hold them say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use registry_core::metadata::HeldBlob;
use registry_core::{Error, ErrorKind, MetadataStore, RepositoryName, Result};

use crate::cluster::{Cluster, is_visible};
use crate::ledger::{Desired, Placement, Retarget, Sighting, ZoneId};
use crate::store::ReplicatedStore;

/// Blobs that are compared at a time.
const PAGE: u32 = 500;

/// What a zone lacks is owed to it at once if it is no more than so many blobs.
const FEW: u64 = 20;

/// What a comparison of placements with policies did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReconcileReport {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Blobs whose places changed.
    pub changed: u64,
    /// Blobs that the ledger had not heard of, or had given up, and that are somewhere.
    pub adopted: u64,
    /// Blobs that are in no zone that could be asked.
    pub missing: u64,
}

impl ReplicatedStore {
    /// Brings placements in line with the policies: goes through all blobs that repositories hold, and sees to it that each is to be where its
    /// repositories want it, and nowhere else. Blobs that the ledger does not know are looked for in the zones.
    ///
    /// Does nothing without [metadata](crate::ReplicatedStoreBuilder::metadata). [Workers](Self::start) do this now and then; it may run beside them, and
    /// may be dropped at any time.
    pub async fn reconcile_policies(&self) -> Result<ReconcileReport> {
        run(&self.cluster).await
    }
}

pub(crate) async fn run(cluster: &Arc<Cluster>) -> Result<ReconcileReport> {
    let mut report = ReconcileReport::default();
    let Some(metadata) = &cluster.metadata else { return Ok(report) };
    let mut filling = Filling::of(cluster).await?;
    let mut after = None;
    loop {
        let page = metadata.held_blobs(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(report) };
        after = Some(last.digest);
        let digests: Vec<_> = page.iter().map(|held| held.digest).collect();
        let placements = cluster.placements(&digests).await?;
        for held in &page {
            report.blobs += 1;
            let placements = placements.get(&held.digest).map_or(&[][..], Vec::as_slice);
            if is_visible(placements) {
                report.changed += u64::from(retarget(cluster, held, placements, &mut filling).await?);
            } else {
                adopt(cluster, &**metadata, held, &mut report).await?;
            }
        }
        if page.len() < PAGE as usize {
            return Ok(report);
        }
        // Nobody waits for this.
        tokio::task::yield_now().await;
    }
}

/// The zones that are owed what they lack by jobs of their own, little by little, rather than all of it at once by a comparison.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    zones: Vec<ZoneId>,
    /// What each of the others lacked, where that may begin a job.
    lacking: Option<BTreeMap<ZoneId, u64>>,
}

impl Filling {
    async fn of(cluster: &Cluster) -> Result<Self> {
        Ok(Self { zones: crate::jobs::filling(cluster).await?, lacking: Some(BTreeMap::new()) })
    }

    /// What the job that fills this zone leaves to those that fill others.
    pub(crate) async fn but(cluster: &Cluster, zone: &ZoneId) -> Result<Self> {
        let mut zones = crate::jobs::filling(cluster).await?;
        zones.retain(|other| other != zone);
        Ok(Self { zones, lacking: None })
    }

    /// Of the zones where a blob is to be, those that are to be owed it now, or have it to keep. From one that lacks more than a few on, a job does that.
    async fn now(&mut self, cluster: &Cluster, mut targets: Vec<ZoneId>, desired: &[ZoneId]) -> Result<Vec<ZoneId>> {
        for zone in targets.iter().filter(|zone| !desired.contains(zone)) {
            let Some(lacking) = self.lacking.as_mut().filter(|_| !self.zones.contains(zone)) else { continue };
            let lacking = lacking.entry(zone.clone()).or_default();
            *lacking += 1;
            if *lacking > FEW {
                crate::jobs::fill(cluster, zone).await?;
                self.zones.push(zone.clone());
            }
        }
        targets.retain(|zone| !self.zones.contains(zone) || desired.contains(zone));
        Ok(targets)
    }
}

/// Sees to it that a blob is to be where its repositories want it; whether that changed anything.
pub(crate) async fn retarget(cluster: &Cluster, held: &HeldBlob, placements: &[Placement], filling: &mut Filling) -> Result<bool> {
    let targets = cluster.union(held.repositories.iter().map(RepositoryName::as_str));
    let is_wanted = |placement: &&Placement| placement.desired == Desired::Present;
    // A zone that this process was not told of is somebody else's to decide about.
    let (mut desired, strangers): (Vec<_>, Vec<_>) =
        placements.iter().filter(is_wanted).map(|placement| placement.zone.clone()).partition(|zone| cluster.member(zone).is_some());
    desired.sort_unstable();
    if targets.is_empty() || desired == targets {
        return Ok(false);
    }
    let options = &cluster.options;
    let mut now = filling.now(cluster, targets.clone(), &desired).await?;
    // What is not wanted goes once it is owed to all that want it, and not before: it might be among the last.
    let is_owed_to_all = now == targets && !cluster.wants_unseen(held.repositories.iter().map(RepositoryName::as_str));
    let untouched_for = if is_owed_to_all { options.narrow_after } else { Duration::MAX };
    if !is_owed_to_all && now.iter().all(|zone| desired.contains(zone)) {
        return Ok(false);
    }
    now.extend(strangers);
    let retarget = Retarget { targets: now, untouched_for, trash_delay: options.trash_delay };
    let changed = cluster.ledger.retarget(&held.digest, &retarget).await?;
    cluster.wake(&cluster.ids());
    Ok(changed)
}

/// A blob that the ledger does not know, or has given up, although somebody holds it: wherever it is, it is verified, and copied from there.
pub(crate) async fn adopt(
    cluster: &Arc<Cluster>,
    metadata: &dyn MetadataStore,
    held: &HeldBlob,
    report: &mut ReconcileReport,
) -> Result<()> {
    let digest = &held.digest;
    // It may have been let go, and collected, since it was listed. Whoever brings it back leaves a row for garbage collection, as a writer does: without
    // one nobody would ever delete what comes back here.
    match metadata.intend_blob(digest).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Unavailable && error.retry_after().is_some() => return Ok(()),
        Err(error) => return Err(error),
    }
    let holders = metadata.holders(digest).await?;
    let targets = cluster.union(holders.iter().map(RepositoryName::as_str));
    if targets.is_empty() {
        return Ok(());
    }
    let mut found = Vec::new();
    let mut unasked = false;
    for member in &cluster.members {
        let Some(zone) = member.usable() else { continue };
        match member.ask(&cluster.options, member.store.stat(digest)).await {
            Ok(info) => found.push((zone.clone(), info.size)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => unasked = true,
        }
    }
    if found.is_empty() {
        if !unasked {
            tracing::error!(%digest, "a blob that repositories hold is in no zone");
        }
        report.missing += 1;
        return Ok(());
    }
    // Where it is it may not be wanted; the next comparison sees to that, once it is where it is.
    let mut zones = targets.clone();
    zones.extend(found.iter().map(|(zone, _)| zone.clone()).filter(|zone| !targets.contains(zone)));
    let intent = cluster.ledger.intend(digest, Some(held.size), &zones).await?;
    for (zone, size) in found {
        let target = intent.target(&zone).ok_or_else(|| Error::new(ErrorKind::Internal, "the ledger forgot a target"))?;
        cluster.ledger.observe(digest, &zone, target.generation, &Sighting::Found(size)).await?;
    }
    report.adopted += 1;
    cluster.wake(&zones);
    Ok(())
}
