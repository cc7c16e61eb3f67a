//! Writes go to the closest zone that works and is allowed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use registry_core::blob::{Assurance, ResumeOptions, WriteOptions, once};
use registry_core::testing::{Fault, FaultPlan, FaultStore, Op};
use registry_core::{BlobStore, BlobStoreExt as _, Error, ErrorKind};
use replication::ledger::{Claim, Observed, Outcome};
use replication::{PlacementPolicy, PolicyRule, TooFewCopies, ZoneId, ZoneSet};
use tokio::time::Instant;

use crate::support::{NAMES, World, blob, quick};

fn scoped(scope: &str) -> WriteOptions {
    WriteOptions::default().with_scope(scope)
}

fn rule(pattern: &str, zones: &[&str]) -> PolicyRule {
    PolicyRule::new(pattern.parse().unwrap(), ZoneSet::Named(zones.iter().map(ToString::to_string).collect()))
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_first_zone_fails_goes_to_the_next_with_every_byte() {
    let content = blob(20, 500_000);
    let faults = [
        Fault::Before(ErrorKind::Unavailable),
        Fault::Before(ErrorKind::Denied),
        Fault::HangBefore,
        Fault::After(ErrorKind::Unavailable),
        Fault::HangAfter,
        Fault::Stall(100_000),
    ];
    for fault in faults {
        let world = World::new(2);
        let mut options = quick();
        options.commit_timeout = Duration::from_secs(4);
        let store = world.process(options).await;
        world.zones[0].fail_next(Op::Put, fault);
        let chunks: Vec<_> = content.1.chunks(7_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let put = store.put(&content.0, WriteOptions::default(), Box::pin(stream::iter(chunks)));
        put.await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(world.holders(&content.0).await.contains(&1), "{fault:?}");
        store.work_once().await.unwrap();
        assert_eq!(store.read_all(&content.0).await.unwrap(), content.1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_the_clients_fault_is_not_tried_elsewhere() {
    let content = blob(21, 1_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    let wrong = store.put(&content.0, WriteOptions::default(), once(Bytes::from_static(b"other"))).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::DigestInvalid);
    let broken = stream::iter([Ok(content.1.slice(..100)), Err(Error::new(ErrorKind::Interrupted, "the client went away"))]);
    let cut = store.put(&content.0, WriteOptions::default(), Box::pin(broken)).await;
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(world.zones[1].calls(Op::Put), 0);
    assert!(store.status().await.unwrap()[0].healthy);
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_no_slow_zone() {
    let content = blob(22, 3_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    let chunks: Vec<_> = content.1.chunks(1_000).map(Bytes::copy_from_slice).collect();
    let slow = stream::unfold(chunks.into_iter(), |mut chunks| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Some((Ok(chunks.next()?), chunks))
    });
    store.put(&content.0, WriteOptions::default(), Box::pin(slow)).await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_zone_is_passed_over_and_owed_a_copy() {
    for plan in [FaultPlan::down(), FaultPlan::black_hole()] {
        let world = World::new(3);
        let store = world.process(quick()).await;
        let workers = store.start();
        world.zones[0].set_plan(plan);
        let blobs: Vec<_> = (0..20).map(|n| blob(100 + n, 2_000)).collect();
        for content in &blobs {
            store.put_bytes(&content.0, content.1.clone()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        for content in &blobs {
            assert_eq!(world.holders(&content.0).await, [1, 2], "the living zones have it");
        }
        assert_eq!(store.status().await.unwrap()[0].backlog, 20);
        world.zones[0].heal();
        tokio::time::sleep(Duration::from_secs(60)).await;
        for content in &blobs {
            assert_eq!(world.holders(&content.0).await, [0, 1, 2]);
        }
        assert_eq!(world.zones[1].calls(Op::Put) + world.zones[2].calls(Op::Put), 40, "no completed copy is made again");
        workers.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_moves_to_another_zone_as_long_as_nothing_was_put_aside() {
    let content = blob(23, 9_000);
    for op in [Op::Begin, Op::Write, Op::Suspend, Op::Commit] {
        let world = World::new(2);
        let store = world.process(quick()).await;
        world.zones[0].fail_next(op, Fault::Before(ErrorKind::Unavailable));
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        for chunk in content.1.chunks(4_000) {
            upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        if op == Op::Suspend {
            let token = upload.suspend().await.unwrap();
            upload = store.resume(ResumeOptions::new(token, 2)).await.unwrap();
        }
        upload.commit(&content.0).await.unwrap_or_else(|error| panic!("{op:?}: {error}"));
        assert_eq!(world.holders(&content.0).await, [1], "{op:?}");
        assert_eq!(store.read_all(&content.0).await.unwrap(), content.1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_zone_died_is_unavailable_at_first_and_then_unknown() {
    let content = blob(24, 9_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    let mut upload = store.begin(scoped("team/app").with_epoch(1)).await.unwrap();
    upload.write(content.1.clone()).await.unwrap();
    let token = upload.suspend().await.unwrap();
    world.zones[0].set_plan(FaultPlan::down());
    let mut kinds = Vec::new();
    for epoch in 2..7 {
        kinds.push(store.resume(ResumeOptions::new(token.clone(), epoch)).await.unwrap_err().kind());
    }
    assert_eq!(kinds[0], ErrorKind::Unavailable);
    assert_eq!(kinds[4], ErrorKind::UploadUnknown, "{kinds:?}");
    // Another process, which sees the zone, goes on.
    world.zones[0].heal();
    let other = world.process(quick()).await;
    let mut upload = other.resume(ResumeOptions::new(token, 9)).await.unwrap();
    assert_eq!(upload.offset(), 9_000);
    upload.commit(&content.0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_repository_is_even_staged_outside_its_zones() {
    let content = blob(25, 2_000);
    let world = World::new(3);
    let policy = PlacementPolicy::new(vec![rule("eu/**", &["far"])]);
    let store = world.with_policy(quick(), policy).await;
    store.put(&content.0, scoped("eu/app"), once(content.1.clone())).await.unwrap();
    let mut upload = store.begin(scoped("eu/app").with_epoch(1)).await.unwrap();
    upload.write(content.1.clone()).await.unwrap();
    upload.suspend().await.unwrap();
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [2]);
    for zone in 0..2 {
        assert_eq!(world.zones[zone].calls(Op::Begin) + world.zones[zone].calls(Op::Put) + world.zones[zone].calls(Op::Write), 0);
    }
    world.zones[2].set_plan(FaultPlan::down());
    let refused = store.put(&blob(26, 10).0, scoped("eu/app"), once(blob(26, 10).1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "rather not at all than elsewhere");
    // A repository of another policy holds the same blob: the union.
    world.zones[2].heal();
    store.retain(&content.0, "us/app").await.unwrap();
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_push_waits_for_the_copies_that_its_policy_demands() {
    let content = blob(27, 2_000);
    let refuse = rule("prod/**", &["near", "middle"]).with_min_copies(2).with_min_copies_timeout(Duration::from_secs(10));
    let warn = rule("test/**", &["near", "middle"]).with_min_copies(2).with_too_few_copies(TooFewCopies::Warn);
    let world = World::new(3);
    let store = world.with_policy(quick(), PlacementPolicy::new(vec![refuse, warn])).await;
    let workers = store.start();
    store.put(&content.0, scoped("prod/app"), once(content.1.clone())).await.unwrap();
    assert_eq!(store.await_copies(&[content.0], "prod/app").await.unwrap(), Assurance::Met);
    assert_eq!(world.holders(&content.0).await, [0, 1]);
    world.zones[1].set_plan(FaultPlan::down());
    let content = blob(28, 2_000);
    store.put(&content.0, scoped("prod/app"), once(content.1.clone())).await.unwrap();
    let start = Instant::now();
    let refused = store.await_copies(&[content.0], "prod/app").await.unwrap_err();
    assert!(refused.is_retryable() && refused.retry_after().is_some());
    assert!((9..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(matches!(store.await_copies(&[content.0], "test/app").await.unwrap(), Assurance::Fewer(_)));
    assert_eq!(store.await_copies(&[content.0], "other/app").await.unwrap(), Assurance::Met, "one copy is enough there");
    world.zones[1].heal();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(store.await_copies(&[content.0], "prod/app").await.unwrap(), Assurance::Met, "the same push succeeds later");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn copies_count_where_all_of_an_image_is() {
    let rule = rule("**", &NAMES).with_min_copies(2).with_min_copies_timeout(Duration::from_secs(1));
    let world = World::new(3);
    let store = world.with_policy(quick(), PlacementPolicy::new(vec![rule])).await;
    let layers = [blob(33, 2_000), blob(34, 2_000)];
    for (layer, away) in layers.iter().zip([2, 1]) {
        world.zones.iter().for_each(FaultStore::heal);
        world.zones[away].set_plan(FaultPlan::down().only([Op::Put]));
        store.put(&layer.0, scoped("app"), once(layer.1.clone())).await.unwrap();
        store.work_once().await.unwrap();
    }
    let digests = layers.map(|layer| layer.0);
    assert_eq!((world.holders(&digests[0]).await, world.holders(&digests[1]).await), (vec![0, 1], vec![0, 2]));
    for digest in &digests {
        assert_eq!(store.await_copies(&[*digest], "app").await.unwrap(), Assurance::Met, "each is in two zones");
    }
    let refused = store.await_copies(&digests, "app").await.unwrap_err();
    assert!(refused.is_retryable(), "and both are in one only");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_being_deleted_somewhere_is_written_elsewhere_and_there_only_when_that_is_over() {
    let content = blob(29, 2_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    store.work_once().await.unwrap();
    store.delete(&content.0).await.unwrap();
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound, "gone at once");
    // Somebody has begun to delete it in the closest zone, and is not heard of for a while.
    let zones = world.ledger.zones().await.unwrap();
    let near = zones.iter().find(|zone| zone.name == NAMES[0]).unwrap().id.clone();
    let claim =
        Claim { zone: near.clone(), sources: Vec::new(), limit: 1, lease: Duration::from_secs(10), look_again: Duration::from_secs(1) };
    let task = world.ledger.claim(&claim).await.unwrap().pop().unwrap();
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    assert_eq!(placement(&world, &content.0, &near).await, Observed::Deleting);
    let puts = world.zones[0].calls(Op::Put);
    store.work_once().await.unwrap();
    assert_eq!(world.zones[0].calls(Op::Put), puts, "nothing is written under a delete that may be on its way");
    // Its delete arrives after all.
    world.medium(0).delete(&content.0).await.unwrap();
    world.ledger.complete(&task, &Outcome::Deleted).await.unwrap();
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [0, 1]);
    assert_eq!(store.read_all(&content.0).await.unwrap(), content.1);
}

async fn placement(world: &World, digest: &registry_core::Digest, zone: &ZoneId) -> Observed {
    world.ledger.placements(&[*digest]).await.unwrap().iter().find(|placement| placement.zone == *zone).unwrap().observed
}

#[tokio::test(start_paused = true)]
async fn with_one_zone_a_push_waits_for_the_delete_and_then_says_when_to_come_back() {
    let content = blob(30, 2_000);
    let world = World::new(1);
    let mut options = quick();
    options.deletion_patience = Duration::from_secs(3);
    let store = world.process(options).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    store.delete(&content.0).await.unwrap();
    let zone = world.ledger.zones().await.unwrap()[0].id.clone();
    let claim = Claim { zone, sources: Vec::new(), limit: 1, lease: Duration::from_secs(10), look_again: Duration::from_secs(1) };
    assert_eq!(world.ledger.claim(&claim).await.unwrap().len(), 1);
    let start = Instant::now();
    let refused = store.put_bytes(&content.0, content.1.clone()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Unavailable && refused.retry_after().is_some(), "{refused}");
    assert!(start.elapsed() >= Duration::from_secs(3));
    let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
    upload.write(content.1.clone()).await.unwrap();
    assert_eq!(upload.commit(&content.0).await.unwrap_err().kind(), ErrorKind::Unavailable);
    world.clock.advance(Duration::from_secs(16));
    upload.commit(&content.0).await.unwrap();
    assert_eq!(store.read_all(&content.0).await.unwrap(), content.1, "the lease and half of it again are over");
}

#[tokio::test(start_paused = true)]
async fn a_late_delete_does_not_take_what_was_pushed_since() {
    let content = blob(31, 2_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    let past = std::time::Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(store.delete_before(&content.0, past).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(store.read_all(&content.0).await.unwrap(), content.1);
    // The ledger refuses if somebody meant to write it after the deleter had looked.
    let seen = world.ledger.placements(&[content.0]).await.unwrap()[0].touched_at;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    let condemned = world.ledger.condemn(&content.0, Some(seen), Duration::ZERO, &[]).await;
    assert_eq!(condemned.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.read_all(&content.0).await.unwrap(), content.1);
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_not_the_one_it_was_gets_nothing() {
    let content = blob(32, 2_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    world.medium(0).named().unwrap().delete(registry_core::blob::ZONE_OBJECT).await.unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    assert_eq!(world.holders(&content.0).await, [1]);
    store.work_once().await.unwrap();
    assert_eq!(world.holders(&content.0).await, [1], "nor a copy");
    let again = world.process(quick()).await;
    assert!(!again.status().await.unwrap()[0].healthy, "nor after a restart");
    again.put_bytes(&content.0, content.1.clone()).await.unwrap();
    assert_eq!(world.holders(&content.0).await, [1]);
}

#[tokio::test]
async fn one_place_under_two_names_is_refused() {
    let world = World::new(1);
    let zone = |name: &str| replication::Zone::new(name, Arc::new(world.zones[0].clone()));
    let built = replication::ReplicatedStore::builder(Arc::clone(&world.ledger)).zone(zone("one")).zone(zone("two")).build().await;
    assert!(matches!(built.unwrap_err(), replication::BuildError::SamePlace(..)));
}
