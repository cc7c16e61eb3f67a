//! Taking a zone out of the registry.

use std::sync::Arc;

use registry_core::{Digest, Error, ErrorKind, Result};

use super::{keeping, save, zone_of};
use crate::cluster::Cluster;
use crate::events::Event;
use crate::ledger::{Desired, Job, JobState, ListPlacements, Observed, Placement, ZoneId, ZoneState};
use crate::member::Member;
use crate::workers::Stop;

/// Placements that are dropped in one go.
const PAGE: u32 = 500;

/// How many blobs that are only there are named.
const NAMED: usize = 3;

fn id_of(member: &Member) -> Result<&ZoneId> {
    member.id().ok_or_else(|| Error::new(ErrorKind::Internal, "a zone without identity"))
}

fn only_there(zone: &str, count: u64, some: &[Digest]) -> Error {
    let some: Vec<_> = some.iter().map(ToString::to_string).collect();
    let blobs = if count == 1 { "1 blob is".to_owned() } else { format!("{count} blobs are") };
    let message = format!("{blobs} in no other zone that is to keep them, as far as is known: {}", some.join(", "));
    Error::new(ErrorKind::Conflict, message).with_zone(zone)
}

/// Refuses to remove a zone as long as anything is only there.
pub(super) async fn check(cluster: &Cluster, member: &Member) -> Result<()> {
    let zone = id_of(member)?;
    let (mut count, mut some) = (0, Vec::new());
    let mut after = None;
    loop {
        let page = cluster.ledger.list(&ListPlacements::new(PAGE).with_zone(Some(zone.clone())).with_after(after)).await?;
        after = page.last().map(|placement| (placement.digest, placement.zone.clone()));
        let is_there = |placement: &&Placement| placement.desired == Desired::Present || placement.observed != Observed::Absent;
        let there: Vec<_> = page.iter().filter(is_there).map(|placement| placement.digest).collect();
        let rows = cluster.ledger.placements(&there).await?;
        for digest in there {
            let mut of_it = rows.iter().filter(|placement| placement.digest == digest);
            let is_wanted = of_it.clone().any(|placement| placement.desired == Desired::Present);
            let is_safe = of_it.any(|other| other.zone != *zone && other.desired == Desired::Present && other.is_source());
            if is_wanted && !is_safe {
                count += 1;
                if some.len() < NAMED {
                    some.push(digest);
                }
            }
        }
        if page.len() < PAGE as usize {
            return if count == 0 { Ok(()) } else { Err(only_there(&member.name, count, &some)) };
        }
    }
}

pub(super) async fn run(cluster: &Arc<Cluster>, job: &mut Job, stop: &mut Stop) -> Result<JobState> {
    let member = Arc::clone(zone_of(cluster, job)?);
    let zone = id_of(&member)?;
    let mut left = 0;
    loop {
        cluster.hear_states().await?;
        match member.state() {
            ZoneState::Draining => {}
            ZoneState::Removed => break,
            _ => return Ok(JobState::Cancelled),
        }
        keeping(cluster, job, stop, check(cluster, &member)).await??;
        let (mut after, mut busy) = (None, false);
        loop {
            let list = ListPlacements::new(PAGE).with_zone(Some(zone.clone())).with_after(after);
            let page = keeping(cluster, job, stop, cluster.ledger.list(&list)).await??;
            let is_last = page.len() < PAGE as usize;
            after = page.last().map(|placement| (placement.digest, placement.zone.clone()));
            let digests: Vec<_> = page.iter().map(|placement| placement.digest).collect();
            let stay = cluster.ledger.forget(zone, &digests).await?;
            busy |= !stay.is_empty();
            job.done += (digests.len() - stay.len()) as u64;
            let is_left = |placement: &&Placement| placement.observed != Observed::Absent && !stay.contains(&placement.digest);
            left += page.iter().filter(is_left).count();
            if left > 0 {
                job.note = format!("{left} copies may be left in it, and are nobody's");
            }
            save(cluster, job).await?;
            if is_last {
                break;
            }
        }
        if busy {
            // A worker is still at them, or may be; or they are only here by now, which is seen to above.
            keeping(cluster, job, stop, tokio::time::sleep(cluster.options.poll_interval)).await?;
            continue;
        }
        // With the zone, its jobs end as they are.
        job.total = Some(job.done);
        save(cluster, job).await?;
        match cluster.ledger.remove_zone(zone).await {
            Ok(()) => {
                member.events.tell(&Event::Removed { zone: member.name.clone() });
                break;
            }
            // Somebody who had not heard yet has written there.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    job.total = Some(job.done);
    cluster.hear_states().await?;
    Ok(JobState::Done)
}
