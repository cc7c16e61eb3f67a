//! Writing a blob whose digest is known to the closest zone that takes it.

use std::sync::Arc;
use std::time::Duration;

use registry_core::blob::{BlobInfo, ByteStream, WriteOptions};
use registry_core::{Digest, Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::bandwidth::Class;
use crate::cluster::Cluster;
use crate::health::is_zones_fault;
use crate::ledger::{Commit, Intent, ZoneId, ZoneState};
use crate::member::Member;
use crate::replay::Replay;

/// intend → write to the closest zone that takes it → committed.
pub(crate) async fn put(cluster: &Arc<Cluster>, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
    let scope = options.scope.clone();
    let rule = cluster.policy.rule(scope.as_deref());
    let targets = cluster.targets(scope.as_deref());
    let content = Replay::new(content, cluster.options.replay);
    let patience = Instant::now() + cluster.options.deletion_patience;
    let mut failure = None;
    let mut tried: Vec<ZoneId> = Vec::new();
    loop {
        let intent = intend(cluster, digest, options.size, &targets).await?;
        let allowed = cluster.allowed(rule);
        let mut fenced_for: Option<Duration> = None;
        for member in in_turn(&allowed) {
            let Some(target) = member.id().and_then(|id| intent.target(id)) else { continue };
            if tried.contains(&target.zone) {
                continue;
            }
            if let Some(wait) = target.fenced_for {
                fenced_for = Some(fenced_for.map_or(wait, |least| least.min(wait)));
                continue;
            }
            // Bytes that go to an empty directory where a disk should be mounted are gone when it is.
            if let Err(error) = member.be_sure(&*cluster.ledger, cluster.options.request_timeout).await {
                member.trip(&error);
                tried.push(target.zone.clone());
                failure = Some(error);
                continue;
            }
            let written = content.watch(
                &cluster.options,
                &member.name,
                member.store.put(digest, options.clone(), content.attempt(member, Class::Client)),
            );
            let written = tokio::select! {
                biased;
                written = written => written,
                () = remind(cluster, digest, &targets) => continue,
            };
            match written {
                Ok(info) => {
                    member.health.worked();
                    commit(cluster, member, &info, target.generation).await?;
                    cluster.freshly_written(digest, scope.as_deref());
                    if member.state() == ZoneState::Draining {
                        crate::jobs::drain_again(cluster, &target.zone).await;
                    }
                    return Ok(info);
                }
                // The zone refused just when the client went away: nothing that a client may be told of is denied.
                Err(error) if content.is_broken() && error.kind() == ErrorKind::Denied => {
                    return Err(try_again(error.with_zone(&member.name)));
                }
                // The client's fault.
                Err(error) if content.is_broken() || !is_zones_fault(&error) => return Err(error),
                Err(error) => {
                    member.failed(&error, &cluster.options);
                    let error = error.with_zone(&member.name);
                    if !content.can_begin_anew() {
                        return Err(try_again(error));
                    }
                    tracing::info!(zone = member.name, %digest, %error, "a zone does not take a blob: the next one is asked");
                    tried.push(target.zone.clone());
                    failure = Some(error);
                }
            }
        }
        match fenced_for {
            Some(wait) if Instant::now() < patience => {
                // Most deletes end long before their lease does.
                tokio::time::sleep(wait.clamp(Duration::from_millis(1), Duration::from_millis(250))).await;
            }
            Some(wait) => return Err(being_deleted(digest, wait)),
            None => return Err(failure.map_or_else(|| no_zone(scope.as_deref()), try_again)),
        }
    }
}

/// Says again and again that a blob is about to be written, however long its client takes to send it. Never returns.
async fn remind(cluster: &Cluster, digest: &Digest, targets: &[ZoneId]) {
    loop {
        tokio::time::sleep((cluster.options.narrow_after / 4).max(Duration::from_secs(1))).await;
        if let Err(error) = cluster.ledger.retain(digest, targets).await {
            tracing::debug!(%digest, %error, "could not say again that a blob is being written");
        }
    }
}

/// Those that work first; the others are asked when nothing else is left.
fn in_turn(allowed: &[Arc<Member>]) -> impl Iterator<Item = &Arc<Member>> {
    let (good, bad): (Vec<_>, Vec<_>) = allowed.iter().partition(|member| member.health.is_writable());
    good.into_iter().chain(bad)
}

pub(crate) fn choose(cluster: &Cluster, scope: Option<&str>, tried: &[ZoneId]) -> Result<Arc<Member>> {
    let allowed = cluster.allowed(cluster.policy.rule(scope));
    let untried = in_turn(&allowed).find(|member| member.id().is_some_and(|id| !tried.contains(id)));
    untried.map(Arc::clone).ok_or_else(|| no_zone(scope))
}

pub(crate) fn no_zone(scope: Option<&str>) -> Error {
    let message = match scope {
        Some(scope) => format!("no zone that may hold blobs of {scope} can be written to"),
        None => "no zone can be written to".to_owned(),
    };
    Error::new(ErrorKind::Unavailable, message).with_retry_after(Duration::from_secs(5))
}

pub(crate) fn being_deleted(digest: &Digest, wait: Duration) -> Error {
    let message = "the blob is being deleted everywhere it may be; it can be written again when that is over";
    Error::new(ErrorKind::Unavailable, message).with_key(digest).with_retry_after(wait.max(Duration::from_secs(1)))
}

/// A zone's failure in mid-write as the client sees it: the same push may succeed the next time, in another zone.
pub(crate) fn try_again(error: Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::Unavailable => error,
        _ => Error::new(ErrorKind::Unavailable, "the zone failed while the blob was written")
            .with_retry_after(Duration::from_secs(1))
            .with_source(error),
    }
}

pub(crate) async fn intend(cluster: &Cluster, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent> {
    if targets.is_empty() {
        return Err(no_zone(None));
    }
    cluster.ledger.intend(digest, size, targets).await
}

/// Notes that all bytes are in place. If a deletion overtook the write, they are not wanted where they are.
pub(crate) async fn commit(cluster: &Cluster, member: &Member, info: &BlobInfo, generation: u64) -> Result<()> {
    let Some(zone) = member.id().cloned() else { return Err(no_zone(None)) };
    let commit = Commit { digest: info.digest, size: info.size, zone, generation };
    match cluster.ledger.committed(&commit).await {
        Ok(()) => {
            cluster.good_copy(Some(&commit.zone));
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Conflict => {
            if let Err(error) = cluster.ledger.stray(&info.digest, &commit.zone).await {
                tracing::warn!(zone = member.name, digest = %info.digest, %error, "could not note bytes that a deletion overtook");
            }
            let message = "the blob was deleted while it was written; try again";
            Err(Error::new(ErrorKind::Unavailable, message).with_retry_after(Duration::from_secs(1)).with_source(error))
        }
        Err(error) => Err(error),
    }
}
