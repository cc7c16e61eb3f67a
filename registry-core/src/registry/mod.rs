//! The registry's use-cases, without HTTP.

mod blobs;
mod builder;
mod gc;
mod manifests;
mod uploads;
mod uses;
mod verify;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use self::builder::{RegistryBuilder, VerifyReads};
pub use self::gc::{GcOptions, GcReport};
pub use self::manifests::{PushedManifest, Referrers};
pub use self::uploads::UploadStatus;
use crate::metadata::Intent;
use crate::{BlobStore, Clock, Digest, Error, ErrorKind, MetadataStore, Result};

/// A registry over one [`BlobStore`] and one [`MetadataStore`]. Cheap to clone; any number of processes may run one over the same stores.
///
/// Methods that change something run to their end in a task of their own, once all input has arrived: a client that hangs up does not leave half a commit.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: Arc<dyn BlobStore>,
    metadata: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    options: builder::Options,
    uses: uses::Uses,
}

impl Registry {
    /// A registry over these stores, to be configured.
    pub fn builder(blobs: Arc<dyn BlobStore>, metadata: Arc<dyn MetadataStore>) -> RegistryBuilder {
        RegistryBuilder::new(blobs, metadata)
    }

    /// The store of the bytes.
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.inner.blobs
    }

    /// The store of the rows.
    pub fn metadata(&self) -> &Arc<dyn MetadataStore> {
        &self.inner.metadata
    }

    /// Whether pushes and deletes are refused.
    pub fn is_read_only(&self) -> bool {
        self.inner.options.read_only
    }

    /// The largest manifest that is accepted, in bytes.
    pub fn max_manifest_size(&self) -> u64 {
        self.inner.options.max_manifest_size
    }

    /// Whether both stores answer: what a readiness check asks.
    pub async fn check(&self) -> Result<()> {
        self.inner.metadata.ping().await?;
        match self.inner.blobs.stat(&Digest::sha256(b"")).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn writable(&self) -> Result<()> {
        if self.inner.options.read_only { Err(Error::new(ErrorKind::Denied, "the registry is read-only")) } else { Ok(()) }
    }
}

/// Runs `work` to its end even if the caller is dropped.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "a task of the registry failed").with_source(error)))
}

/// How often a writer begins again after losing to garbage collection, before it asks its client to.
const ATTEMPTS: u32 = 3;

impl Inner {
    /// Leave to write the blob's bytes. Waits for a deletion in progress as long as is bearable for a client, then fails with what is left to wait.
    async fn intend(&self, digest: &Digest) -> Result<Intent> {
        let patience = self.options.deletion_patience;
        let mut waited = Duration::ZERO;
        loop {
            match self.metadata.intend_blob(digest).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && waited < patience => {
                    let Some(rest) = error.retry_after() else { return Err(error) };
                    // Most deletions end long before their lease does: look again soon.
                    let pause = rest.min(Duration::from_millis(250)).min(patience - waited).max(Duration::from_millis(1));
                    tokio::time::sleep(pause).await;
                    waited += pause;
                }
                other => return other,
            }
        }
    }
}

/// The registry's word for a blob that a store does not have.
fn blob_unknown(digest: &Digest) -> Error {
    Error::new(ErrorKind::BlobUnknown, "the repository has no such blob").with_key(digest)
}
