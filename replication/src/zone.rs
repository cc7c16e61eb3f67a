//! [`Zone`]: a named place that holds blobs.

use std::fmt;
use std::sync::Arc;

use registry_core::{BlobStore, VerifyReads};

use crate::bandwidth::Bandwidth;

/// A named place that holds blobs.
///
/// The name is for people, policies and preferences; what tells one zone from another is the [identity](registry_core::blob::StoreIdentity) that is
/// written into it when it is first used.
#[derive(Clone)]
pub struct Zone {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) verify_reads: VerifyReads,
    pub(crate) copies: usize,
    pub(crate) bandwidth: Bandwidth,
}

impl Zone {
    /// A zone of this name. Whole blobs that are read from it are always verified, and 4 copies are made into it at once.
    pub fn new(name: impl Into<String>, store: Arc<dyn BlobStore>) -> Self {
        Self { name: name.into(), store, verify_reads: VerifyReads::Always, copies: 4, bandwidth: Bandwidth::default() }
    }

    /// When whole blobs that are read from this zone are hashed once more on their way out: [`Always`](VerifyReads::Always) by default, as is right for
    /// what comes over a network; [`Stale`](VerifyReads::Stale) does for a local disk. Ranges are not verified.
    #[must_use]
    pub fn with_verify_reads(mut self, verify_reads: VerifyReads) -> Self {
        self.verify_reads = verify_reads;
        self
    }

    /// How many pieces of work (copies into the zone, verifications, deletes) one process has in progress here at once; at least one.
    #[must_use]
    pub fn with_concurrency(mut self, copies: usize) -> Self {
        self.copies = copies.max(1);
        self
    }

    /// How much may go to and from the zone, and when work in the background may be done there; no limit by default.
    #[must_use]
    pub fn with_bandwidth(mut self, bandwidth: Bandwidth) -> Self {
        self.bandwidth = bandwidth;
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("name", &self.name).field("store", &self.store).finish_non_exhaustive()
    }
}
