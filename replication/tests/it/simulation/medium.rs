//! The bytes of a zone: [`Medium`], and the [`Witness`] who sees everything that is done to them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use registry_core::blob::*;
use registry_core::memory::MemoryBlobStore;
use registry_core::{BlobStore, BlobUpload, Clock, Digest, Error, ErrorKind, Result, Timestamp, UploadToken};
use replication::ledger::Observed;

use super::object_zone::ObjectZone;
use super::plan::{Plan, ZONE_NAMES};
use super::world::{World, at_once, zone_id};

/// Where the bytes of a zone are.
#[derive(Clone, Debug)]
pub(super) enum Medium {
    Disk(MemoryBlobStore),
    Objects(ObjectZone),
}

impl Medium {
    pub(super) fn new(plan: &Plan, zone: usize, clock: &Arc<dyn Clock>) -> Self {
        let medium = if plan.disks[zone] {
            Self::Disk(MemoryBlobStore::default().with_clock(Arc::clone(clock)))
        } else {
            Self::Objects(ObjectZone::new(clock))
        };
        // Not a random one: a zone's id decides about the order of things.
        let identity = format!(r#"{{"version":1,"id":"id-{zone}","name":"{}","layout":"native"}}"#, ZONE_NAMES[zone]);
        at_once(medium.store().named().unwrap().put(ZONE_OBJECT, Bytes::from(identity))).unwrap();
        medium
    }

    pub(super) fn store(&self) -> Arc<dyn BlobStore> {
        match self {
            Self::Disk(store) => Arc::new(store.clone()),
            Self::Objects(store) => Arc::new(store.clone()),
        }
    }

    /// All blobs that are there.
    pub(super) fn all(&self) -> BTreeMap<Digest, Bytes> {
        let store = self.store();
        let listed: Vec<_> = at_once(store.list(ListOptions::default()).try_collect()).unwrap();
        listed.into_iter().map(|info| (info.digest, at_once(store.read_all(&info.digest)).unwrap())).collect()
    }

    /// How many uploads are staged.
    pub(super) fn staged(&self) -> usize {
        let staged: Vec<_> = at_once(self.store().uploads(Timestamp::from_millis(i64::MAX)).try_collect()).unwrap();
        staged.len()
    }

    /// Turns a bit of a blob.
    pub(super) fn rot(&self, digest: &Digest) {
        let Ok(content) = at_once(self.store().read_all(digest)) else { return };
        let mut content = content.to_vec();
        if let Some(byte) = content.first_mut() {
            *byte ^= 1;
        }
        match self {
            Self::Disk(store) => store.overwrite_unchecked(digest, content.into()),
            Self::Objects(store) => store.overwrite_unchecked(digest, content.into()),
        }
    }
}

/// Stands before a medium, below everything that goes wrong, and checks what must hold at every moment.
#[derive(Debug)]
pub(super) struct Witness {
    world: Weak<World>,
    zone: usize,
    inner: Arc<dyn BlobStore>,
    /// What is there instead when the disk is not mounted.
    mount_point: MemoryBlobStore,
}

impl Witness {
    pub(super) fn new(world: Weak<World>, zone: usize, inner: Arc<dyn BlobStore>) -> Self {
        Self { world, zone, inner, mount_point: MemoryBlobStore::default() }
    }

    /// What is there: the medium, or an empty directory.
    fn place(&self) -> &dyn BlobStore {
        if self.is_mounted() { &*self.inner } else { &self.mount_point }
    }

    fn objects(&self) -> &dyn NamedObjects {
        self.place().named().unwrap()
    }

    fn is_mounted(&self) -> bool {
        self.world.upgrade().is_none_or(|world| world.mounted[self.zone].load(Ordering::Relaxed))
    }

    /// The empty directory is not to be written to.
    fn writable(&self) -> Result<()> {
        if self.is_mounted() { Ok(()) } else { Err(Error::new(ErrorKind::Denied, "the mount point is read-only")) }
    }

    fn see(&self, check: impl FnOnce(&World)) {
        if let Some(world) = self.world.upgrade() {
            check(&world);
        }
    }

    /// Bytes of the blob come to the zone.
    fn comes(&self, how: &str, digest: &Digest) {
        self.see(|world| {
            world.say(format_args!("  zone {}: {how} {}", self.zone, world.name_of(digest)));
            if !world.may_hold(self.zone, digest) {
                world.violation(format_args!("{} came to zone {} ({how}), where no policy allows it", world.name_of(digest), self.zone));
            }
        });
    }

    fn wrap(&self, upload: Box<dyn BlobUpload>) -> Box<dyn BlobUpload> {
        let witness = Self::new(Weak::clone(&self.world), self.zone, Arc::clone(&self.inner));
        Box::new(WitnessedUpload { witness, upload })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Witness {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.place().stat(digest).await
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        self.place().read(digest, options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.writable()?;
        Ok(self.wrap(self.inner.begin(options).await?))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.writable()?;
        Ok(self.wrap(self.inner.resume(options).await?))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.writable()?;
        self.comes("put", digest);
        self.inner.put(digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.writable()?;
        self.see(|world| {
            world.say(format_args!("  zone {}: delete {}", self.zone, world.name_of(digest)));
            let others = (0..world.media.len()).any(|other| other != self.zone && world.is_good(other, digest));
            if world.is_good(self.zone, digest) && !others && !world.holders(digest).is_empty() {
                world.violation(format_args!(
                    "the last good copy of {} was deleted from zone {}: {:?}",
                    world.name_of(digest),
                    self.zone,
                    world.placements(digest)
                ));
            }
            if at_once(self.inner.contains(digest)).unwrap() {
                world.count("bytes deleted", 1);
                let rows = world.placements(digest);
                let row = rows.iter().find(|row| row.zone == zone_id(self.zone));
                if row.is_none_or(|row| row.observed != Observed::Deleting) {
                    world.violation(format_args!(
                        "{} is deleted in zone {} when it may be there: {row:?}",
                        world.name_of(digest),
                        self.zone
                    ));
                }
            }
        });
        self.inner.delete(digest).await
    }

    async fn delete_before(&self, digest: &Digest, _: Instant) -> Result<()> {
        BlobStore::delete(self, digest).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        self.place().list(options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        // In the order of their age: ids may be random.
        let mut listed: Vec<_> = at_once(self.place().uploads(older_than).try_collect::<Vec<_>>()).unwrap();
        listed.sort_by_key(|upload| (upload.modified, upload.size));
        futures_util::stream::iter(listed.into_iter().map(Ok)).boxed()
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.writable()?;
        self.see(|world| world.note("uploads discarded", format_args!("in zone {}", self.zone)));
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
        Some(self)
    }

    async fn probe(&self) -> ProbeReport {
        self.inner.probe().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl NamedObjects for Witness {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.objects().get(name).await
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        self.writable()?;
        self.objects().put(name, value).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.writable()?;
        self.objects().delete(name).await
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        self.objects().list(prefix)
    }
}

#[derive(Debug)]
struct WitnessedUpload {
    witness: Witness,
    upload: Box<dyn BlobUpload>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobUpload for WitnessedUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.witness.writable()?;
        let at = usize::try_from(self.upload.offset()).unwrap();
        self.witness.see(|world| {
            let fits =
                |digest: &&Digest| world.content(digest).is_some_and(|content| content.get(at..at + chunk.len()) == Some(&chunk[..]));
            // So few bytes may be anybody's.
            if chunk.len() >= 8
                && let Some(digest) = world.blobs.iter().find(fits)
            {
                self.witness.comes("staged", digest);
            }
        });
        self.upload.write(chunk).await
    }

    fn offset(&self) -> u64 {
        self.upload.offset()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        self.witness.writable()?;
        self.upload.suspend().await
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        self.witness.writable()?;
        let committed = self.upload.commit(digest).await;
        if committed.is_ok() {
            self.witness.comes("commit", digest);
        }
        committed
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.witness.writable()?;
        self.upload.abort().await
    }
}
