//! [`Delayed`]: a store whose every call takes a random while before and after its effect, so that concurrent work meets at every await point.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::Rng;
use crate::blob::{
    Assurance, BlobInfo, BlobReader, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, PendingUpload, ProbeReport,
    ReadOptions, ResumeOptions, WriteOptions,
};
use crate::metadata::{
    BlobLink, Deletion, Event, GcPreview, HeldBlob, Intent, LinkBlob, ManifestUse, MountBlob, NewUpload, Observation, OpenUpload, Page,
    PutManifest, Referrer, ReferrersQuery, StoredManifest, Sweep, SweepPage, UploadKey, UploadSession, UsedManifest,
};
use crate::{
    BlobStore, BlobUpload, Digest, Error, ErrorKind, MetadataStore, NamedObjects, Reference, RepositoryName, Result, Tag, Timestamp,
    UploadToken,
};

/// A [`BlobStore`] or [`MetadataStore`] that dawdles. With tokio's time paused, a seed gives one interleaving of everything that runs.
#[derive(Clone, Debug)]
pub struct Delayed<S> {
    inner: S,
    delays: Arc<Delays>,
}

#[derive(Debug)]
struct Delays {
    rng: Mutex<Rng>,
    longest: Duration,
    longest_delete: Duration,
}

impl Delays {
    fn below(&self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(longest))
    }

    async fn pause(&self) {
        tokio::time::sleep(self.below(self.longest)).await;
    }
}

impl<S> Delayed<S> {
    /// Pauses up to `longest` before and after each call.
    pub fn new(inner: S, seed: u64, longest: Duration) -> Self {
        Self { inner, delays: Arc::new(Delays { rng: Mutex::new(Rng::new(seed)), longest, longest_delete: longest }) }
    }

    /// Lets deletes of blobs take effect up to so much later: like a request on the wire, they do so even if the caller has given up.
    #[must_use]
    pub fn with_late_deletes(self, longest: Duration) -> Self {
        let rng = self.delays.rng.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let delays = Arc::new(Delays { rng: Mutex::new(rng), longest: self.delays.longest, longest_delete: longest });
        Self { inner: self.inner, delays }
    }
}

macro_rules! delayed {
    ($self:ident, $call:expr) => {{
        $self.delays.pause().await;
        let result = $call.await;
        $self.delays.pause().await;
        result
    }};
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Delayed<Arc<dyn BlobStore>> {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        delayed!(self, self.inner.stat(digest))
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        delayed!(self, self.inner.read(digest, options))
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let inner = delayed!(self, self.inner.begin(options))?;
        Ok(Box::new(Delayed { inner, delays: Arc::clone(&self.delays) }))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let inner = delayed!(self, self.inner.resume(options))?;
        Ok(Box::new(Delayed { inner, delays: Arc::clone(&self.delays) }))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        delayed!(self, self.inner.put(digest, options, content))
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        let (inner, delays, digest) = (Arc::clone(&self.inner), Arc::clone(&self.delays), *digest);
        let on_the_wire = tokio::spawn(async move {
            tokio::time::sleep(delays.below(delays.longest_delete)).await;
            inner.delete(&digest).await
        });
        let result = on_the_wire.await.unwrap_or_else(|error| panic!("a delete panicked: {error}"));
        self.delays.pause().await;
        result
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        // In time when it is sent; when it takes effect is another matter.
        if tokio::time::Instant::now().into_std() >= deadline {
            return Err(Error::new(ErrorKind::TimedOut, "too late to delete").with_key(digest));
        }
        self.delete(digest).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        self.inner.list(options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.inner.uploads(older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        delayed!(self, self.inner.discard(id))
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        delayed!(self, self.inner.download_url(method, digest, options))
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        delayed!(self, self.inner.retain(digest, scope))
    }

    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        delayed!(self, self.inner.release(digest, scope))
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        delayed!(self, self.inner.await_copies(digests, scope))
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        self.inner.named()
    }

    async fn probe(&self) -> ProbeReport {
        delayed!(self, self.inner.probe())
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobUpload for Delayed<Box<dyn BlobUpload>> {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        delayed!(self, self.inner.write(chunk))
    }

    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        delayed!(self, self.inner.suspend())
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        delayed!(self, self.inner.commit(digest))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let this = *self;
        delayed!(this, this.inner.abort())
    }
}

macro_rules! delayed_metadata {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl MetadataStore for Delayed<Arc<dyn MetadataStore>> {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$result> {
                delayed!(self, self.inner.$name($($arg),*))
            })*
        }
    };
}

delayed_metadata! {
    fn intend_blob(digest: &Digest) -> Intent;
    fn link_blob(link: LinkBlob) -> ();
    fn mount_blob(mount: MountBlob) -> Option<BlobLink>;
    fn unlink_blob(repository: &RepositoryName, digest: &Digest) -> bool;
    fn blob_link(repository: &RepositoryName, digest: &Digest) -> Option<BlobLink>;
    fn rely_on_blob(repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Option<BlobLink>;
    fn holders(digest: &Digest) -> Vec<RepositoryName>;
    fn held_blobs(after: Option<&Digest>, limit: u32) -> Vec<HeldBlob>;
    fn unknown_blobs(digests: &[Digest]) -> Vec<Digest>;
    fn observe_blob(digest: &Digest, observation: Observation) -> ();
    fn create_upload(upload: NewUpload) -> ();
    fn open_upload(key: &UploadKey, offset: Option<u64>) -> OpenUpload;
    fn save_upload(key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> ();
    fn upload(key: &UploadKey) -> UploadSession;
    fn cancel_upload(key: &UploadKey) -> OpenUpload;
    fn expire_uploads(idle: Duration, keep_finished: Duration, limit: u32) -> u32;
    fn put_manifest(manifest: PutManifest) -> ();
    fn manifest(repository: &RepositoryName, reference: &Reference) -> Option<StoredManifest>;
    fn delete_manifest(repository: &RepositoryName, digest: &Digest) -> bool;
    fn delete_tag(repository: &RepositoryName, tag: &Tag) -> bool;
    fn tags(repository: &RepositoryName, page: &Page) -> Option<Vec<Tag>>;
    fn repositories(page: &Page) -> Vec<RepositoryName>;
    fn referrers(query: &ReferrersQuery) -> Vec<Referrer>;
    fn note_uses(uses: &[(RepositoryName, Digest)]) -> ();
    fn manifests_by_use(after: Option<&ManifestUse>, limit: u32) -> Vec<UsedManifest>;
    fn expire_links(sweep: &Sweep) -> SweepPage<(RepositoryName, Digest)>;
    fn condemn_blobs(sweep: &Sweep) -> SweepPage<Digest>;
    fn condemn(digests: &[Digest], grace: Duration) -> Vec<Digest>;
    fn claim_deletions(trash_delay: Duration, lease: Duration, limit: u32) -> Vec<Deletion>;
    fn renew_deletion(deletion: &Deletion, lease: Duration) -> ();
    fn complete_deletion(deletion: &Deletion) -> ();
    fn preview_collection(grace: Duration) -> GcPreview;
    fn tidy(keep_events: Duration) -> ();
    fn events(after: u64, limit: u32) -> Vec<Event>;
    fn ping() -> ();
}
