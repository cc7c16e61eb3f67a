//! Reads come from the closest zone that works, and go on in the next.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::{ByteRange, ReadOptions, ZONE_OBJECT};
use registry_core::testing::{Damage, Fault, FaultPlan, Op};
use registry_core::{BlobStore, BlobStoreExt as _, Digest, ErrorKind, Result};
use replication::ledger::Observed;
use replication::{Options, ReplicatedStore};
use tokio::time::Instant;

use crate::support::{World, blob, quick};

/// A store over some zones, all of which have this blob.
async fn everywhere(world: &World, options: Options, content: &(Digest, Bytes)) -> ReplicatedStore {
    let store = world.process(options).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    store.work_once().await.unwrap();
    for zone in 0..world.zones.len() {
        assert_eq!(world.medium(zone).read_all(&content.0).await.unwrap(), content.1);
    }
    store
}

/// Reads chunk by chunk, until the end or an error.
async fn drain(store: &ReplicatedStore, digest: &Digest, options: ReadOptions) -> (Vec<u8>, Result<()>) {
    let mut reader = match store.read(digest, options).await {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut all = Vec::new();
    while let Some(chunk) = reader.stream.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

async fn observed(world: &World, digest: &Digest) -> Vec<Observed> {
    world.ledger.placements(&[*digest]).await.unwrap().iter().map(|placement| placement.observed).collect()
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_was_not_itself_is_read_from_as_soon_as_it_is_again() {
    let world = World::new(1);
    let store = world.process(quick()).await;
    let content = blob(120, 5_000);
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    let objects = world.medium(0).named().unwrap();
    let identity = objects.get(ZONE_OBJECT).await.unwrap().unwrap();
    objects.delete(ZONE_OBJECT).await.unwrap();
    // The probe notices that it is gone, and will look again only after a while.
    let mut options = quick();
    (options.reprobe_interval, options.probe_interval) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let other = world.process(options).await;
    let workers = other.start();
    for kind in [other.stat(&content.0).await.unwrap_err().kind(), other.read_all(&content.0).await.unwrap_err().kind()] {
        assert_eq!(kind, ErrorKind::Unavailable, "it is known to be there, and nobody else can be written to");
    }
    objects.put(ZONE_OBJECT, identity).await.unwrap();
    assert_eq!(other.stat(&content.0).await.unwrap().size, 5_000);
    assert_eq!(other.read_all(&content.0).await.unwrap(), content.1);
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_the_closest_zone_the_reader_gets_every_byte_once() {
    let content = blob(1, 1_000_003);
    let faults = [
        Fault::Before(ErrorKind::Unavailable),
        Fault::Before(ErrorKind::TimedOut),
        Fault::Before(ErrorKind::NotFound),
        Fault::HangBefore,
        Fault::HangAfter,
        Fault::Cut(0),
        Fault::Cut(1),
        Fault::Cut(500_000),
        Fault::Cut(1_000_002),
        Fault::Truncate(0),
        Fault::Truncate(333_333),
        Fault::Truncate(1_000_002),
        Fault::Stall(0),
        Fault::Stall(777_777),
    ];
    for fault in faults {
        let world = World::new(2);
        let store = everywhere(&world, quick(), &content).await;
        world.zones[0].fail_next(Op::Read, fault);
        let start = Instant::now();
        let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
        end.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(read == content.1, "{fault:?}: {} bytes", read.len());
        assert!(start.elapsed() <= Duration::from_millis(2100), "{fault:?}: within the time-out, not {:?}", start.elapsed());
        assert_eq!(world.zones[1].calls(Op::Read), 1, "{fault:?}: the other zone was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_goes_on_at_the_same_byte_too() {
    let content = blob(2, 300_000);
    for (range, expected) in [
        (ByteRange::FromTo(1_000, Some(200_999)), 1_000..201_000),
        (ByteRange::FromTo(250_000, None), 250_000..300_000),
        (ByteRange::Last(70_000), 230_000..300_000),
    ] {
        let world = World::new(2);
        let store = everywhere(&world, quick(), &content).await;
        world.zones[0].fail_next(Op::Read, Fault::Cut(40_000));
        let (read, end) = drain(&store, &content.0, ReadOptions::default().with_range(range)).await;
        end.unwrap();
        assert!(read == content.1[expected], "{range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_zone_that_is_cut_again_and_again_still_gives_all_of_it() {
    let content = blob(3, 1_000_000);
    let world = World::new(1);
    let store = everywhere(&world, quick(), &content).await;
    for _ in 0..4 {
        world.zones[0].fail_next(Op::Read, Fault::Cut(200_000));
    }
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read == content.1);
    for _ in 0..20 {
        world.zones[0].fail_next(Op::Read, Fault::Cut(10));
    }
    let (_, end) = drain(&store, &content.0, ReadOptions::default()).await;
    assert!(end.is_err(), "but not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_was_read_halfway_is_never_said_not_to_exist() {
    let content = blob(121, 1_000_000);
    let world = World::new(1);
    let store = everywhere(&world, quick(), &content).await;
    world.zones[0].fail_next(Op::Read, Fault::Cut(200_000));
    let mut reader = store.read(&content.0, ReadOptions::default()).await.unwrap();
    reader.stream.next().await.unwrap().unwrap();
    world.medium(0).delete(&content.0).await.unwrap();
    let chunks: Vec<_> = reader.stream.collect().await;
    let error = chunks.last().unwrap().as_ref().unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_on_the_way_never_completes_a_blob_and_the_copy_is_cleared() {
    let content = blob(4, 400_000);
    let world = World::new(2);
    let store = everywhere(&world, quick(), &content).await;
    world.zones[0].fail_next(Op::Read, Fault::Flip(200_000));
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(read.len() < content.1.len(), "the last chunk is held back");
    assert_eq!(observed(&world, &content.0).await.iter().filter(|one| **one == Observed::Suspect).count(), 1);
    // Skipped until it was verified.
    let before = world.zones[0].calls(Op::Read);
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read == content.1 && world.zones[0].calls(Op::Read) == before);
    store.work_once().await.unwrap();
    assert_eq!(observed(&world, &content.0).await, [Observed::Present; 2], "it was the wire, not the medium");
}

#[tokio::test(start_paused = true)]
async fn a_small_blob_that_comes_damaged_is_read_from_another_zone_before_anybody_notices() {
    let content = blob(5, 1_000);
    let world = World::new(2);
    let store = everywhere(&world, quick(), &content).await;
    world.zones[0].damage(&content.0, Damage::Flip(77));
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read == content.1);
    assert_eq!(store.stat(&content.0).await.unwrap().size, 1_000);
    store.work_once().await.unwrap();
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read == content.1);
    assert_eq!(world.zones[0].read_all(&content.0).await.unwrap(), content.1, "repaired on the medium");
    assert_eq!(observed(&world, &content.0).await, [Observed::Present; 2]);
}

#[tokio::test(start_paused = true)]
async fn the_only_copy_that_is_damaged_is_kept_refused_and_reported_until_it_is_pushed_again() {
    let content = blob(6, 1_000);
    let world = World::new(1);
    let store = everywhere(&world, quick(), &content).await;
    world.zones[0].damage(&content.0, Damage::Flip(5));
    let (_, end) = drain(&store, &content.0, ReadOptions::default()).await;
    assert!(end.is_err());
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound, "HEAD does not lie");
    store.work_once().await.unwrap();
    assert_eq!(observed(&world, &content.0).await, [Observed::Damaged]);
    assert!(world.medium(0).contains(&content.0).await.unwrap(), "kept");
    let (_, end) = drain(&store, &content.0, ReadOptions::default()).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::NotFound, "refused");
    let failures = store.failures(10).await.unwrap();
    assert!(failures.len() == 1 && failures[0].digest == content.0 && failures[0].error.contains("digest"), "reported: {failures:?}");
    assert_eq!(store.status().await.unwrap()[0].suspects, 1);

    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read == content.1);
    assert!(store.failures(10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_gone_is_missed_by_head_and_made_again() {
    let content = blob(7, 1_000);
    let world = World::new(2);
    let store = everywhere(&world, quick(), &content).await;
    world.medium(0).delete(&content.0).await.unwrap();
    assert_eq!(store.stat(&content.0).await.unwrap().size, 1_000, "the other zone has it");
    store.work_once().await.unwrap();
    assert_eq!(world.medium(0).read_all(&content.0).await.unwrap(), content.1);
    world.medium(0).delete(&content.0).await.unwrap();
    world.medium(1).delete(&content.0).await.unwrap();
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.work_once().await.unwrap();
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    store.work_once().await.unwrap();
    assert_eq!(observed(&world, &content.0).await, [Observed::Present; 2], "pushing again heals");
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_fails_is_passed_over_until_the_probe_finds_it_in_order() {
    let content = blob(8, 1_000);
    let world = World::new(2);
    let store = everywhere(&world, quick(), &content).await;
    let workers = store.start();
    world.zones[0].set_plan(FaultPlan::black_hole());
    let start = Instant::now();
    drain(&store, &content.0, ReadOptions::default()).await.1.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(2), "the first reader finds out");
    let start = Instant::now();
    for _ in 0..50 {
        drain(&store, &content.0, ReadOptions::default()).await.1.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(1), "the others do not wait: {:?}", start.elapsed());
    assert!(!store.status().await.unwrap()[0].healthy);
    world.zones[0].heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(store.status().await.unwrap()[0].healthy);
    let before = world.zones[0].calls(Op::Read);
    drain(&store, &content.0, ReadOptions::default()).await.1.unwrap();
    assert_eq!(world.zones[0].calls(Op::Read), before + 1, "the closest zone serves again");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_a_blob_that_nobody_can_read_now_is_unavailable_and_head_asks_for_it_to_be_pushed() {
    let content = blob(9, 1_000);
    let world = World::new(2);
    let store = world.process(quick()).await;
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    world.zones[0].set_plan(FaultPlan::down());
    let (_, end) = drain(&store, &content.0, ReadOptions::default()).await;
    let error = end.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.put_bytes(&content.0, content.1.clone()).await.unwrap();
    assert_eq!(world.medium(1).read_all(&content.0).await.unwrap(), content.1);
    assert_eq!(store.stat(&content.0).await.unwrap().size, 1_000);
    world.zones[1].set_plan(FaultPlan::down());
    assert_eq!(store.stat(&content.0).await.unwrap_err().kind(), ErrorKind::Unavailable, "no zone can take it either");
}

#[tokio::test(start_paused = true)]
async fn a_hedged_read_asks_the_next_zone_when_the_first_has_not_begun() {
    let content = blob(10, 1_000);
    let world = World::new(2);
    let mut options = quick();
    options.hedge_after = Some(Duration::from_millis(100));
    let store = everywhere(&world, options, &content).await;
    world.zones[0].fail_next(Op::Read, Fault::HangBefore);
    let start = Instant::now();
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read == content.1);
    assert!(start.elapsed() < Duration::from_millis(150), "{:?}", start.elapsed());
    drain(&store, &content.0, ReadOptions::default()).await.1.unwrap();
    assert_eq!(world.zones[1].calls(Op::Read), 1, "a first zone that is quick enough is the only one asked");
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_is_read_like_any_other() {
    let content = blob(11, 0);
    let world = World::new(2);
    let store = everywhere(&world, quick(), &content).await;
    world.zones[0].fail_next(Op::Read, Fault::Before(ErrorKind::Unavailable));
    let (read, end) = drain(&store, &content.0, ReadOptions::default()).await;
    end.unwrap();
    assert!(read.is_empty());
}

#[tokio::test(start_paused = true)]
async fn measured_closeness_prefers_the_quicker_zone() {
    let content = blob(12, 1_000);
    let world = World::new(2);
    everywhere(&world, quick(), &content).await;
    let slow = Duration::from_millis(300);
    world.zones[0].set_plan(FaultPlan::default().with_latency(slow, slow));
    let store = world.measured(quick()).await;
    let before = world.zones[0].calls(Op::Read);
    for _ in 0..5 {
        drain(&store, &content.0, ReadOptions::default()).await.1.unwrap();
    }
    assert_eq!(world.zones[0].calls(Op::Read), before, "the slow zone is not asked");
}
