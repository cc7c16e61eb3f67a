//! [`FsBlobStore`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use registry_core::blob::{
    BlobInfo, BlobReader, BlobStore, BlobUpload, ByteStream, Capabilities, ItemStream, ListOptions, NamedObjects, PendingUpload,
    ReadOptions, ResumeOptions, WriteOptions,
};
use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use crate::builder::FsBlobStoreBuilder;
use crate::layout;
use crate::named::NamedFiles;
use crate::shared::{Shared, failed};
use crate::upload::{self, FsUpload};
use crate::{list, read, uploads};

/// A [`BlobStore`] in a directory.
///
/// A clone is another handle of the same. Any number of processes may open the same directory, and may resume each other's uploads.
#[derive(Clone, Debug)]
pub struct FsBlobStore {
    pub(crate) shared: Arc<Shared>,
    named: NamedFiles,
}

impl FsBlobStore {
    pub(crate) fn over(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { named: NamedFiles { shared: Arc::clone(&shared) }, shared }
    }

    /// Opens the store in this directory, which is created if it is not there, with all [defaults](FsBlobStoreBuilder).
    ///
    /// Fails as [`FsBlobStoreBuilder::build`] does.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(root).build().await
    }

    /// Opens the store in this directory in a way to be said.
    pub fn builder(root: impl Into<PathBuf>) -> FsBlobStoreBuilder {
        FsBlobStoreBuilder::new(root.into())
    }
}

#[async_trait]
impl BlobStore for FsBlobStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        Ok(read::open(&self.shared, digest).await?.1)
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        read::read(&self.shared, digest, &options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        Ok(Box::new(FsUpload::begin(&self.shared, &options)))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        Ok(Box::new(FsUpload::resume(&self.shared, options).await?))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        upload::put(&self.shared, digest, &options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        let digest = *digest;
        self.shared.hop(move |shared| delete(shared, &digest).map_err(|error| failed(&error, "deleting a blob").with_key(digest))).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        let digest = *digest;
        let job = move |shared: &Arc<Shared>| {
            // Here, not before: the process may have stood still, and the thread may have been waited for.
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::TimedOut, "too late to delete").with_key(digest));
            }
            delete(shared, &digest).map_err(|error| failed(&error, "deleting a blob").with_key(digest))
        };
        self.shared.hop(job).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        list::list(&self.shared, options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        uploads::list(&self.shared, older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.shared.hop(move |shared| uploads::discard(shared, &id)).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(&self.named)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

fn delete(shared: &Shared, digest: &Digest) -> io::Result<()> {
    shared.sys.unlink(&layout::blob(digest))?;
    // Synced also if it was gone: whoever removed it may not have come to that.
    match shared.sys.sync_dir(&layout::shard(digest.algorithm(), digest.shard())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
