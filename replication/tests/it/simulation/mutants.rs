//! Processes that are wrong on purpose.

use std::sync::Arc;

use registry_core::{BlobStore, MetadataStore};
use replication::PlacementLedger;

/// What is done differently from the real thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    None,
}

impl Mutant {
    pub(super) fn ledger(self, ledger: Arc<dyn PlacementLedger>) -> Arc<dyn PlacementLedger> {
        ledger
    }

    pub(super) fn metadata(self, metadata: Arc<dyn MetadataStore>) -> Arc<dyn MetadataStore> {
        metadata
    }

    pub(super) fn zone(self, zone: Arc<dyn BlobStore>) -> Arc<dyn BlobStore> {
        zone
    }
}
