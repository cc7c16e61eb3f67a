//! [`Parts`]: a stream of bytes on its way into a service, in parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStoreExt as _, PutPayload};
use registry_core::{Error, ErrorKind, Result};
use tokio::task::JoinSet;

use crate::budget::Share;
use crate::error::{is_missing, told};
use crate::layout;
use crate::promote::Piece;
use crate::shared::Shared;

/// Chunks below this are joined: thousands of tiny ones would take more room than their bytes.
const SMALL: usize = 16 << 10;

/// Where the bytes go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// One object, which becomes visible when all of it is there.
    Object(Path),
    /// The same, where nothing can have been before.
    NewObject(Path),
    /// One object for each part, in an upload's folder, numbered from `first` on, behind so many others of the same blob.
    Pieces { id: String, epoch: u64, first: u32, before: usize },
}

/// Bytes that become a part.
#[derive(Debug, Default)]
struct Filling {
    chunks: Vec<Bytes>,
    small: BytesMut,
    len: u64,
    share: Option<Share>,
}

impl Filling {
    fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len() as u64;
        if chunk.len() < SMALL {
            self.small.extend_from_slice(&chunk);
            if self.small.len() < 4 * SMALL {
                return;
            }
            self.chunks.push(self.small.split().freeze());
        } else {
            self.settle();
            self.chunks.push(chunk);
        }
    }

    fn settle(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }
}

/// A part on its way. Kept until the service has it, so that it can be sent again.
#[derive(Debug)]
struct Part {
    number: usize,
    payload: PutPayload,
    _share: Option<Share>,
}

/// What the service has of a part.
#[derive(Debug)]
struct Stored {
    size: u64,
    id: String,
}

/// An open multipart upload of [`Target::Object`]. Aborted when it is dropped before it was completed or aborted.
struct Open {
    shared: Arc<Shared>,
    path: Path,
    id: MultipartId,
    is_over: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Without a runtime the process is ending; the service's own clean-up, or ours, finds it.
        if !self.is_over
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (shared, path, id) = (Arc::clone(&self.shared), self.path.clone(), self.id.clone());
            runtime.spawn(async move {
                if let Err(error) = shared.multiparts.abort_multipart(&path, &id).await {
                    tracing::info!(%path, %error, "could not abort a multipart upload; it is left for the clean-up of abandoned uploads");
                }
            });
        }
    }
}

/// Takes bytes in, and sends them in parts, some at a time.
///
/// What fails is kept, and sent again by the next [`finish`](Self::finish).
pub(crate) struct Parts {
    shared: Arc<Shared>,
    target: Target,
    /// How long all of it will be, if known.
    size: Option<u64>,
    filling: Filling,
    /// The number of the next part.
    next: usize,
    open: Option<Open>,
    sending: JoinSet<Result<(usize, Stored), (Part, Error)>>,
    /// To be sent.
    waiting: Vec<Part>,
    stored: BTreeMap<usize, Stored>,
}

impl Parts {
    pub(crate) fn new(shared: &Arc<Shared>, target: Target, size: Option<u64>) -> Self {
        Self {
            shared: Arc::clone(shared),
            target,
            size,
            filling: Filling::default(),
            next: 0,
            open: None,
            sending: JoinSet::new(),
            waiting: Vec::new(),
            stored: BTreeMap::new(),
        }
    }

    /// Whether all there is of it is still in memory.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.next == 0
    }

    /// The bytes in memory that belong to no part yet.
    pub(crate) fn in_memory(&mut self) -> &[Bytes] {
        self.filling.settle();
        &self.filling.chunks
    }

    fn part_size(&self) -> u64 {
        let before = match self.target {
            Target::Object(_) | Target::NewObject(_) => 0,
            Target::Pieces { before, .. } => before,
        };
        self.shared.part_sizes.of(before + self.next, self.size)
    }

    /// Takes bytes in. Waits while too much is on its way.
    pub(crate) async fn write(&mut self, mut chunk: Bytes) -> Result<()> {
        while !chunk.is_empty() {
            let limit = self.part_size();
            // Not before there is more: what fits into one part is sent in one request.
            if self.filling.len >= limit {
                self.close_part();
                self.send().await?;
                continue;
            }
            if self.filling.share.is_none() {
                let wanted = self.size.map_or(limit, |size| limit.min(size.max(chunk.len() as u64)));
                self.filling.share = Some(self.shared.budget.take(wanted).await);
            }
            let room = usize::try_from(limit - self.filling.len).unwrap_or(usize::MAX);
            self.filling.push(chunk.split_to(room.min(chunk.len())));
        }
        Ok(())
    }

    fn close_part(&mut self) {
        self.filling.settle();
        let Filling { chunks, share, .. } = std::mem::take(&mut self.filling);
        self.waiting.push(Part { number: self.next, payload: chunks.into_iter().collect(), _share: share });
        self.next += 1;
    }

    /// Sends what is waiting; what is on its way may still be so afterwards.
    async fn send(&mut self) -> Result<()> {
        if let (Target::Object(path) | Target::NewObject(path), None) = (&self.target, &self.open) {
            let id = self.shared.multiparts.create_multipart(path).await.map_err(|error| told(error, path))?;
            self.open = Some(Open { shared: Arc::clone(&self.shared), path: path.clone(), id, is_over: false });
        }
        while let Some(part) = self.waiting.pop() {
            let at_once = self.shared.at_once(part.payload.content_length() as u64);
            while self.sending.len() >= at_once {
                if let Err(error) = self.reap().await {
                    self.waiting.push(part);
                    return Err(error);
                }
            }
            let shared = Arc::clone(&self.shared);
            match (&self.target, &self.open) {
                (Target::Object(_) | Target::NewObject(_), Some(open)) => {
                    let (path, id) = (open.path.clone(), open.id.clone());
                    let is_new = matches!(self.target, Target::NewObject(_));
                    self.sending.spawn(async move {
                        let size = part.payload.content_length() as u64;
                        match shared.multiparts.put_part(&path, &id, part.number, part.payload.clone()).await {
                            Ok(stored) => Ok((part.number, Stored { size, id: stored.content_id })),
                            Err(error) if is_missing(&error) => Err((part, gone(is_new, &path, error))),
                            Err(error) => Err((part, told(error, path))),
                        }
                    });
                }
                (Target::Pieces { id, epoch, first, .. }, _) => {
                    let number = first + u32::try_from(part.number).unwrap_or(u32::MAX);
                    let path = shared.layout.staged(id, &layout::piece(*epoch, number));
                    self.sending.spawn(async move {
                        let size = part.payload.content_length() as u64;
                        match shared.objects.put(&path, part.payload.clone()).await {
                            Ok(stored) => Ok((part.number, Stored { size, id: stored.e_tag.unwrap_or_default() })),
                            Err(error) => Err((part, told(error, path))),
                        }
                    });
                }
                (Target::Object(_) | Target::NewObject(_), None) => {
                    return Err(Error::new(ErrorKind::Internal, "no multipart upload is open"));
                }
            }
        }
        Ok(())
    }

    /// Waits for one of the parts on their way.
    async fn reap(&mut self) -> Result<()> {
        match self.sending.join_next().await {
            None => Ok(()),
            Some(Ok(Ok((number, stored)))) => {
                self.stored.insert(number, stored);
                Ok(())
            }
            Some(Ok(Err((part, error)))) => {
                self.waiting.push(part);
                Err(error)
            }
            Some(Err(panic)) => Err(Error::new(ErrorKind::Internal, "sending a part failed").with_source(panic)),
        }
    }

    /// Sends all the rest, and makes it visible if it is one object. May be called again after a failure.
    ///
    /// Returns sizes and ETags in order: of the one object, or of each piece.
    pub(crate) async fn finish(&mut self) -> Result<Vec<Piece>> {
        let is_one_object = matches!(self.target, Target::Object(_) | Target::NewObject(_));
        if self.filling.len > 0 || (is_one_object && self.next == 0) {
            self.close_part();
        }
        if let (Target::Object(path) | Target::NewObject(path), None, [part]) = (&self.target, &self.open, &self.waiting[..]) {
            let size = part.payload.content_length() as u64;
            let put = self.shared.put(path, part.payload.clone()).await?;
            self.waiting.clear();
            return Ok(vec![Piece { epoch: 0, number: 0, size, e_tag: put.e_tag.unwrap_or_default() }]);
        }
        let mut outcome = self.send().await;
        while !self.sending.is_empty() {
            let reaped = self.reap().await;
            outcome = outcome.and(reaped);
        }
        outcome?;
        match &self.target {
            Target::Object(_) | Target::NewObject(_) => self.complete().await,
            Target::Pieces { epoch, first, .. } => Ok(self
                .stored
                .iter()
                .map(|(number, stored)| Piece {
                    epoch: *epoch,
                    number: first + u32::try_from(*number).unwrap_or(u32::MAX),
                    size: stored.size,
                    e_tag: stored.id.clone(),
                })
                .collect()),
        }
    }

    /// Waits for what is on its way, however it ends: what arrived later would be left behind.
    async fn settle(&mut self) {
        while self.sending.join_next().await.is_some() {}
    }

    /// Drops what is in memory, on its way, or part of a multipart upload that is still open. Complete pieces stay.
    pub(crate) async fn abort(&mut self) -> Result<()> {
        self.settle().await;
        self.filling = Filling::default();
        self.waiting.clear();
        let Some(mut open) = self.open.take() else { return Ok(()) };
        // Whatever comes of it: a second attempt behind the caller's back could meet nothing that this one did not.
        open.is_over = true;
        match open.shared.multiparts.abort_multipart(&open.path, &open.id).await {
            Err(error) if !is_missing(&error) => Err(told(error, &open.path)),
            _ => Ok(()),
        }
    }

    async fn complete(&mut self) -> Result<Vec<Piece>> {
        let is_new = matches!(self.target, Target::NewObject(_));
        let Some(open) = &mut self.open else { return Err(Error::new(ErrorKind::Internal, "no multipart upload is open")) };
        let size = self.stored.values().map(|stored| stored.size).sum();
        let parts = self.stored.values().map(|stored| object_store::multipart::PartId { content_id: stored.id.clone() }).collect();
        let completed = self.shared.multiparts.complete_multipart(&open.path, &open.id, parts).await;
        let e_tag = match completed {
            Ok(put) => put.e_tag.unwrap_or_default(),
            // The answer to an earlier attempt may have been lost. (Of a blob that is replaced it could not be told which one is there.)
            Err(error) if is_missing(&error) => match self.shared.head(&open.path).await? {
                Some(meta) if meta.size == size && is_new => meta.e_tag.unwrap_or_default(),
                _ => return Err(gone(is_new, &open.path, error)),
            },
            Err(error) => return Err(told(error, &open.path)),
        };
        open.is_over = true;
        Ok(vec![Piece { epoch: 0, number: 0, size, e_tag }])
    }
}

/// The service knows nothing of the multipart upload any more. What was staged is lost then; a blob is to be sent once more.
fn gone(is_new: bool, path: &Path, source: object_store::Error) -> Error {
    let kind = if is_new { ErrorKind::UploadUnknown } else { ErrorKind::Unavailable };
    Error::new(kind, "the parts that were sent are gone").with_key(path).with_source(source)
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("target", &self.target).field("next", &self.next).finish_non_exhaustive()
    }
}
