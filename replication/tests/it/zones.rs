//! What operators do to zones: cordon, drain, remove.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::{ListOptions, StoreIdentity, once};
use registry_core::memory::MemoryMetadataStore;
use registry_core::testing::{Fault, FaultPlan, Op};
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, ErrorKind, Registry, VerifyReads};
use replication::{JobStatus, PlacementPolicy, PolicyRule, ReplicatedStore, Workers, ZoneSet, ZoneState};

use crate::support::{NAMES, World, app, blob, quick};

/// A registry over three zones, closest to the first, with workers.
struct Site {
    world: World,
    metadata: Arc<MemoryMetadataStore>,
    registry: Registry,
    store: ReplicatedStore,
    workers: Option<Workers>,
}

impl Site {
    async fn new(rules: Vec<PolicyRule>) -> Self {
        let world = World::new(3);
        let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
        let (registry, store) = process(&world, &metadata, rules).await;
        let workers = Some(store.start());
        Self { world, metadata, registry, store, workers }
    }

    async fn push(&self, blobs: &[(Digest, Bytes)]) {
        for (digest, content) in blobs {
            self.registry.push_blob(&app(), digest, Some(content.len() as u64), once(content.clone())).await.unwrap();
        }
    }

    /// Nobody means to refer to what was pushed any more.
    fn pass(&self) {
        self.world.clock.advance(Duration::from_secs(3600));
    }

    async fn pulls(&self, blobs: &[(Digest, Bytes)]) {
        for (digest, content) in blobs {
            let read = self.registry.blob(&app(), digest, None).await.unwrap_or_else(|error| panic!("{digest} cannot be pulled: {error}"));
            assert_eq!(read.collect().await.unwrap(), *content);
        }
    }

    async fn count(&self, zone: usize) -> usize {
        self.world.medium(zone).list(ListOptions::default()).count().await
    }

    async fn job(&self) -> JobStatus {
        self.store.jobs(1).await.unwrap().remove(0)
    }

    /// Waits until the newest job is as it is to be.
    async fn until(&self, what: &str, is: impl Fn(&JobStatus) -> bool) -> JobStatus {
        for _ in 0..2000 {
            let job = self.job().await;
            if is(&job) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: {:?}", self.job().await);
    }

    async fn states(&self) -> Vec<ZoneState> {
        self.store.status().await.unwrap().into_iter().map(|zone| zone.state).collect()
    }
}

/// Another process over the same zones.
async fn process(world: &World, metadata: &Arc<MemoryMetadataStore>, rules: Vec<PolicyRule>) -> (Registry, ReplicatedStore) {
    let metadata: Arc<dyn registry_core::MetadataStore> = Arc::<MemoryMetadataStore>::clone(metadata);
    let store = world.with_metadata(quick(), PlacementPolicy::new(rules), Arc::clone(&metadata)).await;
    (Registry::builder(Arc::new(store.clone()), metadata).verify_reads(VerifyReads::Never).build(), store)
}

fn some_blobs(count: u64) -> Vec<(Digest, Bytes)> {
    // One of no bytes among them.
    let len = |number: u64| if number == 1 { 0 } else { 100 + usize::try_from(number).unwrap() };
    (0..count).map(|number| blob(900 + number, len(number))).collect()
}

fn rule(pattern: &str, zones: &[&str]) -> PolicyRule {
    PolicyRule::new(pattern.parse().unwrap(), ZoneSet::Named(zones.iter().map(ToString::to_string).collect()))
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_written_to_a_cordoned_zone() {
    let site = Site::new(Vec::new()).await;
    let (other, other_store) = process(&site.world, &site.metadata, Vec::new()).await;
    let other_workers = other_store.start();
    let before = some_blobs(3);
    site.push(&before).await;
    settle().await;
    site.store.cordon("near").await.unwrap();
    site.store.cordon("near").await.unwrap();
    assert_eq!(site.states().await, [ZoneState::Cordoned, ZoneState::Active, ZoneState::Active]);
    // The other process hears of it within two seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let writes = site.world.zones[0].calls(Op::Put) + site.world.zones[0].calls(Op::Begin);
    let after = blob(950, 400);
    other.push_blob(&app(), &after.0, Some(400), once(after.1.clone())).await.unwrap();
    let more = blob(951, 400);
    site.push(std::slice::from_ref(&more)).await;
    settle().await;
    for digest in [after.0, more.0] {
        assert_eq!(site.world.holders(&digest).await, [1, 2]);
    }
    assert_eq!(site.world.zones[0].calls(Op::Put) + site.world.zones[0].calls(Op::Begin), writes);
    let owed = site.store.status().await.unwrap().remove(0);
    assert_eq!((owed.backlog, owed.failing), (2, 0), "what it is owed waits");
    let reads = site.world.zones[0].calls(Op::Read);
    site.pulls(&before).await;
    assert_eq!(site.world.zones[0].calls(Op::Read), reads + 3, "it is read from as ever");

    site.store.uncordon("near").await.unwrap();
    settle().await;
    assert_eq!(site.world.holders(&after.0).await, [0, 1, 2]);
    assert_eq!(site.world.holders(&more.0).await, [0, 1, 2]);
    other_workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_push_is_refused_if_all_its_zones_are_cordoned() {
    let site = Site::new(vec![rule("team/**", &["near"])]).await;
    site.store.cordon("near").await.unwrap();
    let content = blob(960, 100);
    let error = site.registry.push_blob(&app(), &content.0, Some(100), once(content.1.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.retry_after().is_some());
    site.store.uncordon("near").await.unwrap();
    site.push(&[content]).await;
    assert_eq!(site.store.cordon("nowhere").await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn a_drained_zone_is_empty_and_everything_is_elsewhere() {
    let site = Site::new(Vec::new()).await;
    let blobs = some_blobs(40);
    site.push(&blobs).await;
    settle().await;
    assert_eq!(site.count(0).await, 40);
    let job = site.store.drain("near").await.unwrap();
    assert!(job.is_open() && job.kind == "drain" && job.zone.as_deref() == Some("near"));
    let waits = site.until("it waits for what was just pushed", |job| job.total == Some(40)).await;
    assert!(waits.note.contains("40 were pushed just now"), "{}", waits.note);
    assert_eq!(site.count(0).await, 40);
    site.pass();
    while site.job().await.is_open() {
        site.pulls(&blobs).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let job = site.job().await;
    assert_eq!((job.state, job.done, job.total, job.running), ("done", 40, Some(40), false));
    assert_eq!(site.count(0).await, 0);
    assert_eq!((site.count(1).await, site.count(2).await), (40, 40));
    // Begun again, there is nothing to do; a push goes elsewhere.
    assert_ne!(site.store.drain("near").await.unwrap().id, job.id);
    site.until("it ends at once", |job| job.state == "done").await;
    let more = blob(970, 100);
    site.push(std::slice::from_ref(&more)).await;
    settle().await;
    assert_eq!(site.world.holders(&more.0).await, [1, 2]);
    site.pulls(&blobs).await;
}

#[tokio::test(start_paused = true)]
async fn no_copy_goes_before_the_others_are_there_and_read() {
    let site = Site::new(Vec::new()).await;
    for zone in [1, 2] {
        site.world.zones[zone].set_plan(FaultPlan::down().only([Op::Put]));
    }
    let blobs = some_blobs(10);
    site.push(&blobs).await;
    settle().await;
    site.pass();
    site.store.drain("near").await.unwrap();
    settle().await;
    let job = site.job().await;
    assert!(job.is_open() && job.running, "{job:?}");
    assert!(job.note.contains("10 wait for verified copies elsewhere"), "{}", job.note);
    assert_eq!(site.count(0).await, 10);
    site.pulls(&blobs).await;
    site.world.zones[1].heal();
    settle().await;
    assert_eq!(site.count(0).await, 10, "one of the two others is owed them still");
    // Copies that have rotted since they were made are no copies.
    site.world.zones[1].damage(&blobs[3].0, registry_core::testing::Damage::Flip(5));
    site.world.zones[2].heal();
    site.pass();
    site.until("it is done", |job| job.state == "done").await;
    assert_eq!(site.count(0).await, 0);
    for (digest, content) in &blobs {
        for zone in [1, 2] {
            assert_eq!(site.world.medium(zone).read_all(digest).await.unwrap(), *content, "{digest} in zone {zone}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_a_policy_cannot_do_without_is_not_drained() {
    let site = Site::new(vec![rule("eu/**", &["near"])]).await;
    let error = site.store.drain("near").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.message(), "the policy for eu/** wants its blobs in no other zone: there would be none left");
    let two = Site::new(vec![rule("**", &["near", "far"]).with_min_copies(2)]).await;
    let error = two.store.drain("far").await.unwrap_err();
    assert_eq!(error.message(), "the policy for ** asks for 2 copies, and one zone would be left");
    assert_eq!(two.store.drain("nowhere").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(two.states().await, [ZoneState::Active; 3]);
    // The second of two that could have stayed.
    let site = Site::new(vec![rule("**", &["near", "far"])]).await;
    site.store.drain("near").await.unwrap();
    assert_eq!(site.store.drain("far").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(site.store.jobs(10).await.unwrap().iter().all(|job| job.zone.as_deref() == Some("near")));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_called_off_brings_everything_back() {
    let site = Site::new(Vec::new()).await;
    let blobs = some_blobs(20);
    site.push(&blobs).await;
    settle().await;
    site.pass();
    let slow = Duration::from_secs(1);
    site.world.zones[0].set_plan(FaultPlan::default().with_latency(slow, slow).only([Op::Delete]));
    site.store.drain("near").await.unwrap();
    site.until("some are gone", |job| job.done > 0).await;
    site.store.uncordon("near").await.unwrap();
    assert_eq!(site.job().await.state, "cancelled");
    assert_eq!(site.states().await, [ZoneState::Active; 3]);
    settle().await;
    site.pass();
    settle().await;
    for zone in 0..3 {
        assert_eq!(site.count(zone).await, 20, "zone {zone}");
    }
    site.pulls(&blobs).await;
}

#[tokio::test(start_paused = true)]
async fn another_process_goes_on_with_a_dead_ones_drain() {
    let mut site = Site::new(Vec::new()).await;
    let blobs = some_blobs(20);
    site.push(&blobs).await;
    settle().await;
    site.pass();
    site.world.zones[0].set_plan(FaultPlan::new(1).with_errors_before(1.0).only([Op::Delete]));
    site.store.drain("near").await.unwrap();
    site.until("somebody is at it", |job| job.running).await;
    // Like a crash.
    drop(site.workers.take());
    site.world.zones[0].heal();
    site.world.clock.advance(Duration::from_secs(60));
    assert!(!site.job().await.running && site.job().await.is_open());
    let (_registry, other) = process(&site.world, &site.metadata, Vec::new()).await;
    let workers = other.start();
    site.until("the other goes on", |job| job.state == "done").await;
    assert_eq!(site.count(0).await, 0);
    assert_eq!(site.store.jobs(10).await.unwrap().len(), 1, "it is the same job");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_begun_before_ends_where_it_is_and_is_moved() {
    let site = Site::new(Vec::new()).await;
    let content = blob(980, 3_000);
    let mut upload = site.store.begin(registry_core::blob::WriteOptions::default().with_scope("team/app")).await.unwrap();
    upload.write(content.1.slice(..1_000)).await.unwrap();
    let token = upload.suspend().await.unwrap();
    site.store.drain("near").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut upload = site.store.resume(registry_core::blob::ResumeOptions::new(token, 2)).await.unwrap();
    upload.write(content.1.slice(1_000..)).await.unwrap();
    upload.commit(&content.0).await.unwrap();
    assert_eq!(site.world.holders(&content.0).await, [0]);
    settle().await;
    site.push(std::slice::from_ref(&content)).await;
    settle().await;
    site.pass();
    site.until("it is done", |job| job.state == "done" && job.total == Some(1)).await;
    assert_eq!(site.world.holders(&content.0).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_leaves_too() {
    let site = Site::new(vec![rule("**", &["near", "far"])]).await;
    site.world.zones[2].set_plan(FaultPlan::down());
    let content = blob(985, 300);
    // Its writer died before it was linked.
    site.store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    site.world.zones[2].heal();
    settle().await;
    // It was owed to the other as well; the metadata have nothing to say.
    for zone in ["near", "far", "near"] {
        site.pass();
        site.store.drain(zone).await.unwrap();
        site.until("it is done", |job| job.state == "done").await;
        // Nobody brings it back who holds it, so that it is in ever fewer zones.
        site.store.uncordon(zone).await.unwrap();
        settle().await;
    }
    assert!(!site.world.holders(&content.0).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_stays_where_it_might_not_be_elsewhere() {
    let site = Site::new(vec![rule("eu/**", &["near", "far"]), rule("us/**", &["near", "middle"])]).await;
    let content = blob(986, 300);
    let options = registry_core::blob::WriteOptions::default().with_scope("eu/app");
    site.store.put(&content.0, options, once(content.1.clone())).await.unwrap();
    settle().await;
    site.pass();
    site.store.drain("far").await.unwrap();
    site.until("it is done", |job| job.state == "done").await;
    site.store.uncordon("far").await.unwrap();
    assert_eq!(site.world.holders(&content.0).await, [0]);
    site.store.drain("near").await.unwrap();
    let job = site.until("it waits", |job| !job.note.is_empty()).await;
    assert_eq!((job.state, job.note.as_str()), ("open", "1 are held by no repository, and wait for garbage collection"));
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_removed_only_when_it_was_drained() {
    let site = Site::new(Vec::new()).await;
    let blobs = some_blobs(10);
    site.push(&blobs).await;
    settle().await;
    site.pass();
    let error = site.store.remove("near").await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "the zone is active: drain it first"));
    let id = site.world.ledger.zones().await.unwrap().into_iter().find(|zone| zone.name == "near").unwrap().id;
    site.store.drain("near").await.unwrap();
    site.until("it is drained", |job| job.state == "done").await;
    site.store.remove("near").await.unwrap();
    let job = site.until("it is removed", |job| !job.is_open()).await;
    assert_eq!((job.kind, job.state, job.error.clone(), job.total), ("remove", "done", None, Some(job.done)));
    let names: Vec<_> = site.world.ledger.zones().await.unwrap().into_iter().map(|zone| zone.name).collect();
    assert_eq!(names, ["far", "middle"]);
    let kept = StoreIdentity::read(site.world.medium(0).named().unwrap()).await.unwrap().unwrap();
    assert_eq!(kept.id, id.as_str(), "by which it is known as one that was removed");
    assert_eq!(site.states().await[0], ZoneState::Removed);
    // Nobody writes there any more, whether they know or not.
    let more = blob(990, 100);
    site.push(std::slice::from_ref(&more)).await;
    settle().await;
    assert_eq!(site.world.holders(&more.0).await, [1, 2]);
    site.pulls(&blobs).await;
    assert_eq!(site.store.uncordon("near").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(site.world.ledger.placements(&[blobs[0].0]).await.unwrap().iter().all(|row| row.zone != id));
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_gone_for_good_is_removed_if_nothing_is_only_there() {
    let site = Site::new(Vec::new()).await;
    let blobs = some_blobs(10);
    site.push(&blobs).await;
    settle().await;
    // Two more that never got away.
    for zone in [1, 2] {
        site.world.zones[zone].set_plan(FaultPlan::down().only([Op::Put]));
    }
    let lost = [blob(995, 100), blob(996, 100)];
    site.push(&lost).await;
    settle().await;
    site.world.zones[0].set_plan(FaultPlan::down());
    for zone in [1, 2] {
        site.world.zones[zone].heal();
    }
    site.pass();
    settle().await;
    site.store.drain("near").await.unwrap();
    settle().await;
    assert!(site.job().await.is_open());
    let error = site.store.remove("near").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().starts_with("2 blobs are in no other zone"), "{error}");
    site.pulls(&blobs).await;
    // Somebody pushes them again.
    site.push(&lost).await;
    settle().await;
    assert_eq!(site.world.holders(&lost[0].0).await, [0, 1, 2]);
    site.store.remove("near").await.unwrap();
    let removed = site.until("it is removed", |job| job.kind == "remove" && !job.is_open()).await;
    assert_eq!(removed.state, "done");
    assert_eq!(removed.note, "12 copies may be left in it, and are nobody's");
    site.pulls(&blobs).await;
    site.pulls(&lost).await;
    // Back from the dead, it is not taken for one of the zones.
    site.world.zones[0].heal();
    let (_registry, store) = process(&site.world, &site.metadata, Vec::new()).await;
    let status = store.status().await.unwrap();
    assert!(!status[0].healthy);
    assert!(status[0].last_error.as_deref().unwrap().contains("this zone was removed"), "{:?}", status[0]);
    site.world.zones[1].fail_next(Op::Read, Fault::Stall(0));
    site.pulls(&blobs[..1]).await;
}

#[tokio::test(start_paused = true)]
async fn all_names_are_those_of_the_zones() {
    let site = Site::new(Vec::new()).await;
    let names: Vec<_> = site.store.status().await.unwrap().into_iter().map(|zone| zone.name).collect();
    assert_eq!(names, NAMES);
    assert_eq!(site.store.zones_of(Some("team/app")), NAMES);
    site.store.cordon("middle").await.unwrap();
    assert_eq!(site.store.zones_of(Some("team/app")), NAMES, "it is owed copies");
    site.store.drain("middle").await.unwrap();
    assert_eq!(site.store.zones_of(Some("team/app")), ["near", "far"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_zones_that_are_drained_at_once_one_stays_if_there_are_no_others() {
    let site = Site::new(vec![rule("**", &["near", "far"])]).await;
    let (_registry, other) = process(&site.world, &site.metadata, vec![rule("**", &["near", "far"])]).await;
    let (one, two) = tokio::join!(site.store.drain("near"), other.drain("far"));
    assert!(one.is_err() || two.is_err(), "{one:?} {two:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let content = blob(999, 100);
    site.push(&[content]).await;
}

#[tokio::test(start_paused = true)]
async fn other_processes_bring_back_what_left_a_zone_that_stays_after_all() {
    let site = Site::new(Vec::new()).await;
    let blobs = some_blobs(10);
    site.push(&blobs).await;
    settle().await;
    site.pass();
    site.store.drain("near").await.unwrap();
    site.until("it is drained", |job| job.state == "done").await;
    assert_eq!(site.count(0).await, 0);
    // A command that has no workers of its own.
    let (_registry, command) = process(&site.world, &site.metadata, Vec::new()).await;
    command.uncordon("near").await.unwrap();
    settle().await;
    assert_eq!(site.count(0).await, 10, "within seconds, not at the next hourly comparison");
}

#[tokio::test(start_paused = true)]
async fn an_image_is_not_waited_for_where_it_is_not_to_be() {
    let site = Site::new(vec![rule("**", &["near", "far"])]).await;
    let content = blob(998, 100);
    site.push(std::slice::from_ref(&content)).await;
    let wait = async |zone: Option<&str>| site.store.await_image(Some("team/app"), &[content.0], zone).await;
    wait(None).await.unwrap();
    wait(Some("far")).await.unwrap();
    assert_eq!(wait(Some("middle")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(wait(Some("nowhere")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let unknown = [blob(997, 5).0];
    let none = site.store.await_image(Some("team/app"), &unknown, Some("far"));
    assert!(tokio::time::timeout(Duration::from_secs(30), none).await.is_err(), "what is not there is waited for");
}
