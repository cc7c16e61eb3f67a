//! [`ObjectUpload`]: an upload whose digest is not known yet.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::try_join;
use object_store::path::Path;
use object_store::{ObjectMeta, PutPayload};
use registry_core::blob::{BlobInfo, BlobUpload, ResumeOptions, UploadToken, WriteOptions};
use registry_core::{Digest, Error, ErrorKind, Hasher, Result};

use crate::error::told;
use crate::layout::{COMMITTED, WRITER, epoch_of, marked, marker};
use crate::parts::{Parts, Target};
use crate::promote::{Piece, Promote, gone, mark, promote, read_piece};
use crate::shared::Shared;
use crate::token;

/// An upload by one writer.
#[derive(Debug)]
pub(crate) struct ObjectUpload {
    shared: Arc<Shared>,
    id: String,
    epoch: u64,
    hasher: Hasher,
    offset: u64,
    size: Option<u64>,
    /// What is stored, in order.
    pieces: Vec<Piece>,
    /// The number of this writer's next piece.
    next: u32,
    /// What comes behind the pieces.
    parts: Parts,
    state: State,
    /// Whether another writer can have taken it up: whoever has a token can.
    is_shared: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    Suspended,
    /// A write failed: what is stored is not what was hashed.
    Broken,
    Committed(Digest),
}

/// What comes behind so many pieces, the next of which has this number.
fn parts(shared: &Arc<Shared>, id: &str, epoch: u64, next: u32, before: usize, size: Option<u64>) -> Parts {
    let target = match shared.promote {
        Promote::Manifest(_) => Target::Pieces { id: id.to_owned(), epoch, first: next, before },
        _ => Target::NewObject(Piece { epoch, number: next, size: 0, e_tag: String::new() }.path(shared, id)),
    };
    Parts::new(shared, target, size)
}

impl ObjectUpload {
    pub(crate) fn begin(shared: &Arc<Shared>, options: &WriteOptions) -> Self {
        Self::new(shared, registry_core::random_id(), options.epoch, Hasher::new(options.algorithm), options.size)
    }

    fn new(shared: &Arc<Shared>, id: String, epoch: u64, hasher: Hasher, size: Option<u64>) -> Self {
        let parts = parts(shared, &id, epoch, 0, 0, size);
        Self {
            shared: Arc::clone(shared),
            id,
            epoch,
            hasher,
            offset: 0,
            size,
            pieces: Vec::new(),
            next: 0,
            parts,
            state: State::Open,
            is_shared: false,
        }
    }

    pub(crate) async fn resume(shared: &Arc<Shared>, options: &ResumeOptions) -> Result<Self> {
        let token = &options.token;
        let (id, mut pieces) = token::decode(&token.backend, token.offset)?;
        if let Some(writer) = writer(shared, &id).await? {
            if writer == COMMITTED {
                return Err(gone(&id));
            }
            if writer.parse().is_ok_and(|epoch: u64| epoch >= options.epoch) {
                return Err(Error::new(ErrorKind::Conflict, "the upload has a newer writer").with_key(&id));
            }
        }
        // Whoever dropped the upload dropped all of it, or is about to.
        for piece in [pieces.first(), pieces.last()].into_iter().flatten() {
            if shared.head(&piece.path(shared, &id)).await?.is_none_or(|meta| meta.size != piece.size) {
                return Err(gone(&id));
            }
        }
        if !pieces.is_empty() {
            shared.put(&shared.layout.staged(&id, WRITER), PutPayload::from(options.epoch.to_string())).await?;
        }
        let hasher = match token.hasher() {
            Some(hasher) => hasher,
            None => hash(shared, &id, &pieces, Hasher::new(token.algorithm)).await?,
        };
        let mut upload = Self::new(shared, id, options.epoch, hasher, None);
        upload.is_shared = true;
        upload.offset = token.offset;
        // A last piece that is no full part is taken back, so that any number of short requests makes only so many pieces.
        let smallest = shared.part_sizes.of(pieces.len().saturating_sub(1), None);
        let tail = pieces.pop_if(|last| last.size < smallest);
        upload.pieces = pieces;
        upload.parts = parts(shared, &upload.id, upload.epoch, upload.next, upload.pieces.len(), None);
        if let Some(tail) = tail {
            let mut chunks = read_piece(shared, &upload.id, &tail).await?;
            let mut len = 0;
            while let Some(chunk) = chunks.try_next().await.map_err(|error| told(error, &upload.id))? {
                len += chunk.len() as u64;
                upload.parts.write(chunk).await?;
            }
            if len != tail.size {
                return Err(Error::new(ErrorKind::Unavailable, "staged bytes were cut short").with_key(&upload.id));
            }
        }
        Ok(upload)
    }

    fn check_open(&self) -> Result<()> {
        let message = match self.state {
            State::Open => return Ok(()),
            State::Suspended => "the upload was put aside",
            State::Committed(_) => "the upload was committed",
            State::Broken => {
                let message = "an earlier write failed: take the upload up again";
                return Err(Error::new(ErrorKind::Unavailable, message).with_key(&self.id));
            }
        };
        Err(Error::new(ErrorKind::Conflict, message).with_key(&self.id))
    }

    /// Stores all that is in memory.
    async fn flush(&mut self) -> Result<()> {
        if self.parts.is_in_memory() && self.parts.in_memory().is_empty() {
            return Ok(());
        }
        for piece in self.parts.finish().await? {
            let number = self.next;
            self.pieces.push(Piece { epoch: self.epoch, number, ..piece });
            self.next += 1;
        }
        self.parts = parts(&self.shared, &self.id, self.epoch, self.next, self.pieces.len(), self.size);
        Ok(())
    }

    /// The digest of all of it by this algorithm.
    async fn digest(&mut self, digest: &Digest) -> Result<Digest> {
        if digest.algorithm() == self.hasher.algorithm() {
            return Ok(self.hasher.clone().finalize());
        }
        let mut hasher = Hasher::new(digest.algorithm());
        if self.pieces.is_empty() && self.parts.is_in_memory() {
            self.parts.in_memory().iter().for_each(|chunk| hasher.update(chunk));
            return Ok(hasher.finalize());
        }
        self.flush().await?;
        Ok(hash(&self.shared, &self.id, &self.pieces, hasher).await?.finalize())
    }

    /// Whether somebody else goes on with it.
    async fn is_overtaken(&self) -> Result<bool> {
        if !self.is_shared {
            return Ok(false);
        }
        let writer = writer(&self.shared, &self.id).await?;
        Ok(writer.is_some_and(|writer| writer != self.epoch.to_string()))
    }

    /// Removes what is staged.
    async fn clear(&self) -> Result<()> {
        let staged = self.shared.folder(&self.id).await?;
        self.shared.delete(staged.into_iter().map(|meta| meta.location).collect()).await
    }

    /// Whether the markers say that somebody has made, or is about to make, a blob of what is in the folder.
    fn is_marked(&self, staged: &[ObjectMeta]) -> bool {
        let mut names = staged.iter().filter_map(|meta| self.shared.layout.upload_of(&meta.location));
        names.any(|(_, name)| marked(name).is_some())
    }

    /// What older writers have left and this one's blob is not made of: pieces that were taken back. Nothing, if another may be making a blob of them.
    async fn surplus(&self, digest: &Digest) -> Result<Vec<Path>> {
        let marker = self.shared.layout.staged(&self.id, &marker(digest));
        // A list may lag.
        let (marker, staged) = try_join(self.shared.head(&marker), self.shared.folder(&self.id)).await?;
        if marker.is_some() || self.is_marked(&staged) {
            return Ok(Vec::new());
        }
        let goes = |path: &Path| {
            let name = self.shared.layout.upload_of(path).map_or("", |(_, name)| name);
            epoch_of(name).is_some_and(|epoch| epoch < self.epoch) && !self.pieces.iter().any(|piece| piece.name() == name)
        };
        Ok(staged.into_iter().map(|meta| meta.location).filter(goes).collect())
    }

    /// Makes the pieces the blob. Returns what can go then.
    ///
    /// Where pieces stay, the order is: looking for markers, our marker, looking who the writer is, the manifest. Who was overtaken before its own marker finds that
    /// out and ends; whose marker was there before ours may yet succeed, and its pieces must stay. So must a newer writer's, which may be a blob by the time that
    /// this one tidies up.
    async fn promote(&self, digest: &Digest) -> Result<Vec<Path>> {
        let mut surplus = Vec::new();
        if matches!(self.shared.promote, Promote::Manifest(_)) {
            if self.is_shared {
                surplus = self.surplus(digest).await?;
            }
            mark(&self.shared, &self.id, digest).await?;
        }
        if self.is_overtaken().await? {
            return Err(Error::new(ErrorKind::Conflict, "the upload has a newer writer").with_key(&self.id));
        }
        promote(&self.shared, &self.id, &self.pieces, self.offset, digest).await?;
        Ok(surplus)
    }

    /// Tidies up behind a commit. What fails is left for the clean-up.
    async fn tidy(&self, surplus: Vec<Path>) {
        let tidied = match self.shared.promote {
            Promote::Manifest(_) if !self.pieces.is_empty() => {
                // The pieces are the blob now. Nobody may take the upload up again, if anybody can.
                let closed = if self.is_shared {
                    let path = self.shared.layout.staged(&self.id, WRITER);
                    self.shared.put(&path, PutPayload::from(COMMITTED)).await.map(drop)
                } else {
                    Ok(())
                };
                match closed {
                    Ok(()) if !surplus.is_empty() => self.shared.delete(surplus).await,
                    closed => closed,
                }
            }
            _ if self.pieces.is_empty() && !self.is_shared => Ok(()),
            _ => self.clear().await,
        };
        if let Err(error) = tidied {
            tracing::info!(upload = self.id, %error, "could not tidy up behind a commit; it is left for the clean-up of abandoned uploads");
        }
    }
}

/// Who took the upload up last, if anybody did.
async fn writer(shared: &Shared, id: &str) -> Result<Option<String>> {
    let writer = shared.get(&shared.layout.staged(id, WRITER)).await?;
    Ok(writer.map(|writer| String::from_utf8_lossy(&writer).into_owned()))
}

/// Hashes what is stored.
async fn hash(shared: &Shared, id: &str, pieces: &[Piece], mut hasher: Hasher) -> Result<Hasher> {
    for piece in pieces {
        let mut stream = read_piece(shared, id, piece).await?;
        let mut size = 0;
        while let Some(chunk) = stream.try_next().await.map_err(|error| told(error, id))? {
            size += chunk.len() as u64;
            hasher.update(&chunk);
        }
        if size != piece.size {
            return Err(Error::new(ErrorKind::Unavailable, "staged bytes were cut short").with_key(id));
        }
    }
    Ok(hasher)
}

#[async_trait]
impl BlobUpload for ObjectUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.check_open()?;
        // Until it has ended it may have taken in a part: a dropped call leaves nothing that could be committed.
        self.state = State::Broken;
        let end = self.offset + chunk.len() as u64;
        self.hasher.update(&chunk);
        self.parts.write(chunk).await?;
        self.offset = end;
        self.state = State::Open;
        Ok(())
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    async fn suspend(&mut self) -> Result<UploadToken> {
        self.check_open()?;
        self.flush().await?;
        let token = UploadToken::new(self.offset, &self.hasher, token::encode(&self.id, &self.pieces)?);
        self.is_shared = true;
        self.state = State::Suspended;
        Ok(token)
    }

    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        if self.state == State::Committed(*digest) {
            return Ok(BlobInfo::new(*digest, self.offset));
        }
        self.check_open()?;
        let found = self.digest(digest).await?;
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        let surplus = if self.pieces.is_empty() && self.parts.is_in_memory() {
            let payload: PutPayload = self.parts.in_memory().iter().cloned().collect();
            self.shared.put(&self.shared.layout.blob(digest), payload).await?;
            Vec::new()
        } else {
            self.flush().await?;
            self.promote(digest).await?
        };
        self.state = State::Committed(*digest);
        if !self.is_overtaken().await.unwrap_or(true) {
            self.tidy(surplus).await;
        }
        Ok(BlobInfo::new(*digest, self.offset))
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        if matches!(self.state, State::Committed(_)) || self.is_overtaken().await? {
            return Ok(());
        }
        self.parts.abort().await?;
        self.parts = parts(&self.shared, &self.id, self.epoch, self.next, self.pieces.len(), None);
        if self.is_shared && matches!(self.shared.promote, Promote::Manifest(_)) {
            // An older writer may be in the middle of its commit. From here on one that has not yet written its marker finds itself overtaken.
            self.shared.put(&self.shared.layout.staged(&self.id, WRITER), PutPayload::from(self.epoch.to_string())).await?;
            if self.is_marked(&self.shared.folder(&self.id).await?) {
                // They may be a blob, or become one: the clean-up of abandoned uploads asks it.
                return Ok(());
            }
        }
        self.clear().await
    }
}
