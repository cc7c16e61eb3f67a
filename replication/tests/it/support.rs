//! Zones in memory that fail on purpose, and stores over them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_core::memory::MemoryBlobStore;
use registry_core::testing::{FaultPlan, FaultStore};
use registry_core::{BlobStore, Digest};
use replication::{Closest, MemoryLedger, Options, PlacementLedger, ReplicatedStore, Zone};

/// The names of the zones, closest first.
pub(crate) const NAMES: [&str; 3] = ["near", "middle", "far"];

/// Some zones in memory and their ledger: what outlives a process.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) zones: Vec<FaultStore>,
    pub(crate) ledger: Arc<dyn PlacementLedger>,
}

/// Times that are short enough for tests on a real clock.
pub(crate) fn quick() -> Options {
    let mut options = Options::default();
    options.request_timeout = Duration::from_secs(2);
    options.stall_timeout = Duration::from_secs(2);
    options.poll_interval = Duration::from_millis(50);
    options.reprobe_interval = Duration::from_millis(50);
    options.look_again = Duration::from_millis(100);
    options.backoff = Duration::from_millis(20);
    options.lease = Duration::from_secs(5);
    options
}

impl World {
    pub(crate) fn new(count: usize) -> Self {
        let zone = |_| FaultStore::new(Arc::new(MemoryBlobStore::default()), FaultPlan::default());
        Self { zones: (0..count).map(zone).collect(), ledger: Arc::new(MemoryLedger::default()) }
    }

    /// A process over it.
    pub(crate) async fn process(&self, options: Options) -> ReplicatedStore {
        let mut builder = ReplicatedStore::builder(Arc::clone(&self.ledger)).options(options);
        for (name, zone) in NAMES.iter().zip(&self.zones) {
            builder = builder.zone(Zone::new(*name, Arc::new(zone.clone())));
        }
        let preference = NAMES[..self.zones.len()].iter().map(ToString::to_string).collect();
        builder.closest(Closest::Preference(preference)).build().await.unwrap()
    }

    /// The zone's medium as it is.
    pub(crate) fn medium(&self, zone: usize) -> &Arc<dyn BlobStore> {
        self.zones[zone].inner()
    }
}

/// A blob of this many bytes, different for each seed.
pub(crate) fn blob(seed: u64, len: usize) -> (Digest, Bytes) {
    let content = Bytes::from(registry_core::testing::Rng::new(seed).bytes(len));
    (Digest::sha256(&content), content)
}
