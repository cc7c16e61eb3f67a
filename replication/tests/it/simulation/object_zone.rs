//! [`ObjectZone`]: a zone as an object storage is one. It knows objects and nothing of their writers: a piece of an upload is an object named by the upload,
//! the writer's epoch and a number, and whoever writes it last has written it, however late that is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use registry_core::blob::*;
use registry_core::{BlobStore, BlobUpload, Clock, Digest, Error, ErrorKind, Hasher, Result, Timestamp, UploadToken};

/// Bytes that a stream of a blob yields at a time.
const CHUNK: usize = 96;

/// What all handles share.
#[derive(Clone, Debug)]
pub(super) struct ObjectZone {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<(u8, Digest), (Bytes, Timestamp)>,
    uploads: BTreeMap<String, Folder>,
    named: BTreeMap<String, (Bytes, Timestamp)>,
    begun: u64,
}

/// The pieces of an upload.
#[derive(Debug)]
struct Folder {
    pieces: BTreeMap<(u64, u64), Bytes>,
    modified: Timestamp,
}

impl ObjectZone {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other bytes in a blob's place, as a rotting disk would.
    pub(super) fn overwrite_unchecked(&self, digest: &Digest, content: Bytes) {
        if let Some(blob) = self.lock().blobs.get_mut(&(digest.shard(), *digest)) {
            blob.0 = content;
        }
    }

    fn insert(&self, digest: &Digest, content: Bytes) -> BlobInfo {
        let modified = self.clock.now();
        let info = BlobInfo::new(*digest, content.len() as u64).with_modified(modified);
        self.lock().blobs.insert((digest.shard(), *digest), (content, modified));
        info
    }

    fn get(&self, digest: &Digest) -> Result<(Bytes, BlobInfo)> {
        let state = self.lock();
        let (content, modified) = state.blobs.get(&(digest.shard(), *digest)).ok_or_else(|| Error::not_found(digest))?;
        Ok((content.clone(), BlobInfo::new(*digest, content.len() as u64).with_modified(*modified)))
    }
}

#[async_trait]
impl BlobStore for ObjectZone {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.get(digest).map(|(_, info)| info)
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        let (content, info) = self.get(digest)?;
        let range = options.resolve(digest, info.size)?;
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let mut rest = content.slice(at(range.start)..at(range.end));
        let chunks = std::iter::from_fn(move || (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(CHUNK)))));
        Ok(BlobReader::new(info, range, Box::pin(stream::iter(chunks))))
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let mut state = self.lock();
        state.begun += 1;
        let id = format!("{:06}", state.begun);
        Ok(Box::new(Upload {
            zone: self.clone(),
            id,
            epoch: options.epoch,
            pieces: Vec::new(),
            hasher: Hasher::new(options.algorithm),
            closed: false,
            committed: None,
        }))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let ResumeOptions { token, epoch, .. } = options;
        let not_mine = || Error::new(ErrorKind::UploadUnknown, "not a token of this store");
        let (id, pieces): (String, Vec<(u64, u64, u64)>) = serde_json::from_slice(&token.backend).map_err(|_| not_mine())?;
        let state = self.lock();
        let folder = state.uploads.get(&id);
        if folder.is_some_and(|folder| folder.pieces.keys().any(|(newer, _)| *newer > epoch)) {
            return Err(Error::new(ErrorKind::Conflict, "the upload has a newer writer").with_key(&id));
        }
        if pieces.iter().any(|(epoch, n, _)| folder.is_none_or(|folder| !folder.pieces.contains_key(&(*epoch, *n)))) {
            return Err(Error::new(ErrorKind::UploadUnknown, "the staged bytes are gone").with_key(&id));
        }
        let hasher = token.hasher().ok_or_else(not_mine)?;
        Ok(Box::new(Upload { zone: self.clone(), id, epoch, pieces, hasher, closed: false, committed: None }))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, mut content: ByteStream) -> Result<BlobInfo> {
        let mut all = BytesMut::new();
        while let Some(chunk) = content.next().await {
            all.extend_from_slice(&chunk?);
        }
        if options.size.is_some_and(|size| size != all.len() as u64) {
            return Err(Error::new(ErrorKind::SizeInvalid, "another size than was declared").with_key(digest));
        }
        let found = Digest::of(digest.algorithm(), &all);
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        Ok(self.insert(digest, all.freeze()))
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.lock().blobs.remove(&(digest.shard(), *digest));
        Ok(())
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let state = self.lock();
        let selected = state.blobs.iter().filter(|((_, digest), _)| options.selects(digest));
        let listed: Vec<_> = selected.map(|((_, digest), (content, _))| Ok(BlobInfo::new(*digest, content.len() as u64))).collect();
        Box::pin(stream::iter(listed))
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        let state = self.lock();
        let old = state.uploads.iter().filter(|(_, folder)| folder.modified < older_than);
        let listed: Vec<_> = old.map(|(id, folder)| Ok(PendingUpload::new(id, folder.modified, None))).collect();
        Box::pin(stream::iter(listed))
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.lock().uploads.remove(id);
        Ok(())
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

#[async_trait]
impl NamedObjects for ObjectZone {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.lock().named.get(name).map(|(value, _)| value.clone()))
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        let now = self.clock.now();
        self.lock().named.insert(name.to_owned(), (value, now));
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.lock().named.remove(name);
        Ok(())
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let state = self.lock();
        let found = state.named.iter().filter(|(name, _)| name.starts_with(prefix));
        let listed: Vec<_> = found.map(|(name, (value, at))| Ok(NamedObjectInfo::new(name, value.len() as u64, Some(*at)))).collect();
        Box::pin(stream::iter(listed))
    }
}

#[derive(Debug)]
struct Upload {
    zone: ObjectZone,
    id: String,
    epoch: u64,
    /// What it consists of: (epoch, number, length), as this writer and those before it have hashed them.
    pieces: Vec<(u64, u64, u64)>,
    hasher: Hasher,
    closed: bool,
    committed: Option<BlobInfo>,
}

impl Upload {
    fn check_open(&self) -> Result<()> {
        if self.closed || self.committed.is_some() {
            return Err(Error::new(ErrorKind::Conflict, "the upload has ended").with_key(&self.id));
        }
        Ok(())
    }
}

#[async_trait]
impl BlobUpload for Upload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.check_open()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let number = self.pieces.len() as u64;
        self.hasher.update(&chunk);
        self.pieces.push((self.epoch, number, chunk.len() as u64));
        let modified = self.zone.clock.now();
        let mut state = self.zone.lock();
        let folder = state.uploads.entry(self.id.clone()).or_insert_with(|| Folder { pieces: BTreeMap::new(), modified });
        folder.pieces.insert((self.epoch, number), chunk);
        folder.modified = modified;
        Ok(())
    }

    fn offset(&self) -> u64 {
        self.pieces.iter().map(|(_, _, len)| len).sum()
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        self.check_open()?;
        self.closed = true;
        let note = serde_json::to_vec(&(&self.id, &self.pieces)).map_err(|_| Error::new(ErrorKind::Internal, "a token"))?;
        Ok(UploadToken::new(self.offset(), &self.hasher, note))
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        if let Some(info) = self.committed.as_ref().filter(|info| info.digest == *digest) {
            return Ok(info.clone());
        }
        self.check_open()?;
        let found = self.hasher.clone().finalize();
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        let content = {
            let state = self.zone.lock();
            let folder = state.uploads.get(&self.id);
            let mut content = BytesMut::new();
            for (epoch, number, _) in &self.pieces {
                // Whatever is there under that name by now.
                let piece = folder.and_then(|folder| folder.pieces.get(&(*epoch, *number)));
                content.extend_from_slice(piece.ok_or_else(|| Error::new(ErrorKind::UploadUnknown, "a piece is gone").with_key(&self.id))?);
            }
            content.freeze()
        };
        let info = self.zone.insert(digest, content);
        self.zone.lock().uploads.remove(&self.id);
        self.committed = Some(info.clone());
        Ok(info)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let mut state = self.zone.lock();
        // A newer writer's bytes are not this handle's to drop.
        let newer = |folder: &Folder| folder.pieces.keys().any(|(epoch, _)| *epoch > self.epoch);
        if self.committed.is_none() && state.uploads.get(&self.id).is_some_and(|folder| !newer(folder)) {
            state.uploads.remove(&self.id);
        }
        Ok(())
    }
}
