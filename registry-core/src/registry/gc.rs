//! Garbage collection: beside running pushes, in any number of processes, at constant work per blob.
//!
//! Links that nobody needs and nobody relied on during the grace period go; blobs that nobody links are condemned; condemned blobs whose trash delay is
//! over are claimed, deleted from the store, and forgotten. A crash between any two steps leaves a state that the next run goes on from.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::Registry;
use crate::metadata::{Deletion, GcPreview, Sweep};
use crate::{ErrorKind, Result};

/// How to collect.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GcOptions {
    /// Change nothing, only say what would go.
    pub dry_run: bool,
}

impl GcOptions {
    /// Change nothing.
    #[must_use]
    pub fn with_dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Links of repositories to blobs that were removed.
    pub links: u64,
    /// Blobs that are held by nobody from now on, and go after the trash delay.
    pub condemned: u64,
    /// Blobs whose bytes were deleted.
    pub deleted: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Deletions and clean-ups that failed or took too long, to be tried again by a later run.
    pub failed: u64,
    /// Abandoned uploads that were dropped.
    pub uploads: u64,
    /// With [`GcOptions::dry_run`]: what would go.
    pub preview: Option<GcPreview>,
}

/// Rows per command: short enough to be invisible between pushes.
const PAGE: u32 = 500;

/// Deletes at once.
const CONCURRENCY: usize = 8;

/// How long a finished upload is remembered for clients that missed the answer.
const KEEP_FINISHED: Duration = Duration::from_secs(600);

impl Registry {
    /// Collects what nobody needs.
    pub async fn collect_garbage(&self, options: &GcOptions) -> Result<GcReport> {
        let mut report = GcReport::default();
        if options.dry_run {
            report.preview = Some(self.inner.metadata.preview_collection(self.inner.options.grace).await?);
            return Ok(report);
        }
        self.writable()?;
        self.expire_uploads(&mut report).await?;
        self.expire_links(&mut report).await?;
        self.condemn_blobs(&mut report).await?;
        self.delete_condemned(&mut report).await?;
        self.inner.metadata.tidy(self.inner.options.keep_events).await?;
        metrics::counter!("registry_gc_deleted_blobs_total").increment(report.deleted);
        metrics::counter!("registry_gc_deleted_bytes_total").increment(report.bytes);
        Ok(report)
    }

    async fn expire_links(&self, report: &mut GcReport) -> Result<()> {
        let (inner, mut cursor) = (&self.inner, None);
        loop {
            let page = inner.metadata.expire_links(&Sweep { grace: inner.options.grace, cursor, limit: PAGE }).await?;
            report.links += page.removed.len() as u64;
            // unlink → condemn → release, in this order: a store that is told first could drop bytes that are still linked.
            let digests: Vec<_> = page.removed.iter().map(|(_, digest)| *digest).collect();
            if !digests.is_empty() {
                report.condemned += inner.metadata.condemn(&digests, inner.options.grace).await?.len() as u64;
            }
            for (repository, digest) in &page.removed {
                if let Err(error) = inner.blobs.release(digest, repository.as_str()).await {
                    tracing::warn!(%repository, %digest, %error, "could not release a blob");
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn condemn_blobs(&self, report: &mut GcReport) -> Result<()> {
        let (inner, mut cursor) = (&self.inner, None);
        loop {
            let page = inner.metadata.condemn_blobs(&Sweep { grace: inner.options.grace, cursor, limit: PAGE }).await?;
            report.condemned += page.removed.len() as u64;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn delete_condemned(&self, report: &mut GcReport) -> Result<()> {
        let options = &self.inner.options;
        loop {
            // Before the claim: whatever holds us up from here on is taken off the time in which the deletes may be sent.
            let claimed_at = Instant::now();
            // Few at a time, so that the last one's deletion begins well within the lease.
            let limit = u32::try_from(CONCURRENCY).unwrap_or(1);
            let claimed = self.inner.metadata.claim_deletions(options.trash_delay, options.delete_lease, limit).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            let deletions = claimed.into_iter().map(|deletion| self.delete_claimed(deletion, claimed_at));
            let mut outcomes = futures_util::stream::iter(deletions).buffer_unordered(CONCURRENCY);
            while let Some(deleted) = outcomes.next().await {
                match deleted {
                    Some(bytes) => {
                        report.deleted += 1;
                        report.bytes += bytes;
                    }
                    None => report.failed += 1,
                }
            }
        }
    }

    /// Deletes one blob; `None` if that failed, or has not ended within half the lease: then it goes on by itself.
    async fn delete_claimed(&self, deletion: Deletion, claimed_at: Instant) -> Option<u64> {
        let registry = self.clone();
        let task = tokio::spawn(async move { registry.see_through(deletion, claimed_at).await });
        match tokio::time::timeout(self.inner.options.delete_lease / 2, task).await {
            Ok(ended) => ended.unwrap_or_default(),
            Err(_) => {
                tracing::warn!(digest = %deletion.digest, "deleting a blob takes long; nobody may push it until that has ended");
                None
            }
        }
    }

    /// A delete that was sent cannot be recalled, so it is never given up: the claim is renewed until it has ended, and so nobody writes the blob in the
    /// meantime. If the claim was lost nevertheless (this process stood still for too long), bytes that somebody has written since may be gone: then the
    /// blob is marked, and the next client that asks for it pushes it again.
    async fn see_through(&self, deletion: Deletion, claimed_at: Instant) -> Option<u64> {
        let (inner, digest) = (&self.inner, &deletion.digest);
        let lease = inner.options.delete_lease;
        let mut delete = pin!(inner.blobs.delete_before(digest, (claimed_at + lease / 2).into_std()));
        let deleted = loop {
            tokio::select! {
                biased;
                deleted = &mut delete => break deleted,
                () = tokio::time::sleep(lease / 4) => {
                    if let Err(error) = inner.metadata.renew_deletion(&deletion, lease).await {
                        tracing::warn!(%digest, %error, "could not keep the claim on a blob that is being deleted");
                    }
                }
            }
        };
        let outcome = match deleted {
            Ok(()) => inner.metadata.complete_deletion(&deletion).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Some(deletion.size),
            Err(error) => {
                tracing::warn!(%digest, %error, "could not delete a blob");
                if error.kind() == ErrorKind::Conflict
                    && let Err(missing) = inner.blobs.stat(digest).await
                    && missing.kind() == ErrorKind::NotFound
                {
                    inner.found_bad(digest, "it was deleted after the leave to do so had run out").await;
                }
                None
            }
        }
    }

    async fn expire_uploads(&self, report: &mut GcReport) -> Result<()> {
        let inner = &self.inner;
        let expiry = inner.options.upload_expiry;
        while inner.metadata.expire_uploads(expiry, KEEP_FINISHED, PAGE).await? == PAGE {}
        // A session still known was saved within the expiry, and its last byte came at most one long request earlier: what is older has no session.
        let mut pending = inner.blobs.uploads(inner.clock.now() - expiry * 2);
        let mut abandoned = Vec::new();
        // One bad file must not keep all the other garbage from being collected.
        while let Some(upload) = pending.next().await {
            match upload {
                Ok(upload) => abandoned.push(upload.id),
                Err(error) => {
                    tracing::warn!(%error, "could not list all abandoned uploads");
                    break;
                }
            }
        }
        drop(pending);
        for id in abandoned {
            match inner.blobs.discard(&id).await {
                Ok(()) => report.uploads += 1,
                Err(error) => {
                    tracing::warn!(upload = id, %error, "could not drop an abandoned upload");
                    report.failed += 1;
                }
            }
        }
        Ok(())
    }
}
