//! Zones in memory that fail on purpose, and stores over them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::{ListOptions, once};
use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
use registry_core::testing::{FaultPlan, FaultStore, ManualClock};
use registry_core::{BlobStore, BlobStoreExt as _, Clock, Digest, MetadataStore, Registry, RepositoryName, Timestamp, VerifyReads};
use replication::{
    Closest, Event, EventSink, MemoryLedger, Options, PlacementLedger, PlacementPolicy, ReplicatedStore, ReplicatedStoreBuilder, Zone,
};
use tokio::time::Instant;

/// The names of the zones, closest first.
pub(crate) const NAMES: [&str; 3] = ["near", "middle", "far"];

/// Some zones in memory and their ledger: what outlives a process.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) zones: Vec<FaultStore>,
    /// Where their bytes are.
    pub(crate) media: Vec<MemoryBlobStore>,
    pub(crate) ledger: Arc<dyn PlacementLedger>,
    pub(crate) clock: Arc<Time>,
}

/// Goes with tokio's clock, and can be moved on besides.
#[derive(Debug)]
pub(crate) struct Time {
    start: Instant,
    extra: ManualClock,
}

impl Time {
    pub(crate) fn advance(&self, by: Duration) {
        self.extra.advance(by);
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        self.extra.now() + self.start.elapsed()
    }
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
        let clock = Arc::new(Time { start: Instant::now(), extra: ManualClock::default() });
        let ledger = MemoryLedger::with_clock(Arc::<Time>::clone(&clock));
        let media: Vec<_> = (0..count).map(|_| MemoryBlobStore::default().with_clock(Arc::<Time>::clone(&clock))).collect();
        let zone = |medium: &MemoryBlobStore| FaultStore::new(Arc::new(medium.clone()), FaultPlan::default());
        Self { zones: media.iter().map(zone).collect(), media, ledger: Arc::new(ledger), clock }
    }

    /// The first zone is the closest, and so on.
    fn in_their_order(&self) -> Closest {
        Closest::Preference(NAMES[..self.zones.len()].iter().map(ToString::to_string).collect())
    }

    fn builder(&self, options: Options) -> ReplicatedStoreBuilder {
        let builder = ReplicatedStore::builder(Arc::clone(&self.ledger)).options(options).clock(Arc::<Time>::clone(&self.clock));
        NAMES.iter().zip(&self.zones).fold(builder, |builder, (name, zone)| builder.zone(Zone::new(*name, Arc::new(zone.clone()))))
    }

    /// The zones whose bytes have the blob.
    pub(crate) async fn holders(&self, digest: &Digest) -> Vec<usize> {
        let mut holders = Vec::new();
        for zone in 0..self.zones.len() {
            if self.medium(zone).contains(digest).await.unwrap() {
                holders.push(zone);
            }
        }
        holders
    }

    /// A process over it, closest to the first zone.
    pub(crate) async fn process(&self, options: Options) -> ReplicatedStore {
        self.with_policy(options, PlacementPolicy::default()).await
    }

    /// The same with a policy.
    pub(crate) async fn with_policy(&self, options: Options, policy: PlacementPolicy) -> ReplicatedStore {
        self.builder(options).closest(self.in_their_order()).policy(policy).build().await.unwrap()
    }

    /// The same, that knows which repositories hold what.
    pub(crate) async fn with_metadata(
        &self,
        options: Options,
        policy: PlacementPolicy,
        metadata: Arc<dyn MetadataStore>,
    ) -> ReplicatedStore {
        self.builder(options).closest(self.in_their_order()).policy(policy).metadata(metadata).build().await.unwrap()
    }

    /// The same, that keeps to limits in one zone.
    pub(crate) async fn limited(
        &self,
        options: Options,
        limited: usize,
        bandwidth: replication::Bandwidth,
        metadata: Option<Arc<dyn MetadataStore>>,
    ) -> ReplicatedStore {
        let builder = ReplicatedStore::builder(Arc::clone(&self.ledger)).options(options).clock(Arc::<Time>::clone(&self.clock));
        let zone = |number: usize| {
            let zone = Zone::new(NAMES[number], Arc::new(self.zones[number].clone()));
            if number == limited { zone.with_bandwidth(bandwidth.clone()) } else { zone }
        };
        let mut builder = (0..self.zones.len()).map(zone).fold(builder, ReplicatedStoreBuilder::zone);
        if let Some(metadata) = metadata {
            builder = builder.metadata(metadata);
        }
        builder.closest(self.in_their_order()).build().await.unwrap()
    }

    /// The same, that tells of events.
    pub(crate) async fn telling(
        &self,
        options: Options,
        policy: PlacementPolicy,
        metadata: Arc<dyn MetadataStore>,
        sink: Arc<dyn replication::EventSink>,
    ) -> ReplicatedStore {
        let builder = self.builder(options).closest(self.in_their_order()).policy(policy).metadata(metadata);
        builder.events(sink).build().await.unwrap()
    }

    /// A process that finds out which zone is the closest.
    pub(crate) async fn measured(&self, options: Options) -> ReplicatedStore {
        self.builder(options).build().await.unwrap()
    }

    /// The zone's medium as it is.
    pub(crate) fn medium(&self, zone: usize) -> &Arc<dyn BlobStore> {
        self.zones[zone].inner()
    }
}

/// A world, and what repositories hold of it.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) metadata: Arc<MemoryMetadataStore>,
}

pub(crate) fn app() -> RepositoryName {
    "team/app".parse().unwrap()
}

/// Short times, and zones are compared and scrubbed by order only, at full speed.
pub(crate) fn by_order() -> Options {
    let mut options = quick();
    options.background_share = 1.0;
    (options.compare_interval, options.scrub_interval) = (Duration::ZERO, Duration::ZERO);
    options
}

impl Site {
    pub(crate) fn new() -> Self {
        let world = World::new(3);
        let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<Time>::clone(&world.clock)));
        Self { world, metadata }
    }

    pub(crate) fn metadata(&self) -> Arc<dyn MetadataStore> {
        Arc::<MemoryMetadataStore>::clone(&self.metadata)
    }

    pub(crate) fn registry(&self, store: &ReplicatedStore) -> Registry {
        Registry::builder(Arc::new(store.clone()), self.metadata()).verify_reads(VerifyReads::Never).build()
    }

    /// A process that knows the first of the zones only, so many.
    pub(crate) async fn over(&self, zones: usize) -> ReplicatedStore {
        let world = World { zones: self.world.zones[..zones].to_vec(), ..self.world.clone() };
        world.with_metadata(by_order(), PlacementPolicy::default(), self.metadata()).await
    }

    /// Blobs that were pushed long ago, and are in the first of the zones, so many.
    pub(crate) async fn push_to(&self, zones: usize, blobs: &[(Digest, Bytes)]) {
        let store = self.over(zones).await;
        let registry = self.registry(&store);
        for (digest, content) in blobs {
            registry.push_blob(&app(), digest, Some(content.len() as u64), once(content.clone())).await.unwrap();
        }
        store.work_once().await.unwrap();
        self.days_pass();
    }

    pub(crate) fn days_pass(&self) {
        self.world.clock.advance(Duration::from_secs(3 * 24 * 3600));
    }

    pub(crate) async fn count(&self, zone: usize) -> usize {
        self.world.medium(zone).list(ListOptions::default()).count().await
    }
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Vec<Event>>);

impl EventSink for Heard {
    fn tell(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Heard {
    /// What was heard since the last time.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The same, by kind and zone.
    pub(crate) fn kinds(&self) -> Vec<(&'static str, String)> {
        let mut kinds: Vec<_> = self.take().iter().map(|event| (event.kind(), event.zone().to_owned())).collect();
        kinds.sort();
        kinds
    }
}

/// A blob of this many bytes, different for each seed.
pub(crate) fn blob(seed: u64, len: usize) -> (Digest, Bytes) {
    let content = Bytes::from(registry_core::testing::Rng::new(seed).bytes(len));
    (Digest::sha256(&content), content)
}
