//! One claimed piece of work, from its claim to its end: the heartbeat around it, and what is told to the ledger.

use std::sync::Arc;

use registry_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::{Stop, copy, delete, verify};
use crate::cluster::Cluster;
use crate::events::Event;
use crate::ledger::{Outcome, Task, TaskKind};
use crate::member::Member;
use crate::metrics;

/// A task, and since when it has been claimed at the earliest.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) task: Task,
    pub(super) at: Instant,
}

/// Why there was nothing to be told to the ledger.
enum End {
    Done(Result<Outcome>),
    /// The claim was lost, or could not be kept up.
    Lost,
    /// The process is to stop.
    Stopped,
}

/// Does it.
pub(super) async fn run(cluster: Arc<Cluster>, member: Arc<Member>, claimed: Claimed, mut stop: Stop) {
    let Claimed { task, at } = &claimed;
    let kind = task.kind;
    let work = async {
        match kind {
            TaskKind::Copy => copy::run(&cluster, &member, task).await,
            TaskKind::Verify => verify::run(&cluster, &member, task).await,
            TaskKind::Delete => delete::run(&cluster, &member, task, *at).await,
        }
    };
    let end = tokio::select! {
        biased;
        outcome = work => End::Done(outcome),
        () = beat(&cluster, task, *at) => End::Lost,
        // A delete that was sent cannot be recalled: it is waited for.
        () = stop.wait(), if kind != TaskKind::Delete => End::Stopped,
    };
    let told = match &end {
        End::Done(Ok(outcome)) => complete(&cluster, &member, task, outcome).await,
        End::Done(Err(error)) => fail(&cluster, &member, task, error).await,
        End::Lost => {
            tracing::info!(zone = member.name, digest = %task.digest, task = kind.as_str(), "lost the claim on a piece of work");
            metrics::failure(&member.name, kind.as_str(), "overtaken");
            // Says that nothing more is sent.
            cluster.ledger.give_back(task).await
        }
        End::Stopped => cluster.ledger.give_back(task).await,
    };
    if let Err(error) = told {
        tracing::debug!(zone = member.name, digest = %task.digest, %error, "could not say how a piece of work ended");
        if error.kind() == ErrorKind::LeaseLost {
            let is_over = matches!(end, End::Done(Ok(_)));
            overtaken(&cluster, &member, task, is_over, &mut stop).await;
        }
    }
}

/// The claim was lost. What was done in its name may have taken effect after what others have done since, or may do so yet.
async fn overtaken(cluster: &Cluster, member: &Member, task: &Task, is_over: bool, stop: &mut Stop) {
    match task.kind {
        TaskKind::Verify => {}
        TaskKind::Delete => delete::too_late(cluster, member, task).await,
        TaskKind::Copy => {
            if !is_over {
                // Bytes that were sent and not answered for have come by then, or never will.
                stop.sleep(cluster.options.lease).await;
            }
            // If nobody wants them there, they are deleted.
            if let Err(error) = persist(cluster, || cluster.ledger.stray(&task.digest, &task.zone)).await {
                tracing::warn!(zone = member.name, digest = %task.digest, %error, "could not note bytes that a deletion overtook");
            }
        }
    }
}

/// Keeps the claim up; returns when it is lost. For a delete it never returns: the fence is kept up until the delete has ended.
async fn beat(cluster: &Cluster, task: &Task, claimed_at: Instant) {
    let lease = cluster.options.lease;
    let mut good_until = claimed_at + lease;
    loop {
        tokio::time::sleep(lease / 4).await;
        let asked_at = Instant::now();
        match tokio::time::timeout(lease / 4, cluster.ledger.renew(task, lease, None)).await {
            Ok(Ok(())) => good_until = asked_at + lease,
            Ok(Err(error)) if error.kind() == ErrorKind::LeaseLost && task.kind != TaskKind::Delete => return,
            Ok(Err(error)) => tracing::warn!(digest = %task.digest, %error, "could not renew the claim on a piece of work"),
            Err(_) => tracing::warn!(digest = %task.digest, "the ledger does not answer: could not renew the claim on a piece of work"),
        }
        // Before anybody else can have it: half a lease is left for what is still on its way.
        if task.kind != TaskKind::Delete && Instant::now() + lease / 4 >= good_until {
            return;
        }
    }
}

async fn complete(cluster: &Cluster, member: &Member, task: &Task, outcome: &Outcome) -> Result<()> {
    match persist(cluster, || cluster.ledger.complete(task, outcome)).await {
        Ok(waited) => {
            metrics::done(&member.name, task.kind.as_str());
            match outcome {
                Outcome::Copied(size) => {
                    metrics::copied(&member.name, *size, waited);
                    tracing::info!(zone = member.name, digest = %task.digest, size, ?waited, "copied a blob");
                    let (zone, digest, size) = (member.name.clone(), task.digest, *size);
                    member.events.tell(&if task.repairs {
                        Event::Repaired { zone, digest, size }
                    } else {
                        Event::Replicated { zone, digest, size, waited }
                    });
                    cluster.good_copy(member.id());
                }
                Outcome::Verified(_) => cluster.good_copy(member.id()),
                Outcome::Wrong { reason, .. } => {
                    metrics::failure(&member.name, task.kind.as_str(), "corrupt");
                    tracing::error!(zone = member.name, digest = %task.digest, reason, "a copy is damaged");
                    if task.is_trusted {
                        member.events.tell(&Event::Corrupt { zone: member.name.clone(), digest: task.digest, reason: reason.clone() });
                    }
                    member.wake.notify_one();
                }
                Outcome::Missing => {
                    metrics::failure(&member.name, task.kind.as_str(), "missing");
                    if task.is_trusted {
                        tracing::error!(zone = member.name, digest = %task.digest, "a copy is gone");
                        member.events.tell(&Event::Missing { zone: member.name.clone(), digest: task.digest });
                    }
                    member.wake.notify_one();
                }
                Outcome::Spared { reason, .. } => {
                    metrics::failure(&member.name, task.kind.as_str(), "spared");
                    tracing::warn!(zone = member.name, digest = %task.digest, reason, "a copy that is not wanted was not deleted");
                    cluster.good_copy(member.id());
                }
                Outcome::Deleted => {
                    tracing::debug!(zone = member.name, digest = %task.digest, "deleted a copy");
                    // It may be wanted again by now.
                    member.wake.notify_one();
                }
            }
            Ok(())
        }
        Err(error) => {
            metrics::failure(&member.name, task.kind.as_str(), metrics::reason(&error));
            tracing::info!(zone = member.name, digest = %task.digest, task = task.kind.as_str(), %error, "work was done and is not wanted any more");
            Err(error)
        }
    }
}

async fn fail(cluster: &Cluster, member: &Member, task: &Task, error: &Error) -> Result<()> {
    let delay = cluster.backoff(task.attempts);
    metrics::failure(&member.name, task.kind.as_str(), metrics::reason(error));
    tracing::warn!(
        zone = member.name, digest = %task.digest, task = task.kind.as_str(), attempts = task.attempts + 1, again_in = ?delay, error = chain(error),
        "a piece of work failed"
    );
    let reason = chain(error);
    persist(cluster, || cluster.ledger.defer(task, delay, &reason)).await
}

/// What went wrong and why, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    if let Some((end, _)) = text.char_indices().nth(500) {
        text.truncate(end);
    }
    text
}

/// Asks a ledger that is away for a moment again, as long as the claim lasts: the work is done, and would have to be done once more.
async fn persist<T, F: Future<Output = Result<T>>>(cluster: &Cluster, mut command: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + cluster.options.lease;
    let mut attempts = 0;
    loop {
        match command().await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                tokio::time::sleep(cluster.backoff(attempts).min(cluster.options.lease / 4)).await;
                attempts += 1;
            }
            other => return other,
        }
    }
}
