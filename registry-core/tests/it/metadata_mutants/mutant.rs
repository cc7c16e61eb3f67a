//! A memory store with one thing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::memory::MemoryMetadataStore;
use registry_core::metadata::{
    BlobLink, Deletion, Event, EventKind, GcPreview, HeldBlob, Intent, LinkBlob, ManifestUse, MountBlob, NewUpload, Observation,
    OpenUpload, Page, PutManifest, Referrer, ReferrersQuery, StoredManifest, Sweep, SweepPage, UploadKey, UploadSession, UsedManifest,
};
use registry_core::testing::ManualClock;
use registry_core::testing::metadata_store::Fixture;
use registry_core::{Algorithm, Digest, Error, ErrorKind, MetadataStore, Reference, RepositoryName, Result, Tag, Timestamp};

use super::flaw::Flaw;

/// A memory store with a flaw. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    inner: MemoryMetadataStore,
    flaw: Flaw,
    notes: Arc<Mutex<Notes>>,
}

/// What a mutant has to remember to do wrong.
#[derive(Debug, Default)]
struct Notes {
    links: BTreeSet<(RepositoryName, Digest)>,
    manifests: BTreeSet<(RepositoryName, Digest)>,
    claims: BTreeMap<Digest, Deletion>,
    /// Who began each session.
    keys: BTreeMap<String, UploadKey>,
    /// The first epoch that was given out for each, and the latest.
    epochs: BTreeMap<String, (u64, u64)>,
    tags: BTreeMap<RepositoryName, BTreeMap<Tag, Digest>>,
    ghosts: BTreeMap<RepositoryName, BTreeSet<Tag>>,
    events: Vec<Event>,
    repositories: BTreeSet<RepositoryName>,
    suspects: BTreeSet<Digest>,
    condemned: BTreeSet<Digest>,
    /// What any manifest ever referred to.
    needed: BTreeSet<Digest>,
    /// The newest intent of each blob, counted.
    intents: BTreeMap<Digest, u64>,
}

impl Mutant {
    pub(super) fn fixture(flaw: Flaw) -> Fixture {
        let clock = Arc::new(ManualClock::default());
        let inner = MemoryMetadataStore::with_clock(Arc::clone(&clock) as Arc<_>);
        let mutant = Self { inner, flaw, notes: Arc::default() };
        let mut other = mutant.clone();
        if flaw == Flaw::OtherHandleSeesNothing {
            other.inner = MemoryMetadataStore::with_clock(Arc::clone(&clock) as Arc<_>);
        }
        Fixture::new(Arc::new(mutant), clock).with_reopen(move || {
            let other = other.clone();
            async move { Arc::new(other) as Arc<_> }
        })
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that its session was begun with, for a store that looks at the id alone.
    fn key(&self, key: &UploadKey) -> UploadKey {
        let known = self.notes().keys.get(&key.id).cloned();
        known.filter(|_| self.has(Flaw::OwnerIsNotChecked)).unwrap_or_else(|| key.clone())
    }

    /// The epoch that is right now, for a store that does not look at the caller's.
    fn epoch(&self, key: &UploadKey, epoch: u64) -> u64 {
        let latest = self.notes().epochs.get(&key.id).map(|(_, latest)| *latest);
        latest
            .filter(|_| self.has(Flaw::SaveIgnoresEpoch) || self.has(Flaw::OpenKeepsEpoch) || self.has(Flaw::LinkIgnoresEpoch))
            .unwrap_or(epoch)
    }

    async fn current_generation(&self, digest: &Digest) -> Result<u64> {
        Ok(self.inner.intend_blob(digest).await?.generation)
    }

    /// Takes away what would keep these blobs, for a store that does not look.
    async fn strip(&self) -> Result<()> {
        let (links, manifests) = {
            let notes = self.notes();
            (notes.links.clone(), notes.manifests.clone())
        };
        if self.has(Flaw::CondemnIgnoresLinks) {
            for (repository, digest) in &links {
                self.inner.unlink_blob(repository, digest).await?;
            }
        }
        if self.has(Flaw::CondemnIgnoresManifests) {
            for (repository, digest) in &manifests {
                self.inner.delete_manifest(repository, digest).await?;
            }
        }
        Ok(())
    }

    fn grace(&self, grace: Duration) -> Duration {
        if self.has(Flaw::CondemnIgnoresGrace) { Duration::ZERO } else { grace }
    }

    fn next(&self, next: Option<String>, cursor: Option<&String>) -> Option<String> {
        match self.flaw {
            Flaw::SweepEndsAfterOnePage => None,
            Flaw::SweepNeverEnds => next.or_else(|| cursor.cloned()),
            _ => next,
        }
    }

    /// The page from the name asked for on, that name included.
    fn page(&self, page: &Page) -> Page {
        let after = page.after.clone().map(|after| {
            let mut bytes = after.clone().into_bytes();
            match bytes.last_mut().filter(|_| self.has(Flaw::PagesBeginWithAfter)) {
                Some(last) => {
                    *last -= 1;
                    format!("{}~", String::from_utf8_lossy(&bytes))
                }
                None => after,
            }
        });
        Page { after, ..page.clone() }
    }
}

/// A manifest that requires nothing, and keeps what it refers to from collection all the same.
fn undemanding(mut manifest: PutManifest) -> PutManifest {
    let blobs = std::mem::take(&mut manifest.blobs);
    let manifests = std::mem::take(&mut manifest.manifests);
    manifest.optional.extend(blobs.into_iter().chain(manifests));
    manifest
}

/// As a column of text would have it.
fn as_text(bytes: &Bytes) -> Bytes {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn is_unavailable<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MetadataStore for Mutant {
    async fn intend_blob(&self, digest: &Digest) -> Result<Intent> {
        let intent = self.inner.intend_blob(digest).await;
        match self.flaw {
            Flaw::IntendIgnoresDeleting if is_unavailable(&intent) => {
                let claim = self.notes().claims.get(digest).copied();
                self.inner.complete_deletion(&claim.expect("a claim")).await?;
                self.inner.intend_blob(digest).await
            }
            Flaw::IntendLeavesCondemned => {
                if self.notes().condemned.contains(digest) {
                    self.inner.condemn(&[*digest], Duration::ZERO).await?;
                }
                intent
            }
            Flaw::FenceNeverEnds if self.notes().claims.contains_key(digest) => Err(Error::new(ErrorKind::Unavailable, "being deleted")),
            Flaw::IntentsOustEachOther => {
                intent?;
                let mut notes = self.notes();
                let newest = notes.intents.entry(*digest).or_default();
                *newest += 1;
                Ok(Intent { generation: *newest })
            }
            Flaw::GenerationsRepeat => intent.map(|_| Intent { generation: 1 }),
            _ => intent,
        }
    }

    async fn link_blob(&self, mut link: LinkBlob) -> Result<()> {
        if self.has(Flaw::LinkIgnoresGeneration) || self.has(Flaw::GenerationsRepeat) && link.generation == 1 {
            link.generation = self.current_generation(&link.digest).await?;
        }
        match self.flaw {
            Flaw::SizesAre32Bits => link.size &= u64::from(u32::MAX),
            Flaw::IntentsOustEachOther => {
                if self.notes().intents.get(&link.digest) != Some(&link.generation) {
                    return Err(Error::new(ErrorKind::Conflict, "somebody else intends to"));
                }
                link.generation = self.current_generation(&link.digest).await?;
            }
            _ => {}
        }
        link.upload = link.upload.map(|(key, epoch)| {
            let epoch = if self.has(Flaw::SaveIgnoresEpoch) { epoch } else { self.epoch(&key, epoch) };
            (self.key(&key), epoch)
        });
        if self.has(Flaw::LinkLeavesUploadOpen) {
            link.upload = None;
        }
        let (repository, digest) = (link.repository.clone(), link.digest);
        self.inner.link_blob(link).await?;
        if self.has(Flaw::LinkKeepsSuspicion) && self.notes().suspects.contains(&digest) {
            self.inner.observe_blob(&digest, Observation::Suspect).await?;
        }
        let mut notes = self.notes();
        notes.repositories.insert(repository.clone());
        notes.links.insert((repository, digest));
        Ok(())
    }

    async fn mount_blob(&self, mut mount: MountBlob) -> Result<Option<BlobLink>> {
        match self.flaw {
            Flaw::MountIgnoresFrom => mount.from = None,
            Flaw::MountTakesSuspects => self.inner.observe_blob(&mount.digest, Observation::Verified).await?,
            Flaw::MountNeedsFrom if mount.from.is_none() => return Ok(None),
            Flaw::MountMakesItUp => {
                let generation = self.current_generation(&mount.digest).await?;
                let MountBlob { to: repository, digest, .. } = mount.clone();
                self.inner.link_blob(LinkBlob { repository, digest, size: 7, generation, upload: None }).await?;
                return self.inner.blob_link(&mount.to, &mount.digest).await;
            }
            Flaw::MountMakesNoLink => {
                let Some(from) = &mount.from else { return self.inner.mount_blob(mount).await };
                return self.inner.blob_link(from, &mount.digest).await;
            }
            _ => {}
        }
        let (to, digest) = (mount.to.clone(), mount.digest);
        let link = self.inner.mount_blob(mount).await?;
        if link.is_some() {
            self.notes().links.insert((to, digest));
        }
        Ok(link)
    }

    async fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        if self.has(Flaw::UnlinkReachesEverywhere) {
            let links = self.notes().links.clone();
            for (other, _) in links.iter().filter(|(other, linked)| linked == digest && other != repository) {
                self.inner.unlink_blob(other, digest).await?;
            }
        }
        self.inner.unlink_blob(repository, digest).await
    }

    async fn blob_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobLink>> {
        if self.has(Flaw::LinksAreSharedByAll) {
            let links = self.notes().links.clone();
            let anywhere = links.iter().find(|(_, linked)| linked == digest).map(|(other, _)| other);
            return self.inner.blob_link(anywhere.unwrap_or(repository), digest).await;
        }
        self.inner.blob_link(repository, digest).await
    }

    async fn rely_on_blob(&self, repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Result<Option<BlobLink>> {
        match self.flaw {
            Flaw::RelyIsNotNoted => self.inner.blob_link(repository, digest).await,
            Flaw::RelyMakesLink => {
                let mount = MountBlob { from: None, to: repository.clone(), digest: *digest };
                self.inner.mount_blob(mount).await
            }
            Flaw::RelyIsAlwaysNoted => self.inner.rely_on_blob(repository, digest, Duration::ZERO).await,
            _ => self.inner.rely_on_blob(repository, digest, at_most_every).await,
        }
    }

    async fn holders(&self, digest: &Digest) -> Result<Vec<RepositoryName>> {
        let mut holders = self.inner.holders(digest).await?;
        match self.flaw {
            Flaw::HoldersIgnoreManifests => {
                let manifests = self.notes().manifests.clone();
                holders.retain(|name| !manifests.contains(&(name.clone(), *digest)));
            }
            Flaw::HoldersAreNamedTwice => {
                let notes = self.notes();
                let both = |name: &RepositoryName| {
                    let key = (name.clone(), *digest);
                    notes.links.contains(&key) && notes.manifests.contains(&key)
                };
                holders = holders.into_iter().flat_map(|name| vec![name.clone(); 1 + usize::from(both(&name))]).collect();
            }
            Flaw::HoldersAreRemembered => {
                let notes = self.notes();
                let ever = notes.links.iter().chain(&notes.manifests).filter(|(_, held)| held == digest);
                holders = ever.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>().into_iter().collect();
            }
            _ => {}
        }
        Ok(holders)
    }

    async fn held_blobs(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<HeldBlob>> {
        let mut held = self.inner.held_blobs(after, limit).await?;
        match self.flaw {
            Flaw::HeldBlobsIgnoreLimit => held = self.inner.held_blobs(after, u32::MAX).await?,
            Flaw::HeldBlobsBeginWithAfter => {
                let all = self.inner.held_blobs(None, u32::MAX).await?;
                let from = all.into_iter().filter(|blob| after.is_none_or(|after| blob.digest >= *after));
                held = from.take(limit as usize).collect();
            }
            Flaw::HeldBlobsSkipManifests => {
                let manifests = self.notes().manifests.clone();
                held.retain(|blob| !manifests.iter().any(|(_, digest)| *digest == blob.digest));
            }
            Flaw::UnheldBlobsAreListed => {
                let gone = self.notes().links.clone().into_iter().filter(|(_, digest)| held.iter().all(|blob| blob.digest != *digest));
                held.extend(gone.map(|(_, digest)| HeldBlob::new(digest, 7, Vec::new())).collect::<Vec<_>>());
            }
            _ => {}
        }
        Ok(held)
    }

    async fn unknown_blobs(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let mut unknown = self.inner.unknown_blobs(digests).await?;
        if self.has(Flaw::UnheldBlobsAreUnknown) {
            unknown.clear();
            for digest in digests {
                if self.inner.holders(digest).await?.is_empty() {
                    unknown.push(*digest);
                }
            }
        }
        Ok(unknown)
    }

    async fn note_uses(&self, uses: &[(RepositoryName, Digest)]) -> Result<()> {
        if self.has(Flaw::UsesAreNotNoted) { Ok(()) } else { self.inner.note_uses(uses).await }
    }

    async fn manifests_by_use(&self, after: Option<&ManifestUse>, limit: u32) -> Result<Vec<UsedManifest>> {
        let mut used = self.inner.manifests_by_use(after, limit).await?;
        match self.flaw {
            // Those of one moment are passed over, but the first.
            Flaw::PagesByUseGoByTheTimeAlone => used.retain(|used| after.is_none_or(|after| used.last_use.used_at < after.used_at)),
            Flaw::UsedManifestsNeedNothing => used.iter_mut().for_each(|used| used.needs.clear()),
            _ => {}
        }
        Ok(used)
    }

    async fn observe_blob(&self, digest: &Digest, observation: Observation) -> Result<()> {
        if self.has(Flaw::SuspicionIsNotNoted) && observation == Observation::Suspect {
            return Ok(());
        }
        match self.flaw {
            Flaw::ObservationMakesRow => drop(self.inner.intend_blob(digest).await?),
            Flaw::LinkKeepsSuspicion => drop(self.notes().suspects.insert(*digest)),
            _ => {}
        }
        self.inner.observe_blob(digest, observation).await
    }

    async fn create_upload(&self, mut upload: NewUpload) -> Result<()> {
        if self.has(Flaw::AlgorithmIsForgotten) {
            upload.algorithm = Algorithm::Sha256;
        }
        self.notes().keys.insert(upload.key.id.clone(), upload.key.clone());
        self.inner.create_upload(upload).await
    }

    async fn open_upload(&self, key: &UploadKey, offset: Option<u64>) -> Result<OpenUpload> {
        let offset = offset.filter(|_| !self.has(Flaw::OpenIgnoresOffset));
        if self.has(Flaw::SessionsBeginThemselves) && self.inner.upload(key).await.is_err() {
            self.inner.create_upload(NewUpload { key: key.clone(), algorithm: Algorithm::Sha256 }).await?;
        }
        let mut open = self.inner.open_upload(&self.key(key), offset).await?;
        let mut notes = self.notes();
        let epochs = notes.epochs.entry(key.id.clone()).or_insert((open.epoch, open.epoch));
        epochs.1 = open.epoch;
        if self.has(Flaw::OpenKeepsEpoch) {
            open.epoch = epochs.0;
        }
        Ok(open)
    }

    async fn save_upload(&self, key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> Result<()> {
        let epoch = if self.has(Flaw::LinkIgnoresEpoch) { epoch } else { self.epoch(key, epoch) };
        let token = if self.has(Flaw::TokensAreText) { as_text(&token) } else { token };
        self.inner.save_upload(&self.key(key), epoch, offset, token).await
    }

    async fn upload(&self, key: &UploadKey) -> Result<UploadSession> {
        self.inner.upload(&self.key(key)).await
    }

    async fn cancel_upload(&self, key: &UploadKey) -> Result<OpenUpload> {
        let key = self.key(key);
        if self.has(Flaw::CancelKeepsSession) {
            return self.inner.open_upload(&key, None).await;
        }
        self.inner.cancel_upload(&key).await
    }

    async fn expire_uploads(&self, idle: Duration, keep_finished: Duration, limit: u32) -> Result<u32> {
        let idle = if self.has(Flaw::ExpiryIgnoresIdleTime) { Duration::ZERO } else { idle };
        let keep_finished = if self.has(Flaw::FinishedSessionsAreDropped) { Duration::ZERO } else { keep_finished };
        let limit = if self.has(Flaw::ExpiryIgnoresLimit) { u32::MAX } else { limit };
        self.inner.expire_uploads(idle, keep_finished, limit).await
    }

    async fn put_manifest(&self, mut manifest: PutManifest) -> Result<()> {
        if self.has(Flaw::PutIgnoresGeneration) || self.has(Flaw::GenerationsRepeat) && manifest.generation == 1 {
            manifest.generation = self.current_generation(&manifest.digest).await?;
        }
        match self.flaw {
            Flaw::BytesAreText => manifest.bytes = as_text(&manifest.bytes),
            Flaw::PutRequiresAll => {
                manifest.blobs.append(&mut manifest.optional);
                manifest.manifests.extend(manifest.subject);
            }
            Flaw::PushingAgainConflicts if self.notes().manifests.contains(&(manifest.repository.clone(), manifest.digest)) => {
                return Err(Error::new(ErrorKind::Conflict, "it is there already"));
            }
            Flaw::TagsNeverMove => {
                let taken = self.notes().tags.get(&manifest.repository).cloned().unwrap_or_default();
                manifest.tags.retain(|tag| !taken.contains_key(tag));
            }
            Flaw::AnnotationsAreDropped => manifest.annotations.clear(),
            Flaw::PutIgnoresChildren => manifest.optional.append(&mut manifest.manifests),
            Flaw::BlobsStandForManifests => manifest.blobs.append(&mut manifest.manifests),
            Flaw::EdgesHoldEverywhereForEver => self.notes().needed.extend(manifest.blobs.iter().copied()),
            Flaw::UnmovedTagsAreTold => {
                for tag in &manifest.tags {
                    self.inner.delete_tag(&manifest.repository, tag).await?;
                }
            }
            _ => {}
        }
        let (repository, digest, tags) = (manifest.repository.clone(), manifest.digest, manifest.tags.clone());
        match self.flaw {
            Flaw::PutChecksNothing => self.inner.put_manifest(undemanding(manifest)).await?,
            Flaw::PutChecksFirstAndWritesLater => {
                for blob in &manifest.blobs {
                    if self.inner.blob_link(&repository, blob).await?.is_none() {
                        return Err(Error::new(ErrorKind::ManifestBlobUnknown, "missing").with_digests(vec![*blob]));
                    }
                }
                tokio::task::yield_now().await;
                self.inner.put_manifest(undemanding(manifest)).await?;
            }
            Flaw::PutNamesOneMissing => self.inner.put_manifest(manifest).await.map_err(|error| {
                let first = error.digests().iter().copied().take(1).collect();
                error.with_digests(first)
            })?,
            Flaw::PutReliesOnNothing => {
                for blob in &manifest.blobs {
                    if self.inner.blob_link(&repository, blob).await?.is_none() {
                        return Err(Error::new(ErrorKind::ManifestBlobUnknown, "missing").with_digests(vec![*blob]));
                    }
                }
                let (blobs, optional) = (Vec::new(), Vec::new());
                self.inner.put_manifest(PutManifest { blobs, optional, ..manifest }).await?;
            }
            Flaw::PutKeepsNoEdges => {
                self.inner.put_manifest(manifest.clone()).await?;
                let (blobs, optional) = (Vec::new(), Vec::new());
                self.inner.put_manifest(PutManifest { blobs, optional, ..manifest }).await?;
            }
            Flaw::FailedPutMovesTags => {
                let put = self.inner.put_manifest(manifest.clone()).await;
                if put.as_ref().is_err_and(|error| error.kind() == ErrorKind::ManifestBlobUnknown) {
                    self.inner.put_manifest(undemanding(manifest)).await?;
                }
                put?;
            }
            Flaw::FailedPutLeavesEvent => {
                if let Err(error) = self.inner.put_manifest(manifest).await {
                    let event = Event::new(1, Timestamp::default(), EventKind::ManifestPushed, repository, digest, None);
                    self.notes().events.push(event);
                    return Err(error);
                }
            }
            _ => self.inner.put_manifest(manifest).await?,
        }
        let mut notes = self.notes();
        notes.repositories.insert(repository.clone());
        notes.tags.entry(repository.clone()).or_default().extend(tags.into_iter().map(|tag| (tag, digest)));
        notes.manifests.insert((repository, digest));
        Ok(())
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<StoredManifest>> {
        let found = self.inner.manifest(repository, reference).await?;
        match (self.flaw, reference) {
            (Flaw::TagsIgnoreCase, Reference::Tag(tag)) if found.is_none() => {
                let lower = tag.as_str().to_ascii_lowercase().parse::<Tag>()?;
                self.inner.manifest(repository, &lower.into()).await
            }
            (Flaw::ManifestsAreSharedByAll, Reference::Digest(digest)) if found.is_none() => {
                let manifests = self.notes().manifests.clone();
                let anywhere = manifests.iter().find(|(_, other)| other == digest).map(|(other, _)| other);
                self.inner.manifest(anywhere.unwrap_or(repository), reference).await
            }
            _ => Ok(found),
        }
    }

    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        if self.has(Flaw::DeletedManifestLeavesTags) {
            let mut notes = self.notes();
            let tags = notes.tags.get(repository).cloned().unwrap_or_default();
            let left = tags.into_iter().filter(|(_, tagged)| tagged == digest).map(|(tag, _)| tag);
            notes.ghosts.entry(repository.clone()).or_default().extend(left);
        }
        if self.has(Flaw::DeletedSubjectTakesReferrers) {
            let (repository, subject) = (repository.clone(), *digest);
            let query = ReferrersQuery { repository, subject, artifact_type: None, after: None, limit: 100 };
            for referrer in self.inner.referrers(&query).await? {
                self.inner.delete_manifest(&query.repository, &referrer.digest).await?;
            }
        }
        if self.has(Flaw::DeletedInAllRepositories) {
            let manifests = self.notes().manifests.clone();
            for (other, _) in manifests.iter().filter(|(other, same)| same == digest && other != repository) {
                self.inner.delete_manifest(other, digest).await?;
            }
        }
        let found = self.inner.delete_manifest(repository, digest).await?;
        if self.has(Flaw::DeletingNothingIsTold) && !found {
            let event = Event::new(100, Timestamp::default(), EventKind::ManifestDeleted, repository.clone(), *digest, None);
            self.notes().events.push(event);
        }
        Ok(found || self.has(Flaw::DeletingIsAlwaysTrue))
    }

    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let tagged = self.inner.manifest(repository, &tag.clone().into()).await?;
        let found = self.inner.delete_tag(repository, tag).await?;
        if let Some(manifest) = tagged.filter(|_| self.has(Flaw::DeletedTagTakesManifest)) {
            self.inner.delete_manifest(repository, &manifest.digest).await?;
        }
        Ok(found)
    }

    async fn tags(&self, repository: &RepositoryName, page: &Page) -> Result<Option<Vec<Tag>>> {
        let Some(mut tags) = self.inner.tags(repository, &self.page(page)).await? else {
            return Ok(self.has(Flaw::UnknownRepositoriesAreEmpty).then(Vec::new));
        };
        if tags.is_empty() && self.has(Flaw::EmptyRepositoriesAreUnknown) {
            return Ok(None);
        }
        tags.extend(self.notes().ghosts.get(repository).into_iter().flatten().cloned());
        if self.has(Flaw::TagsInDictionaryOrder) {
            tags.sort_by_key(|tag| tag.as_str().to_ascii_lowercase());
        }
        Ok(Some(tags))
    }

    async fn repositories(&self, page: &Page) -> Result<Vec<RepositoryName>> {
        if self.has(Flaw::EmptyRepositoriesAreListed) {
            return Ok(self.notes().repositories.iter().take(page.limit as usize).cloned().collect());
        }
        self.inner.repositories(&self.page(page)).await
    }

    async fn referrers(&self, query: &ReferrersQuery) -> Result<Vec<Referrer>> {
        let artifact_type = query.artifact_type.clone().filter(|_| !self.has(Flaw::ReferrersIgnoreFilter));
        let after = query.after.filter(|_| !self.has(Flaw::ReferrersIgnoreAfter));
        let mut referrers = self.inner.referrers(&ReferrersQuery { artifact_type, after, ..query.clone() }).await?;
        match self.flaw {
            Flaw::ReferrersOfUnknownFail if !self.notes().repositories.contains(&query.repository) => {
                return Err(Error::new(ErrorKind::RepositoryUnknown, "no such repository"));
            }
            Flaw::ReferrersInOrderOfHash => referrers.sort_by_key(|referrer| referrer.digest.hex()),
            _ => {}
        }
        Ok(referrers)
    }

    async fn expire_links(&self, sweep: &Sweep) -> Result<SweepPage<(RepositoryName, Digest)>> {
        if self.has(Flaw::LinksNeverExpire) {
            return Ok(SweepPage { removed: Vec::new(), next: None });
        }
        let mut page = self.inner.expire_links(sweep).await?;
        if self.has(Flaw::EdgesHoldEverywhereForEver) {
            let needed = self.notes().needed.clone();
            for (repository, digest) in page.removed.extract_if(.., |(_, digest)| needed.contains(digest)) {
                let generation = self.current_generation(&digest).await?;
                self.inner.link_blob(LinkBlob { repository, digest, size: 7, generation, upload: None }).await?;
            }
        }
        Ok(SweepPage { next: self.next(page.next, sweep.cursor.as_ref()), removed: page.removed })
    }

    async fn condemn_blobs(&self, sweep: &Sweep) -> Result<SweepPage<Digest>> {
        self.strip().await?;
        let page = self.inner.condemn_blobs(&Sweep { grace: self.grace(sweep.grace), ..sweep.clone() }).await?;
        self.notes().condemned.extend(page.removed.iter().copied());
        Ok(SweepPage { next: self.next(page.next, sweep.cursor.as_ref()), removed: page.removed })
    }

    async fn condemn(&self, digests: &[Digest], grace: Duration) -> Result<Vec<Digest>> {
        self.strip().await?;
        if self.has(Flaw::CondemnTakesAll) {
            return Ok(self.inner.condemn_blobs(&Sweep { grace, cursor: None, limit: u32::MAX }).await?.removed);
        }
        self.inner.condemn(digests, self.grace(grace)).await
    }

    async fn claim_deletions(&self, trash_delay: Duration, lease: Duration, limit: u32) -> Result<Vec<Deletion>> {
        let trash_delay = if self.has(Flaw::ClaimIgnoresTrashDelay) { Duration::ZERO } else { trash_delay };
        let mut claimed = self.inner.claim_deletions(trash_delay, lease, limit).await?;
        let mut notes = self.notes();
        if self.has(Flaw::ClaimIgnoresOtherClaims) {
            let others = notes.claims.values().filter(|claim| !claimed.contains(claim)).copied().collect::<Vec<_>>();
            claimed.extend(others);
            claimed.truncate(limit as usize);
        }
        if self.has(Flaw::ClaimGuessesSize) {
            claimed.iter_mut().for_each(|claim| claim.size = claim.size.max(1));
        }
        notes.claims.extend(claimed.iter().map(|claim| (claim.digest, *claim)));
        Ok(claimed)
    }

    async fn renew_deletion(&self, deletion: &Deletion, lease: Duration) -> Result<()> {
        if self.has(Flaw::RenewDoesNothing) {
            return Ok(());
        }
        self.inner.renew_deletion(deletion, lease).await
    }

    async fn complete_deletion(&self, deletion: &Deletion) -> Result<()> {
        if self.has(Flaw::CompleteIgnoresGeneration) {
            let latest = self.notes().claims.get(&deletion.digest).copied();
            return self.inner.complete_deletion(&latest.unwrap_or(*deletion)).await.or(Ok(()));
        }
        self.inner.complete_deletion(deletion).await
    }

    async fn preview_collection(&self, grace: Duration) -> Result<GcPreview> {
        let mut preview = self.inner.preview_collection(grace).await?;
        if self.has(Flaw::PreviewSkipsCondemned) && !self.notes().condemned.is_empty() {
            preview = GcPreview { blobs: 0, bytes: 0, ..preview };
        }
        if self.has(Flaw::PreviewCollects) {
            self.inner.expire_links(&Sweep { grace, cursor: None, limit: 100 }).await?;
        }
        Ok(preview)
    }

    async fn tidy(&self, keep_events: Duration) -> Result<()> {
        match self.flaw {
            Flaw::TidyForgetsAllEvents => self.inner.tidy(keep_events / 100).await,
            Flaw::TidyForgetsNoRepository => Ok(()),
            _ => self.inner.tidy(keep_events).await,
        }
    }

    async fn events(&self, after: u64, limit: u32) -> Result<Vec<Event>> {
        let limit = if self.has(Flaw::EventsIgnoreLimit) { u32::MAX } else { limit };
        let mut events = self.inner.events(after, limit).await?;
        if self.has(Flaw::EventsComeNewestFirst) {
            events.reverse();
        }
        events.extend(self.notes().events.iter().filter(|event| event.id > after).cloned());
        Ok(events)
    }

    async fn ping(&self) -> Result<()> {
        if self.has(Flaw::PingFails) {
            return Err(Error::new(ErrorKind::Unavailable, "no"));
        }
        self.inner.ping().await
    }
}
