//! Trying a store end to end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{BlobStore, BlobStoreExt as _, ByteRange, ListOptions, ReadOptions, WriteOptions, once};
use crate::{Digest, Error, ErrorKind, Result};

/// One step of a probe that was tried.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProbeStep {
    /// `write`, `stat`, `read`, `range`, `list` or `delete`.
    pub name: &'static str,
    /// How long it took.
    pub elapsed: Duration,
    /// How it ended.
    pub outcome: Result<()>,
}

/// What a probe found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ProbeReport {
    /// The steps in order, up to the first that failed, and the clean-up.
    pub steps: Vec<ProbeStep>,
}

impl ProbeReport {
    /// Adds a step.
    pub fn push(&mut self, name: &'static str, elapsed: Duration, outcome: Result<()>) -> bool {
        let good = outcome.is_ok();
        self.steps.push(ProbeStep { name, elapsed, outcome });
        good
    }

    /// The first step that failed and why.
    pub fn failure(&self) -> Option<(&'static str, &Error)> {
        self.steps.iter().find_map(|step| Some((step.name, step.outcome.as_ref().err()?)))
    }
}

/// The probe that [`BlobStore::probe`] runs unless a store has a better one: a random 64-byte blob goes in, is looked at in every way, and out again.
pub async fn probe<S: BlobStore + ?Sized>(store: &S) -> ProbeReport {
    let content = Bytes::from(format!("{}{}", crate::random_id(), crate::random_id()));
    let digest = Digest::sha256(&content);
    let mut report = ProbeReport::default();
    inspect(store, &digest, &content, &mut report).await;
    if report.steps.first().is_some_and(|write| write.outcome.is_ok()) {
        let start = Instant::now();
        let outcome = async {
            store.delete(&digest).await?;
            if store.contains(&digest).await? { Err(wrong("a deleted blob is still there")) } else { Ok(()) }
        };
        let outcome = outcome.await;
        report.push("delete", start.elapsed(), outcome);
    }
    report
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn ensure(good: bool, message: &str) -> Result<()> {
    if good { Ok(()) } else { Err(wrong(message)) }
}

async fn inspect<S: BlobStore + ?Sized>(store: &S, digest: &Digest, content: &Bytes, report: &mut ProbeReport) {
    let size = content.len() as u64;

    let start = Instant::now();
    let outcome = store.put(digest, WriteOptions::default().with_size(size), once(content.clone())).await.map(drop);
    if !report.push("write", start.elapsed(), outcome) {
        return;
    }

    let start = Instant::now();
    let outcome = match store.stat(digest).await {
        Ok(info) => ensure(info.size == size, "stat tells another size than was written"),
        Err(error) => Err(error),
    };
    if !report.push("stat", start.elapsed(), outcome) {
        return;
    }

    let start = Instant::now();
    let outcome = match store.read_all(digest).await {
        Ok(bytes) => ensure(bytes == *content, "other bytes come back than were written"),
        Err(error) => Err(error),
    };
    if !report.push("read", start.elapsed(), outcome) {
        return;
    }

    let start = Instant::now();
    let range = ReadOptions::default().with_range(ByteRange::FromTo(7, Some(18)));
    let outcome = async { ensure(store.read(digest, range).await?.collect().await? == content[7..19], "a range gives other bytes") }.await;
    if !report.push("range", start.elapsed(), outcome) {
        return;
    }

    let start = Instant::now();
    let outcome = async {
        let mut listed = store.list(ListOptions::default().with_shard(digest.shard()));
        while let Some(info) = listed.next().await {
            if info?.digest == *digest {
                return Ok(());
            }
        }
        ensure(store.capabilities().list_is_hint, "the list misses a blob that is there")
    };
    let outcome = outcome.await;
    report.push("list", start.elapsed(), outcome);
}
