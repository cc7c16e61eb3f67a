//! [`SwiftBlobStore`]: blobs in Swift.

use std::time::Instant;

use async_trait::async_trait;
use object_store::path::Path;
use registry_core::blob::{
    Assurance, BlobInfo, BlobReader, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, NamedObjects, PendingUpload,
    ProbeReport, ReadOptions, ResumeOptions, WriteOptions,
};
use registry_core::{BlobStore, BlobUpload, Digest, Error, ErrorKind, Result, Timestamp};
use storage_object::{Manifests, ObjectBlobStore, Segment};

use crate::client::{Call, Target};
use crate::large;
use crate::store::SwiftStore;

const TEMP_URL_KEY: http::HeaderName = http::HeaderName::from_static("x-account-meta-temp-url-key");

/// A [`BlobStore`] in a Swift container. Made by [`SwiftBuilder`](crate::SwiftBuilder). Cheap to clone.
///
/// A blob of one part is an object; a larger one is a manifest whose segments are under `_segments/<upload>/`.
#[derive(Clone, Debug)]
pub struct SwiftBlobStore {
    blobs: ObjectBlobStore,
    objects: SwiftStore,
}

impl SwiftBlobStore {
    pub(crate) fn over(blobs: ObjectBlobStore, objects: SwiftStore) -> Self {
        Self { blobs, objects }
    }

    /// Tells the account the key that temporary URLs are signed with, as `swift post -m Temp-URL-Key:…` does. Its second key, if there is one, stays.
    ///
    /// [`ErrorKind::Unsupported`] if the configuration has no key; [`ErrorKind::Denied`] if this user may not change the account.
    pub async fn set_temp_url_key(&self) -> Result<()> {
        let Some(key) = &self.objects.temp_url_key else {
            return Err(Error::new(ErrorKind::Unsupported, "there is no temp_url_key"));
        };
        let call = Call::new(http::Method::POST, Target::Account).header(TEMP_URL_KEY, key.reveal());
        self.objects.client.send(&call).await.map(drop).map_err(|failure| failure.error)
    }
}

#[async_trait]
impl Manifests for SwiftStore {
    async fn put_manifest(&self, path: &Path, segments: &[Segment], upload: &str) -> object_store::Result<()> {
        let segments: Vec<_> = segments.iter().map(|segment| (&segment.path, segment.size, segment.e_tag.as_str())).collect();
        let put = large::put_manifest(&self.client, path, &segments, upload, Default::default()).await;
        put.map(drop).map_err(|failure| failure.told(path.as_ref()))
    }

    async fn upload_of(&self, path: &Path) -> object_store::Result<Option<String>> {
        large::upload_of(&self.client, path).await.map_err(|failure| failure.told(path.as_ref()))
    }

    async fn delete_manifest(&self, path: &Path) -> object_store::Result<()> {
        let deleted = self.client.send(&Call::object(http::Method::DELETE, path)).await;
        deleted.map(drop).map_err(|failure| failure.told(path.as_ref()))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for SwiftBlobStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.blobs.stat(digest).await
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        self.blobs.read(digest, options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.blobs.begin(options).await
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.blobs.resume(options).await
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.blobs.put(digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.blobs.delete(digest).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        self.blobs.delete_before(digest, deadline).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        self.blobs.list(options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.blobs.uploads(older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.blobs.discard(id).await
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        self.blobs.download_url(method, digest, options).await
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.blobs.retain(digest, scope).await
    }

    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.blobs.release(digest, scope).await
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        self.blobs.await_copies(digests, scope).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        self.blobs.named()
    }

    async fn probe(&self) -> ProbeReport {
        self.blobs.probe().await
    }

    fn capabilities(&self) -> Capabilities {
        self.blobs.capabilities()
    }
}
