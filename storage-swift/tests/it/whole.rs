//! What has to be true after anything has gone wrong.

use registry_core::{BlobStoreExt as _, Digest};
use storage_swift::{SwiftBlobStore, SwiftConfig};

use crate::blobs_support::{clean_up, content, is_whole};
use crate::service::names;

/// A blob, and of how many segments it is made when it is put: none if it is one object.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: bytes::Bytes,
    pub(crate) segments: usize,
}

impl Blob {
    pub(crate) fn new(seed: u64, len: usize, segments: usize) -> Self {
        let (digest, bytes) = content(seed, len);
        Self { digest, bytes, segments }
    }

    /// One that is put in one request, if segments are large.
    pub(crate) fn of_one_object(seed: u64, len: usize) -> Self {
        Self::new(seed, len, 0)
    }

    /// It is there and right, or not there.
    pub(crate) async fn is_whole(&self, store: &SwiftBlobStore) -> bool {
        is_whole(store, &self.digest, &self.bytes).await
    }

    /// Nothing but it is in the container; nothing at all if it is not there.
    pub(crate) async fn is_alone(&self, config: &SwiftConfig, is_there: bool) {
        let names = names(config).await;
        let is = |name: &str, kind: &str| name.starts_with(kind);
        let blobs = names.iter().filter(|name| is(name, "blobs/")).count();
        let mut of_uploads: Vec<_> = names.iter().filter_map(|name| name.strip_prefix("_segments/")?.split_once('/')).collect();
        assert_eq!(names.len(), blobs + of_uploads.len(), "{names:?}");
        assert_eq!(blobs, usize::from(is_there), "{names:?}");
        let segments = of_uploads.iter().filter(|(_, name)| !is(name, "_")).count();
        assert_eq!(segments, if is_there { self.segments } else { 0 }, "{names:?}");
        // Beside them its marker, and the note that nobody may take the upload up again.
        assert!(is_there || of_uploads.is_empty(), "{names:?}");
        assert!(of_uploads.iter().all(|(_, name)| !is(name, "_") || is(name, "_commit-") || *name == "_writer"), "{names:?}");
        of_uploads.dedup_by_key(|(id, _)| *id);
        assert!(of_uploads.len() <= 1, "{names:?}");
    }

    /// Whatever has happened: it is whole or not there, what is left can be cleaned up, it can be put again, and in the end nothing is left.
    ///
    /// Returns whether it was there.
    pub(crate) async fn check(&self, store: &SwiftBlobStore, config: &SwiftConfig) -> bool {
        let was_there = self.is_whole(store).await;
        clean_up(store).await;
        assert_eq!(self.is_whole(store).await, was_there, "the clean-up takes nothing away");
        self.is_alone(config, was_there).await;
        store.put_bytes(&self.digest, self.bytes.clone()).await.unwrap();
        assert!(self.is_whole(store).await);
        registry_core::BlobStore::delete(store, &self.digest).await.unwrap();
        clean_up(store).await;
        self.is_alone(config, false).await;
        was_there
    }
}
