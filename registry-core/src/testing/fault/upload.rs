//! Uploads into a [`FaultStore`].

use async_trait::async_trait;
use bytes::Bytes;

use super::Op;
use super::faults::Faults;
use crate::blob::{BlobInfo, BlobUpload, UploadToken};
use crate::{Digest, Result};

#[derive(Debug)]
pub(super) struct FaultUpload {
    faults: Faults,
    key: String,
    inner: Box<dyn BlobUpload>,
    /// The bytes are in place: committing again writes none.
    committed: bool,
}

impl FaultUpload {
    pub(super) fn new(faults: Faults, key: String, inner: Box<dyn BlobUpload>) -> Self {
        Self { faults, key, inner, committed: false }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobUpload for FaultUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        let write = async {
            self.faults.occupy(Op::Write, &self.key, chunk.len())?;
            self.faults.pace(chunk.len()).await;
            self.inner.write(chunk).await
        };
        self.faults.around(Op::Write, &self.key, write).await
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        self.faults.around(Op::Suspend, &self.key, self.inner.suspend()).await
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        let drawn = self.faults.enter(Op::Commit, &self.key).await?;
        let info = self.inner.commit(digest).await?;
        if !std::mem::replace(&mut self.committed, true) {
            self.faults.written(Op::Commit, &self.key, digest, info.size, drawn);
        }
        self.faults.leave(Op::Commit, &self.key, drawn).await?;
        Ok(info)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { faults, key, inner, .. } = *self;
        faults.around(Op::Abort, &key, inner.abort()).await
    }
}
