//! Garbage collection against everything that runs beside it, in seeded interleavings: every call of every store takes a random time before and after
//! its effect, on paused time, so that a seed is one order of all steps of all parties.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::blob::once;
use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
use registry_core::metadata::*;
use registry_core::testing::{Delayed, Rng, TokioClock};
use registry_core::{
    BlobStore, BlobStoreExt as _, Clock, Digest, ErrorKind, GcOptions, MetadataStore, Reference, Registry, RepositoryName, Result, Tag,
    VerifyReads,
};

const SEEDS: u64 = 1_000;
const CALL: Duration = Duration::from_millis(60);
const LEASE: Duration = Duration::from_secs(4);
const GRACE: Duration = Duration::from_secs(20);
const TRASH: Duration = Duration::from_secs(3);

/// What was acknowledged to clients and not taken back by them: (repository, tag) → manifest and blobs.
type Model = Arc<Mutex<BTreeMap<(usize, u64), Image>>>;

#[derive(Clone, Debug, PartialEq)]
struct Image {
    manifest: Digest,
    blobs: Vec<Digest>,
}

fn repository(index: usize) -> RepositoryName {
    ["team/a", "team/b"][index].parse().unwrap()
}

fn tag(n: u64) -> Tag {
    format!("t{n}").parse().unwrap()
}

/// Few different blobs, so that parties meet.
fn content(n: u64) -> Bytes {
    Bytes::from(format!("blob number {n}"))
}

fn manifest(blobs: &[Digest]) -> Bytes {
    let descriptor = |digest: &Digest| format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":13}}"#);
    let layers: Vec<_> = blobs[1..].iter().map(descriptor).collect();
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        descriptor(&blobs[0]),
        layers.join(",")
    ))
}

/// What a run does differently from the real thing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    /// Writers do not wait for a deletion in progress.
    NoFence,
    /// HEAD answers yes without writing down that somebody relies on it.
    HeadDoesNotRely,
    /// A claim is not renewed while its delete is on its way.
    NoRenewal,
}

#[derive(Debug)]
struct Mutated {
    inner: MemoryMetadataStore,
    mutant: Mutant,
    claims: Mutex<BTreeMap<Digest, Deletion>>,
}

macro_rules! forward {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl MetadataStore for Mutated {
            async fn intend_blob(&self, digest: &Digest) -> Result<Intent> {
                let intent = self.inner.intend_blob(digest).await;
                let claim = self.claims.lock().unwrap().get(digest).copied();
                match (intent, claim) {
                    (Err(_), Some(claim)) if self.mutant == Mutant::NoFence => {
                        let _ = self.inner.complete_deletion(&claim).await;
                        self.inner.intend_blob(digest).await
                    }
                    (intent, _) => intent,
                }
            }
            async fn claim_deletions(&self, trash_delay: Duration, lease: Duration, limit: u32) -> Result<Vec<Deletion>> {
                let claimed = self.inner.claim_deletions(trash_delay, lease, limit).await?;
                self.claims.lock().unwrap().extend(claimed.iter().map(|claim| (claim.digest, *claim)));
                Ok(claimed)
            }
            async fn rely_on_blob(&self, repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Result<Option<BlobLink>> {
                if self.mutant == Mutant::HeadDoesNotRely {
                    self.inner.blob_link(repository, digest).await
                } else {
                    self.inner.rely_on_blob(repository, digest, at_most_every).await
                }
            }
            async fn renew_deletion(&self, deletion: &Deletion, lease: Duration) -> Result<()> {
                if self.mutant == Mutant::NoRenewal { Ok(()) } else { self.inner.renew_deletion(deletion, lease).await }
            }
            $(async fn $name(&self, $($arg: $type),*) -> Result<$result> {
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

forward! {
    fn link_blob(link: LinkBlob) -> ();
    fn mount_blob(mount: MountBlob) -> Option<BlobLink>;
    fn unlink_blob(repository: &RepositoryName, digest: &Digest) -> bool;
    fn blob_link(repository: &RepositoryName, digest: &Digest) -> Option<BlobLink>;
    fn holders(digest: &Digest) -> Vec<RepositoryName>;
    fn held_blobs(after: Option<&Digest>, limit: u32) -> Vec<HeldBlob>;
    fn unknown_blobs(digests: &[Digest]) -> Vec<Digest>;
    fn observe_blob(digest: &Digest, observation: Observation) -> ();
    fn create_upload(upload: NewUpload) -> ();
    fn open_upload(key: &UploadKey, offset: Option<u64>) -> OpenUpload;
    fn save_upload(key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> ();
    fn upload(key: &UploadKey) -> UploadSession;
    fn cancel_upload(key: &UploadKey) -> OpenUpload;
    fn expire_uploads(idle: Duration, keep_finished: Duration, limit: u32) -> u32;
    fn put_manifest(manifest: PutManifest) -> ();
    fn manifest(repository: &RepositoryName, reference: &Reference) -> Option<StoredManifest>;
    fn delete_manifest(repository: &RepositoryName, digest: &Digest) -> bool;
    fn delete_tag(repository: &RepositoryName, tag: &Tag) -> bool;
    fn tags(repository: &RepositoryName, page: &Page) -> Option<Vec<Tag>>;
    fn repositories(page: &Page) -> Vec<RepositoryName>;
    fn referrers(query: &ReferrersQuery) -> Vec<Referrer>;
    fn note_uses(uses: &[(RepositoryName, Digest)]) -> ();
    fn manifests_by_use(after: Option<&ManifestUse>, limit: u32) -> Vec<UsedManifest>;
    fn expire_links(sweep: &Sweep) -> SweepPage<(RepositoryName, Digest)>;
    fn condemn_blobs(sweep: &Sweep) -> SweepPage<Digest>;
    fn condemn(digests: &[Digest], grace: Duration) -> Vec<Digest>;
    fn complete_deletion(deletion: &Deletion) -> ();
    fn preview_collection(grace: Duration) -> GcPreview;
    fn tidy(keep_events: Duration) -> ();
    fn events(after: u64, limit: u32) -> Vec<Event>;
    fn ping() -> ();
}

struct World {
    /// Two processes over the same stores.
    processes: Vec<Registry>,
    blobs: MemoryBlobStore,
    model: Model,
    /// Deletes of a manifest by digest that are under way, and how many there have ever been: a push of the same manifest at the same time may end either way.
    deletes: Mutex<BTreeMap<(usize, Digest), (u32, u32)>>,
    violations: Mutex<Vec<String>>,
    /// What happened, to compare two runs of a seed.
    trace: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u32>>,
}

impl World {
    fn new(seed: u64, mutant: Mutant) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::default());
        let blobs = MemoryBlobStore::default();
        let metadata = MemoryMetadataStore::with_clock(Arc::clone(&clock));
        let metadata: Arc<dyn MetadataStore> = Arc::new(Mutated { inner: metadata, mutant, claims: Mutex::default() });
        let process = |n: u64| {
            let blobs: Arc<dyn BlobStore> = Arc::new(blobs.clone());
            // A delete may land long after the lease is over: the claim has to be renewed until then.
            let blobs = Delayed::new(blobs, seed ^ (n << 32), CALL).with_late_deletes(LEASE * 3);
            let metadata = Delayed::new(Arc::clone(&metadata), seed ^ (n << 48), CALL);
            Registry::builder(Arc::new(blobs), Arc::new(metadata))
                .clock(Arc::clone(&clock))
                .grace(GRACE)
                .trash_delay(TRASH)
                .delete_lease(LEASE)
                .deletion_patience(LEASE * 2)
                .verify_reads(VerifyReads::Always)
                .build()
        };
        Self {
            processes: vec![process(1), process(2)],
            blobs: blobs.clone(),
            model: Model::default(),
            deletes: Mutex::default(),
            violations: Mutex::default(),
            trace: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    fn note(&self, what: &'static str, detail: impl std::fmt::Display) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
        self.trace.lock().unwrap().push(format!("{what} {detail}"));
    }

    fn violation(&self, what: impl Into<String>) {
        self.violations.lock().unwrap().push(what.into());
    }

    /// Deletes of this manifest: under way, and ever.
    fn deletes(&self, index: usize, manifest: Digest) -> (u32, u32) {
        self.deletes.lock().unwrap().get(&(index, manifest)).copied().unwrap_or_default()
    }

    /// A client's push of an image: HEAD, mount or upload for each blob, then the manifest.
    async fn push(&self, rng: &mut Rng, registry: &Registry, index: usize) {
        let name = repository(index);
        let mut numbers: Vec<u64> = (0..2 + rng.below(2)).map(|_| rng.below(5)).collect();
        numbers.dedup();
        let blobs: Vec<_> = numbers.iter().map(|n| Digest::sha256(&content(*n))).collect();
        let mut promised = Vec::new();
        for (n, digest) in numbers.iter().zip(&blobs) {
            if registry.blob_info(&name, digest).await.is_ok() {
                promised.push(*digest);
                continue;
            }
            if rng.chance(0.3) {
                let from = rng.chance(0.5).then(|| repository(1 - index));
                match registry.mount_blob(&name, digest, from.as_ref()).await {
                    Ok(Some(_)) => {
                        self.note("mounted", format!("{name} {n}"));
                        promised.push(*digest);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => return self.note("mount failed", error.to_string()),
                }
            }
            let pushed = if rng.chance(0.5) {
                registry.push_blob(&name, digest, None, once(content(*n))).await.map(drop)
            } else {
                self.upload(registry, &name, digest, *n).await
            };
            match pushed {
                Ok(()) => promised.push(*digest),
                Err(error) if error.is_retryable() => return self.note("push refused", error.to_string()),
                Err(error) => return self.violation(format!("a push failed: {error:?}")),
            }
        }
        let (number, bytes) = (rng.below(3), manifest(&blobs));
        let image = Image { manifest: Digest::sha256(&bytes), blobs };
        let key = (index, number);
        // While the PUT is on its way, the tag may be the old or the new image: neither is promised.
        self.model.lock().unwrap().remove(&key);
        let before = self.deletes(index, image.manifest);
        let reference = Reference::Tag(tag(number));
        match registry.put_manifest(&name, &reference, None, bytes, Vec::new()).await {
            Ok(_) => {
                self.note("pushed", format!("{name}:{number}"));
                if before.0 == 0 && self.deletes(index, image.manifest) == before {
                    self.model.lock().unwrap().insert(key, image);
                }
            }
            Err(error) if error.kind() == ErrorKind::ManifestBlobUnknown => {
                self.violation(format!("{:?} were promised and are unknown now", error.digests()));
            }
            Err(error) if error.is_retryable() => self.note("manifest refused", error.to_string()),
            Err(error) => self.violation(format!("a manifest failed: {error:?}")),
        }
    }

    async fn upload(&self, registry: &Registry, name: &RepositoryName, digest: &Digest, n: u64) -> Result<()> {
        let (all, key) = (content(n), registry.start_upload(name, "", digest.algorithm()).await?);
        registry.append(&key, Some(0), once(all.slice(..4))).await?;
        registry.finish_upload(&key, digest, Some(4), Some(once(all.slice(4..)))).await.map(drop)
    }

    async fn delete(&self, rng: &mut Rng, registry: &Registry, index: usize) {
        let (name, number) = (repository(index), rng.below(3));
        let Some(image) = self.model.lock().unwrap().remove(&(index, number)) else { return };
        let reference = if rng.chance(0.5) {
            // By digest it takes every tag of this manifest along.
            self.model.lock().unwrap().retain(|(i, _), other| *i != index || other.manifest != image.manifest);
            let mut deletes = self.deletes.lock().unwrap();
            let count = deletes.entry((index, image.manifest)).or_default();
            *count = (count.0 + 1, count.1 + 1);
            Reference::Digest(image.manifest)
        } else {
            Reference::Tag(tag(number))
        };
        let outcome = registry.delete_manifest(&name, &reference).await;
        if matches!(reference, Reference::Digest(_)) {
            self.deletes.lock().unwrap().entry((index, image.manifest)).or_default().0 -= 1;
        }
        self.note("deleted", format!("{name}:{number} {}", outcome.is_ok()));
    }

    async fn check(&self, registry: &Registry) {
        let images: Vec<_> = self.model.lock().unwrap().clone().into_iter().collect();
        for ((index, number), image) in images {
            let name = repository(index);
            let mut wrong = None;
            match registry.manifest(&name, &Reference::Digest(image.manifest)).await {
                Ok(found) if Digest::sha256(&found.bytes) == image.manifest => {}
                other => wrong = Some(format!("its manifest: {other:?}")),
            }
            for digest in &image.blobs {
                let read = async { registry.blob(&name, digest, None).await?.collect().await };
                match read.await {
                    Ok(bytes) if Digest::sha256(&bytes) == *digest => {}
                    other => wrong = Some(format!("blob {digest}: {other:?}")),
                }
            }
            if let Some(wrong) = wrong
                && self.model.lock().unwrap().get(&(index, number)) == Some(&image)
            {
                self.violation(format!("{name}:{number} was acknowledged and is broken: {wrong}"));
            }
        }
    }
}

/// One run; what it violated, what it did, how often.
fn simulate(seed: u64, mutant: Mutant) -> (Vec<String>, Vec<String>, BTreeMap<&'static str, u32>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(seed, mutant));
        let mut tasks = Vec::new();
        for client in 0..4_u64 {
            let world = Arc::clone(&world);
            tasks.push(tokio::spawn(async move {
                let mut rng = Rng::new(seed.wrapping_mul(31).wrapping_add(client));
                for _ in 0..12 {
                    let process = usize::try_from(rng.below(2)).unwrap();
                    let registry = world.processes[process].clone();
                    // Each repository is written by two of the clients, and a manifest pushed in one moment deleted by the other in the next.
                    let index = usize::try_from(client % 2).unwrap();
                    if rng.chance(0.55) {
                        world.push(&mut rng, &registry, index).await;
                    } else {
                        world.delete(&mut rng, &registry, index).await;
                    }
                    tokio::time::sleep(Duration::from_millis(rng.below(12_000))).await;
                }
            }));
        }
        let collectors: Vec<_> = world
            .processes
            .iter()
            .map(|registry| {
                let (world, registry) = (Arc::clone(&world), registry.clone());
                tokio::spawn(async move {
                    loop {
                        match registry.collect_garbage(&GcOptions::default()).await {
                            Ok(report) if report.deleted > 0 => world.note("collected", format!("{report:?}")),
                            Ok(_) => {}
                            Err(error) => world.violation(format!("a collection failed: {error:?}")),
                        }
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            while !task.is_finished() {
                world.check(&world.processes[0]).await;
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            task.await.unwrap();
        }
        // All is quiet: in the end nothing is kept that nobody needs, and all that is needed.
        tokio::time::sleep(GRACE * 2 + TRASH + LEASE * 3).await;
        world.check(&world.processes[1]).await;
        collectors.iter().for_each(tokio::task::JoinHandle::abort);
        if world.violations.lock().unwrap().is_empty() {
            settle(&world).await;
        }
        let violations = world.violations.lock().unwrap().clone();
        let trace = world.trace.lock().unwrap().clone();
        let counts = world.counts.lock().unwrap().clone();
        (violations, trace, counts)
    })
}

/// After the last client's last act and a long time of collecting, the store holds the blobs of the manifests that are there, and no others.
async fn settle(world: &World) {
    let mut needed = std::collections::BTreeSet::new();
    for registry in 0..2 {
        let name = repository(registry);
        for n in 0..5 {
            let digest = Digest::sha256(&content(n));
            if world.processes[0].blob(&name, &digest, None).await.is_ok() {
                needed.insert(digest);
            }
        }
    }
    for n in 0..5 {
        let digest = Digest::sha256(&content(n));
        if world.blobs.contains(&digest).await.unwrap() != needed.contains(&digest) {
            world.violation(format!("{digest} is kept for nobody, or missing"));
        }
    }
}

#[test]
fn garbage_collection_never_takes_what_was_acknowledged_in_any_interleaving() {
    let first = std::env::var("REGISTRY_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = first.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut total: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in seeds {
        let (violations, trace, counts) = simulate(seed, Mutant::None);
        let replay = format!("REGISTRY_TEST_SEED={seed} cargo test --release -p registry-core --test it gc_interleaving");
        assert!(violations.is_empty(), "seed {seed} (replay: {replay}):\n{}\n{}", violations.join("\n"), trace.join("\n"));
        for (what, n) in counts {
            *total.entry(what).or_default() += n;
        }
    }
    println!("{total:?}");
    if first.is_none() {
        for (what, least) in [("pushed", 10_000), ("deleted", 5_000), ("mounted", 1_000), ("collected", 300)] {
            assert!(total.get(what).is_some_and(|n| *n > least), "the runs hardly ever {what}: {total:?}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [3, 4] {
        assert_eq!(simulate(seed, Mutant::None).1, simulate(seed, Mutant::None).1);
    }
}

fn is_caught(mutant: Mutant) {
    let caught = (0..SEEDS).find(|seed| !simulate(*seed, mutant).0.is_empty());
    println!("{mutant:?} is caught by seed {caught:?}");
    assert!(caught.is_some(), "{mutant:?} is not caught within {SEEDS} seeds");
}

#[test]
fn a_registry_without_the_deletion_fence_is_caught() {
    is_caught(Mutant::NoFence);
}

#[test]
fn a_claim_that_is_not_renewed_while_its_delete_is_on_its_way_is_caught() {
    is_caught(Mutant::NoRenewal);
}

#[test]
fn a_head_that_nobody_writes_down_is_caught() {
    is_caught(Mutant::HeadDoesNotRely);
}
