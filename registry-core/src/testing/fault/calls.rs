//! The calls of a [`FaultStore`].

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::faults::{Drawn, Faults};
use super::streams::{Spoil, flipped, spoiled};
use super::upload::FaultUpload;
use super::{Damage, Fault, FaultStore, Op};
use crate::blob::{
    Assurance, BlobInfo, BlobReader, BlobStore, BlobUpload, ByteRange, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions,
    NamedObjectInfo, NamedObjects, PendingUpload, ProbeReport, ReadOptions, ResumeOptions, WriteOptions,
};
use crate::{Digest, Error, ErrorKind, Result, Timestamp};

impl Faults {
    /// What the damaged medium says of a blob.
    fn as_damaged(&self, mut info: BlobInfo) -> BlobInfo {
        if let Some(Damage::Truncate(len)) = self.damage_of(&info.digest) {
            info.size = info.size.min(len);
        }
        info
    }

    /// Reads what is on the medium, damaged as it is.
    async fn read_medium(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        match self.damage_of(digest) {
            None => self.inner.read(digest, options).await,
            Some(Damage::Flip(position)) => {
                let mut reader = self.inner.read(digest, options).await?;
                if let Some(at) = position.checked_sub(reader.range.start) {
                    reader.stream = spoiled(reader.stream, Spoil { flips: vec![at], end: None });
                }
                Ok(reader)
            }
            Some(Damage::Truncate(_)) => {
                let info = self.as_damaged(self.inner.stat(digest).await?);
                let range = options.resolve(digest, info.size)?;
                if range.is_empty() {
                    return Ok(BlobReader::new(info, range, Box::pin(stream::empty())));
                }
                let part = ByteRange::FromTo(range.start, Some(range.end - 1));
                let reader = self.inner.read(digest, ReadOptions::default().with_range(part)).await?;
                Ok(BlobReader::new(info, range, reader.stream))
            }
        }
    }

    fn inner_named(&self) -> Result<&dyn NamedObjects> {
        self.inner.named().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the store has no named objects"))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for FaultStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        let info = self.0.around(Op::Stat, &digest.to_string(), self.0.inner.stat(digest)).await?;
        Ok(self.0.as_damaged(info))
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        let key = digest.to_string();
        let drawn = self.0.enter(Op::Read, &key).await?;
        let mut reader = self.0.read_medium(digest, options).await?;
        self.0.leave(Op::Read, &key, drawn).await?;
        let spoil = self.0.spoil_read(&key, drawn, reader.len());
        reader.stream = self.0.paced(spoiled(reader.stream, spoil));
        Ok(reader)
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let key = self.0.number_upload();
        let inner = self.0.around(Op::Begin, &key, self.0.inner.begin(options)).await?;
        Ok(Box::new(FaultUpload::new(self.0.clone(), key, inner)))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let key = self.0.number_upload();
        let inner = self.0.around(Op::Resume, &key, self.0.inner.resume(options)).await?;
        Ok(Box::new(FaultUpload::new(self.0.clone(), key, inner)))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        let key = digest.to_string();
        let drawn = self.0.enter(Op::Put, &key).await?;
        let content = self.0.paced(self.0.spoil_put(&key, drawn, options.size, content));
        let info = self.0.inner.put(digest, options, content).await?;
        self.0.written(Op::Put, &key, digest, info.size, drawn);
        self.0.leave(Op::Put, &key, drawn).await?;
        Ok(info)
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        let delete = async {
            self.0.inner.delete(digest).await?;
            self.0.lock().damaged.remove(digest);
            Ok(())
        };
        self.0.around(Op::Delete, &digest.to_string(), delete).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        let delete = async {
            self.0.inner.delete_before(digest, deadline).await?;
            self.0.lock().damaged.remove(digest);
            Ok(())
        };
        self.0.around(Op::Delete, &digest.to_string(), delete).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let key = options.shard.map_or_else(|| "all shards".to_owned(), |shard| format!("shard {shard:02x}"));
        self.0.spoil_list(Op::List, key, move || Box::pin(self.0.inner.list(options).map(|info| Ok(self.0.as_damaged(info?)))))
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.0.spoil_list(Op::Uploads, String::new(), move || self.0.inner.uploads(older_than))
    }

    async fn discard(&self, id: &str) -> Result<()> {
        // The id is random: as a key it would make every run another one.
        self.0.around(Op::Discard, "", self.0.inner.discard(id)).await
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        self.0.around(Op::DownloadUrl, &digest.to_string(), self.0.inner.download_url(method, digest, options)).await
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.0.around(Op::Retain, &digest.to_string(), self.0.inner.retain(digest, scope)).await
    }

    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.0.around(Op::Release, &digest.to_string(), self.0.inner.release(digest, scope)).await
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        self.0.inner.await_copies(digests, scope).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        self.0.inner.named().is_some().then_some(&self.0)
    }

    async fn probe(&self) -> ProbeReport {
        // By the calls above, so that it sees their faults; the probe of the store underneath would see none.
        crate::blob::probe(self).await
    }

    fn capabilities(&self) -> Capabilities {
        self.0.inner.capabilities()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl NamedObjects for Faults {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let drawn = self.enter(Op::NamedGet, name).await?;
        let mut value = self.inner_named()?.get(name).await?;
        self.leave(Op::NamedGet, name, drawn).await?;
        if let (Some(bytes), Some(Drawn { fault: fault @ Fault::Flip(position), .. })) = (&mut value, drawn) {
            self.record(Op::NamedGet, name, fault);
            *bytes = flipped(bytes, [position]);
        }
        Ok(value)
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        let put = async {
            self.occupy(Op::NamedPut, name, value.len())?;
            self.inner_named()?.put(name, value).await
        };
        self.around(Op::NamedPut, name, put).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.around(Op::NamedDelete, name, async { self.inner_named()?.delete(name).await }).await
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let prefix = prefix.to_owned();
        self.spoil_list(Op::NamedList, prefix.clone(), move || match self.inner_named() {
            Ok(named) => named.list(&prefix),
            Err(error) => Box::pin(stream::iter([Err(error)])),
        })
    }
}
