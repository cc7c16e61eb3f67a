//! Reading a doubted copy alone.

use std::sync::Arc;

use futures_util::StreamExt as _;
use registry_core::blob::ReadOptions;
use registry_core::{Digest, Error, ErrorKind, Hasher, Result};

use crate::bandwidth::Class;
use crate::cluster::Cluster;
use crate::ledger::{Outcome, Task};
use crate::member::{Member, timed_out};

/// How often a copy may break off before it is taken for bad.
const PATIENCE: u32 = 5;

/// Reads all of it and says what it is. An error means that it could not be read, which says nothing about the copy.
pub(super) async fn run(cluster: &Arc<Cluster>, member: &Arc<Member>, task: &Task) -> Result<Outcome> {
    // A zone that is not the one it was lacks everything, and that means nothing.
    member.confirm(&*cluster.ledger, cluster.options.request_timeout).await?;
    read_alone(cluster, member, &task.digest, task.attempts, Class::Copy).await
}

/// The same of a zone that has just said who it is, and of a copy that could not be read so many times.
pub(crate) async fn read_alone(cluster: &Cluster, member: &Member, digest: &Digest, attempts: u32, class: Class) -> Result<Outcome> {
    let read = member.store.read(digest, ReadOptions::default());
    let mut reader = match member.ask(&cluster.options, read).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Outcome::Missing),
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(wrong(cluster, error.to_string())),
        other => other?,
    };
    let mut hasher = Hasher::new(digest.algorithm());
    let mut size = 0_u64;
    loop {
        match tokio::time::timeout(cluster.options.stall_timeout, reader.stream.next()).await {
            Ok(Some(Ok(chunk))) => {
                member.throttle.read.pass(class, chunk.len()).await;
                size += chunk.len() as u64;
                hasher.update(&chunk);
                if size > reader.info.size {
                    let longer = Error::new(ErrorKind::Interrupted, "more came than the zone says that there is");
                    return not_read(cluster, attempts, longer.with_zone(&member.name));
                }
            }
            Ok(None) => break,
            Ok(Some(Err(error))) if error.kind() == ErrorKind::Corrupt => return Ok(wrong(cluster, error.to_string())),
            Ok(Some(Err(error))) => {
                member.failed(&error, &cluster.options);
                return not_read(cluster, attempts, error.with_zone(&member.name));
            }
            Err(_) => {
                let error = timed_out(&member.name);
                member.failed(&error, &cluster.options);
                return not_read(cluster, attempts, error);
            }
        }
    }
    if size != reader.info.size {
        return not_read(cluster, attempts, Error::new(ErrorKind::Interrupted, "the stream ended early").with_zone(&member.name));
    }
    let found = hasher.finalize();
    if found == *digest {
        return Ok(Outcome::Verified(size));
    }
    Ok(wrong(cluster, format!("its {size} bytes have the digest {found}")))
}

/// Some of it came, and then no more. If that is so again and again while the zone answers, it is the copy that is bad.
fn not_read(cluster: &Cluster, attempts: u32, error: Error) -> Result<Outcome> {
    if attempts < PATIENCE { Err(error) } else { Ok(wrong(cluster, format!("it cannot be read to its end: {error}"))) }
}

fn wrong(cluster: &Cluster, reason: String) -> Outcome {
    Outcome::Wrong { reason, look_again: cluster.options.max_backoff }
}
