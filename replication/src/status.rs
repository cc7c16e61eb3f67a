//! What there is to know of the zones, as values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use registry_core::{Digest, Error, ErrorKind, Result};

use crate::ledger::{Desired, ListPlacements, Placement, ZoneId, ZoneState};
use crate::member::Member;
use crate::store::ReplicatedStore;

/// How often to look what other processes have copied.
const WATCH: Duration = Duration::from_millis(500);

/// How a zone is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneStatus {
    /// Its name.
    pub name: String,
    /// Who it is, if that is known.
    pub id: Option<String>,
    /// What it is used for.
    pub state: ZoneState,
    /// Whether it is asked: it answers, and is the zone it was.
    pub healthy: bool,
    /// How long it takes to answer, of late.
    pub latency: Option<Duration>,
    /// Verified copies that are to be here.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Copies that are to be made here.
    pub backlog: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
    /// Copies to be verified.
    pub suspects: u64,
    /// Copies to be deleted.
    pub deletes: u64,
    /// Copies that cannot be made, since no good one is known anywhere.
    pub sourceless: u64,
    /// Pieces of work that failed at least once.
    pub failing: u64,
    /// For how long the oldest piece of work has been waiting; `None` if there is none.
    pub oldest_unconverged: Option<Duration>,
    /// What went wrong the last time: with the zone, or with a blob.
    pub last_error: Option<String>,
}

/// Where the blobs of an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageZone {
    /// The zone's name.
    pub name: String,
    /// Whether the image is to be there.
    pub wanted: bool,
    /// How many of its blobs are there and verified.
    pub present: u64,
    /// Those that are not.
    pub missing: Vec<Digest>,
}

impl ImageZone {
    /// Whether the zone has all of the image.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// A piece of work that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedWork {
    /// The zone's name, or its id if this process does not know it.
    pub zone: String,
    /// The blob.
    pub digest: Digest,
    /// How often it failed, in a row.
    pub attempts: u32,
    /// Why, the last time.
    pub error: String,
}

impl ReplicatedStore {
    /// How each zone is, in the order in which they were configured. Health is what this process has seen, the rest what the ledger says.
    pub async fn status(&self) -> Result<Vec<ZoneStatus>> {
        let cluster = &self.cluster;
        let (backlogs, totals) = (cluster.ledger.backlog().await?, cluster.ledger.totals().await?);
        let zones = cluster.members.iter().map(|member| {
            let id = member.id();
            let backlog = backlogs.iter().find(|backlog| Some(&backlog.zone) == id);
            let totals = totals.iter().find(|totals| Some(&totals.zone) == id);
            let healthy = member.usable().is_some() && !member.health.is_open();
            let of_work = backlog.and_then(|backlog| backlog.last_error.as_ref()).map(|(digest, error)| format!("{digest}: {error}"));
            ZoneStatus {
                name: member.name.clone(),
                id: id.map(ToString::to_string),
                state: member.state(),
                healthy,
                latency: member.health.latency(),
                blobs: totals.map_or(0, |totals| totals.blobs),
                bytes: totals.map_or(0, |totals| totals.bytes),
                backlog: backlog.map_or(0, |backlog| backlog.copies),
                backlog_bytes: backlog.map_or(0, |backlog| backlog.copy_bytes),
                suspects: backlog.map_or(0, |backlog| backlog.suspects),
                deletes: backlog.map_or(0, |backlog| backlog.deletes),
                sourceless: backlog.map_or(0, |backlog| backlog.sourceless),
                failing: backlog.map_or(0, |backlog| backlog.failing),
                oldest_unconverged: backlog.filter(|backlog| backlog.oldest.is_some()).map(|backlog| backlog.lag),
                last_error: member.health.last_error().filter(|_| !healthy).or(of_work),
            }
        });
        Ok(zones.collect())
    }

    /// Asks the zone of this name who it is; one that nobody has ever used is given an identity.
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such zone; [`ErrorKind::Conflict`] if it
    /// was removed, or is known under another name or id; the store's own error if it does not answer, or holds another zone than before.
    pub async fn identify(&self, zone: &str) -> Result<()> {
        let cluster = &self.cluster;
        self.named(zone)?.confirm(&*cluster.ledger, cluster.options.request_timeout).await.map(drop)
    }

    fn named(&self, zone: &str) -> Result<&Arc<Member>> {
        let named = self.cluster.members.iter().find(|member| member.name == zone);
        named.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "there is no such zone").with_zone(zone))
    }

    /// The zone of this name, and who it is.
    pub(crate) fn seen(&self, zone: &str) -> Result<(&Arc<Member>, &ZoneId)> {
        let member = self.named(zone)?;
        let unseen = || {
            let reason = member.health.last_error().unwrap_or_else(|| "it has not said yet who it is".to_owned());
            Error::new(ErrorKind::InvalidInput, format!("the zone cannot be used: {reason}")).with_zone(zone)
        };
        let id = member.id().ok_or_else(unseen)?;
        Ok((member, id))
    }

    /// Where the blobs of an image of this scope are: its manifests, configurations and layers, as the caller has found them.
    pub async fn image_status(&self, scope: Option<&str>, digests: &[Digest]) -> Result<Vec<ImageZone>> {
        let cluster = &self.cluster;
        let mut there: BTreeMap<(ZoneId, Digest), bool> = BTreeMap::new();
        for placement in cluster.ledger.placements(digests).await? {
            let good = placement.is_source() && placement.desired == Desired::Present;
            there.insert((placement.zone, placement.digest), good);
        }
        let wanted = self.zones_of(scope);
        let zones = cluster.members.iter().map(|member| {
            let is_there = |digest: &Digest| member.id().is_some_and(|id| there.get(&(id.clone(), *digest)) == Some(&true));
            let mut missing: Vec<_> = digests.iter().filter(|digest| !is_there(digest)).copied().collect();
            missing.sort_unstable();
            missing.dedup();
            ImageZone {
                name: member.name.clone(),
                wanted: wanted.contains(&member.name),
                present: digests.iter().filter(|digest| is_there(digest)).count() as u64,
                missing,
            }
        });
        Ok(zones.collect())
    }

    /// Returns when all of these blobs, of an image of this scope, are there and verified: in the zone of this name, or in every zone where they are to be.
    /// Never, if they cannot be copied: put a time-out around it. May be dropped at any time.
    ///
    /// For who pushes in one place and pulls in another. [`ErrorKind::InvalidInput`] if there is no such zone, or if the image is not to
    /// be there.
    pub async fn await_image(&self, scope: Option<&str>, digests: &[Digest], zone: Option<&str>) -> Result<()> {
        loop {
            let progress = self.cluster.progress.notified();
            self.cluster.hear_states().await?;
            let zones = self.image_status(scope, digests).await?;
            let is_asked = |of: &&ImageZone| zone.map_or(of.wanted, |name| of.name == name);
            let mut asked = zones.iter().filter(is_asked).peekable();
            if let Some(name) = zone {
                let invalid = |message: &str| Error::new(ErrorKind::InvalidInput, message).with_zone(name);
                match asked.peek() {
                    None => return Err(invalid("there is no such zone")),
                    // It may be there all the same, for now.
                    Some(of) if !of.wanted && !of.is_complete() => return Err(invalid("the image is not to be in this zone")),
                    Some(_) => {}
                }
            }
            if asked.peek().is_none() {
                return Err(Error::new(ErrorKind::InvalidInput, "the image is to be in no zone"));
            }
            if asked.all(ImageZone::is_complete) {
                return Ok(());
            }
            // In this process it is told, in others it has to be looked for.
            drop(tokio::time::timeout(WATCH, progress).await);
        }
    }

    /// Work that failed at least once, up to `limit` pieces, in the order of digests.
    pub async fn failures(&self, limit: u32) -> Result<Vec<FailedWork>> {
        let failing = self.cluster.ledger.list(&ListPlacements::new(limit).with_failing(true)).await?;
        let zone = |placement: &Placement| match self.cluster.member(&placement.zone) {
            Some(member) => member.name.clone(),
            None => placement.zone.to_string(),
        };
        let failed = failing.into_iter().map(|placement| FailedWork {
            zone: zone(&placement),
            digest: placement.digest,
            attempts: placement.attempts,
            error: placement.last_error.unwrap_or_default(),
        });
        Ok(failed.collect())
    }

    /// Makes work that failed due at once, in the zone of this name or in all; returns how much there was.
    pub async fn replay(&self, zone: Option<&str>) -> Result<u64> {
        let id = match zone {
            None => None,
            Some(name) => Some(self.seen(name)?.1),
        };
        let count = self.cluster.ledger.replay(id).await?;
        self.cluster.wake(&self.cluster.ids());
        Ok(count)
    }
}
