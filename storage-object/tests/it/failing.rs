//! [`Failing`]: an object store whose requests fail when they are told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use storage_object::{Manifests, Segment};
use tokio::sync::Semaphore;

use crate::slo::Slo;

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It does nothing.
    Before,
    /// It does what it should, and nobody hears of that.
    After,
    /// It waits until it is [let go](Failing::let_go), and then does what it should.
    Held,
}

fn failure() -> Error {
    Error::Generic { store: "Failing", source: "a failure was injected".into() }
}

/// A store in memory, with manifests. One of its requests, counted from when it was armed, fails.
#[derive(Debug)]
pub(crate) struct Failing {
    pub(crate) inner: Slo,
    calls: AtomicU64,
    fails: AtomicU64,
    aborted: AtomicU64,
    how: std::sync::Mutex<How>,
    held: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Failing {
    pub(crate) fn new(inner: Slo) -> Self {
        let (held, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (calls, fails, aborted) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), AtomicU64::new(0));
        Self { inner, calls, fails, aborted, how: std::sync::Mutex::new(How::Before), held, go }
    }

    /// The `nth` request from now on fails.
    pub(crate) fn arm(&self, nth: u64, how: How) {
        *self.how.lock().unwrap() = how;
        self.calls.store(0, Ordering::SeqCst);
        self.fails.store(nth, Ordering::SeqCst);
    }

    /// How many requests there were since it was armed.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many multipart uploads were aborted.
    pub(crate) fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Until the request that is to be held is.
    pub(crate) async fn held(&self) {
        self.held.acquire().await.unwrap().forget();
    }

    pub(crate) fn let_go(&self) {
        self.go.add_permits(1);
    }

    fn hold(&self) -> impl Future<Output = ()> + Send + 'static {
        let (held, go) = (Arc::clone(&self.held), Arc::clone(&self.go));
        async move {
            held.add_permits(1);
            go.acquire().await.unwrap().forget();
        }
    }

    async fn call<T>(&self, request: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fails = self.calls.fetch_add(1, Ordering::SeqCst) == self.fails.load(Ordering::SeqCst);
        let how = *self.how.lock().unwrap();
        match how {
            How::Before if fails => return Err(failure()),
            How::Held if fails => self.hold().await,
            _ => {}
        }
        let outcome = request.await;
        if fails && how == How::After && outcome.is_ok() { Err(failure()) } else { outcome }
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let fails = self.calls.fetch_add(1, Ordering::SeqCst) == self.fails.load(Ordering::SeqCst);
        if !fails {
            return self.inner.delete_stream(locations);
        }
        match *self.how.lock().unwrap() {
            How::Before => locations.map_ok(|path| path).and_then(move |_| std::future::ready(Err(failure()))).boxed(),
            How::After => self.inner.delete_stream(locations).and_then(move |_| std::future::ready(Err(failure()))).boxed(),
            How::Held => {
                let (inner, mut locations) = (self.inner.clone(), Some(locations));
                stream::once(self.hold()).flat_map(move |()| inner.delete_stream(locations.take().unwrap())).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let fails = self.calls.fetch_add(1, Ordering::SeqCst) == self.fails.load(Ordering::SeqCst);
        match *self.how.lock().unwrap() {
            _ if !fails => self.inner.list(prefix),
            How::Held => {
                let (inner, prefix) = (self.inner.clone(), prefix.cloned());
                stream::once(self.hold()).flat_map(move |()| inner.list(prefix.as_ref())).boxed()
            }
            _ => stream::iter([Err(failure())]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.call(self.inner.rename_opts(from, to, options)).await
    }
}

#[async_trait]
impl MultipartStore for Failing {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.call(self.inner.create_multipart(path)).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.call(self.inner.put_part(path, id, part, data)).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        // Services say that an upload is not there (any more) by a 404.
        let completed = self.call(self.inner.complete_multipart(path, id, parts)).await;
        completed.map_err(|error| match &error {
            Error::Generic { source, .. } if source.to_string().contains("pload") => {
                Error::NotFound { path: path.to_string(), source: error.into() }
            }
            _ => error,
        })
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.call(self.inner.abort_multipart(path, id)).await?;
        self.aborted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Manifests for Failing {
    async fn put_manifest(&self, path: &Path, segments: &[Segment], upload: &str) -> Result<()> {
        self.call(self.inner.put_manifest(path, segments, upload)).await
    }

    async fn upload_of(&self, path: &Path) -> Result<Option<String>> {
        self.call(self.inner.upload_of(path)).await
    }

    async fn segments_of(&self, path: &Path) -> Result<Option<Vec<Path>>> {
        self.call(self.inner.segments_of(path)).await
    }

    async fn delete_manifest(&self, path: &Path) -> Result<()> {
        self.call(self.inner.delete_manifest(path)).await
    }
}

/// A shared one.
pub(crate) fn failing() -> Arc<Failing> {
    Arc::new(Failing::new(Slo::default()))
}
