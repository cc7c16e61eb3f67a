//! Reading what is stored, to find what has rotted before somebody needs it.

use std::sync::Arc;
use std::time::Duration;

use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{in_its_hours, keeping, rest, save, stopping, zone_of};
use crate::bandwidth::Class;
use crate::cluster::Cluster;
use crate::ledger::{Desired, Job, JobState, ListPlacements, Observed, Outcome, Placement, Sighting, ZoneState};
use crate::member::Member;
use crate::workers::{Stop, verify};

/// Placements that are looked at in one go.
const PAGE: u32 = 200;

/// Shards of a zone.
const SHARDS: u64 = 256;

/// Where a scrub stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Marker {
    /// What was read and found right later than this is not read again. In milliseconds since 1970, by the ledger's clock.
    before: i64,
    /// The last one that was looked at.
    after: Option<String>,
}

impl Marker {
    pub(super) fn new(before: Timestamp) -> Self {
        Self { before: before.as_millis(), after: None }
    }

    pub(super) fn encode(&self) -> Result<bytes::Bytes> {
        let text = serde_json::to_vec(self).map_err(|error| Error::new(ErrorKind::Internal, "encoding a marker").with_source(error))?;
        Ok(text.into())
    }
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<JobState> {
    let member = Arc::clone(zone_of(cluster, job)?);
    let mut marker: Marker = serde_json::from_slice(&job.marker)
        .map_err(|error| Error::new(ErrorKind::Internal, "the job's marker is none").with_source(error))?;
    let mut saved = Instant::now();
    job.total = Some(SHARDS);
    loop {
        cluster.hear_states().await?;
        if member.state() == ZoneState::Removed {
            return Ok(JobState::Cancelled);
        }
        in_its_hours(cluster, job, stop, &member).await?;
        let zone = member.confirm(&*cluster.ledger, cluster.options.request_timeout).await?;
        let after = marker.after.as_ref().and_then(|digest| digest.parse().ok()).map(|digest: Digest| (digest, zone.clone()));
        let page = cluster.ledger.list(&ListPlacements::new(PAGE).with_zone(Some(zone)).with_after(after)).await?;
        let is_last = page.len() < PAGE as usize;
        for placement in page {
            if stop.is_set() {
                return Err(stopping());
            }
            let began = Instant::now();
            scrub(cluster, &member, job, stop, &marker, &placement).await?;
            marker.after = Some(placement.digest.to_string());
            job.marker = marker.encode()?;
            job.done = u64::from(placement.digest.shard());
            if saved.elapsed() > (cluster.options.lease / 4).min(Duration::from_secs(5)) {
                save(cluster, job).await?;
                saved = Instant::now();
            }
            rest(cluster, job, stop, began.elapsed()).await?;
        }
        if is_last {
            job.done = SHARDS;
            return Ok(JobState::Done);
        }
        save(cluster, job).await?;
        saved = Instant::now();
    }
}

/// Reads one copy, unless that was done lately or somebody is at it.
async fn scrub(
    cluster: &Arc<Cluster>,
    member: &Member,
    job: &mut Job,
    stop: &mut Stop,
    marker: &Marker,
    placement: &Placement,
) -> Result<()> {
    let is_lately = placement.verified_at.is_some_and(|at| at.as_millis() > marker.before);
    if placement.observed != Observed::Present || placement.desired != Desired::Present || placement.leased || is_lately {
        return Ok(());
    }
    in_its_hours(cluster, job, stop, member).await?;
    let (digest, generation) = (&placement.digest, placement.generation);
    member.be_sure(&*cluster.ledger, cluster.options.request_timeout).await?;
    let found = match keeping(cluster, job, stop, verify::read_alone(cluster, member, digest, 0, Class::Scrub)).await? {
        Ok(Outcome::Verified(size)) => {
            job.count("bytes", size);
            None
        }
        Ok(Outcome::Missing) => Some(("missing", "it is not there".to_owned())),
        Ok(Outcome::Wrong { reason, .. }) => Some(("corrupt", reason)),
        Ok(_) => None,
        Err(error) if member.health.is_open() => return Err(error),
        Err(error) => {
            // It says nothing about the copy; the next scrub reads it again.
            tracing::warn!(zone = member.name, %digest, %error, "a copy could not be read");
            job.count("unreadable", 1);
            return Ok(());
        }
    };
    job.count("read", 1);
    match found {
        // Whoever has lately lost trust in it knows more.
        None => cluster.ledger.observe(digest, &placement.zone, generation, &Sighting::Good).await,
        Some((what, reason)) => {
            // Read once more, alone, by a worker; then it is put aside, and made again from another zone.
            job.count(what, 1);
            cluster.suspect(member, digest, generation, &reason).await;
            Ok(())
        }
    }
}
