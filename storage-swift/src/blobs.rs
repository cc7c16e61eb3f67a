//! [`SwiftBlobStore`]: blobs in Swift.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::path::Path;
use registry_core::blob::{
    Assurance, BlobInfo, BlobReader, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, NamedObjects, PendingUpload,
    ProbeReport, ReadOptions, ResumeOptions, WriteOptions,
};
use registry_core::{BlobStore, BlobUpload, Digest, Error, ErrorKind, Result, Timestamp};
use storage_object::{Manifests, ObjectBlobStore, Segment};

use crate::client::{Call, Target};
use crate::store::SwiftStore;
use crate::{large, listing};

/// How long it is believed that temporary URLs are good, or are not.
const URLS_TRIED: Duration = Duration::from_secs(60);

/// How long it may take to try one.
const URLS_PATIENCE: Duration = Duration::from_secs(5);

const TEMP_URL_KEY: http::HeaderName = http::HeaderName::from_static("x-account-meta-temp-url-key");

/// A [`BlobStore`] in a Swift container. Made by [`SwiftBuilder`](crate::SwiftBuilder). Cheap to clone.
///
/// Temporary URLs are given out only while the service takes them: one is tried once a minute where any are asked for, since a client that is sent to a URL
/// which is refused has no blob at all.
///
/// A blob of one part is an object; a larger one is a manifest whose segments are under `_segments/<upload>/`.
#[derive(Clone, Debug)]
pub struct SwiftBlobStore {
    blobs: ObjectBlobStore,
    objects: SwiftStore,
    urls: Arc<Urls>,
}

/// Whether temporary URLs are good.
#[derive(Debug, Default)]
struct Urls {
    /// When they were tried last, and how that ended.
    known: Mutex<Option<(Instant, bool)>>,
    /// Held by who tries.
    turn: tokio::sync::Mutex<()>,
}

impl Urls {
    fn note(&self, known: Option<(Instant, bool)>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl SwiftBlobStore {
    pub(crate) fn over(blobs: ObjectBlobStore, objects: SwiftStore) -> Self {
        Self { blobs, objects, urls: Arc::default() }
    }

    /// Whether temporary URLs let their holders in, as they were found to lately.
    async fn has_urls(&self) -> bool {
        let known = *self.urls.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, good)) = known
            && at.elapsed() < URLS_TRIED
        {
            return good;
        }
        // One tries; nobody else waits for that.
        let Ok(_turn) = self.urls.turn.try_lock() else { return known.is_some_and(|(_, good)| good) };
        let tried = tokio::time::timeout(URLS_PATIENCE, self.objects.try_temp_url()).await;
        let outcome = tried.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "trying a temporary URL took too long")));
        if let Err(error) = &outcome {
            tracing::warn!(%error, "no temporary URLs are given out");
        }
        self.urls.note(Some((Instant::now(), outcome.is_ok())));
        outcome.is_ok()
    }

    /// Tells the account the key that temporary URLs are signed with, as `swift post -m Temp-URL-Key:…` does. Its second key, if there is one, stays.
    ///
    /// [`ErrorKind::Unsupported`] if the configuration has no key; [`ErrorKind::Denied`] if this user may not change the account.
    pub async fn set_temp_url_key(&self) -> Result<()> {
        let Some(key) = &self.objects.temp_url_key else {
            return Err(Error::new(ErrorKind::Unsupported, "there is no temp_url_key"));
        };
        let call = Call::new(http::Method::POST, Target::Account).header(TEMP_URL_KEY, key.reveal());
        self.objects.client.send(&call).await.map_err(|failure| failure.error)?;
        self.urls.note(None);
        Ok(())
    }
}

#[async_trait]
impl Manifests for SwiftStore {
    async fn put_manifest(&self, path: &Path, segments: &[Segment], upload: &str) -> object_store::Result<()> {
        let segments: Vec<_> = segments.iter().map(|segment| (&segment.path, segment.size, segment.e_tag.as_str())).collect();
        let size = segments.iter().map(|(_, size, _)| size).sum::<u64>();
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, listing::type_with_size(size));
        let is_compared = self.info().await.map_err(|failure| failure.told(path.as_ref()))?.compares_manifests;
        let put = large::put_manifest(&self.client, path, &segments, upload, headers, is_compared).await;
        put.map(drop).map_err(|failure| failure.told(path.as_ref()))
    }

    async fn upload_of(&self, path: &Path) -> object_store::Result<Option<String>> {
        large::upload_of(&self.client, path).await.map_err(|failure| failure.told(path.as_ref()))
    }

    async fn segments_of(&self, path: &Path) -> object_store::Result<Option<Vec<Path>>> {
        large::segments_of(&self.client, path).await.map_err(|failure| failure.told(path.as_ref()))
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
        if self.objects.temp_url_key.is_some() && !self.has_urls().await {
            return Ok(None);
        }
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
        let mut report = self.blobs.probe().await;
        if report.failure().is_none() {
            let start = Instant::now();
            let clock = self.objects.try_clock().await;
            report.push("clock", start.elapsed(), clock);
            if let Some(certificate) = self.objects.client.http.try_certificate() {
                report.push("certificate", Duration::ZERO, certificate);
            }
        }
        if report.failure().is_none() && self.objects.temp_url_key.is_some() {
            let start = Instant::now();
            let url = self.objects.try_temp_url().await;
            report.push("temporary URL", start.elapsed(), url);
        }
        report
    }

    fn capabilities(&self) -> Capabilities {
        self.blobs.capabilities()
    }
}
