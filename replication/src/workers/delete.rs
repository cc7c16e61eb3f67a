//! Deleting a copy.

use std::sync::Arc;

use registry_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::bandwidth::Class;
use crate::cluster::{Cluster, Source, is_visible};
use crate::ledger::{Desired, Observed, Outcome, Placement, Sighting, Task};
use crate::member::Member;
use crate::read::Reading;

/// Deletes it, within half the lease: afterwards nothing is sent any more. What was sent is waited for. A copy that merely is not wanted here goes only when
/// those that stay were seen, and one of them is known to be right.
pub(super) async fn run(cluster: &Arc<Cluster>, member: &Arc<Member>, task: &Task, claimed_at: Instant) -> Result<Outcome> {
    let options = &cluster.options;
    // Nothing is deleted from a zone that has not just said who it is.
    member.be_sure(&*cluster.ledger, options.request_timeout).await?;
    let placements = cluster.ledger.placements(&[task.digest]).await?;
    let mut leased_at = claimed_at;
    if is_visible(&placements) {
        let others = placements.iter().filter(|other| other.zone != task.zone && other.desired == Desired::Present);
        if placements.iter().any(|own| own.zone == task.zone && own.generation != task.generation) {
            return Ok(Outcome::Spared { reason: "it is wanted again".to_owned(), look_again: std::time::Duration::ZERO });
        }
        // The ledger says that there are others; that is not enough to destroy one on.
        let mut seen = Err(Error::new(ErrorKind::Unavailable, "no other copy could be seen").with_key(task.digest));
        for other in others {
            match is_there(cluster, other).await {
                Ok(true) if seen.is_err() => seen = Ok(()),
                Ok(_) => {}
                Err(error) => {
                    seen = Err(error);
                    break;
                }
            }
        }
        if seen.is_ok()
            && let Some(stays) = unverified(cluster, task, &placements)
        {
            seen = verify(cluster, task, stays).await;
            leased_at = Instant::now();
            // That may have taken long.
            cluster.ledger.renew(task, options.lease, None).await?;
        }
        if let Err(error) = seen {
            return Ok(Outcome::Spared { reason: error.to_string(), look_again: cluster.backoff(task.attempts) });
        }
    }
    let deadline = (leased_at + options.lease / 2).into_std();
    let deleted = member.store.delete_before(&task.digest, deadline).await;
    match &deleted {
        Ok(()) => member.health.worked(),
        Err(error) => member.failed(error, options),
    }
    deleted.map(|()| Outcome::Deleted).map_err(|error| error.with_zone(&member.name))
}

/// The closest copy of those that stay, if none of them was read and found right lately: what is there may have rotted since.
fn unverified(cluster: &Cluster, task: &Task, placements: &[Placement]) -> Option<Source> {
    let stay: Vec<_> = placements.iter().filter(|other| other.zone != task.zone && other.desired == Desired::Present).cloned().collect();
    let mut sources = cluster.sources(&stay);
    let now = cluster.clock.now();
    let is_fresh = |source: &Source| source.verified_at.is_some_and(|at| now.since(at) <= cluster.options.verified_within);
    if sources.is_empty() || sources.iter().any(is_fresh) { None } else { Some(sources.swap_remove(0)) }
}

/// Reads all of a copy; an error if it is not right.
async fn verify(cluster: &Arc<Cluster>, task: &Task, source: Source) -> Result<()> {
    let Some(size) = task.size else { return Err(Error::new(ErrorKind::Unavailable, "its size is not known").with_key(task.digest)) };
    let mut reading = Reading::new(cluster, &task.digest, size, 0..size, vec![source]);
    reading.verify = true;
    reading.class = Class::Copy;
    reading.start().await?;
    while let Some(chunk) = reading.next().await {
        chunk?;
    }
    Ok(())
}

/// Whether a copy that is to stay really is there.
async fn is_there(cluster: &Cluster, other: &Placement) -> Result<bool> {
    let Some(member) = cluster.member(&other.zone).filter(|member| other.is_source() && member.usable().is_some()) else {
        return Ok(false);
    };
    match member.ask(&cluster.options, member.store.stat(&other.digest)).await {
        Ok(info) if other.size.is_none_or(|size| size == info.size) => Ok(true),
        Ok(_) => {
            cluster.suspect(member, &other.digest, other.generation, "it has another size than it should").await;
            Err(Error::new(ErrorKind::Unavailable, "another copy is doubted").with_key(other.digest).with_zone(&member.name))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            cluster.suspect(member, &other.digest, other.generation, "it is not there").await;
            Err(Error::new(ErrorKind::Unavailable, "another copy is missing").with_key(other.digest).with_zone(&member.name))
        }
        Err(error) => Err(error),
    }
}

/// A delete ended after the claim was lost: this process stood still for too long. Bytes that somebody has written since may be gone; the ledger is told
/// to have a look, so that they come back from another zone, or the next client is told to push them.
pub(super) async fn too_late(cluster: &Cluster, member: &Member, task: &Task) {
    let Ok(placements) = cluster.ledger.placements(&[task.digest]).await else { return };
    let Some(now) = placements.iter().find(|placement| placement.zone == task.zone) else { return };
    if now.observed != Observed::Present {
        return;
    }
    let reason = "it was deleted after the leave to do so had run out";
    match member.ask(&cluster.options, member.store.stat(&task.digest)).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let noted = cluster.ledger.observe(&task.digest, &task.zone, now.generation, &Sighting::Suspect(reason.to_owned())).await;
            tracing::error!(zone = member.name, digest = %task.digest, noted = noted.is_ok(), reason, "a copy is gone");
            member.wake.notify_one();
        }
        _ => {}
    }
}
