//! Many at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Fixture;
use super::kit::{GRACE, HOUR, SECOND, TRASH, blob, expire_in_pages, repo, set, tag};
use crate::metadata::{LinkBlob, MountBlob, Sweep};
use crate::testing::{ManualClock, Rng};
use crate::{Digest, ErrorKind, MetadataStore, RepositoryName, Result};

const WRITERS: u64 = 6;
const COLLECTORS: u64 = 2;
/// How many steps each takes.
const WRITES: u64 = 16;
const COLLECTIONS: u64 = 40;
const REPOSITORIES: [&str; 2] = ["one", "two"];
/// Short enough that blobs die in the course of the case, and longer than a writer's step.
const SHORT: Duration = Duration::from_millis(8);

/// A blob store, as far as it matters here: for each blob, whether its bytes are there and how often they were deleted.
#[derive(Clone, Default)]
struct Stored(Arc<Mutex<BTreeMap<Digest, (bool, u64)>>>);

impl Stored {
    fn write(&self, digest: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default().0 = true;
    }

    fn delete(&self, digest: Digest) {
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = blobs.entry(digest).or_default();
        *blob = (false, blob.1 + 1);
    }

    /// How often the bytes were deleted, if they are not there.
    fn missing(&self, digest: Digest) -> Option<u64> {
        let (there, deleted) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied().unwrap_or_default();
        (!there).then_some(deleted)
    }

    /// What is linked is there. Without a deletion in between, what is missing before and after was missing all the time that the link was looked up.
    async fn check(&self, store: &dyn MetadataStore, repository: &RepositoryName, digest: Digest) {
        let before = self.missing(digest);
        let link = store.blob_link(repository, &digest).await.expect("blob_link");
        let missing = before.is_some() && before == self.missing(digest);
        assert!(link.is_none() || !missing, "{repository} is linked to {digest}, whose bytes are gone");
    }
}

/// One process: it writes, links and deletes as the registry does, and checks what it can at each step.
struct Process {
    store: Arc<dyn MetadataStore>,
    clock: Arc<ManualClock>,
    stored: Stored,
    rng: Rng,
}

/// What did not work because somebody else was faster.
fn lost_a_race<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::ManifestBlobUnknown) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Process {
    fn repository(&mut self) -> RepositoryName {
        repo(REPOSITORIES[self.rng.below(2) as usize])
    }

    /// Lets others go first, for a while or not at all.
    async fn dawdle(&mut self) {
        for _ in 0..self.rng.below(6) {
            tokio::task::yield_now().await;
        }
    }

    async fn push(&mut self, digest: Digest) {
        let Some(intent) = lost_a_race(self.store.intend_blob(&digest).await) else { return };
        self.stored.write(digest);
        // Some writers die here, and many are slow.
        if self.rng.chance(0.1) {
            return;
        }
        self.dawdle().await;
        let repository = self.repository();
        let link = LinkBlob { repository: repository.clone(), digest, size: 7, generation: intent.generation, upload: None };
        if lost_a_race(self.store.link_blob(link).await).is_some() {
            self.stored.check(&*self.store, &repository, digest).await;
        }
    }

    async fn collect(&mut self) {
        self.store.condemn_blobs(&Sweep { grace: SHORT, cursor: None, limit: 100 }).await.expect("condemn_blobs");
        // A lease that no case is long enough to outlive.
        for claim in self.store.claim_deletions(SHORT / 3, HOUR * 1000, 2).await.expect("claim_deletions") {
            for name in REPOSITORIES {
                let link = self.store.blob_link(&repo(name), &claim.digest).await.expect("blob_link");
                assert!(link.is_none(), "{name} is linked to {}, which is being deleted", claim.digest);
            }
            tokio::task::yield_now().await;
            self.stored.delete(claim.digest);
            tokio::task::yield_now().await;
            self.store.complete_deletion(&claim).await.expect("nobody else may claim it meanwhile");
        }
    }

    /// A client's: mostly pushes.
    async fn write_something(&mut self, digest: Digest) {
        self.clock.advance(Duration::from_millis(1));
        match self.rng.below(10) {
            0..=5 => self.push(digest).await,
            6 => {
                let mount = MountBlob { from: None, to: self.repository(), digest };
                self.store.mount_blob(mount).await.expect("mount_blob");
            }
            _ => {
                for name in REPOSITORIES {
                    self.store.unlink_blob(&repo(name), &digest).await.expect("unlink_blob");
                }
            }
        }
    }

    /// The collector's: it is much faster than any in life, so that a writer who dawdles a little finds its blob gone, or gone and back.
    async fn collect_something(&mut self) {
        self.clock.advance(SHORT);
        if self.rng.below(4) == 0 {
            let sweep = Sweep { grace: SHORT * 4, cursor: None, limit: 100 };
            self.store.expire_links(&sweep).await.expect("expire_links");
        }
        self.collect().await;
    }

    async fn run(mut self, digests: &[Digest], is_collector: bool) {
        for _ in 0..if is_collector { COLLECTIONS } else { WRITES } {
            let digest = digests[self.rng.below(digests.len() as u64) as usize];
            if is_collector {
                self.collect_something().await;
            } else {
                self.write_something(digest).await;
            }
            let repository = self.repository();
            self.stored.check(&*self.store, &repository, digest).await;
            tokio::task::yield_now().await;
        }
    }
}

pub(super) async fn writers_and_collectors_at_once_lose_nothing(f: Fixture) {
    let stored = Stored::default();
    let digests: Vec<_> = (0..4).map(|n| blob(&format!("layer {n}"))).collect();
    let handles = [Arc::clone(&f.store), f.other().await];
    let mut tasks = Vec::new();
    for task in 0..WRITERS + COLLECTORS {
        let store = Arc::clone(&handles[(task % 2) as usize]);
        let process = Process { store, clock: Arc::clone(&f.clock), stored: stored.clone(), rng: Rng::new(task) };
        let digests = digests.clone();
        tasks.push(tokio::spawn(async move { process.run(&digests, task >= WRITERS).await }));
    }
    for task in tasks {
        task.await.expect("a task");
    }
    for name in REPOSITORIES {
        for digest in &digests {
            stored.check(&*f.store, &repo(name), *digest).await;
        }
    }
    // And what is linked is as live as can be: nothing of it is up for deletion.
    f.pass(GRACE * 2);
    f.condemn().await;
    for claim in f.store.claim_deletions(Duration::ZERO, HOUR, 100).await.expect("claim_deletions") {
        for name in REPOSITORIES {
            assert!(!f.has(name, &claim.digest).await, "{name} is linked to {}, which is being deleted", claim.digest);
        }
    }
}

pub(super) async fn manifests_and_sweeps_at_once_lose_nothing(f: Fixture) {
    let handles = [Arc::clone(&f.store), f.other().await];
    for round in 0..4 {
        let mut layers = Vec::new();
        for n in 0..3 {
            layers.push(f.push("team/app", &format!("layer {n} of {round}")).await);
        }
        f.pass(GRACE + SECOND);
        // A push, a sweep, a push, a sweep, a push: all of them at once.
        let mut pushes = Vec::new();
        let mut sweeps = Vec::new();
        for n in 0..3 {
            let mut image = f.manifest("team/app", &format!("image {n} of {round}")).await;
            image.blobs = vec![layers[n], layers[(n + 1) % 3]];
            image.tags = vec![tag("latest")];
            let store = Arc::clone(&handles[n % 2]);
            pushes.push(tokio::spawn(async move { lost_a_race(store.put_manifest(image.clone()).await).map(|()| image) }));
            let store = Arc::clone(&handles[(n + 1) % 2]);
            sweeps.push(tokio::spawn(async move { expire_in_pages(&*store, GRACE, 2).await }));
        }
        let mut acknowledged = Vec::new();
        for push in pushes {
            acknowledged.extend(push.await.expect("a task"));
        }
        let mut removed = Vec::new();
        for sweep in sweeps {
            removed.extend(sweep.await.expect("a task"));
        }
        assert_eq!(removed.len(), set(removed.iter().cloned()).len(), "one link was removed by two sweeps: {removed:?}");
        for image in &acknowledged {
            assert!(f.has_manifest("team/app", &image.digest).await);
            for layer in &image.blobs {
                assert!(f.has("team/app", layer).await, "{} was acknowledged and has lost {layer}", image.digest);
            }
        }
        if !acknowledged.is_empty() {
            let tagged = f.tagged("team/app", "latest").await;
            assert!(acknowledged.iter().any(|image| tagged == Some(image.digest)), "the tag is at none of those that set it: {tagged:?}");
        }
    }
}

pub(super) async fn one_of_many_claims_it(f: Fixture) {
    let digests: Vec<_> = (0..6).map(|n| blob(&format!("layer {n}"))).collect();
    for digest in &digests {
        f.intend(digest).await;
    }
    f.pass(GRACE + SECOND);
    assert_eq!(f.condemn().await.len(), digests.len());
    f.pass(TRASH + SECOND);
    let handles = [Arc::clone(&f.store), f.other().await];
    let mut tasks = Vec::new();
    for n in 0..4 {
        let store = Arc::clone(&handles[n % 2]);
        tasks.push(tokio::spawn(async move { store.claim_deletions(TRASH, HOUR, 4).await.expect("claim_deletions") }));
    }
    let mut claims = Vec::new();
    for task in tasks {
        claims.extend(task.await.expect("a task"));
    }
    // A store may let one claimer pass by what another is about to take, so that a second look is needed.
    claims.extend(f.store.claim_deletions(TRASH, HOUR, 100).await.expect("claim_deletions"));
    assert_eq!(claims.len(), digests.len(), "none twice: {claims:?}");
    assert_eq!(set(claims.iter().map(|claim| claim.digest)), set(digests));
    for claim in &claims {
        f.store.complete_deletion(claim).await.expect("complete_deletion");
    }
}
