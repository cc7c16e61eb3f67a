//! Writing a blob whose digest is known: straight to its place.

use std::sync::Arc;

use futures_util::StreamExt as _;
use object_store::PutPayload;
use registry_core::blob::{BlobInfo, ByteStream, WriteOptions};
use registry_core::{Digest, Error, ErrorKind, Hasher, Result};

use crate::parts::{Parts, Target};
use crate::promote::{Promote, mark, promote};
use crate::shared::Shared;

/// Writes the content under its digest; nothing is visible before all of it was verified.
pub(crate) async fn put(shared: &Arc<Shared>, digest: &Digest, options: &WriteOptions, mut content: ByteStream) -> Result<BlobInfo> {
    let wrong_size = |len: u64, size: u64| {
        let message = format!("the content has {len} bytes or more instead of {size}");
        Error::new(ErrorKind::SizeInvalid, message).with_key(digest)
    };
    let by_manifest = matches!(shared.promote, Promote::Manifest(_));
    let id = registry_core::random_id();
    let target = if by_manifest {
        Target::Pieces { id: id.clone(), epoch: options.epoch, first: 0, before: 0 }
    } else {
        Target::Object(shared.layout.blob(digest))
    };
    let mut parts = Parts::new(shared, target, options.size);
    let written = async {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut len = 0;
        while let Some(chunk) = content.next().await {
            let chunk = chunk?;
            len += chunk.len() as u64;
            if let Some(size) = options.size.filter(|size| len > *size) {
                return Err(wrong_size(len, size));
            }
            hasher.update(&chunk);
            parts.write(chunk).await?;
        }
        if let Some(size) = options.size.filter(|size| len != *size) {
            return Err(wrong_size(len, size));
        }
        let found = hasher.finalize();
        if found != *digest {
            return Err(Error::digest_mismatch(digest, &found));
        }
        if parts.is_in_memory() {
            let payload: PutPayload = parts.in_memory().iter().cloned().collect();
            shared.put(&shared.layout.blob(digest), payload).await?;
            return Ok(len);
        }
        let pieces = parts.finish().await?;
        if by_manifest {
            mark(shared, &id, digest).await?;
            promote(shared, &id, &pieces, len, digest).await?;
        }
        Ok(len)
    }
    .await;
    match written {
        Ok(len) => Ok(BlobInfo::new(*digest, len)),
        Err(error) => {
            if !parts.is_in_memory() && !may_have_taken_effect(&error) {
                discard(shared, parts, by_manifest.then_some(id.as_str())).await;
            }
            Err(error)
        }
    }
}

/// Whether the blob may be there all the same.
fn may_have_taken_effect(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::DigestInvalid | ErrorKind::SizeInvalid | ErrorKind::Interrupted)
}

/// Drops the parts of a failed write, and the folder of its pieces if it has one.
async fn discard(shared: &Shared, mut parts: Parts, folder: Option<&str>) {
    let discarded = async {
        parts.abort().await?;
        let Some(id) = folder else { return Ok(()) };
        let staged = shared.folder(id).await?;
        shared.delete(staged.into_iter().map(|meta| meta.location).collect()).await
    };
    if let Err(error) = discarded.await {
        tracing::info!(%error, "could not remove what was sent of a failed write; it is left for the clean-up of abandoned uploads");
    }
}
