//! What workers do, and what they do when something goes wrong.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use registry_core::blob::{WriteOptions, once};
use registry_core::memory::MemoryMetadataStore;
use registry_core::testing::{Fault, FaultPlan, Op};
use registry_core::{BlobStore, BlobStoreExt as _, ErrorKind, Registry, Timestamp, VerifyReads};
use replication::ledger::{Claim, Observed, Sighting};
use replication::{Options, PlacementPolicy, PolicyRule, ZoneSet};
use tokio::time::Instant;

use crate::support::{NAMES, World, blob, quick};

/// Blobs above 64 KiB are copied in pieces of about 128 KiB.
fn in_pieces() -> Options {
    let mut options = quick();
    options.copy_whole = 64 << 10;
    options.checkpoint = 128 << 10;
    options
}

#[tokio::test(start_paused = true)]
async fn a_push_is_copied_at_once_whatever_its_size() {
    let world = World::new(3);
    let store = world.process(in_pieces()).await;
    let workers = store.start();
    let start = Instant::now();
    let blobs: Vec<_> =
        [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_000].iter().enumerate().map(|(n, len)| blob(200 + n as u64, *len)).collect();
    for content in &blobs {
        store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    for content in &blobs {
        for zone in 0..3 {
            assert_eq!(world.medium(zone).read_all(&content.0).await.unwrap(), content.1, "{} bytes in zone {zone}", content.1.len());
        }
    }
    assert!(start.elapsed() < Duration::from_millis(50), "without waiting for a poll");
    workers.stop().await;
    let left = futures_util::StreamExt::count(world.medium(1).uploads(registry_core::Timestamp::from_millis(i64::MAX))).await;
    assert_eq!(left, 0, "nothing staged is left");
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_on_with_the_next_source_when_one_fails() {
    let content = blob(210, 400_000);
    for options in [quick(), in_pieces()] {
        let world = World::new(3);
        let store = world.process(options).await;
        store.put_bytes(&content.0, content.1.clone()).await.unwrap();
        world.zones[2].set_plan(FaultPlan::down());
        store.work_once().await.unwrap();
        world.zones[2].heal();
        world.zones[0].fail_next(Op::Read, Fault::Cut(250_000));
        world.clock.advance(Duration::from_secs(60));
        let before = world.zones[1].calls(Op::Read);
        store.work_once().await.unwrap();
        assert_eq!(world.medium(2).read_all(&content.0).await.unwrap(), content.1);
        assert_eq!(world.zones[1].calls(Op::Read), before + 1);
        assert!(store.failures(10).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_are_never_copied_on_and_their_source_is_repaired() {
    let content = blob(211, 400_000);
    for options in [quick(), in_pieces()] {
        let world = World::new(3);
        let store = world.process(options).await;
        world.zones[2].set_plan(FaultPlan::down());
        store.put_bytes(&content.0, content.1.clone()).await.unwrap();
        store.work_once().await.unwrap();
        world.zones[0].damage(&content.0, registry_core::testing::Damage::Flip(123_456));
        world.zones[2].heal();
        for _ in 0..5 {
            world.clock.advance(Duration::from_secs(60));
            store.work_once().await.unwrap();
        }
        for zone in 0..3 {
            assert_eq!(world.zones[zone].read_all(&content.0).await.unwrap(), content.1, "zone {zone}");
        }
        assert!(store.failures(10).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_pieces_goes_on_where_a_dead_process_stood() {
    let content = blob(212, 1_000_000);
    let world = World::new(2);
    let store = world.process(in_pieces()).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    world.zones[0].fail_next(Op::Read, Fault::Stall(700_000));
    let dying = world.process(in_pieces()).await;
    let workers = dying.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(workers);
    let bytes_before = world.zones[0].calls(Op::Read);
    world.clock.advance(Duration::from_secs(60));
    let resumes = world.zones[1].calls(Op::Resume);
    store.work_once().await.unwrap();
    assert_eq!(world.medium(1).read_all(&content.0).await.unwrap(), content.1);
    assert_eq!(world.zones[0].calls(Op::Read), bytes_before + 1);
    assert!(world.zones[1].calls(Op::Resume) > resumes, "it resumed an upload");
    assert_eq!(world.zones[1].calls(Op::Begin), 1, "and did not begin another");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_gives_back_what_it_has() {
    let content = blob(213, 1_000_000);
    let world = World::new(2);
    let store = world.process(in_pieces()).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    world.zones[0].fail_next(Op::Read, Fault::Stall(700_000));
    let other = world.process(in_pieces()).await;
    let workers = other.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    workers.stop().await;
    store.work_once().await.unwrap();
    assert_eq!(world.medium(1).read_all(&content.0).await.unwrap(), content.1, "no lease has to run out first");
}

#[tokio::test(start_paused = true)]
async fn a_long_copy_keeps_its_claim() {
    let content = blob(214, 400_000);
    let world = World::new(2);
    let mut options = quick();
    options.stall_timeout = Duration::from_secs(60);
    options.request_timeout = Duration::from_secs(60);
    let store = world.process(options).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    let slow = Duration::from_secs(30);
    world.zones[1].set_plan(FaultPlan::default().with_latency(slow, slow));
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(20)).await;
    // Its lease of five seconds would have been over for long.
    let far = world.ledger.zones().await.unwrap().iter().find(|zone| zone.name == NAMES[1]).unwrap().id.clone();
    let near = world.ledger.zones().await.unwrap().iter().find(|zone| zone.name == NAMES[0]).unwrap().id.clone();
    let claim = Claim { zone: far, sources: vec![near], limit: 1, lease: Duration::from_secs(10), look_again: Duration::from_secs(1) };
    assert!(world.ledger.claim(&claim).await.unwrap().is_empty());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.medium(1).read_all(&content.0).await.unwrap(), content.1);
    assert_eq!(world.zones[1].calls(Op::Put), 1);
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_poisoned_blob_does_not_hold_up_the_others_and_its_reason_is_kept() {
    let world = World::new(2);
    let store = world.process(quick()).await;
    let poisoned = blob(220, 1_000);
    world.zones[1].set_plan(FaultPlan::down());
    store.put_bytes(&poisoned.0, poisoned.1.clone()).await.unwrap();
    // The only copy is damaged, so that no copy of it can be made.
    world.zones[0].damage(&poisoned.0, registry_core::testing::Damage::Flip(7));
    let others: Vec<_> = (0..30).map(|n| blob(230 + n, 1_000)).collect();
    for content in &others {
        store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    }
    world.zones[1].heal();
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(30)).await;
    for content in &others {
        assert!(world.medium(1).contains(&content.0).await.unwrap());
    }
    let failures = store.failures(10).await.unwrap();
    assert!(failures.iter().any(|failure| failure.digest == poisoned.0 && !failure.error.is_empty()), "{failures:?}");
    let status = store.status().await.unwrap();
    assert!(status[0].failing > 0 && status[0].last_error.is_some(), "{status:?}");
    // The medium is mended, and the operator says so.
    world.zones[0].heal();
    world.medium(0).put_bytes(&poisoned.0, poisoned.1.clone()).await.unwrap();
    let fixed = world.zones[0].put_bytes(&poisoned.0, poisoned.1.clone()).await;
    fixed.unwrap();
    assert!(store.replay(None).await.unwrap() > 0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.medium(1).read_all(&poisoned.0).await.unwrap(), poisoned.1);
    assert!(store.failures(10).await.unwrap().is_empty());
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_a_dead_zone_does_not_hold_up_the_living() {
    let content = blob(221, 1_000);
    let world = World::new(3);
    let mut options = quick();
    options.backoff = Duration::from_secs(1);
    let store = world.process(options).await;
    // It says who it is all the time: that its breaker opens and closes says nothing about what fails in it.
    world.zones[2].set_plan(FaultPlan::down().only([Op::Put]));
    let workers = store.start();
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.medium(1).contains(&content.0).await.unwrap());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let calls = world.zones[2].calls(Op::Put);
    assert!((5..=12).contains(&calls), "{calls} attempts in 300 s");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn copies_into_one_zone_are_no_more_at_once_than_allowed() {
    let world = World::new(2);
    let store = world.process(quick()).await;
    for n in 0..20 {
        let content = blob(240 + n, 1_000);
        store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    }
    let second = Duration::from_secs(1);
    world.zones[1].set_plan(FaultPlan::default().with_latency(second, second));
    let workers = store.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.zones[1].calls(Op::Put), 4, "four, and the first have not ended");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.zones[1].calls(Op::Put), 20);
    workers.stop().await;
}

fn rule(pattern: &str, zones: &[&str]) -> PolicyRule {
    PolicyRule::new(pattern.parse().unwrap(), ZoneSet::Named(zones.iter().map(ToString::to_string).collect()))
}

/// A registry over a store with a policy, and the store.
async fn registry(world: &World, metadata: &Arc<MemoryMetadataStore>, rules: Vec<PolicyRule>) -> (Registry, replication::ReplicatedStore) {
    let metadata: Arc<dyn registry_core::MetadataStore> = Arc::<MemoryMetadataStore>::clone(metadata);
    let store = world.with_metadata(quick(), PlacementPolicy::new(rules), Arc::clone(&metadata)).await;
    (Registry::builder(Arc::new(store.clone()), metadata).verify_reads(VerifyReads::Never).build(), store)
}

#[tokio::test(start_paused = true)]
async fn a_changed_policy_moves_blobs_and_copies_go_only_after_the_new_ones_were_verified() {
    let world = World::new(3);
    let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let content = blob(250, 5_000);
    let (before, store) = registry(&world, &metadata, vec![rule("**", &["near"])]).await;
    before.push_blob(&"team/app".parse().unwrap(), &content.0, Some(5_000), once(content.1.clone())).await.unwrap();
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0]);

    let (after, store) = registry(&world, &metadata, vec![rule("**", &["middle", "far"])]).await;
    world.clock.advance(Duration::from_secs(3600));
    world.zones[2].set_plan(FaultPlan::down().only([Op::Put]));
    assert_eq!(store.reconcile_policies().await.unwrap().changed, 1);
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0, 1], "the old copy stays as long as one of the new is owed");
    world.zones[2].heal();
    world.clock.advance(Duration::from_secs(60));
    store.work_once().await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [1, 2]);
    assert_eq!(after.blob(&"team/app".parse().unwrap(), &content.0, None).await.unwrap().collect().await.unwrap(), content.1);
    assert_eq!(store.reconcile_policies().await.unwrap().changed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_blob_of_two_repositories_is_where_either_wants_it_until_one_lets_it_go() {
    let world = World::new(3);
    let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let content = blob(251, 5_000);
    let (registry, store) = registry(&world, &metadata, vec![rule("eu/**", &["near"]), rule("us/**", &["far"])]).await;
    registry.push_blob(&"eu/app".parse().unwrap(), &content.0, Some(5_000), once(content.1.clone())).await.unwrap();
    let mounted = registry.mount_blob(&"us/app".parse().unwrap(), &content.0, Some(&"eu/app".parse().unwrap())).await.unwrap();
    assert!(mounted.is_some());
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0, 2]);
    world.clock.advance(Duration::from_secs(3600));
    registry.delete_blob(&"eu/app".parse().unwrap(), &content.0).await.unwrap();
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [2]);
    assert_eq!(registry.blob(&"us/app".parse().unwrap(), &content.0, None).await.unwrap().collect().await.unwrap(), content.1);
}

#[tokio::test(start_paused = true)]
async fn the_last_copy_is_not_deleted_on_the_word_of_the_ledger_alone() {
    let world = World::new(2);
    let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let content = blob(252, 5_000);
    let (first, store) = registry(&world, &metadata, Vec::new()).await;
    first.push_blob(&"team/app".parse().unwrap(), &content.0, Some(5_000), once(content.1.clone())).await.unwrap();
    store.work_once().await.unwrap();
    // The copy that is to stay is lost behind everybody's back.
    world.medium(1).delete(&content.0).await.unwrap();
    let (_, store) = registry(&world, &metadata, vec![rule("**", &["middle"])]).await;
    world.clock.advance(Duration::from_secs(3600));
    store.reconcile_policies().await.unwrap();
    world.zones[1].set_plan(FaultPlan::down().only([Op::Put]));
    store.work_once().await.unwrap();
    assert_eq!(world.zones[0].calls(Op::Delete), 0);
    assert_eq!(store.read_all(&content.0).await.unwrap(), content.1, "what was to go is read from");
    world.zones[1].heal();
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(60));
        store.work_once().await.unwrap();
    }
    assert_eq!(world.holders(&content.0).await, [1], "it came back from the copy that was to go, and then that went");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_not_wanted_stays_until_one_that_is_was_read_and_is_right() {
    let world = World::new(2);
    let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let content = blob(256, 5_000);
    let (first, store) = registry(&world, &metadata, Vec::new()).await;
    first.push_blob(&"team/app".parse().unwrap(), &content.0, Some(5_000), once(content.1.clone())).await.unwrap();
    store.work_once().await.unwrap();
    // The copy that is to stay has rotted; its length is right, and nobody has read it for long.
    world.clock.advance(Duration::from_secs(24 * 3600));
    let mut rotten = content.1.to_vec();
    rotten[7] ^= 1;
    world.media[1].overwrite_unchecked(&content.0, rotten.into());
    let (_, store) = registry(&world, &metadata, vec![rule("**", &["middle"])]).await;
    store.reconcile_policies().await.unwrap();
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(60));
        store.work_once().await.unwrap();
        assert_eq!(store.read_all(&content.0).await.unwrap(), content.1);
    }
    assert_eq!(world.holders(&content.0).await, [1]);
    assert_eq!(world.media[1].read_all(&content.0).await.unwrap(), content.1, "made anew from the copy that was to go");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_comes_after_the_blob_was_deleted_is_deleted_as_well() {
    let world = World::new(2);
    let mut options = quick();
    options.lease = Duration::from_secs(60);
    (options.request_timeout, options.stall_timeout) = (Duration::from_secs(20), Duration::from_secs(20));
    let (store, other) = (world.process(options.clone()).await, world.process(options).await);
    let content = blob(257, 5_000);
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    let slow = Duration::from_secs(10);
    world.zones[1].set_plan(FaultPlan::default().with_latency(slow, slow).only([Op::Put]));
    let copying = {
        let store = store.clone();
        tokio::spawn(async move { store.work_once().await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    // As if the copier stood still for an hour.
    store.delete(&content.0).await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    other.work_once().await.unwrap();
    copying.await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(3600));
    store.work_once().await.unwrap();
    let rows = world.ledger.placements(&[content.0]).await.unwrap();
    assert_eq!((world.holders(&content.0).await, world.zones[1].calls(Op::Delete)), (Vec::new(), 2), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_always_breaks_off_is_made_anew() {
    let world = World::new(2);
    let store = world.process(quick()).await;
    let content = blob(258, 500_000);
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    store.work_once().await.unwrap();
    world.zones[0].set_plan(FaultPlan::default().with_cuts(1.0).only([Op::Read]));
    for placement in world.ledger.placements(&[content.0]).await.unwrap() {
        world.ledger.observe(&content.0, &placement.zone, placement.generation, &Sighting::Suspect("of a test".to_owned())).await.unwrap();
    }
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(600));
        store.work_once().await.unwrap();
    }
    assert!(world.zones[0].calls(Op::Put) >= 2, "it was put there once more");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_a_full_zone_does_not_take_leaves_nothing_in_it() {
    let world = World::new(2);
    let mut options = in_pieces();
    options.checkpoint = 1 << 30;
    let store = world.process(options).await;
    let content = blob(259, 500_000);
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    world.zones[1].set_plan(FaultPlan::default().with_space(200_000));
    store.work_once().await.unwrap();
    assert!(world.zones[1].calls(Op::Write) > 0);
    let left: Vec<_> = world.medium(1).uploads(Timestamp::from_millis(i64::MAX)).try_collect().await.unwrap();
    assert!(left.is_empty() && !world.medium(1).contains(&content.0).await.unwrap(), "{left:?}");
    world.zones[1].heal();
    world.clock.advance(Duration::from_secs(600));
    store.work_once().await.unwrap();
    assert_eq!(world.medium(1).read_all(&content.0).await.unwrap(), content.1);
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_hangs_does_not_keep_abandoned_uploads_in_the_others() {
    let world = World::new(3);
    let store = world.process(quick()).await;
    for zone in [0, 2] {
        let mut upload = world.medium(zone).begin(WriteOptions::default()).await.unwrap();
        upload.write(b"left behind".as_slice().into()).await.unwrap();
        upload.suspend().await.unwrap();
    }
    world.zones[1].set_plan(FaultPlan::black_hole());
    let found: Vec<_> = store.uploads(Timestamp::from_millis(i64::MAX)).try_collect().await.unwrap();
    assert_eq!(found.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_the_ledger_has_never_heard_of_is_found_verified_and_copied() {
    let world = World::new(2);
    let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let content = blob(253, 5_000);
    let plain = Registry::builder(Arc::clone(world.medium(1)), Arc::<MemoryMetadataStore>::clone(&metadata)).build();
    plain.push_blob(&"team/app".parse().unwrap(), &content.0, Some(5_000), once(content.1.clone())).await.unwrap();
    let (registry, store) = registry(&world, &metadata, Vec::new()).await;
    assert_eq!(store.reconcile_policies().await.unwrap().adopted, 1);
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound, "not trusted before it was read");
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0, 1]);
    assert_eq!(registry.blob(&"team/app".parse().unwrap(), &content.0, None).await.unwrap().collect().await.unwrap(), content.1);
    let observed: Vec<_> = world.ledger.placements(&[content.0]).await.unwrap().iter().map(|placement| placement.observed).collect();
    assert_eq!(observed, [Observed::Present; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_new_zone_that_is_away_at_the_start_is_filled_as_soon_as_it_comes() {
    let world = World::new(2);
    let metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let content = blob(255, 5_000);
    world.zones[1].set_plan(FaultPlan::down());
    let (registry, store) = registry(&world, &metadata, Vec::new()).await;
    let workers = store.start();
    registry.push_blob(&"team/app".parse().unwrap(), &content.0, Some(5_000), once(content.1.clone())).await.unwrap();
    // Long after the first comparison, and long before the next.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.holders(&content.0).await, [0]);
    world.zones[1].heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.holders(&content.0).await, [0, 1]);
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bytes_that_a_deletion_overtook_are_found_and_deleted() {
    let world = World::new(1);
    let store = world.process(quick()).await;
    let content = blob(254, 5_000);
    let latency = Duration::from_secs(10);
    world.zones[0].set_plan(FaultPlan::default().with_latency(latency, latency).only([Op::Put]));
    let writing = {
        let (store, content) = (store.clone(), content.clone());
        tokio::spawn(async move { store.put(&content.0, WriteOptions::default(), once(content.1)).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    store.delete(&content.0).await.unwrap();
    store.work_once().await.unwrap();
    let _ = writing.await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    store.work_once().await.unwrap();
    let visible = store.stat(&content.0).await.is_ok();
    assert_eq!(world.medium(0).contains(&content.0).await.unwrap(), visible, "there is nothing that nobody knows of");
}
