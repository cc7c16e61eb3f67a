//! [`MemoryBlobStore`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::blob::{
    BlobInfo, BlobReader, BlobStore, BlobUpload, ByteStream, Capabilities, ItemStream, ListOptions, NamedObjectInfo, NamedObjects,
    PendingUpload, ReadOptions, ResumeOptions, UploadToken, WriteOptions, check_object_name,
};
use crate::{Algorithm, Clock, Digest, Error, ErrorKind, Hasher, Result, SystemClock, Timestamp};

/// Bytes that a stream of a blob yields at a time.
const CHUNK: usize = 64 << 10;

/// Bytes that are hashed before other tasks get their turn.
const HASH_SLICE: usize = 1 << 20;

/// Named objects are no larger than this.
const NAMED_LIMIT: usize = 4 << 20;

/// A [`BlobStore`] whose bytes are gone with the process.
///
/// A clone shares the bytes, as another process over the same disk would: staged uploads can be resumed through it.
///
/// A blob is one contiguous buffer, so a commit copies the staged bytes once; readers share it, and one that was begun before a delete or a
/// replacement ends on the bytes that it began with.
#[derive(Clone, Default)]
pub struct MemoryBlobStore(Shared);

/// The store and its named objects: not the store itself, whose methods would have the names of theirs.
#[derive(Clone)]
struct Shared {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By (shard, digest): the order of lists.
    blobs: BTreeMap<(u8, Digest), Blob>,
    uploads: BTreeMap<String, Staged>,
    named: BTreeMap<String, (Bytes, Timestamp)>,
    /// Numbers the writers of uploads.
    writers: u64,
}

struct Blob {
    content: Bytes,
    modified: Timestamp,
}

/// The bytes of an upload, apart by the epoch that wrote them: a token names the last epoch that it covers, and so exactly the pieces that its
/// midstate has seen. With a single buffer, a token from a line of writers that was overtaken would cover bytes of another line.
struct Staged {
    /// Who may write: an epoch could be used twice by a caller's bug, this number cannot.
    writer: u64,
    epoch: u64,
    pieces: Vec<Piece>,
    modified: Timestamp,
}

struct Piece {
    epoch: u64,
    chunks: Vec<Bytes>,
}

impl Staged {
    fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().flat_map(|piece| &piece.chunks)
    }

    fn len(&self) -> u64 {
        self.chunks().map(|chunk| chunk.len() as u64).sum()
    }
}

/// The store's part of a token.
#[derive(Serialize, Deserialize)]
struct Note {
    upload: String,
    epoch: u64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), state: Arc::default() }
    }
}

impl MemoryBlobStore {
    /// The same store, told the time by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Puts other bytes in a blob's place without looking at its digest, as a rotting disk would: for tests of what notices.
    pub fn overwrite_unchecked(&self, digest: &Digest, content: Bytes) {
        self.0.insert(&mut self.0.lock(), digest, content);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is made in one piece with nothing in it that panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, state: &mut State, digest: &Digest, content: Bytes) -> BlobInfo {
        let modified = self.clock.now();
        let info = BlobInfo::new(*digest, content.len() as u64).with_modified(modified);
        state.blobs.insert((digest.shard(), *digest), Blob { content, modified });
        info
    }
}

impl fmt::Debug for MemoryBlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("MemoryBlobStore")
            .field("blobs", &state.blobs.len())
            .field("uploads", &state.uploads.len())
            .field("named", &state.named.len())
            .finish_non_exhaustive()
    }
}

fn unknown(upload: &str) -> Error {
    Error::new(ErrorKind::UploadUnknown, "the upload's staged bytes are gone").with_key(upload)
}

fn superseded(upload: &str) -> Error {
    Error::new(ErrorKind::Conflict, "the upload has a newer writer").with_key(upload)
}

async fn hash<'a>(hasher: &mut Hasher, chunks: impl IntoIterator<Item = &'a Bytes>) {
    for chunk in chunks {
        for slice in chunk.chunks(HASH_SLICE) {
            hasher.update(slice);
            if slice.len() == HASH_SLICE {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[async_trait]
impl BlobStore for MemoryBlobStore {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        let state = self.0.lock();
        let blob = state.blobs.get(&(digest.shard(), *digest)).ok_or_else(|| Error::not_found(digest))?;
        Ok(BlobInfo::new(*digest, blob.content.len() as u64).with_modified(blob.modified))
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        let (content, modified) = {
            let state = self.0.lock();
            let blob = state.blobs.get(&(digest.shard(), *digest)).ok_or_else(|| Error::not_found(digest))?;
            (blob.content.clone(), blob.modified)
        };
        let info = BlobInfo::new(*digest, content.len() as u64).with_modified(modified);
        let range = options.resolve(digest, info.size)?;
        let position = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let mut rest = content.slice(position(range.start)..position(range.end));
        let chunks = std::iter::from_fn(move || (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(CHUNK)))));
        Ok(BlobReader::new(info, range, Box::pin(stream::iter(chunks))))
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        let mut state = self.0.lock();
        state.writers += 1;
        Ok(Box::new(Upload {
            store: self.0.clone(),
            id: crate::random_id(),
            writer: state.writers,
            epoch: options.epoch,
            hasher: Hasher::new(options.algorithm),
            offset: 0,
            phase: Phase::Empty,
        }))
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        let ResumeOptions { token, epoch } = options;
        let note: Note = serde_json::from_slice(&token.backend)
            .map_err(|error| Error::new(ErrorKind::UploadUnknown, "not a token of this store").with_source(error))?;
        let (writer, chunks) = {
            let mut state = self.0.lock();
            state.writers += 1;
            let writer = state.writers;
            if token.offset == 0 && !state.uploads.contains_key(&note.upload) {
                // Nothing was staged, so nothing can be gone.
                let staged = Staged { writer, epoch, pieces: Vec::new(), modified: self.0.clock.now() };
                state.uploads.insert(note.upload.clone(), staged);
            }
            let staged = state.uploads.get_mut(&note.upload).ok_or_else(|| unknown(&note.upload))?;
            if staged.epoch > epoch {
                return Err(superseded(&note.upload));
            }
            let covered = |piece: &Piece| piece.epoch <= note.epoch;
            let length: usize = staged.pieces.iter().filter(|piece| covered(piece)).flat_map(|piece| &piece.chunks).map(Bytes::len).sum();
            if length as u64 != token.offset {
                // The token is from a line of writers whose bytes were dropped when another took over.
                return Err(unknown(&note.upload));
            }
            staged.pieces.retain(covered);
            staged.writer = writer;
            staged.epoch = epoch;
            staged.modified = self.0.clock.now();
            (writer, staged.chunks().cloned().collect::<Vec<_>>())
        };
        let hasher = match token.hasher() {
            Some(hasher) => hasher,
            None => {
                let mut hasher = Hasher::new(token.algorithm);
                hash(&mut hasher, &chunks).await;
                hasher
            }
        };
        let phase = Phase::Staged;
        Ok(Box::new(Upload { store: self.0.clone(), id: note.upload, writer, epoch, hasher, offset: token.offset, phase }))
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, mut content: ByteStream) -> Result<BlobInfo> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut all = BytesMut::new();
        let wrong_size = |found: usize, wanted: u64| {
            Error::new(ErrorKind::SizeInvalid, format!("{found} bytes came where {wanted} were declared")).with_key(digest)
        };
        while let Some(chunk) = content.next().await {
            let chunk = chunk?;
            hash(&mut hasher, [&chunk]).await;
            all.extend_from_slice(&chunk);
            if let Some(size) = options.size.filter(|size| all.len() as u64 > *size) {
                return Err(wrong_size(all.len(), size));
            }
        }
        if let Some(size) = options.size.filter(|size| all.len() as u64 != *size) {
            return Err(wrong_size(all.len(), size));
        }
        let found = hasher.finalize();
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        Ok(self.0.insert(&mut self.0.lock(), digest, all.freeze()))
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.0.lock().blobs.remove(&(digest.shard(), *digest));
        Ok(())
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let state = self.0.lock();
        let shards = options.shards();
        let from = shards.first().and_then(|shard| Some((*shard, Digest::from_bytes(Algorithm::ALL[0], &[0; 32])?)));
        let listed: Vec<_> = from
            .into_iter()
            .flat_map(|from| state.blobs.range(from..))
            .take_while(|((shard, _), _)| shards.last().is_some_and(|last| shard <= last))
            .filter(|((_, digest), _)| options.selects(digest))
            .map(|((_, digest), blob)| Ok(BlobInfo::new(*digest, blob.content.len() as u64).with_modified(blob.modified)))
            .collect();
        Box::pin(stream::iter(listed))
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        let state = self.0.lock();
        let old = state.uploads.iter().filter(|(_, staged)| staged.modified < older_than);
        let listed: Vec<_> = old.map(|(id, staged)| Ok(PendingUpload::new(id, staged.modified, Some(staged.len())))).collect();
        Box::pin(stream::iter(listed))
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.0.lock().uploads.remove(id);
        Ok(())
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        Some(&self.0)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

#[async_trait]
impl NamedObjects for Shared {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        check_object_name(name)?;
        Ok(self.lock().named.get(name).map(|(value, _)| value.clone()))
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        check_object_name(name)?;
        if value.len() > NAMED_LIMIT {
            let message = format!("an object of {} bytes; {NAMED_LIMIT} are allowed", value.len());
            return Err(Error::new(ErrorKind::TooLarge, message).with_key(name));
        }
        let now = self.clock.now();
        self.lock().named.insert(name.to_owned(), (value, now));
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_object_name(name)?;
        self.lock().named.remove(name);
        Ok(())
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let state = self.lock();
        let from = state.named.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        let listed: Vec<_> = from.map(|(name, (value, at))| Ok(NamedObjectInfo::new(name, value.len() as u64, Some(*at)))).collect();
        Box::pin(stream::iter(listed))
    }
}

/// How far an upload's handle has come.
#[derive(Debug)]
enum Phase {
    /// Begun; the store knows nothing of it yet.
    Empty,
    /// The store has it.
    Staged,
    /// Given up for a token.
    Suspended,
    /// Its bytes are a blob.
    Committed(BlobInfo),
}

struct Upload {
    store: Shared,
    id: String,
    writer: u64,
    epoch: u64,
    hasher: Hasher,
    offset: u64,
    phase: Phase,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("id", &self.id)
            .field("epoch", &self.epoch)
            .field("offset", &self.offset)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Upload {
    /// Refuses what may only be done while the upload is open.
    fn check_open(&self) -> Result<()> {
        let message = match self.phase {
            Phase::Empty | Phase::Staged => return Ok(()),
            Phase::Suspended => "the upload was suspended; resume it from its token",
            Phase::Committed(_) => "the upload was committed",
        };
        Err(Error::new(ErrorKind::Conflict, message).with_key(&self.id))
    }

    /// The staged bytes, if this handle is still their writer.
    fn staged<'a>(&self, state: &'a mut State) -> Result<&'a mut Staged> {
        let staged = state.uploads.get_mut(&self.id).ok_or_else(|| unknown(&self.id))?;
        if staged.writer == self.writer { Ok(staged) } else { Err(superseded(&self.id)) }
    }

    /// Tells the store of the upload.
    fn register(&mut self, state: &mut State) {
        if matches!(self.phase, Phase::Empty) {
            let staged = Staged { writer: self.writer, epoch: self.epoch, pieces: Vec::new(), modified: self.store.clock.now() };
            state.uploads.insert(self.id.clone(), staged);
            self.phase = Phase::Staged;
        }
    }
}

#[async_trait]
impl BlobUpload for Upload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.check_open()?;
        if chunk.is_empty() {
            return Ok(());
        }
        // A copy, so that a call that is dropped here leaves the hash at the bytes that are staged.
        let mut hasher = self.hasher.clone();
        hash(&mut hasher, [&chunk]).await;
        let store = self.store.clone();
        let mut state = store.lock();
        self.register(&mut state);
        let staged = self.staged(&mut state)?;
        staged.modified = store.clock.now();
        self.hasher = hasher;
        self.offset += chunk.len() as u64;
        match staged.pieces.last_mut().filter(|piece| piece.epoch == self.epoch) {
            Some(piece) => piece.chunks.push(chunk),
            None => staged.pieces.push(Piece { epoch: self.epoch, chunks: vec![chunk] }),
        }
        Ok(())
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        self.check_open()?;
        let store = self.store.clone();
        let mut state = store.lock();
        self.register(&mut state);
        self.staged(&mut state)?.modified = store.clock.now();
        let note = serde_json::to_vec(&Note { upload: self.id.clone(), epoch: self.epoch })
            .map_err(|error| Error::new(ErrorKind::Internal, "encoding a token").with_source(error))?;
        self.phase = Phase::Suspended;
        Ok(UploadToken::new(self.offset, &self.hasher, note))
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        if let Phase::Committed(info) = &self.phase
            && info.digest == *digest
        {
            return Ok(info.clone());
        }
        self.check_open()?;
        let store = self.store.clone();
        let found = if digest.algorithm() == self.hasher.algorithm() {
            self.hasher.clone().finalize()
        } else {
            let chunks: Vec<Bytes> = {
                let mut state = store.lock();
                self.register(&mut state);
                self.staged(&mut state)?.chunks().cloned().collect()
            };
            let mut hasher = Hasher::new(digest.algorithm());
            hash(&mut hasher, &chunks).await;
            hasher.finalize()
        };
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        let mut state = store.lock();
        self.register(&mut state);
        let mut content = BytesMut::with_capacity(usize::try_from(self.offset).unwrap_or(0));
        self.staged(&mut state)?.chunks().for_each(|chunk| content.extend_from_slice(chunk));
        state.uploads.remove(&self.id);
        let info = store.insert(&mut state, digest, content.freeze());
        self.phase = Phase::Committed(info.clone());
        Ok(info)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let mut state = self.store.lock();
        // A newer writer's bytes are not this handle's to drop.
        if self.staged(&mut state).is_ok() {
            state.uploads.remove(&self.id);
        }
        Ok(())
    }
}
