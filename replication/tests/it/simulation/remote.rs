//! [`Remote`]: a zone, the ledger or the metadata as one process has it: behind its [`Link`], and gone with its [`Life`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use registry_core::blob::*;
use registry_core::metadata::*;
use registry_core::{BlobStore, BlobUpload, Digest, Error, ErrorKind, MetadataStore, Reference, RepositoryName, Result, Tag, Timestamp};
use replication::ledger::{self, *};

use super::life::Life;
use super::link::{Link, Trouble};
use super::plan::LEASE;

/// What is at the other end of a link.
#[derive(Debug)]
pub(super) struct Remote<S> {
    life: Arc<Life>,
    link: Arc<Link>,
    /// The way to the ledger.
    leases: Arc<Link>,
    inner: S,
}

impl<S: Clone> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self { life: Arc::clone(&self.life), link: Arc::clone(&self.link), leases: Arc::clone(&self.leases), inner: self.inner.clone() }
    }
}

impl<S> Remote<S> {
    pub(super) fn new(life: &Arc<Life>, link: &Arc<Link>, leases: &Arc<Link>, inner: S) -> Self {
        Self { life: Arc::clone(life), link: Arc::clone(link), leases: Arc::clone(leases), inner }
    }

    async fn out(&self, step: &str) -> Result<()> {
        self.life.step(step).await;
        self.link.out().await
    }

    async fn back(&self, step: &str) -> Result<()> {
        let back = self.link.back().await;
        self.life.step(step).await;
        back
    }
}

/// A question: it takes effect while the caller waits, or not at all.
macro_rules! ask {
    ($self:ident, $step:expr, $call:expr) => {{
        $self.out($step).await?;
        let result = $call.await;
        $self.back($step).await?;
        result
    }};
}

/// A request that takes effect even if the caller is gone by then.
macro_rules! send {
    ($self:ident, $step:expr, $effect:expr) => {{
        $self.out($step).await?;
        let result = $self.link.arrive($effect).await;
        $self.back($step).await?;
        result
    }};
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Remote<Arc<dyn BlobStore>> {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        ask!(self, "stat", self.inner.stat(digest))
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        let mut reader = ask!(self, "read", self.inner.read(digest, options))?;
        let (life, link) = (Arc::clone(&self.life), Arc::clone(&self.link));
        reader.stream = Box::pin(stream::unfold(reader.stream, move |mut chunks| {
            let (life, link) = (Arc::clone(&life), Arc::clone(&link));
            async move {
                life.step("read").await;
                if let Err(error) = link.back().await {
                    return Some((Err(error.with_kind(ErrorKind::Interrupted)), stream::empty().boxed()));
                }
                Some((chunks.next().await?, chunks))
            }
        }));
        Ok(reader)
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let upload = ask!(self, "begin", self.inner.begin(options))?;
        Ok(Box::new(RemoteUpload::new(self, upload)))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let inner = Arc::clone(&self.inner);
        let upload = send!(self, "resume", async move { inner.resume(options).await })?;
        Ok(Box::new(RemoteUpload::new(self, upload)))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, mut content: ByteStream) -> Result<BlobInfo> {
        self.out("put").await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = content.next().await {
            // The end of the content is as much the process's as its beginning: one that is dead sends no more.
            self.life.step("put").await;
            let broken = chunk.is_err();
            chunks.push(chunk);
            if broken {
                break;
            }
            self.link.out().await?;
        }
        self.life.step("put").await;
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        let result = self.link.arrive(async move { inner.put(&digest, options, Box::pin(stream::iter(chunks))).await }).await;
        self.back("put").await?;
        result
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        send!(self, "delete", async move { inner.delete(&digest).await })
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        self.life.step("delete_before").await;
        let undisturbed = self.life.disturbances();
        self.link.out().await?;
        // In time when it is sent; when it takes effect is another matter.
        if tokio::time::Instant::now().into_std() >= deadline {
            return Err(Error::new(ErrorKind::TimedOut, "too late to delete").with_key(digest));
        }
        let (inner, digest, life) = (Arc::clone(&self.inner), *digest, Arc::clone(&self.life));
        // One in many takes longer than any lease, which is fine as long as there is somebody who keeps it up.
        let long = if self.leases.trouble() == Trouble::None && self.link.seldom() { LEASE * 3 } else { Duration::ZERO };
        let delete = async move {
            tokio::time::sleep(long).await;
            if !long.is_zero() && life.disturbances() != undisturbed {
                return Err(Error::new(ErrorKind::Interrupted, "the connection went with its process"));
            }
            inner.delete(&digest).await
        };
        let result = self.link.arrive(delete).await;
        self.back("delete_before").await?;
        result
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let listed = async move { self.out("list").await.map(|()| self.inner.list(options)) };
        opened(listed)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        let listed = async move { self.out("list").await.map(|()| self.inner.uploads(older_than)) };
        opened(listed)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        send!(self, "discard", async move { inner.discard(&id).await })
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        ask!(self, "download_url", self.inner.download_url(method, digest, options))
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        ask!(self, "retain", self.inner.retain(digest, scope))
    }

    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        ask!(self, "release", self.inner.release(digest, scope))
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        ask!(self, "await_copies", self.inner.await_copies(digests, scope))
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(self)
    }

    async fn probe(&self) -> ProbeReport {
        self.inner.probe().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn opened<'a, T: Send + 'a>(listed: impl Future<Output = Result<ItemStream<'a, T>>> + Send + 'a) -> ItemStream<'a, T> {
    Box::pin(stream::once(listed).flat_map(|opened| match opened {
        Ok(items) => items,
        Err(error) => stream::iter([Err(error)]).boxed(),
    }))
}

impl Remote<Arc<dyn BlobStore>> {
    fn objects(&self) -> Result<&dyn NamedObjects> {
        self.inner.named().ok_or_else(|| Error::new(ErrorKind::Unsupported, "no named objects"))
    }
}

#[async_trait]
impl NamedObjects for Remote<Arc<dyn BlobStore>> {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        ask!(self, "named", self.objects()?.get(name))
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        ask!(self, "named", self.objects()?.put(name, value))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        ask!(self, "named", self.objects()?.delete(name))
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        match self.objects() {
            Ok(objects) => objects.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }
}

/// An upload into a zone: its calls take effect even if it has been dropped by then.
#[derive(Debug)]
struct RemoteUpload {
    remote: Remote<()>,
    inner: Arc<tokio::sync::Mutex<Option<Box<dyn BlobUpload>>>>,
    offset: u64,
}

fn dropped() -> Error {
    Error::new(ErrorKind::Internal, "the upload was aborted")
}

impl RemoteUpload {
    fn new<S>(remote: &Remote<S>, upload: Box<dyn BlobUpload>) -> Self {
        let offset = upload.offset();
        Self {
            remote: Remote::new(&remote.life, &remote.link, &remote.leases, ()),
            inner: Arc::new(tokio::sync::Mutex::new(Some(upload))),
            offset,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobUpload for RemoteUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        let (inner, remote) = (Arc::clone(&self.inner), &self.remote);
        let len = chunk.len() as u64;
        let written = send!(remote, "write", async move { inner.lock().await.as_mut().ok_or_else(dropped)?.write(chunk).await });
        if written.is_ok() {
            self.offset += len;
        }
        written
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        let (inner, remote) = (Arc::clone(&self.inner), &self.remote);
        send!(remote, "suspend", async move { inner.lock().await.as_mut().ok_or_else(dropped)?.suspend().await })
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        let (inner, remote, digest) = (Arc::clone(&self.inner), &self.remote, *digest);
        send!(remote, "commit", async move { inner.lock().await.as_mut().ok_or_else(dropped)?.commit(&digest).await })
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let (inner, remote) = (Arc::clone(&self.inner), &self.remote);
        send!(remote, "abort", async move {
            match inner.lock().await.take() {
                Some(upload) => upload.abort().await,
                None => Ok(()),
            }
        })
    }
}

macro_rules! rows {
    ($contract:ident: $(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl $contract for Remote<Arc<dyn $contract>> {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$result> {
                ask!(self, stringify!($name), self.inner.$name($($arg),*))
            })*
        }
    };
}

rows! { MetadataStore:
    fn intend_blob(digest: &Digest) -> registry_core::metadata::Intent;
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

rows! { PlacementLedger:
    fn register_zone(zone: &ZoneRecord) -> ();
    fn zones() -> Vec<ZoneRecord>;
    fn set_zone_state(zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> ZoneState;
    fn forget(zone: &ZoneId, digests: &[Digest]) -> Vec<Digest>;
    fn remove_zone(zone: &ZoneId) -> ();
    fn intend(digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> ledger::Intent;
    fn committed(commit: &Commit) -> ();
    fn condemn(digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> ();
    fn retain(digest: &Digest, targets: &[ZoneId]) -> bool;
    fn retarget(digest: &Digest, retarget: &Retarget) -> bool;
    fn placements(digests: &[Digest]) -> Vec<Placement>;
    fn observe(digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> ();
    fn stray(digest: &Digest, zone: &ZoneId) -> ();
    fn claim(claim: &Claim) -> Vec<Task>;
    fn renew(task: &Task, lease: Duration, progress: Option<Bytes>) -> ();
    fn complete(task: &Task, outcome: &Outcome) -> Duration;
    fn defer(task: &Task, delay: Duration, error: &str) -> ();
    fn give_back(task: &Task) -> ();
    fn replay(zone: Option<&ZoneId>) -> u64;
    fn backlog() -> Vec<Backlog>;
    fn totals() -> Vec<Totals>;
    fn list(list: &ListPlacements) -> Vec<Placement>;
    fn tidy(keep: Duration, limit: u32) -> u32;
    fn begin_job(kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Job;
    fn take_job(zones: &[ZoneId], lease: Duration) -> Option<Job>;
    fn save_job(job: &Job, lease: Duration) -> ();
    fn end_job(job: &Job) -> ();
    fn cancel_job(kind: JobKind, zone: Option<&ZoneId>) -> bool;
    fn jobs(limit: u32) -> Vec<Job>;
}
