//! Multipart uploads that are neither completed nor aborted: where a service can list them.

use std::fmt::Debug;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::MultipartId;
use object_store::path::Path;
use registry_core::{Digest, Timestamp};

use crate::layout::Layout;

/// A multipart upload that was begun, and neither completed nor aborted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenMultipart {
    /// The key that it would become.
    pub path: Path,
    /// Its id.
    pub id: MultipartId,
    /// When it was begun, by the service's clock.
    pub begun: Timestamp,
}

impl OpenMultipart {
    /// One of that key and id.
    pub fn new(path: Path, id: MultipartId, begun: Timestamp) -> Self {
        Self { path, id, begun }
    }
}

/// What a service has of a multipart upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredParts {
    /// Bytes of all its parts; of a part that was sent twice, those of the last.
    pub size: u64,
    /// When a part came last, if any did.
    pub modified: Option<Timestamp>,
}

impl StoredParts {
    /// So many bytes, the last of them then.
    pub fn new(size: u64, modified: Option<Timestamp>) -> Self {
        Self { size, modified }
    }
}

/// Finds multipart uploads that nobody goes on with: a killed process leaves them, and no list of objects shows them.
#[async_trait]
pub trait ListMultiparts: Debug + Send + Sync {
    /// Those in this folder.
    fn list_multiparts(&self, folder: &Path) -> BoxStream<'static, object_store::Result<OpenMultipart>>;

    /// What is there of one; `None` if it is gone.
    async fn stored_parts(&self, path: &Path, id: &MultipartId) -> object_store::Result<Option<StoredParts>>;
}

/// The name, as an abandoned upload, of one that was to become this blob.
pub(crate) fn pending_id(digest: &Digest, id: &str) -> String {
    format!("{}-{}.{id}", digest.algorithm(), digest.hex())
}

/// The key and the id that such a name tells.
pub(crate) fn pending_multipart(layout: &Layout, name: &str) -> Option<(Path, MultipartId)> {
    let (blob, id) = name.split_once('.')?;
    let digest: Digest = blob.replacen('-', ":", 1).parse().ok()?;
    (!id.is_empty()).then(|| (layout.blob(&digest), id.to_owned()))
}
