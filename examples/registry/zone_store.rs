//! [`Disk`]: a filesystem zone whose disk may not be there.
//!
//! A server over several zones serves while one of them is away: it is opened when it is there, and opened anew when another disk was mounted in its place.
//! What a disk that is not mounted leaves behind is an empty directory: a zone that was seen before is never made there anew.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use registry_core::blob::{
    Assurance, BlobInfo, BlobReader, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, NamedObjectInfo, PendingUpload,
    ProbeReport, ReadOptions, ResumeOptions, StoreIdentity, WriteOptions, ZONE_OBJECT,
};
use registry_core::{BlobStore, BlobUpload, Digest, Error, ErrorKind, NamedObjects, Result, Timestamp};
use replication::PlacementLedger;
use storage_fs::FsBlobStore;
use tokio::sync::Mutex;

use crate::config::Zone;
use crate::zones::builder;

/// A filesystem zone that is opened as soon as that can be done.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    zone: Zone,
    /// Knows who the zone is, if it was ever used.
    ledger: Arc<dyn PlacementLedger>,
    /// Whether a zone that nobody has seen yet may be made.
    may_make: bool,
    state: RwLock<State>,
    /// Held by who looks at the disk: if that does not answer, it keeps one thread waiting and not one for each that asks.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum State {
    Open {
        store: FsBlobStore,
        place: Place,
    },
    /// And why it is not.
    Closed(String),
}

/// Which directory of which file system.
type Place = (u64, u64);

/// A store as it was just opened.
struct Opened {
    store: FsBlobStore,
    place: Place,
    /// Whether it is the zone that is looked for, as far as anybody knows.
    expected: bool,
}

impl Disk {
    /// A zone that is not open yet: it opens when it is asked who it is.
    pub(crate) fn new(zone: Zone, ledger: Arc<dyn PlacementLedger>, may_make: bool) -> Self {
        let state = RwLock::new(State::Closed("nobody has opened it yet".to_owned()));
        Self { inner: Arc::new(Inner { zone, ledger, may_make, state, turn: Arc::default() }) }
    }

    /// Opens it, if it is not open.
    pub(crate) async fn open(&self) -> Result<()> {
        let found = StoreIdentity::read(self).await?;
        if let Some(found) = found.filter(|found| found.name != self.inner.zone.name) {
            return Err(self.unavailable(format!("it holds a zone that calls itself {}", found.name)));
        }
        self.store().map(drop)
    }

    fn unavailable(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, message).with_key(self.inner.zone.path.display())
    }

    /// The open store.
    fn store(&self) -> Result<FsBlobStore> {
        match &*self.inner.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open { store, .. } => Ok(store.clone()),
            State::Closed(why) => Err(self.unavailable(why)),
        }
    }

    fn set(&self, state: State) {
        *self.inner.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The store to ask who it is: the open one, if its directory is still the one at the zone's path, or else what is there now.
    async fn at_its_path(&self) -> Result<FsBlobStore> {
        let turn = Arc::clone(&self.inner.turn).lock_owned().await;
        let disk = self.clone();
        let look = async move {
            let _turn = turn;
            disk.look().await
        };
        tokio::spawn(look).await.unwrap_or_else(|error| Err(self.unavailable("looking at its directory failed").with_source(error)))
    }

    async fn look(&self) -> Result<FsBlobStore> {
        let now = place(&self.inner.zone.path).await;
        if let State::Open { store, place } = &*self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
            && now.as_ref().is_ok_and(|now| now.as_ref() == Some(place))
        {
            return Ok(store.clone());
        }
        match self.open_anew(now).await {
            Ok(opened) if opened.expected => {
                self.set(State::Open { store: opened.store.clone(), place: opened.place });
                Ok(opened.store)
            }
            // Only to be asked who it is: nothing is read from it or written to it.
            Ok(opened) => {
                self.set(State::Closed("what is in its place is not the zone that was there before: is its disk mounted?".to_owned()));
                Ok(opened.store)
            }
            Err(error) => {
                self.set(State::Closed(reason(&error)));
                Err(error)
            }
        }
    }

    async fn open_anew(&self, now: std::io::Result<Option<Place>>) -> Result<Opened> {
        let Inner { zone, ledger, may_make, .. } = &*self.inner;
        let known = ledger.zones().await?.into_iter().find(|known| known.name == zone.name);
        let makes = known.is_none() && *may_make;
        match now {
            Err(error) => return Err(self.unavailable(format!("its directory cannot be looked at: {error}"))),
            Ok(None) if !makes => return Err(self.unavailable("its directory is not there: is its disk mounted?")),
            // A mount point without its disk: not even folders are to be made in it.
            Ok(Some(_)) if !makes && !holds_a_store(&zone.path).await => {
                return Err(self.unavailable("its directory holds no zone: is its disk mounted?"));
            }
            Ok(_) => {}
        }
        let store = builder(zone).build().await?;
        let place = place(&zone.path).await.ok().flatten().ok_or_else(|| self.unavailable("its directory went away"))?;
        let Some(objects) = store.named() else { return Err(self.unavailable("it cannot say who it is")) };
        let found = StoreIdentity::read(objects).await?;
        let expected = match (known, found) {
            (Some(known), found) => found.is_some_and(|found| found.id == known.id.as_str()),
            (None, None) if !makes => return Err(self.unavailable("it is no zone yet, and nothing is made now")),
            (None, _) => true,
        };
        Ok(Opened { store, place, expected })
    }
}

/// Why, in one line; the path is told by who tells it.
fn reason(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).filter(|source| !error.message().contains(source));
    source.map_or_else(|| error.message().to_owned(), |source| format!("{}: {source}", error.message()))
}

/// Which directory is there now.
async fn place(path: &Path) -> std::io::Result<Option<Place>> {
    let path = path.to_owned();
    let look = move || match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Whether a store was ever made there: each has a file that tells its layout.
async fn holds_a_store(path: &Path) -> bool {
    let format = path.join("format");
    tokio::task::spawn_blocking(move || format.is_file()).await.unwrap_or(false)
}

/// A stream of a store's that outlives this call: the store goes with it.
fn relay<T: Send + 'static>(
    store: Result<FsBlobStore>,
    list: impl for<'a> FnOnce(&'a FsBlobStore) -> ItemStream<'a, T> + Send + 'static,
) -> ItemStream<'static, T> {
    let store = match store {
        Ok(store) => store,
        Err(error) => return Box::pin(stream::iter([Err(error)])),
    };
    let (send, mut receive) = tokio::sync::mpsc::channel(16);
    let work = async move {
        let mut items = list(&store);
        while let Some(item) = items.next().await {
            if send.send(item).await.is_err() {
                return;
            }
        }
    };
    let mut work = Box::pin(work.fuse());
    Box::pin(stream::poll_fn(move |context| {
        let _ = work.poll_unpin(context);
        receive.poll_recv(context)
    }))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Disk {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.store()?.stat(digest).await
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        self.store()?.read(digest, options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.store()?.begin(options).await
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.store()?.resume(options).await
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.store()?.put(digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        BlobStore::delete(&self.store()?, digest).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        self.store()?.delete_before(digest, deadline).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        relay(self.store(), move |store| BlobStore::list(store, options))
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        relay(self.store(), move |store| store.uploads(older_than))
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.store()?.discard(id).await
    }

    async fn download_url(
        &self,
        method: &axum::http::Method,
        digest: &Digest,
        options: DownloadOptions,
    ) -> Result<Option<axum::http::Uri>> {
        self.store()?.download_url(method, digest, options).await
    }

    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.store()?.retain(digest, scope).await
    }

    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        self.store()?.release(digest, scope).await
    }

    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        self.store()?.await_copies(digests, scope).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(self)
    }

    async fn probe(&self) -> ProbeReport {
        registry_core::blob::probe(self).await
    }

    fn capabilities(&self) -> Capabilities {
        // Those of every filesystem store.
        Capabilities::default()
    }
}

#[async_trait]
impl NamedObjects for Disk {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        // Who asks who it is wants to know of what is there now.
        let store = if name == ZONE_OBJECT { self.at_its_path().await? } else { self.store()? };
        named(&store)?.get(name).await
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        named(&self.store()?)?.put(name, value).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        named(&self.store()?)?.delete(name).await
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let prefix = prefix.to_owned();
        relay(self.store(), move |store| match store.named() {
            Some(objects) => objects.list(&prefix),
            None => Box::pin(stream::empty()),
        })
    }
}

fn named(store: &FsBlobStore) -> Result<&dyn NamedObjects> {
    store.named().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the zone has no named objects"))
}
