//! [`ZoneStore`]: a zone's store, which may not be there.
//!
//! A server over several zones serves while one of them is away: it is opened when it is there, and opened anew when something else was put in its place.
//! What a disk that is not mounted leaves behind is an empty directory: a zone that was seen before is never made there anew.

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
use tokio::sync::Mutex;

use crate::backend::{Backend, Seen};

/// A zone's store that is opened as soon as that can be done.
#[derive(Clone, Debug)]
pub(crate) struct ZoneStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    /// Where it is, for people.
    place: String,
    backend: Arc<dyn Backend>,
    /// Knows who the zone is, if it was ever used.
    ledger: Arc<dyn PlacementLedger>,
    /// Whether a zone that nobody has seen yet may be made.
    may_make: bool,
    state: RwLock<State>,
    /// Held by who looks at its place: if that does not answer, it keeps one waiting and not one for each that asks.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug)]
enum State {
    Open {
        store: Arc<dyn BlobStore>,
        seen: Seen,
    },
    /// And why it is not.
    Closed(String),
}

/// A store as it was just opened.
struct Opened {
    store: Arc<dyn BlobStore>,
    seen: Seen,
    /// Whether it is the zone that is looked for, as far as anybody knows.
    expected: bool,
}

impl ZoneStore {
    /// A zone that is not open yet: it opens when it is asked who it is.
    pub(crate) fn new(name: &str, place: String, backend: Arc<dyn Backend>, ledger: Arc<dyn PlacementLedger>, may_make: bool) -> Self {
        let state = RwLock::new(State::Closed("nobody has opened it yet".to_owned()));
        Self { inner: Arc::new(Inner { name: name.to_owned(), place, backend, ledger, may_make, state, turn: Arc::default() }) }
    }

    /// Opens it, if it is not open.
    pub(crate) async fn open(&self) -> Result<()> {
        let found = StoreIdentity::read(self).await?;
        if let Some(found) = found.filter(|found| found.name != self.inner.name) {
            return Err(self.unavailable(format!("it holds a zone that calls itself {}", found.name)));
        }
        self.store().map(drop)
    }

    fn unavailable(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, message).with_key(&self.inner.place)
    }

    /// The open store.
    fn store(&self) -> Result<Arc<dyn BlobStore>> {
        match &*self.inner.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open { store, .. } => Ok(Arc::clone(store)),
            State::Closed(why) => Err(self.unavailable(why)),
        }
    }

    fn set(&self, state: State) {
        *self.inner.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The store to ask who it is: the open one, if what is at its place is still what was there, or else what is there now.
    async fn at_its_place(&self) -> Result<Arc<dyn BlobStore>> {
        let turn = Arc::clone(&self.inner.turn).lock_owned().await;
        let this = self.clone();
        let look = async move {
            let _turn = turn;
            this.look().await
        };
        tokio::spawn(look).await.unwrap_or_else(|error| Err(self.unavailable("looking at its place failed").with_source(error)))
    }

    async fn look(&self) -> Result<Arc<dyn BlobStore>> {
        let now = self.inner.backend.look().await;
        if let State::Open { store, seen } = &*self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
            && now.is_ok_and(|now| now == Some(*seen))
        {
            return Ok(Arc::clone(store));
        }
        match self.open_anew().await {
            Ok(opened) if opened.expected => {
                self.set(State::Open { store: Arc::clone(&opened.store), seen: opened.seen });
                Ok(opened.store)
            }
            // Only to be asked who it is: nothing is read from it or written to it.
            Ok(opened) => {
                self.set(State::Closed(
                    "what is in its place is not the zone that was there before: is its disk mounted, or its container the right one?"
                        .to_owned(),
                ));
                Ok(opened.store)
            }
            Err(error) => {
                self.set(State::Closed(reason(&error)));
                Err(error)
            }
        }
    }

    async fn open_anew(&self) -> Result<Opened> {
        let Inner { name, ledger, may_make, backend, .. } = &*self.inner;
        let known = ledger.zones().await?.into_iter().find(|known| known.name == *name);
        let makes = known.is_none() && *may_make;
        let (store, seen) = backend.open(makes).await?;
        let Some(objects) = store.named() else { return Err(self.unavailable("it cannot say who it is")) };
        let found = StoreIdentity::read(objects).await?;
        let expected = match (known, found) {
            (Some(known), found) => found.is_some_and(|found| found.id == known.id.as_str()),
            (None, None) if !makes => return Err(self.unavailable("it is no zone yet, and nothing is made now")),
            (None, _) => true,
        };
        Ok(Opened { store, seen, expected })
    }
}

/// Why, in one line; the place is told by who tells it.
fn reason(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).filter(|source| !error.message().contains(source));
    source.map_or_else(|| error.message().to_owned(), |source| format!("{}: {source}", error.message()))
}

/// A stream of a store's that outlives this call: the store goes with it.
fn relay<T: Send + 'static>(
    store: Result<Arc<dyn BlobStore>>,
    list: impl for<'a> FnOnce(&'a dyn BlobStore) -> ItemStream<'a, T> + Send + 'static,
) -> ItemStream<'static, T> {
    let store = match store {
        Ok(store) => store,
        Err(error) => return Box::pin(stream::iter([Err(error)])),
    };
    let (send, mut receive) = tokio::sync::mpsc::channel(16);
    let work = async move {
        let mut items = list(&*store);
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
impl BlobStore for ZoneStore {
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
        self.store()?.delete(digest).await
    }

    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        self.store()?.delete_before(digest, deadline).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        relay(self.store(), move |store| store.list(options))
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
        match self.store() {
            Ok(store) => store.probe().await,
            Err(error) => {
                let mut report = ProbeReport::default();
                report.push("open", std::time::Duration::ZERO, Err(error));
                report
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.backend.capabilities()
    }
}

#[async_trait]
impl NamedObjects for ZoneStore {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        // Who asks who it is wants to know of what is there now.
        let store = if name == ZONE_OBJECT { self.at_its_place().await? } else { self.store()? };
        named(&*store)?.get(name).await
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        named(&*self.store()?)?.put(name, value).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        named(&*self.store()?)?.delete(name).await
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let prefix = prefix.to_owned();
        relay(self.store(), move |store| match store.named() {
            Some(objects) => objects.list(&prefix),
            None => Box::pin(stream::empty()),
        })
    }
}

fn named(store: &dyn BlobStore) -> Result<&dyn NamedObjects> {
    store.named().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the zone has no named objects"))
}
