//! [`Shared`]: what every handle of a store has in common.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload};
use registry_core::blob::Capabilities;
use registry_core::{Result, Timestamp};

use crate::budget::Budget;
use crate::error::{is_missing, told};
use crate::layout::Layout;
use crate::multiparts::ListMultiparts;
use crate::promote::Promote;
use crate::store::MoreProbes;

/// What an object store service needs to be a blob store.
pub(crate) struct Shared {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) multiparts: Arc<dyn MultipartStore>,
    pub(crate) signer: Option<Arc<dyn Signer>>,
    pub(crate) listing: Option<Arc<dyn ListMultiparts>>,
    pub(crate) probes: Option<Arc<dyn MoreProbes>>,
    pub(crate) promote: Promote,
    pub(crate) layout: Layout,
    pub(crate) budget: Budget,
    pub(crate) part_sizes: PartSizes,
    /// Parts of one upload that are on their way at a time, of the smallest; fewer of larger ones.
    pub(crate) parallel: usize,
    pub(crate) capabilities: Capabilities,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("objects", &self.objects.to_string()).field("promote", &self.promote).finish_non_exhaustive()
    }
}

/// How large parts are.
///
/// They grow with their number, so that as many as a service allows make a blob of any size, and small blobs are sent in small parts. Of a blob whose
/// size is known nine tenths of the allowed number suffice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartSizes {
    /// Bytes of the first ones.
    pub(crate) first: u64,
    /// Bytes that none has more than.
    pub(crate) largest: u64,
    /// How many there may be.
    pub(crate) most: usize,
}

impl PartSizes {
    /// Bytes of the part of this number, counted from 0, of a blob of that size.
    pub(crate) fn of(self, number: usize, size: Option<u64>) -> u64 {
        let even = size.map_or(0, |size| size.div_ceil((self.most as u64 * 9 / 10).max(1)));
        // In tenths of what is allowed.
        let doublings = match number * 10 / self.most.max(1) {
            0..2 => 0,
            2..4 => 1,
            4..6 => 2,
            6..8 => 3,
            8 => 4,
            _ => 6,
        };
        let grown = if even > 0 { self.first } else { self.first << doublings };
        grown.max(even).min(self.largest)
    }
}

pub(crate) fn modified(meta: &ObjectMeta) -> Timestamp {
    Timestamp::from_millis(meta.last_modified.timestamp_millis())
}

impl Shared {
    /// How many parts of this size are on their way at a time: an upload's memory does not grow as its parts do, until one alone is more.
    pub(crate) fn at_once(&self, part: u64) -> usize {
        let bytes = (self.parallel as u64).saturating_mul(self.part_sizes.first);
        usize::try_from(bytes / part.max(1)).unwrap_or(usize::MAX).clamp(1, self.parallel.max(1))
    }

    pub(crate) async fn put(&self, path: &Path, payload: PutPayload) -> Result<object_store::PutResult> {
        self.objects.put(path, payload).await.map_err(|error| told(error, path))
    }

    /// A small object's bytes; `None` if it is not there.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let got = match self.objects.get(path).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(told(error, path)),
        }
    }

    pub(crate) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        match self.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(told(error, path)),
        }
    }

    /// Deletes all of these; those that are not there too.
    pub(crate) async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.objects.delete_stream(paths);
        let mut failure = None;
        while let Some(path) = deleted.next().await {
            match path {
                Err(error) if !is_missing(&error) => failure = Some(told(error, "deleting objects")),
                _ => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// What is in an upload's folder.
    pub(crate) async fn folder(&self, id: &str) -> Result<Vec<ObjectMeta>> {
        let folder = self.layout.upload(id);
        self.objects.list(Some(&folder)).try_collect().await.map_err(|error| told(error, folder))
    }
}

#[cfg(test)]
mod tests {
    use super::PartSizes;

    fn reach(sizes: PartSizes) -> u64 {
        (0..sizes.most).map(|number| sizes.of(number, None)).sum()
    }

    #[test]
    fn parts_grow_so_that_as_many_as_are_allowed_make_any_blob() {
        let (swift, s3) =
            (PartSizes { first: 8 << 20, largest: 5 << 30, most: 1000 }, PartSizes { first: 8 << 20, largest: 5 << 30, most: 10_000 });
        assert!(reach(swift) > 80 << 30, "{}", reach(swift));
        assert!(reach(s3) > 800 << 30, "{}", reach(s3));
        for size in [1, 8 << 20, 1 << 30, 100 << 30, 4 << 40] {
            for sizes in [swift, s3] {
                let part = sizes.of(0, Some(size));
                assert!(size.div_ceil(part) <= sizes.most as u64, "{size} bytes in parts of {part}");
                assert_eq!(part, sizes.of(sizes.most - 1, Some(size)), "parts are of one size where the whole is known");
            }
        }
    }
}
