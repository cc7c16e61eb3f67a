//! [`ObjectBlobStoreBuilder`].

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::signer::Signer;
use registry_core::blob::Capabilities;

use crate::budget::Budget;
use crate::layout::Layout;
use crate::multiparts::ListMultiparts;
use crate::promote::Promote;
use crate::shared::{PartSizes, Shared};
use crate::store::{MoreProbes, ObjectBlobStore};

/// How to make a blob store of an object store. Made by [`ObjectBlobStore::builder`].
pub struct ObjectBlobStoreBuilder {
    objects: Arc<dyn ObjectStore>,
    multiparts: Arc<dyn MultipartStore>,
    signer: Option<Arc<dyn Signer>>,
    listing: Option<Arc<dyn ListMultiparts>>,
    probes: Option<Arc<dyn MoreProbes>>,
    promote: Promote,
    storage_path: String,
    budget: Budget,
    part_sizes: PartSizes,
    parallel: usize,
    capabilities: Capabilities,
}

impl ObjectBlobStoreBuilder {
    pub(crate) fn new<S: ObjectStore + MultipartStore>(store: Arc<S>) -> Self {
        Self {
            objects: Arc::clone(&store) as _,
            multiparts: store,
            signer: None,
            listing: None,
            probes: None,
            promote: Promote::Copy { limit: 5 << 30 },
            storage_path: String::new(),
            budget: Budget::default(),
            part_sizes: PartSizes { first: 8 << 20, largest: 5 << 30, most: 10_000 },
            parallel: 4,
            capabilities: Capabilities::default(),
        }
    }

    /// The folder in the bucket under which everything is; by default its root.
    #[must_use]
    pub fn with_storage_path(mut self, path: impl Into<String>) -> Self {
        self.storage_path = path.into();
        self
    }

    /// How staged bytes become blobs; by default by copies of at most 5 GiB.
    #[must_use]
    pub fn with_promote(mut self, promote: Promote) -> Self {
        self.promote = promote;
        self
    }

    /// Signs download URLs with this.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Finds multipart uploads that a killed process has left, so that they are among the abandoned uploads.
    #[must_use]
    pub fn with_multiparts(mut self, listing: Arc<dyn ListMultiparts>) -> Self {
        self.listing = Some(listing);
        self
    }

    /// Tries more than the way of a blob, at the end of a [probe](registry_core::BlobStore::probe).
    #[must_use]
    pub fn with_probes(mut self, probes: Arc<dyn MoreProbes>) -> Self {
        self.probes = Some(probes);
        self
    }

    /// The bound on the memory of all uploads. Give a clone of one budget to all stores of a process.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The size of an upload's first parts in bytes, 8 MiB by default; later ones are larger. What has no more is written in one request.
    #[must_use]
    pub fn with_part_size(mut self, bytes: u64) -> Self {
        self.part_sizes.first = bytes.max(1);
        self
    }

    /// The most bytes that the service takes in one part; 5 GiB by default.
    #[must_use]
    pub fn with_max_part_size(mut self, bytes: u64) -> Self {
        self.part_sizes.largest = bytes.max(1);
        self
    }

    /// How many parts the service takes for one object; 10,000 by default.
    #[must_use]
    pub fn with_max_parts(mut self, parts: usize) -> Self {
        self.part_sizes.most = parts.max(1);
        self
    }

    /// How many parts of one upload are sent at a time; 4 by default.
    #[must_use]
    pub fn with_parallel_parts(mut self, parts: usize) -> Self {
        self.parallel = parts.max(1);
        self
    }

    /// Says that the service lists keys in no order.
    #[must_use]
    pub fn with_ordered_list(mut self, yes: bool) -> Self {
        self.capabilities = self.capabilities.with_ordered_list(yes);
        self
    }

    /// Says that the service's lists may lag behind its objects.
    #[must_use]
    pub fn with_list_is_hint(mut self, yes: bool) -> Self {
        self.capabilities = self.capabilities.with_list_is_hint(yes);
        self
    }

    /// The store. Nothing is asked of the service yet.
    pub fn build(self) -> ObjectBlobStore {
        let by_manifest = matches!(self.promote, Promote::Manifest(_));
        let capabilities = self.capabilities.with_presign(self.signer.is_some());
        ObjectBlobStore::over(Shared {
            objects: self.objects,
            multiparts: self.multiparts,
            signer: self.signer,
            listing: self.listing,
            probes: self.probes,
            promote: self.promote,
            layout: Layout::new(&self.storage_path, by_manifest),
            budget: self.budget,
            part_sizes: self.part_sizes,
            parallel: self.parallel,
            capabilities,
        })
    }
}

impl fmt::Debug for ObjectBlobStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBlobStoreBuilder")
            .field("objects", &self.objects.to_string())
            .field("promote", &self.promote)
            .field("storage_path", &self.storage_path)
            .finish_non_exhaustive()
    }
}
