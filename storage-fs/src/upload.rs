//! [`FsUpload`]: an upload in progress.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::blob::{BlobInfo, BlobUpload, ByteStream, ResumeOptions, WriteOptions};
use registry_core::{Digest, Error, ErrorKind, Hasher, Result, UploadToken};

use crate::layout::{self, Staged};
use crate::shared::Shared;
use crate::staging::Staging;
use crate::uploads;
use crate::writer::Writer;

#[derive(Debug)]
pub(crate) struct FsUpload {
    shared: Arc<Shared>,
    staged: Staged,
    writer: Writer,
}

impl FsUpload {
    /// Touches no disk.
    pub(crate) fn begin(shared: &Arc<Shared>, options: &WriteOptions) -> Self {
        let staged = Staged::new(options.epoch);
        Self::empty(shared, staged, Hasher::new(options.algorithm))
    }

    fn empty(shared: &Arc<Shared>, staged: Staged, hasher: Hasher) -> Self {
        let staging = Staging::empty(Arc::clone(shared), staged.path(), hasher);
        Self { shared: Arc::clone(shared), staged, writer: Writer::new(Arc::clone(shared), staging, 0) }
    }

    pub(crate) async fn resume(shared: &Arc<Shared>, options: ResumeOptions) -> Result<Self> {
        let ResumeOptions { token, epoch, .. } = options;
        let from = std::str::from_utf8(&token.backend).ok().and_then(Staged::parse);
        let from = from.ok_or_else(|| Error::new(ErrorKind::UploadUnknown, "not a token of this store"))?;
        if epoch <= from.epoch {
            return Err(Error::new(ErrorKind::Conflict, "the upload has a writer of this epoch, or a newer one").with_key(from.name()));
        }
        let mine = from.taken_up(epoch, token.offset);
        if token.offset == 0 {
            // Nothing was staged, so there is nothing to take away from anybody.
            return Ok(Self::empty(shared, mine, Hasher::new(token.algorithm)));
        }
        let offset = token.offset;
        let (staged, staging) = shared
            .hop(move |shared| {
                let staging = crate::resume::take_up(shared, &token, &from, &mine)?;
                Ok((mine, staging))
            })
            .await?;
        Ok(Self { shared: Arc::clone(shared), staged, writer: Writer::new(Arc::clone(shared), staging, offset) })
    }
}

#[async_trait]
impl BlobUpload for FsUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.writer.write(chunk).await
    }

    fn offset(&self) -> u64 {
        self.writer.offset()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        let hasher = self.writer.suspend().await?;
        Ok(UploadToken::new(self.writer.offset(), &hasher, self.staged.name()))
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        self.writer.commit(digest).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        if !self.writer.abort().await? {
            // Given up to a token. A newer writer's file has another name.
            let name = self.staged.name();
            match self.shared.hop(move |shared| uploads::discard(shared, &name)).await {
                // It is being taken up at this moment.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other,
            }
        }
        Ok(())
    }
}

/// Writes a blob whose digest is known.
pub(crate) async fn put(shared: &Arc<Shared>, digest: &Digest, options: &WriteOptions, mut content: ByteStream) -> Result<BlobInfo> {
    use futures_util::StreamExt as _;

    let path = layout::upload(&layout::temporary("put"));
    let staging = Staging::ephemeral(Arc::clone(shared), path, digest.algorithm());
    let mut writer = Writer::new(Arc::clone(shared), staging, 0);
    let wrong_size = |writer: &Writer, size: u64| {
        Error::new(ErrorKind::SizeInvalid, format!("{} bytes came where {size} were declared", writer.offset())).with_key(digest)
    };
    let written: Result<BlobInfo> = async {
        while let Some(chunk) = content.next().await {
            writer.write(chunk?).await?;
            if let Some(size) = options.size.filter(|size| writer.offset() > *size) {
                return Err(wrong_size(&writer, size));
            }
        }
        if let Some(size) = options.size.filter(|size| writer.offset() != *size) {
            return Err(wrong_size(&writer, size));
        }
        writer.commit(digest).await
    }
    .await;
    if written.is_err()
        && let Err(error) = writer.abort().await
    {
        tracing::warn!(%digest, %error, "could not remove the file of a failed write; it is left for the search for abandoned uploads");
    }
    written.map_err(|error| match error.kind() {
        // Nobody can have taken over a put: its file was discarded under it.
        ErrorKind::Conflict => error.with_kind(ErrorKind::Unavailable),
        _ => error,
    })
}
