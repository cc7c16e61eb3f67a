//! Emptying a zone.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use registry_core::{Error, ErrorKind, RepositoryName, Result};
use tokio::time::Instant;

use super::{HEAR, keeping, save, zone_of};
use crate::cluster::Cluster;
use crate::ledger::{Desired, Job, JobState, ListPlacements, Observed, Placement, Retarget, ZoneId, ZoneState};
use crate::member::Member;
use crate::workers::Stop;

/// Placements that are looked at in one go.
const PAGE: u32 = 500;

/// How many of them at once: a ledger that commits many together does it in a fraction of the time.
const AT_ONCE: usize = 16;

/// How often, of its time, the zone is looked through while the workers delete.
const SHARE: u32 = 4;

/// Refuses to empty a zone that a policy cannot do without.
pub(super) fn check(cluster: &Cluster, leaving: &Member) -> Result<()> {
    for rule in cluster.policy.all_rules().filter(|rule| rule.zones.contains(&leaving.name)) {
        // One that nobody has ever seen has nothing.
        let left = cluster.wanted(rule).filter(|member| member.name != leaving.name && member.id().is_some()).count();
        if left == 0 {
            let message = format!("the policy for {} wants its blobs in no other zone: there would be none left", rule.pattern);
            return Err(Error::new(ErrorKind::InvalidInput, message).with_zone(&leaving.name));
        }
        if left < rule.min_copies as usize {
            let zones = if left == 1 { "one zone" } else { &format!("{left} zones") };
            let message = format!("the policy for {} asks for {} copies, and {zones} would be left", rule.pattern, rule.min_copies);
            return Err(Error::new(ErrorKind::InvalidInput, message).with_zone(&leaving.name));
        }
    }
    Ok(())
}

/// What is left in the zone.
#[derive(Debug, Default)]
struct Left {
    /// To be deleted, as soon as the others are verified.
    leaving: u64,
    /// Not yet, since somebody may be about to refer to it.
    recent: u64,
    /// No repository holds it, no other zone has it, and there is none where it could be whatever it was written for: garbage collection sees to it, or
    /// whoever is writing it links it.
    unheld: u64,
    /// There is no other zone that the policies of those who hold it allow.
    stuck: u64,
    /// Could not be told to leave.
    failed: u64,
    /// Why, the last time.
    error: Option<Error>,
}

impl Left {
    fn count(&self) -> u64 {
        self.leaving + self.recent + self.unheld + self.stuck + self.failed
    }

    fn note(&self) -> String {
        let mut parts = Vec::new();
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        say(self.leaving, "wait for verified copies elsewhere, or are being deleted");
        say(self.recent, "were pushed just now, and wait for some minutes (narrow_after)");
        say(self.unheld, "are held by no repository, and wait for garbage collection");
        say(self.stuck, "may be in no other zone by their policies");
        say(self.failed, "could not be told to leave");
        if let Some(error) = &self.error {
            parts.push(error.to_string());
        }
        parts.join("; ")
    }
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<JobState> {
    let member = Arc::clone(zone_of(cluster, job)?);
    // Who has not heard yet that it is being emptied may write there for a moment: it is looked at twice.
    let mut was_empty = false;
    loop {
        cluster.hear_states().await?;
        if member.state() != ZoneState::Draining {
            return Ok(JobState::Cancelled);
        }
        let began = Instant::now();
        let left = keeping(cluster, job, stop, walk(cluster, &member)).await??;
        let count = left.count();
        let total = job.total.unwrap_or(0).max(job.done + count);
        job.total = Some(total);
        job.done = total - count;
        job.note = left.note();
        save(cluster, job).await?;
        if count == 0 && was_empty {
            return Ok(JobState::Done);
        }
        was_empty = count == 0;
        let pause = (began.elapsed() * SHARE).max(cluster.options.poll_interval).min(cluster.options.lease / 4);
        let pause = if was_empty { pause.max(HEAR * 2) } else { pause };
        keeping(cluster, job, stop, tokio::time::sleep(pause)).await?;
    }
}

/// Goes through what is in the zone, and sees to it that it is wanted elsewhere.
async fn walk(cluster: &Arc<Cluster>, member: &Member) -> Result<Left> {
    let Some(zone) = member.id() else { return Err(Error::new(ErrorKind::Internal, "a zone without identity")) };
    let mut left = Left::default();
    let mut after = None;
    loop {
        let page = cluster.ledger.list(&ListPlacements::new(PAGE).with_zone(Some(zone.clone())).with_after(after)).await?;
        let is_last = page.len() < PAGE as usize;
        after = page.last().map(|placement| (placement.digest, placement.zone.clone()));
        let (wanted, unwanted): (Vec<_>, Vec<_>) = page.into_iter().partition(|placement| placement.desired == Desired::Present);
        left.leaving += unwanted.iter().filter(|placement| placement.observed != Observed::Absent).count() as u64;
        let mut moved = stream::iter(wanted).map(|placement| leave(cluster, member, zone, placement)).buffer_unordered(AT_ONCE);
        while let Some(how) = moved.next().await {
            match how {
                Ok(How::Leaving) => left.leaving += 1,
                Ok(How::Recent) => left.recent += 1,
                Ok(How::Unheld) => left.unheld += 1,
                Ok(How::Stuck) => left.stuck += 1,
                Err(error) => {
                    left.failed += 1;
                    left.error = Some(error);
                }
            }
        }
        drop(moved);
        if is_last || after.is_none() {
            cluster.wake(&cluster.ids());
            return Ok(left);
        }
    }
}

enum How {
    Leaving,
    Recent,
    Unheld,
    Stuck,
}

/// Sees to it that a blob is wanted where its repositories want it, and not in the zone that is left.
async fn leave(cluster: &Cluster, member: &Member, zone: &ZoneId, placement: Placement) -> Result<How> {
    if member.state() != ZoneState::Draining {
        return Err(Error::new(ErrorKind::LeaseLost, "the zone is not to be emptied any more").with_zone(&member.name));
    }
    let digest = &placement.digest;
    let holders = match &cluster.metadata {
        Some(metadata) => metadata.holders(digest).await?,
        None => Vec::new(),
    };
    let placements = cluster.ledger.placements(&[*digest]).await?;
    // Zones that this process was not told of are somebody else's to decide about.
    let others = |placement: &&Placement| {
        let is_ours = cluster.member(&placement.zone).is_some();
        placement.desired == Desired::Present && placement.zone != *zone && (holders.is_empty() || !is_ours)
    };
    let others: Vec<_> = placements.iter().filter(others).map(|placement| placement.zone.clone()).collect();
    let mut targets = cluster.union(holders.iter().map(RepositoryName::as_str));
    if holders.is_empty() && cluster.metadata.is_none() {
        // Nobody knows on whose behalf it was written.
        targets = cluster.targets(None);
    }
    if holders.is_empty() && others.is_empty() && targets.is_empty() {
        // Whoever wrote it died before it was linked, or is about to link it.
        targets = cluster.common();
    }
    targets.extend(others.into_iter().filter(|other| !targets.contains(other)).collect::<Vec<_>>());
    targets.retain(|target| target != zone);
    if targets.is_empty() {
        return Ok(if holders.is_empty() { How::Unheld } else { How::Stuck });
    }
    let options = &cluster.options;
    let retarget = Retarget { targets, untouched_for: options.narrow_after, trash_delay: options.trash_delay };
    Ok(if cluster.ledger.retarget(digest, &retarget).await? { How::Leaving } else { How::Recent })
}
