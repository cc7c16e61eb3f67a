//! Many at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Fixture;
use super::kit::{GRACE, HOUR, SECOND, TRASH, blob, repo, set};
use crate::metadata::{LinkBlob, MountBlob, Sweep};
use crate::testing::{ManualClock, Rng};
use crate::{Digest, ErrorKind, MetadataStore, RepositoryName, Result};

const TASKS: u64 = 8;
const COMMANDS: u64 = 25;
const REPOSITORIES: [&str; 3] = ["one", "two", "three"];
/// Short enough that blobs die in the course of the case, and many commands long.
const SHORT: Duration = Duration::from_millis(40);

/// A blob store as the collector and the writers see it: what is there.
type Stored = Arc<Mutex<BTreeSet<Digest>>>;

/// One process: it writes, links and deletes as the registry does, and checks what it can at each step.
struct Process {
    store: Arc<dyn MetadataStore>,
    clock: Arc<ManualClock>,
    bytes: Stored,
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
    fn bytes(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn repository(&mut self) -> RepositoryName {
        repo(REPOSITORIES[self.rng.below(3) as usize])
    }

    async fn push(&mut self, digest: Digest) {
        let Some(intent) = lost_a_race(self.store.intend_blob(&digest).await) else { return };
        self.bytes().insert(digest);
        // Now and then a writer is slow, or dies.
        match self.rng.below(4) {
            0 => return,
            1 => tokio::task::yield_now().await,
            _ => {}
        }
        let link = LinkBlob { repository: self.repository(), digest, size: 7, generation: intent.generation, upload: None };
        lost_a_race(self.store.link_blob(link).await);
    }

    async fn collect(&mut self) {
        self.store.condemn_blobs(&Sweep { grace: SHORT, cursor: None, limit: 100 }).await.expect("condemn_blobs");
        // A lease that no case is long enough to outlive.
        for claim in self.store.claim_deletions(SHORT / 4, HOUR * 1000, 2).await.expect("claim_deletions") {
            for name in REPOSITORIES {
                let link = self.store.blob_link(&repo(name), &claim.digest).await.expect("blob_link");
                assert!(link.is_none(), "{name} is linked to {}, which is being deleted", claim.digest);
            }
            self.bytes().remove(&claim.digest);
            self.store.complete_deletion(&claim).await.expect("nobody else may claim it meanwhile");
        }
    }

    async fn step(&mut self, digest: Digest) {
        self.clock.advance(Duration::from_millis(1 + self.rng.below(8)));
        match self.rng.below(10) {
            0..=3 => self.push(digest).await,
            4 => {
                let mount = MountBlob { from: None, to: self.repository(), digest };
                self.store.mount_blob(mount).await.expect("mount_blob");
            }
            5 | 6 => {
                let name = self.repository();
                self.store.unlink_blob(&name, &digest).await.expect("unlink_blob");
            }
            7 => {
                let sweep = Sweep { grace: SHORT * 4, cursor: None, limit: 100 };
                self.store.expire_links(&sweep).await.expect("expire_links");
            }
            _ => self.collect().await,
        }
    }
}

pub(super) async fn writers_and_collectors_at_once_lose_nothing(f: Fixture) {
    let bytes = Stored::default();
    let digests: Vec<_> = (0..5).map(|n| blob(&format!("layer {n}"))).collect();
    let handles = [Arc::clone(&f.store), f.other().await];
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let store = Arc::clone(&handles[(task % 2) as usize]);
        let mut process = Process { store, clock: Arc::clone(&f.clock), bytes: Arc::clone(&bytes), rng: Rng::new(task) };
        let digests = digests.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..COMMANDS {
                let digest = digests[process.rng.below(digests.len() as u64) as usize];
                process.step(digest).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("a task");
    }
    let there = bytes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for name in REPOSITORIES {
        for digest in &digests {
            assert!(!f.has(name, digest).await || there.contains(digest), "{name} is linked to {digest}, whose bytes are gone");
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
    let layers = [f.push("team/app", "layer 0").await, f.push("team/app", "layer 1").await, f.push("team/app", "layer 2").await];
    f.pass(GRACE + SECOND);
    let mut commands = Vec::new();
    for n in 0..12 {
        let mut image = f.manifest("team/app", &format!("image {n}")).await;
        image.blobs = vec![layers[n % 3], layers[(n + 1) % 3]];
        image.tags = vec![super::kit::tag("latest")];
        commands.push(image);
    }
    let sweeper = f.other().await;
    let sweeps = tokio::spawn(async move {
        let mut removed = Vec::new();
        for _ in 0..4 {
            removed.extend(super::kit::expire_in_pages(&*sweeper, GRACE, 1).await);
            tokio::task::yield_now().await;
        }
        removed
    });
    let handles = [Arc::clone(&f.store), f.other().await];
    let mut pushes = Vec::new();
    for (n, image) in commands.into_iter().enumerate() {
        let store = Arc::clone(&handles[n % 2]);
        pushes.push(tokio::spawn(async move { (image.clone(), lost_a_race(store.put_manifest(image).await).is_some()) }));
    }
    let mut acknowledged = Vec::new();
    for push in pushes {
        let (image, pushed) = push.await.expect("a task");
        if pushed {
            acknowledged.push(image);
        }
    }
    sweeps.await.expect("a task");
    for image in &acknowledged {
        assert!(f.has_manifest("team/app", &image.digest).await);
        for layer in &image.blobs {
            assert!(f.has("team/app", layer).await, "{} was acknowledged and has lost {layer}", image.digest);
        }
    }
    let tagged = f.tagged("team/app", "latest").await;
    assert_eq!(tagged.is_some(), !acknowledged.is_empty());
    assert!(tagged.is_none_or(|tagged| acknowledged.iter().any(|image| image.digest == tagged)));
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
