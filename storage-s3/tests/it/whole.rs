//! What has to be true after anything has gone wrong.

use bytes::Bytes;
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest};
use storage_object::ObjectBlobStore;

use crate::blobs_support::{clean_up, content, is_whole};
use crate::service::Place;

/// A blob.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

impl Blob {
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        let (digest, bytes) = content(seed, len);
        Self { digest, bytes }
    }

    /// One that is put in one request, if parts are large.
    pub(crate) fn of_one_object(seed: u64, len: usize) -> Self {
        Self::new(seed, len)
    }

    /// It is there and right, or not there.
    pub(crate) async fn is_whole(&self, store: &ObjectBlobStore) -> bool {
        is_whole(store, &self.digest, &self.bytes).await
    }

    /// Nothing but it is in the folder; nothing at all if it is not there.
    pub(crate) async fn is_alone(&self, place: &Place, is_there: bool) {
        let names = place.names().await;
        assert_eq!(names.len(), usize::from(is_there), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("blobs/")), "{names:?}");
        assert!(place.nothing_is_open().await, "{:?}", place.multiparts().await);
    }

    /// Whatever has happened: it is whole or not there, what is left can be cleaned up, it can be put again, and in the end nothing is left.
    ///
    /// Returns whether it was there.
    pub(crate) async fn check(&self, store: &ObjectBlobStore, place: &Place) -> bool {
        let was_there = self.is_whole(store).await;
        clean_up(store).await;
        assert_eq!(self.is_whole(store).await, was_there, "the clean-up takes nothing away");
        self.is_alone(place, was_there).await;
        store.put_bytes(&self.digest, self.bytes.clone()).await.unwrap();
        assert!(self.is_whole(store).await);
        store.delete(&self.digest).await.unwrap();
        self.is_alone(place, false).await;
        was_there
    }
}
