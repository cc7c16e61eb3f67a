//! Processes that are wrong on purpose: each does one thing differently from the shipped code, as a decorator before what it talks to, and each has to be
//! noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::blob::*;
use registry_core::metadata::*;
use registry_core::{BlobStore, BlobUpload, Digest, ErrorKind, MetadataStore, Reference, RepositoryName, Result, Tag, Timestamp};
use replication::ledger::{Intent, *};

/// What is done differently from the real thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    None,
    /// The ledger hears of a blob only when its bytes are in place.
    NoIntend,
    /// A commit is taken whatever has become of the placement since the writer meant to write: it is wanted again first, if need be.
    NoGenerationOfCommits,
    /// A copy is deleted though no other one is verified, and whoever looks for others is told that they are there.
    DeleteWithoutCopy,
    /// Whoever takes an upload over writes as the same epoch as the writer before.
    NoWriterEpoch,
    /// Writers do not wait for a delete that is on its way.
    NoFence,
    /// The fence is not kept up while a delete takes long.
    NoRenewalOfDeletes,
    /// A doubt is not written down.
    NoSuspicion,
    /// What zones give is believed.
    NoVerification,
    /// Any zone will do for anything.
    NoPolicy,
    /// Manifests are acknowledged at once.
    NoCopiesAwaited,
    /// A copy that was begun is said to be there.
    CopiedTooSoon,
}

/// A wrong process's memory.
#[derive(Debug)]
struct Wrong<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all wrong parts of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    mutant: Mutant,
    /// Of each blob: what was last intended.
    intended: Mutex<BTreeMap<Digest, (Option<u64>, Vec<ZoneId>)>>,
    /// Deletes that were claimed.
    deletes: Mutex<BTreeMap<(Digest, ZoneId), Task>>,
    /// Blobs whose copies are said to be everywhere, and their size.
    believed: Mutex<BTreeMap<Digest, u64>>,
    /// The writer of each upload.
    epochs: Mutex<BTreeMap<String, u64>>,
    invented: Mutex<BTreeSet<String>>,
}

impl Mutant {
    pub(super) fn shared(self) -> Arc<Shared> {
        Arc::new(Shared {
            mutant: self,
            intended: Mutex::default(),
            deletes: Mutex::default(),
            believed: Mutex::default(),
            epochs: Mutex::default(),
            invented: Mutex::default(),
        })
    }
}

impl Shared {
    pub(super) fn ledger(self: &Arc<Self>, inner: Arc<dyn PlacementLedger>) -> Arc<dyn PlacementLedger> {
        if self.mutant == Mutant::None { inner } else { Arc::new(Wrong { inner, shared: Arc::clone(self) }) }
    }

    pub(super) fn metadata(self: &Arc<Self>, inner: Arc<dyn MetadataStore>) -> Arc<dyn MetadataStore> {
        if self.mutant == Mutant::None { inner } else { Arc::new(Wrong { inner, shared: Arc::clone(self) }) }
    }

    pub(super) fn zone(self: &Arc<Self>, inner: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
        if self.mutant == Mutant::None { inner } else { Arc::new(Wrong { inner, shared: Arc::clone(self) }) }
    }
}

impl Wrong<Arc<dyn PlacementLedger>> {
    fn is(&self, mutant: Mutant) -> bool {
        self.shared.mutant == mutant
    }

    /// A delete of a copy that is not wanted, though the others are not verified.
    async fn invent(&self, zone: &ZoneId) -> Result<Option<Task>> {
        let rows = self.inner.list(&ListPlacements::new(10_000)).await?;
        let unsafe_ones = |row: &&Placement| {
            row.zone == *zone
                && (row.desired, row.observed) == (Desired::Absent, Observed::Present)
                && rows.iter().any(|other| other.digest == row.digest && other.desired == Desired::Present)
                && !rows
                    .iter()
                    .any(|other| other.digest == row.digest && (other.desired, other.observed) == (Desired::Present, Observed::Present))
        };
        Ok(rows.iter().find(unsafe_ones).map(|row| {
            let task = Task::new(row.digest, row.zone.clone(), TaskKind::Delete, row.generation, format!("invented {}", row.generation));
            self.shared.believed.lock().unwrap().insert(row.digest, row.size.unwrap_or(0));
            task
        }))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PlacementLedger for Wrong<Arc<dyn PlacementLedger>> {
    async fn register_zone(&self, zone: &ZoneRecord) -> Result<()> {
        self.inner.register_zone(zone).await
    }

    async fn zones(&self) -> Result<Vec<ZoneRecord>> {
        self.inner.zones().await
    }

    async fn set_zone_state(&self, zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> Result<ZoneState> {
        self.inner.set_zone_state(zone, from, to).await
    }

    async fn forget(&self, zone: &ZoneId, digests: &[Digest]) -> Result<Vec<Digest>> {
        self.inner.forget(zone, digests).await
    }

    async fn remove_zone(&self, zone: &ZoneId) -> Result<()> {
        self.inner.remove_zone(zone).await
    }

    async fn intend(&self, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent> {
        if self.is(Mutant::NoIntend) {
            self.shared.intended.lock().unwrap().insert(*digest, (size, targets.to_vec()));
            return Ok(Intent::new(targets.iter().map(|zone| IntendedTarget::new(zone.clone(), 0, None)).collect()));
        }
        let intent = self.inner.intend(digest, size, targets).await?;
        let fenced: Vec<_> = intent.targets.iter().filter(|target| target.fenced_for.is_some()).collect();
        if !self.is(Mutant::NoFence) || fenced.is_empty() {
            return Ok(intent);
        }
        for target in fenced {
            let task = self.shared.deletes.lock().unwrap().get(&(*digest, target.zone.clone())).cloned();
            if let Some(task) = task {
                let _ = self.inner.complete(&task, &Outcome::Deleted).await;
            }
        }
        self.inner.intend(digest, size, targets).await
    }

    async fn committed(&self, commit: &Commit) -> Result<()> {
        let mut commit = commit.clone();
        let intended = self.shared.intended.lock().unwrap().get(&commit.digest).cloned();
        if let Some((size, targets)) = intended {
            let intent = self.inner.intend(&commit.digest, size, &targets).await?;
            commit.generation = intent.target(&commit.zone).map_or(0, |target| target.generation);
        }
        if self.is(Mutant::NoGenerationOfCommits) {
            let intent = self.inner.intend(&commit.digest, Some(commit.size), std::slice::from_ref(&commit.zone)).await?;
            commit.generation = intent.target(&commit.zone).map_or(commit.generation, |target| target.generation);
        }
        self.inner.committed(&commit).await
    }

    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> Result<()> {
        self.inner.condemn(digest, untouched_since, trash_delay, zones).await
    }

    async fn retain(&self, digest: &Digest, targets: &[ZoneId]) -> Result<bool> {
        self.inner.retain(digest, targets).await
    }

    async fn retarget(&self, digest: &Digest, retarget: &Retarget) -> Result<bool> {
        self.inner.retarget(digest, retarget).await
    }

    async fn placements(&self, digests: &[Digest]) -> Result<Vec<Placement>> {
        let mut placements = self.inner.placements(digests).await?;
        let believed = self.shared.believed.lock().unwrap();
        for row in placements.iter_mut().filter(|row| believed.contains_key(&row.digest) && row.desired == Desired::Present) {
            row.observed = Observed::Present;
            row.verified_at = Some(Timestamp::from_millis(i64::MAX));
        }
        Ok(placements)
    }

    async fn observe(&self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> Result<()> {
        if self.is(Mutant::NoSuspicion) && matches!(sighting, Sighting::Suspect(_)) {
            return Ok(());
        }
        self.inner.observe(digest, zone, generation, sighting).await
    }

    async fn stray(&self, digest: &Digest, zone: &ZoneId) -> Result<()> {
        self.inner.stray(digest, zone).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Task>> {
        let mut tasks = self.inner.claim(claim).await?;
        for task in tasks.iter().filter(|task| task.kind == TaskKind::Delete) {
            self.shared.deletes.lock().unwrap().insert((task.digest, task.zone.clone()), task.clone());
        }
        if self.is(Mutant::DeleteWithoutCopy)
            && let Some(task) = self.invent(&claim.zone).await?
        {
            tasks.push(task);
        }
        if self.is(Mutant::CopiedTooSoon) {
            for task in tasks
                .iter()
                .filter(|task| task.kind == TaskKind::Copy && self.shared.invented.lock().unwrap().insert(task.lease_id.clone()))
            {
                self.inner.complete(task, &Outcome::Copied(task.size.unwrap_or(0))).await?;
            }
        }
        Ok(tasks)
    }

    async fn renew(&self, task: &Task, lease: Duration, progress: Option<Bytes>) -> Result<()> {
        if task.lease_id.starts_with("invented") {
            return Ok(());
        }
        if self.is(Mutant::NoRenewalOfDeletes) && task.kind == TaskKind::Delete {
            return Ok(());
        }
        self.inner.renew(task, lease, progress).await
    }

    async fn complete(&self, task: &Task, outcome: &Outcome) -> Result<Duration> {
        if task.lease_id.starts_with("invented") {
            self.shared.believed.lock().unwrap().remove(&task.digest);
            return Ok(Duration::ZERO);
        }
        self.inner.complete(task, outcome).await
    }

    async fn defer(&self, task: &Task, delay: Duration, error: &str) -> Result<()> {
        if task.lease_id.starts_with("invented") {
            return Ok(());
        }
        self.inner.defer(task, delay, error).await
    }

    async fn give_back(&self, task: &Task) -> Result<()> {
        if task.lease_id.starts_with("invented") { Ok(()) } else { self.inner.give_back(task).await }
    }

    async fn replay(&self, zone: Option<&ZoneId>) -> Result<u64> {
        self.inner.replay(zone).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        self.inner.backlog().await
    }

    async fn totals(&self) -> Result<Vec<Totals>> {
        self.inner.totals().await
    }

    async fn list(&self, list: &ListPlacements) -> Result<Vec<Placement>> {
        self.inner.list(list).await
    }

    async fn tidy(&self, keep: Duration, limit: u32) -> Result<u32> {
        self.inner.tidy(keep, limit).await
    }

    async fn begin_job(&self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Result<Job> {
        self.inner.begin_job(kind, zone, marker).await
    }

    async fn take_job(&self, zones: &[ZoneId], lease: Duration) -> Result<Option<Job>> {
        self.inner.take_job(zones, lease).await
    }

    async fn save_job(&self, job: &Job, lease: Duration) -> Result<()> {
        self.inner.save_job(job, lease).await
    }

    async fn end_job(&self, job: &Job) -> Result<()> {
        self.inner.end_job(job).await
    }

    async fn cancel_job(&self, kind: JobKind, zone: Option<&ZoneId>) -> Result<bool> {
        self.inner.cancel_job(kind, zone).await
    }

    async fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.inner.jobs(limit).await
    }
}

macro_rules! metadata {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl MetadataStore for Wrong<Arc<dyn MetadataStore>> {
            async fn open_upload(&self, key: &UploadKey, offset: Option<u64>) -> Result<OpenUpload> {
                let mut open = self.inner.open_upload(key, offset).await?;
                if self.shared.mutant == Mutant::NoWriterEpoch {
                    self.shared.epochs.lock().unwrap().insert(key.id.clone(), open.epoch);
                    open.epoch = 1;
                }
                Ok(open)
            }

            async fn save_upload(&self, key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> Result<()> {
                let epoch = self.shared.epochs.lock().unwrap().get(&key.id).copied().unwrap_or(epoch);
                self.inner.save_upload(key, epoch, offset, token).await
            }

            async fn link_blob(&self, mut link: LinkBlob) -> Result<()> {
                if let Some((key, epoch)) = &mut link.upload {
                    *epoch = self.shared.epochs.lock().unwrap().get(&key.id).copied().unwrap_or(*epoch);
                }
                self.inner.link_blob(link).await
            }

            $(async fn $name(&self, $($arg: $type),*) -> Result<$result> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

metadata! {
    fn intend_blob(digest: &Digest) -> registry_core::metadata::Intent;
    fn mount_blob(mount: MountBlob) -> Option<BlobLink>;
    fn unlink_blob(repository: &RepositoryName, digest: &Digest) -> bool;
    fn blob_link(repository: &RepositoryName, digest: &Digest) -> Option<BlobLink>;
    fn rely_on_blob(repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Option<BlobLink>;
    fn holders(digest: &Digest) -> Vec<RepositoryName>;
    fn held_blobs(after: Option<&Digest>, limit: u32) -> Vec<HeldBlob>;
    fn unknown_blobs(digests: &[Digest]) -> Vec<Digest>;
    fn observe_blob(digest: &Digest, observation: Observation) -> ();
    fn create_upload(upload: NewUpload) -> ();
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

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Wrong<Arc<dyn BlobStore>> {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        let believed = self.shared.believed.lock().unwrap().get(digest).copied();
        match (self.inner.stat(digest).await, believed) {
            (Err(error), Some(size)) if error.kind() == ErrorKind::NotFound => Ok(BlobInfo::new(*digest, size)),
            (found, _) => found,
        }
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        self.inner.read(digest, options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.inner.begin(options).await
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.inner.resume(options).await
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.inner.put(digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.inner.delete(digest).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        self.inner.delete_before(digest, deadline).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        self.inner.list(options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.inner.uploads(older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.inner.discard(id).await
    }

    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        self.inner.download_url(method, digest, options).await
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.inner.retain(digest, scope).await
    }

    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.inner.release(digest, scope).await
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        self.inner.await_copies(digests, scope).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        self.inner.named()
    }

    async fn probe(&self) -> ProbeReport {
        self.inner.probe().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
