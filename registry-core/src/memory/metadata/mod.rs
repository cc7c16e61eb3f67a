//! [`MemoryMetadataStore`].
//!
//! One lock over plain maps: every command takes it, looks, and only then changes, so that each is all or nothing, whatever the caller does with its
//! future. The files follow the parts of the contract.

mod blobs;
mod collecting;
mod manifests;
mod state;
mod uploads;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::state::State;
use crate::metadata::{
    BlobLink, Deletion, Event, GcPreview, HeldBlob, Intent, LinkBlob, ManifestUse, MountBlob, NewUpload, Observation, OpenUpload, Page,
    PutManifest, Referrer, ReferrersQuery, StoredManifest, Sweep, SweepPage, UploadKey, UploadSession, UsedManifest,
};
use crate::{Clock, Digest, MetadataStore, Reference, RepositoryName, Result, SystemClock, Tag, Timestamp};

/// A [`MetadataStore`] in memory: gone with the process, and durable in no other sense.
///
/// A clone is another handle on the same rows, as another process would have on one database.
#[derive(Clone)]
pub struct MemoryMetadataStore {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

impl MemoryMetadataStore {
    /// An empty store that takes the time from `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// The rows, and the time. The time is read under the lock, so that what is done later is not earlier.
    ///
    /// A poisoned lock is taken all the same: no command panics between two of its changes.
    fn begin(&self) -> (MutexGuard<'_, State>, Timestamp) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        (state, now)
    }
}

impl Default for MemoryMetadataStore {
    /// An empty store that goes by the machine's clock.
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl fmt::Debug for MemoryMetadataStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryMetadataStore").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl MetadataStore for MemoryMetadataStore {
    async fn intend_blob(&self, digest: &Digest) -> Result<Intent> {
        let (mut state, now) = self.begin();
        state.intend_blob(digest, now)
    }

    async fn link_blob(&self, link: LinkBlob) -> Result<()> {
        let (mut state, now) = self.begin();
        state.link_blob(link, now)
    }

    async fn mount_blob(&self, mount: MountBlob) -> Result<Option<BlobLink>> {
        let (mut state, now) = self.begin();
        Ok(state.mount_blob(mount, now))
    }

    async fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let (mut state, _) = self.begin();
        Ok(state.unlink_blob(repository, digest))
    }

    async fn blob_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobLink>> {
        let (state, _) = self.begin();
        Ok(state.blob_link(repository, digest))
    }

    async fn rely_on_blob(&self, repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Result<Option<BlobLink>> {
        let (mut state, now) = self.begin();
        Ok(state.rely_on_blob(repository, digest, at_most_every, now))
    }

    async fn holders(&self, digest: &Digest) -> Result<Vec<RepositoryName>> {
        let (state, _) = self.begin();
        Ok(state.holders(digest))
    }

    async fn held_blobs(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<HeldBlob>> {
        let (state, _) = self.begin();
        Ok(state.held_blobs(after, limit))
    }

    async fn unknown_blobs(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let (state, _) = self.begin();
        Ok(state.unknown_blobs(digests))
    }

    async fn observe_blob(&self, digest: &Digest, observation: Observation) -> Result<()> {
        let (mut state, now) = self.begin();
        state.observe_blob(digest, observation, now);
        Ok(())
    }

    async fn create_upload(&self, upload: NewUpload) -> Result<()> {
        let (mut state, now) = self.begin();
        state.create_upload(upload, now)
    }

    async fn open_upload(&self, key: &UploadKey, offset: Option<u64>) -> Result<OpenUpload> {
        let (mut state, now) = self.begin();
        state.open_upload(key, offset, now)
    }

    async fn save_upload(&self, key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> Result<()> {
        let (mut state, now) = self.begin();
        state.save_upload(key, epoch, offset, token, now)
    }

    async fn upload(&self, key: &UploadKey) -> Result<UploadSession> {
        let (state, _) = self.begin();
        state.upload(key)
    }

    async fn cancel_upload(&self, key: &UploadKey) -> Result<OpenUpload> {
        let (mut state, _) = self.begin();
        state.cancel_upload(key)
    }

    async fn expire_uploads(&self, idle: Duration, keep_finished: Duration, limit: u32) -> Result<u32> {
        let (mut state, now) = self.begin();
        Ok(state.expire_uploads(idle, keep_finished, limit, now))
    }

    async fn put_manifest(&self, manifest: PutManifest) -> Result<()> {
        let (mut state, now) = self.begin();
        state.put_manifest(manifest, now)
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<StoredManifest>> {
        let (state, _) = self.begin();
        Ok(state.manifest(repository, reference))
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let (mut state, now) = self.begin();
        Ok(state.delete_manifest(repository, digest, now))
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let (mut state, now) = self.begin();
        Ok(state.delete_tag(repository, tag, now))
    }

    async fn tags(&self, repository: &RepositoryName, page: &Page) -> Result<Option<Vec<Tag>>> {
        let (state, _) = self.begin();
        Ok(state.tags(repository, page))
    }

    async fn repositories(&self, page: &Page) -> Result<Vec<RepositoryName>> {
        let (state, _) = self.begin();
        Ok(state.repositories(page))
    }

    async fn referrers(&self, query: &ReferrersQuery) -> Result<Vec<Referrer>> {
        let (state, _) = self.begin();
        Ok(state.referrers(query))
    }

    async fn note_uses(&self, uses: &[(RepositoryName, Digest)]) -> Result<()> {
        let (mut state, now) = self.begin();
        state.note_uses(uses, now);
        Ok(())
    }

    async fn manifests_by_use(&self, after: Option<&ManifestUse>, limit: u32) -> Result<Vec<UsedManifest>> {
        let (state, _) = self.begin();
        Ok(state.manifests_by_use(after, limit))
    }

    async fn expire_links(&self, sweep: &Sweep) -> Result<SweepPage<(RepositoryName, Digest)>> {
        let (mut state, now) = self.begin();
        state.expire_links(sweep, now)
    }

    async fn condemn_blobs(&self, sweep: &Sweep) -> Result<SweepPage<Digest>> {
        let (mut state, now) = self.begin();
        state.condemn_blobs(sweep, now)
    }

    async fn condemn(&self, digests: &[Digest], grace: Duration) -> Result<Vec<Digest>> {
        let (mut state, now) = self.begin();
        Ok(state.condemn(digests, grace, now))
    }

    async fn claim_deletions(&self, trash_delay: Duration, lease: Duration, limit: u32) -> Result<Vec<Deletion>> {
        let (mut state, now) = self.begin();
        Ok(state.claim_deletions(trash_delay, lease, limit, now))
    }

    async fn renew_deletion(&self, deletion: &Deletion, lease: Duration) -> Result<()> {
        let (mut state, now) = self.begin();
        state.renew_deletion(deletion, lease, now)
    }

    async fn complete_deletion(&self, deletion: &Deletion) -> Result<()> {
        let (mut state, _) = self.begin();
        state.complete_deletion(deletion)
    }

    async fn preview_collection(&self, grace: Duration) -> Result<GcPreview> {
        let (state, now) = self.begin();
        Ok(state.preview_collection(grace, now))
    }

    async fn tidy(&self, keep_events: Duration) -> Result<()> {
        let (mut state, now) = self.begin();
        state.tidy(keep_events, now);
        Ok(())
    }

    async fn events(&self, after: u64, limit: u32) -> Result<Vec<Event>> {
        let (state, _) = self.begin();
        Ok(state.events_after(after, limit))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}
