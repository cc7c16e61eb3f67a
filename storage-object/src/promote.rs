//! How staged bytes become a blob.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use registry_core::{Digest, Error, ErrorKind, Hasher, Result};

use crate::error::{is_missing, told};
use crate::layout;
use crate::parts::{Parts, Target};
use crate::shared::Shared;

/// How staged bytes become a blob, without coming through this process if the service can do that.
///
/// Bytes are staged because their digest, and so their key, is only known at the end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Promote {
    /// The service copies the staged object, if it has at most `limit` bytes; what is larger, or lies in several pieces, is read and written once more.
    Copy {
        /// The most bytes that the service copies in one request.
        limit: u64,
    },
    /// The service copies the staged object, and puts several, or one that is too large for that, together from parts of them.
    PartCopy {
        /// The most bytes that the service copies in one request.
        limit: u64,
        /// How it puts objects together.
        parts: Arc<dyn CopyParts>,
    },
    /// The staged pieces stay where they are, and a manifest that lists them becomes the blob.
    Manifest(Arc<dyn Manifests>),
}

/// Puts an object together from others, on the service's side.
#[async_trait]
pub trait CopyParts: Debug + Send + Sync {
    /// Writes to `to`, in one step, what is in these ranges of objects, end to end. All but the last are as long as a part at least; one may be longer than the
    /// service copies in one request. [`NotSupported`](object_store::Error::NotSupported) if the service does not do that after all, and has done nothing: then the
    /// bytes are read and written once more.
    async fn join(&self, sources: &[(Path, Range<u64>)], to: &Path) -> object_store::Result<()>;
}

/// Objects that are lists of others: what OpenStack calls static large objects.
///
/// Two such objects never share segments, and a segment's object is never changed.
#[async_trait]
pub trait Manifests: Debug + Send + Sync {
    /// Makes `path` an object of these segments in one step, and keeps `upload` with it.
    async fn put_manifest(&self, path: &Path, segments: &[Segment], upload: &str) -> object_store::Result<()>;

    /// The upload that the object was made of; `None` if it is no manifest of ours, or not there.
    async fn upload_of(&self, path: &Path) -> object_store::Result<Option<String>>;

    /// The segments that the object is made of; `None` if it is no manifest, or not there, or if that is not known: then nothing of its upload is ever deleted
    /// while it is there.
    async fn segments_of(&self, path: &Path) -> object_store::Result<Option<Vec<Path>>> {
        let _ = path;
        Ok(None)
    }

    /// Deletes the object, and none of its segments.
    async fn delete_manifest(&self, path: &Path) -> object_store::Result<()>;
}

/// A piece of a [manifest](Manifests).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Segment {
    /// Its key.
    pub path: Path,
    /// Its length in bytes.
    pub size: u64,
    /// What the service said of it when it was written; may be empty.
    pub e_tag: String,
}

/// A staged object of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) epoch: u64,
    pub(crate) number: u32,
    pub(crate) size: u64,
    pub(crate) e_tag: String,
}

impl Piece {
    pub(crate) fn name(&self) -> String {
        layout::piece(self.epoch, self.number)
    }

    pub(crate) fn path(&self, shared: &Shared, id: &str) -> Path {
        shared.layout.staged(id, &self.name())
    }
}

/// Notes beside an upload's pieces that they become, or are, this blob. To be done before a manifest is written: whoever finds the pieces later has to know whose
/// they may be.
pub(crate) async fn mark(shared: &Shared, id: &str, digest: &Digest) -> Result<()> {
    let marker = shared.layout.staged(id, &layout::marker(digest));
    shared.put(&marker, PutPayload::from_bytes(Bytes::from(digest.to_string()))).await.map(drop)
}

/// Makes the pieces of the upload the blob, in one step; where they stay, [`mark`] them before. They are `size` bytes, and have that digest. May be called again after a failure.
pub(crate) async fn promote(shared: &Arc<Shared>, id: &str, pieces: &[Piece], size: u64, digest: &Digest) -> Result<()> {
    let to = shared.layout.blob(digest);
    let outcome = match (&shared.promote, pieces) {
        (Promote::Copy { limit } | Promote::PartCopy { limit, .. }, [piece]) if piece.size <= *limit => {
            match shared.objects.copy(&piece.path(shared, id), &to).await {
                // Some services do not find a key that has to be escaped. What is really gone is said to be so by who reads it.
                Err(error) if is_missing(&error) => return rewrite(shared, id, pieces, size, digest).await,
                outcome => outcome,
            }
        }
        (Promote::Copy { .. }, _) => return rewrite(shared, id, pieces, size, digest).await,
        (Promote::PartCopy { parts, .. }, _) => {
            let sources: Vec<_> = pieces.iter().map(|piece| (piece.path(shared, id), 0..piece.size)).collect();
            match parts.join(&sources, &to).await {
                // Some services that look like others have no part copies.
                Err(object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. }) => {
                    return rewrite(shared, id, pieces, size, digest).await;
                }
                outcome => outcome,
            }
        }
        (Promote::Manifest(manifests), _) => {
            let segment = |piece: &Piece| Segment { path: piece.path(shared, id), size: piece.size, e_tag: piece.e_tag.clone() };
            manifests.put_manifest(&to, &pieces.iter().map(segment).collect::<Vec<_>>(), id).await
        }
    };
    outcome.map_err(|error| told(error, digest))
}

/// Reads the pieces and writes them to their place: where the service has no better way.
async fn rewrite(shared: &Arc<Shared>, id: &str, pieces: &[Piece], size: u64, digest: &Digest) -> Result<()> {
    let mut parts = Parts::new(shared, Target::Object(shared.layout.blob(digest)), Some(size));
    let mut hasher = Hasher::new(digest.algorithm());
    for piece in pieces {
        let mut stream = read_piece(shared, id, piece).await?;
        while let Some(chunk) = stream.try_next().await.map_err(|error| told(error, digest))? {
            hasher.update(&chunk);
            parts.write(chunk).await?;
        }
    }
    if hasher.finalize() != *digest {
        return Err(Error::new(ErrorKind::Corrupt, "the staged bytes are not those that were sent").with_key(digest));
    }
    parts.finish().await.map(drop)
}

/// The bytes of a piece.
pub(crate) async fn read_piece(
    shared: &Shared,
    id: &str,
    piece: &Piece,
) -> Result<futures_util::stream::BoxStream<'static, object_store::Result<Bytes>>> {
    let path = piece.path(shared, id);
    match shared.objects.get(&path).await {
        Ok(got) if got.meta.size == piece.size => Ok(got.into_stream()),
        Ok(_) => Err(Error::new(ErrorKind::Corrupt, "staged bytes have another length than they were sent with").with_key(path)),
        Err(object_store::Error::NotFound { .. }) => Err(gone(id)),
        Err(error) => Err(told(error, path)),
    }
}

pub(crate) fn gone(id: &str) -> Error {
    Error::new(ErrorKind::UploadUnknown, "the upload's staged bytes are gone").with_key(id)
}
