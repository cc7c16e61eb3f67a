//! [`World`]: what outlives every process, and what is known of the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::FutureExt as _;
use registry_core::memory::MemoryMetadataStore;
use registry_core::testing::{FaultPlan, FaultStore, Rng, TokioClock};
use registry_core::{BlobStore, BlobStoreExt as _, Clock, Digest, MetadataStore, Registry, RepositoryName, Timestamp};
use replication::ledger::{ListPlacements, Placement, ZoneRecord};
use replication::{MemoryLedger, PlacementLedger, ReplicatedStore, ZoneId};

use super::book::Book;
use super::life::Life;
use super::link::{Chance, Link};
use super::medium::{Medium, Witness};
use super::mutants::Mutant;
use super::plan::{PROCESSES, Plan, REPOSITORIES, ZONE_NAMES, ZONES};

/// What a run counts, by name.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// A process that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) registry: Registry,
    pub(super) store: ReplicatedStore,
    pub(super) life: Arc<Life>,
    /// By which of the seed's policies it goes.
    pub(super) policy: usize,
}

/// An image that was acknowledged and not deleted since.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) blobs: Vec<Digest>,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// By (repository, manifest).
    pub(super) images: BTreeMap<(usize, Digest), Image>,
    /// Deletes of a manifest or blob of a repository: under way, and ever begun.
    pub(super) deletes: BTreeMap<(usize, Digest), (u32, u32)>,
    /// In which repositories somebody tried to put a blob.
    pub(super) pushers: BTreeMap<Digest, BTreeSet<usize>>,
    /// In which zones a repository's blobs were ever allowed.
    pub(super) allowed: BTreeMap<usize, BTreeSet<usize>>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) plan: Plan,
    pub(super) mutant: Mutant,
    pub(super) chance: Chance,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ledger: Arc<dyn PlacementLedger>,
    pub(super) metadata: Arc<dyn MetadataStore>,
    pub(super) media: Vec<Medium>,
    pub(super) zones: Vec<FaultStore>,
    /// Whether each zone's disk is mounted.
    pub(super) mounted: Vec<AtomicBool>,
    /// Whether a process stood still for longer than anybody may, and is gone.
    pub(super) overslept: AtomicBool,
    /// From each process to each zone.
    pub(super) links: Vec<Vec<Arc<Link>>>,
    pub(super) ledger_links: Vec<Arc<Link>>,
    pub(super) metadata_links: Vec<Arc<Link>>,
    pub(super) processes: Mutex<Vec<Option<Running>>>,
    /// By which policy processes go that start from now on.
    pub(super) policy: Mutex<usize>,
    /// The bytes of every blob and manifest.
    contents: Mutex<BTreeMap<Digest, Bytes>>,
    pub(super) blobs: Vec<Digest>,
    model: Mutex<Model>,
    violations: Mutex<Vec<String>>,
    trace: Mutex<Vec<String>>,
    counts: Mutex<Counts>,
    pub(super) verbose: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id of a zone.
pub(super) fn zone_id(zone: usize) -> ZoneId {
    ZoneId::new(format!("id-{zone}"))
}

pub(super) fn repository(index: usize) -> RepositoryName {
    REPOSITORIES[index].parse().unwrap()
}

/// The answer of a store in memory, which never waits.
pub(super) fn at_once<T>(answer: impl Future<Output = registry_core::Result<T>>) -> registry_core::Result<T> {
    answer.now_or_never().unwrap_or_else(|| panic!("a store in memory waited"))
}

impl World {
    pub(super) fn new(seed: u64, mutant: Mutant, verbose: bool) -> Arc<Self> {
        let plan = Plan::draw(seed);
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::default());
        let chance: Chance = Arc::new(Mutex::new(Rng::new(seed ^ 0x5eed)));
        let metadata: Arc<dyn MetadataStore> = Arc::new(MemoryMetadataStore::with_clock(Arc::clone(&clock)));
        let wrong = mutant.shared();
        let metadata = wrong.metadata(metadata);
        let contents: BTreeMap<_, _> = plan.contents.iter().map(|content| (Digest::sha256(content), content.clone())).collect();
        let blobs = plan.contents.iter().map(|content| Digest::sha256(content)).collect();
        let late = plan.late;
        let link = |from: usize, to: String, latency| Arc::new(Link::new(format!("p{from} to {to}"), &chance, latency, late));
        let media: Vec<_> = (0..ZONES).map(|zone| Medium::new(&plan, zone, &clock)).collect();
        Arc::new_cyclic(|world| {
            let ledger: Arc<dyn PlacementLedger> = Arc::new(MemoryLedger::with_clock(Arc::clone(&clock)));
            // The zones are known: what is met for the first time cannot be told from an empty mount point.
            for (zone, name) in ZONE_NAMES.iter().enumerate() {
                at_once(ledger.register_zone(&ZoneRecord::new(zone_id(zone), *name))).unwrap();
            }
            let ledger: Arc<dyn PlacementLedger> = Arc::new(Book::new(Weak::clone(world), wrong.ledger(ledger)));
            let zone = |(zone, medium): (usize, &Medium)| {
                let witness: Arc<dyn BlobStore> = Arc::new(Witness::new(Weak::clone(world), zone, medium.store()));
                FaultStore::new(wrong.zone(witness), FaultPlan::default())
            };
            Self {
                seed,
                mutant,
                mounted: (0..ZONES).map(|_| AtomicBool::new(true)).collect(),
                overslept: AtomicBool::new(false),
                zones: media.iter().enumerate().map(zone).collect(),
                links: (0..PROCESSES).map(|p| (0..ZONES).map(|z| link(p, format!("zone {z}"), plan.latency[p][z])).collect()).collect(),
                ledger_links: (0..PROCESSES).map(|p| link(p, "the ledger".to_owned(), plan.database)).collect(),
                metadata_links: (0..PROCESSES).map(|p| link(p, "the metadata".to_owned(), plan.database)).collect(),
                chance: Arc::clone(&chance),
                clock,
                ledger,
                metadata,
                media,
                plan,
                processes: Mutex::new(vec![None; PROCESSES]),
                policy: Mutex::new(0),
                contents: Mutex::new(contents),
                blobs,
                model: Mutex::default(),
                violations: Mutex::default(),
                trace: Mutex::default(),
                counts: Mutex::default(),
                verbose,
            }
        })
    }

    pub(super) fn rng(&self) -> MutexGuard<'_, Rng> {
        lock(&self.chance)
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    fn seconds(&self) -> f64 {
        self.clock.now().since(Timestamp::from_millis(1_790_000_000_000)).as_secs_f64()
    }

    /// Counts something, and writes it down.
    pub(super) fn note(&self, what: &'static str, detail: impl Display) {
        self.count(what, 1);
        self.say(format_args!("{what} {detail}"));
    }

    pub(super) fn count(&self, what: &'static str, n: u64) {
        *lock(&self.counts).entry(what).or_default() += n;
    }

    /// Writes something down.
    pub(super) fn say(&self, what: impl Display) {
        if self.verbose {
            lock(&self.trace).push(format!("{:8.3} {what}", self.seconds()));
        }
    }

    pub(super) fn violation(&self, what: impl Display) {
        self.say(format_args!("VIOLATION {what}"));
        lock(&self.violations).push(format!("{:8.3} {what}", self.seconds()));
    }

    pub(super) fn is_violated(&self) -> bool {
        !lock(&self.violations).is_empty()
    }

    pub(super) fn results(&self) -> (Vec<String>, Vec<String>, Counts) {
        (lock(&self.violations).clone(), lock(&self.trace).clone(), lock(&self.counts).clone())
    }

    pub(super) fn running(&self, process: usize) -> Option<Running> {
        lock(&self.processes)[process].clone().filter(|running| !running.life.is_dead())
    }

    /// A short name for a blob or manifest.
    pub(super) fn name_of(&self, digest: &Digest) -> String {
        match self.blobs.iter().position(|blob| blob == digest) {
            Some(index) => format!("b{index}"),
            None => format!("m-{}", &digest.to_string()[7..11]),
        }
    }

    pub(super) fn content(&self, digest: &Digest) -> Option<Bytes> {
        lock(&self.contents).get(digest).cloned()
    }

    /// Makes bytes known that somebody is about to push.
    pub(super) fn introduce(&self, content: &Bytes) -> Digest {
        let digest = Digest::sha256(content);
        lock(&self.contents).entry(digest).or_insert_with(|| content.clone());
        digest
    }

    /// Somebody is about to put this blob into the repository.
    pub(super) fn pushes(&self, index: usize, digest: &Digest) {
        self.model().pushers.entry(*digest).or_default().insert(index);
    }

    /// Whether any policy ever allowed the blob to be in this zone.
    pub(super) fn may_hold(&self, zone: usize, digest: &Digest) -> bool {
        let model = self.model();
        let pushers = model.pushers.get(digest);
        pushers.is_some_and(|pushers| pushers.iter().any(|index| model.allowed.get(index).is_some_and(|zones| zones.contains(&zone))))
    }

    /// Whether the zone's medium has the right bytes.
    pub(super) fn is_good(&self, zone: usize, digest: &Digest) -> bool {
        at_once(self.media[zone].store().read_all(digest)).is_ok_and(|found| Some(found) == self.content(digest))
    }

    pub(super) fn placements(&self, digest: &Digest) -> Vec<Placement> {
        at_once(self.ledger.placements(&[*digest])).unwrap_or_default()
    }

    pub(super) fn all_placements(&self) -> Vec<Placement> {
        at_once(self.ledger.list(&ListPlacements::new(10_000))).unwrap_or_default()
    }

    /// Who holds the blob.
    pub(super) fn holders(&self, digest: &Digest) -> Vec<RepositoryName> {
        at_once(self.metadata.holders(digest)).unwrap_or_default()
    }
}
