//! Blobs: head, pull, push in one go, mount, delete.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::verify::Verified;
use super::{ATTEMPTS, Inner, Registry, VerifyReads, blob_unknown, to_the_end};
use crate::blob::{BlobInfo, BlobReader, ByteRange, ByteStream, ReadOptions, WriteOptions};
use crate::metadata::{BlobLink, LinkBlob, MountBlob, Observation, UploadKey};
use crate::{Digest, Error, ErrorKind, RepositoryName, Result};

/// After how long it is worth a write that a blob was found right once more.
const NEWS: Duration = Duration::from_secs(3600);

/// The longest pause between attempts to link a blob whose bytes are in place.
const LINK_PAUSE: Duration = Duration::from_secs(2);

impl Registry {
    /// Tells a client that the repository has a blob, so that it need not push it: the answer holds for at least the grace period.
    ///
    /// [`ErrorKind::BlobUnknown`] unless the bytes are really there and not known to be damaged: then pushing again heals.
    pub async fn blob_info(&self, repository: &RepositoryName, digest: &Digest) -> Result<BlobInfo> {
        let inner = &self.inner;
        let link = if inner.options.read_only {
            inner.metadata.blob_link(repository, digest).await?
        } else {
            inner.metadata.rely_on_blob(repository, digest, inner.rely_interval()).await?
        };
        let link = link.filter(|link| !inner.is_suspect(link)).ok_or_else(|| blob_unknown(digest))?;
        let info = inner.stat(digest).await?;
        if info.size != link.size {
            inner.found_bad(digest, "its stored size is wrong").await;
            return Err(blob_unknown(digest));
        }
        Ok(info)
    }

    /// Opens a blob of the repository. A whole blob is verified on the way as [`VerifyReads`] says; parts of one that was found damaged are
    /// [`ErrorKind::BlobUnknown`] until it is pushed again.
    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest, range: Option<ByteRange>) -> Result<BlobReader> {
        let inner = &self.inner;
        let link = inner.metadata.blob_link(repository, digest).await?.ok_or_else(|| blob_unknown(digest))?;
        let options = range.map_or_else(ReadOptions::default, |range| ReadOptions::default().with_range(range));
        let mut reader = match inner.blobs.read(digest, options).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                inner.found_bad(digest, "it is not in the store").await;
                return Err(blob_unknown(digest).with_source(error));
            }
            other => other?,
        };
        if reader.info.size != link.size {
            inner.found_bad(digest, "its stored size is wrong").await;
            return Err(Error::new(ErrorKind::Corrupt, "the stored blob has the wrong size").with_key(digest));
        }
        let whole = reader.range == (0..reader.info.size);
        if inner.is_suspect(&link) && !whole {
            // Part of it cannot be checked.
            return Err(blob_unknown(digest));
        }
        if whole && inner.must_verify(&link) {
            let news = link.suspect || inner.clock.now().since(link.verified_at) > NEWS;
            reader.stream = Verified::stream(reader.stream, *digest, reader.info.size, Arc::clone(inner), news);
        }
        Ok(reader)
    }

    /// Stores a blob whose digest the client says up front.
    ///
    /// [`ErrorKind::DigestInvalid`] if the content has another, [`ErrorKind::SizeInvalid`] if it is not `size` bytes; nothing is changed then.
    pub async fn push_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        content: ByteStream,
    ) -> Result<BlobInfo> {
        self.writable()?;
        let (inner, repository, digest) = (Arc::clone(&self.inner), repository.clone(), *digest);
        to_the_end(async move { inner.put_and_link(&repository, &digest, size, content, None).await }).await
    }

    /// Makes a blob of another repository one of this, without moving a byte: `None` if that is not possible and the client has to push.
    ///
    /// With `from` absent, any repository will do.
    pub async fn mount_blob(&self, to: &RepositoryName, digest: &Digest, from: Option<&RepositoryName>) -> Result<Option<BlobInfo>> {
        self.writable()?;
        let (inner, mount) = (Arc::clone(&self.inner), MountBlob { from: from.cloned(), to: to.clone(), digest: *digest });
        to_the_end(async move {
            let digest = mount.digest;
            let info = match inner.blobs.stat(&digest).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let scope = mount.to.clone();
            inner.blobs.retain(&digest, scope.as_str()).await?;
            match inner.metadata.mount_blob(mount).await? {
                Some(link) if link.size == info.size => Ok(Some(info)),
                Some(_) => {
                    inner.found_bad(&digest, "its stored size is wrong").await;
                    Ok(None)
                }
                None => {
                    inner.blobs.release(&digest, scope.as_str()).await?;
                    Ok(None)
                }
            }
        })
        .await
    }

    /// Takes a blob out of the repository; other repositories keep it, and its bytes go when no one holds it. [`ErrorKind::BlobUnknown`] if it is not there.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        self.writable()?;
        let (inner, repository, digest) = (Arc::clone(&self.inner), repository.clone(), *digest);
        to_the_end(async move {
            if !inner.metadata.unlink_blob(&repository, &digest).await? {
                return Err(blob_unknown(&digest));
            }
            inner.let_go(&repository, &[digest]).await;
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// How often a client's reliance on a blob has to be written down: often enough that the grace period is never used up by what was not.
    fn rely_interval(&self) -> Duration {
        Duration::from_secs(3600).min(self.options.grace / 4)
    }

    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        match self.blobs.stat(digest).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.found_bad(digest, "it is not in the store").await;
                Err(blob_unknown(digest).with_source(error))
            }
            other => other,
        }
    }

    fn must_verify(&self, link: &BlobLink) -> bool {
        match self.options.verify_reads {
            VerifyReads::Always => true,
            VerifyReads::Stale(age) => link.suspect || self.clock.now().since(link.verified_at) > age,
            VerifyReads::Never => false,
        }
    }

    /// Whether the metadata has it that a blob is damaged, and it is the metadata that keeps such things.
    fn is_suspect(&self, link: &BlobLink) -> bool {
        link.suspect && self.options.verify_reads != VerifyReads::Never
    }

    /// Notes that stored bytes are wrong or missing, so that the next client that asks is told to push them again. A store that verifies by itself has
    /// noted that itself, and knows better: it may have, or may soon have, a good copy elsewhere.
    pub(super) async fn found_bad(&self, digest: &Digest, why: &'static str) {
        if self.options.verify_reads == VerifyReads::Never {
            tracing::debug!(%digest, "the store has no good copy of a blob to offer: {why}");
            return;
        }
        tracing::error!(%digest, "a blob is damaged: {why}");
        metrics::counter!("registry_blobs_found_damaged_total").increment(1);
        if let Err(error) = self.metadata.observe_blob(digest, Observation::Suspect).await {
            tracing::warn!(%digest, %error, "could not note a damaged blob");
        }
    }

    /// What follows the removal of a repository's hold on blobs: those that nobody holds are condemned, and the store is told. A failure here is made
    /// good by the next garbage collection.
    pub(super) async fn let_go(&self, repository: &RepositoryName, digests: &[Digest]) {
        if let Err(error) = self.metadata.condemn(digests, self.options.grace).await {
            tracing::warn!(%repository, %error, "could not condemn blobs");
        }
        for digest in digests {
            if let Err(error) = self.blobs.release(digest, repository.as_str()).await {
                tracing::warn!(%repository, %digest, %error, "could not release a blob");
            }
        }
    }

    /// intend → put → link. The content can be read only once, so a lost race with a deletion is the client's to repeat.
    pub(super) async fn put_and_link(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
        content: ByteStream,
        upload: Option<(UploadKey, u64)>,
    ) -> Result<BlobInfo> {
        // A first chunk before anything is written down: a client that goes away at once leaves no trace.
        let mut content = content.peekable();
        if let Some(Err(_)) = std::pin::Pin::new(&mut content).peek().await
            && let Some(Err(error)) = content.next().await
        {
            return Err(error);
        }
        let mut options = WriteOptions::default().with_scope(repository.as_str()).with_algorithm(digest.algorithm());
        options.size = size;
        let intent = self.intend(digest).await?;
        let info = self.blobs.put(digest, options, Box::pin(content)).await?;
        self.link(repository, &info, intent.generation, upload).await.map_err(lost_race)?;
        Ok(info)
    }

    /// retain → link. The bytes are in place, and may have come over a slow line for hours: a database that is away for a moment is waited for.
    pub(super) async fn link(
        &self,
        repository: &RepositoryName,
        info: &BlobInfo,
        generation: u64,
        upload: Option<(UploadKey, u64)>,
    ) -> Result<()> {
        let link = LinkBlob { repository: repository.clone(), digest: info.digest, size: info.size, generation, upload };
        let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(50));
        loop {
            let linked = async {
                self.blobs.retain(&info.digest, repository.as_str()).await?;
                self.metadata.link_blob(link.clone()).await
            };
            match linked.await {
                Err(error) if error.is_retryable() && waited < self.options.deletion_patience => {
                    tokio::time::sleep(pause).await;
                    waited += pause;
                    pause = (pause * 2).min(LINK_PAUSE);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    // Bytes that may now be in the store without a row are given one, so that they are collected.
                    if let Err(error) = self.metadata.intend_blob(&info.digest).await {
                        tracing::debug!(digest = %info.digest, %error, "could not note a blob for collection");
                    }
                    return Err(error);
                }
                other => return other,
            }
        }
    }

    /// Repeats `work` (intend → commit → link) while it loses to a deletion.
    pub(super) async fn retry_lost_races<T, F: Future<Output = Result<T>>>(&self, mut work: impl FnMut() -> F) -> Result<T> {
        for _ in 1..ATTEMPTS {
            match work().await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other,
            }
        }
        work().await.map_err(lost_race)
    }
}

/// A generation that moved on is nothing a client can act on but by trying again.
fn lost_race(error: Error) -> Error {
    if error.kind() == ErrorKind::Conflict {
        let message = "the blob was being deleted or its upload taken over meanwhile; try again";
        Error::new(ErrorKind::Unavailable, message).with_retry_after(Duration::from_secs(1)).with_source(error)
    } else {
        error
    }
}
