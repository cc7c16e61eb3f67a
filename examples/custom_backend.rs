//! A blob store from nothing: what the contract asks of a backend, kept in maps. It has to pass the conformance suite, and then serves a registry.
//! Run it by `cargo run --release --example custom_backend [ADDRESS]`.

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use registry_core::testing::blob_store::{self, Fixture};
use registry_core::{Algorithm, BlobStore, BlobUpload, Clock as _, Digest, Error, ErrorKind, Hasher, Registry, Result, blob::*, memory};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Debug, Default)]
struct MapStore {
    blobs: Arc<Mutex<HashMap<Digest, Bytes>>>,
    uploads: Arc<Mutex<HashMap<String, Staged>>>,
}

/// An upload as each of its writers left it, by epoch. A token names one of these, so that no byte gets in that its hash has not seen.
#[derive(Debug, Default)]
struct Staged {
    latest: u64,
    left: BTreeMap<u64, Vec<Bytes>>,
    modified: registry_core::Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under the lock")
}

#[async_trait::async_trait]
impl BlobStore for MapStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        Ok(self.read(digest, ReadOptions::default()).await?.info)
    }
    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        let blob = lock(&self.blobs).get(digest).cloned().ok_or_else(|| Error::not_found(digest))?;
        let (info, range) = (BlobInfo::new(*digest, blob.len() as u64), options.resolve(digest, blob.len() as u64)?);
        Ok(BlobReader::new(info, range.clone(), once(blob.slice(range.start as usize..range.end as usize))))
    }
    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let (store, id, epoch) = (self.clone(), registry_core::random_id(), options.epoch);
        Ok(Box::new(Upload { store, id, epoch, suspended: false, chunks: Vec::new() }))
    }
    async fn resume(&self, ResumeOptions { token, epoch, .. }: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let gone = || Error::new(ErrorKind::UploadUnknown, "the staged bytes are gone");
        let (id, left_by): (String, u64) = serde_json::from_slice(&token.backend).map_err(|error| gone().with_source(error))?;
        let mut uploads = lock(&self.uploads);
        let staged = uploads.get_mut(&id).ok_or_else(gone)?;
        if staged.latest > epoch {
            return Err(Error::new(ErrorKind::Conflict, "the upload has a newer writer"));
        }
        staged.latest = epoch;
        let chunks = staged.left.get(&left_by).ok_or_else(gone)?.clone();
        Ok(Box::new(Upload { store: self.clone(), id, epoch, suspended: false, chunks }))
    }
    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        let (store, id, chunks) = (self.clone(), registry_core::random_id(), content.try_collect().await?);
        let mut upload = Upload { store, id, epoch: 0, suspended: false, chunks };
        match options.size {
            Some(size) if size != upload.offset() => Err(Error::new(ErrorKind::SizeInvalid, "not the declared number of bytes")),
            _ => upload.commit(digest).await,
        }
    }
    async fn delete(&self, digest: &Digest) -> Result<()> {
        lock(&self.blobs).remove(digest);
        Ok(())
    }
    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let infos: Vec<_> = lock(&self.blobs).iter().map(|(digest, blob)| BlobInfo::new(*digest, blob.len() as u64)).collect();
        Box::pin(stream::iter(infos.into_iter().filter(move |info| options.selects(&info.digest)).map(Ok)))
    }
    fn uploads(&self, older_than: registry_core::Timestamp) -> ItemStream<'_, PendingUpload> {
        let pending = |(id, staged): (&String, &Staged)| Ok(PendingUpload::new(id, staged.modified, None));
        let old: Vec<_> = lock(&self.uploads).iter().filter(|(_, staged)| staged.modified < older_than).map(pending).collect();
        Box::pin(stream::iter(old))
    }
    async fn discard(&self, id: &str) -> Result<()> {
        lock(&self.uploads).remove(id);
        Ok(())
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_ordered_list(false).with_named_objects(false)
    }
}

/// One writer's hold on an upload. What it writes is its own: an older writer, however late, changes nothing of a newer one's.
#[derive(Debug)]
struct Upload {
    store: MapStore,
    id: String,
    epoch: u64,
    suspended: bool,
    chunks: Vec<Bytes>,
}

impl Upload {
    fn check_open(&self) -> Result<()> {
        if self.suspended { Err(Error::new(ErrorKind::Conflict, "the upload was suspended")) } else { Ok(()) }
    }
    fn forget(&self) {
        lock(&self.store.uploads).retain(|id, staged| *id != self.id || staged.latest > self.epoch);
    }
}

#[async_trait::async_trait]
impl BlobUpload for Upload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.check_open()?;
        self.chunks.push(chunk);
        Ok(())
    }
    fn offset(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
    async fn suspend(&mut self) -> Result<UploadToken> {
        self.check_open()?;
        let mut uploads = lock(&self.store.uploads);
        let staged = uploads.entry(self.id.clone()).or_default();
        staged.left.insert(self.epoch, self.chunks.clone());
        (staged.latest, staged.modified) = (staged.latest.max(self.epoch), registry_core::SystemClock.now());
        let note = serde_json::json!([self.id, self.epoch]).to_string();
        let mut token = UploadToken::new(self.offset(), &Hasher::new(Algorithm::Sha256), note);
        self.suspended = true;
        token.midstate.clear(); // Nothing is hashed before the commit: simple. A store of large blobs hashes them as they come.
        Ok(token)
    }
    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        self.check_open()?;
        let content = Bytes::from(self.chunks.concat());
        let found = Digest::of(digest.algorithm(), &content);
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        lock(&self.store.blobs).insert(*digest, content);
        self.forget();
        Ok(BlobInfo::new(*digest, self.offset()))
    }
    async fn abort(self: Box<Self>) -> Result<()> {
        self.forget();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    blob_store::check(|| async { Fixture::new(Arc::new(MapStore::default())) }).await;
    let registry = Registry::builder(Arc::new(MapStore::default()), Arc::new(memory::MemoryMetadataStore::default())).build();
    let listener = tokio::net::TcpListener::bind(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:5000")).await?;
    println!("serving on http://{}; what is pushed is gone when this ends", listener.local_addr()?);
    registry_http::serve(listener, registry_http::router(registry, Default::default()), std::future::pending(), Default::default()).await
}
