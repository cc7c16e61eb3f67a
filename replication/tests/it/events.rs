//! What operators are told of.

use std::sync::Arc;
use std::time::Duration;

use registry_core::MetadataStore;
use registry_core::blob::once;
use registry_core::memory::MemoryMetadataStore;
use registry_core::testing::{FaultPlan, Op};
use registry_core::{BlobStoreExt as _, Registry, VerifyReads};
use replication::{Event, EventSink, Options, PlacementPolicy, ReplicatedStore};

use crate::support::{Heard, World, blob, quick};

fn kinds(expected: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    expected.iter().map(|(kind, zone)| (*kind, (*zone).to_owned())).collect()
}

async fn site(world: &World, options: Options) -> (ReplicatedStore, Registry, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let metadata: Arc<dyn MetadataStore> = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&world.clock)));
    let sink: Arc<dyn EventSink> = Arc::<Heard>::clone(&heard);
    let store = world.telling(options, PlacementPolicy::default(), Arc::clone(&metadata), sink).await;
    let registry = Registry::builder(Arc::new(store.clone()), metadata).verify_reads(VerifyReads::Never).build();
    (store, registry, heard)
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

#[tokio::test(start_paused = true)]
async fn copies_and_their_faults_are_told_once() {
    let world = World::new(3);
    let (store, registry, heard) = site(&world, quick()).await;
    let workers = store.start();
    let (digest, content) = blob(1, 1000);
    registry.push_blob(&"team/app".parse().unwrap(), &digest, None, once(content.clone())).await.unwrap();
    settle().await;
    let mut events = heard.take();
    events.sort_by_key(|event| event.zone().to_owned());
    let [Event::Replicated { zone, digest: of, size, waited }, Event::Replicated { zone: other, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((zone.as_str(), other.as_str(), *of, *size), ("far", "middle", digest, 1000));
    assert!(*waited < Duration::from_secs(10), "{waited:?}");
    // A copy that rots is found by whoever reads it, and made again.
    let mut rotten = content.to_vec();
    rotten[3] ^= 1;
    world.media[0].overwrite_unchecked(&digest, rotten.into());
    assert_eq!(store.read_all(&digest).await.unwrap(), content);
    settle().await;
    let events = heard.take();
    let [Event::Corrupt { zone, digest: of, reason }, Event::Repaired { zone: repaired, size: 1000, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((zone.as_str(), repaired.as_str(), *of), ("near", "near", digest));
    assert!(reason.contains("its 1000 bytes have the digest sha256:"), "{reason}");
    // So is one that goes away, even if it cannot be made at first.
    world.medium(0).delete(&digest).await.unwrap();
    world.zones[0].set_plan(FaultPlan::default().with_latency(Duration::from_secs(1), Duration::ZERO));
    assert_eq!(store.read_all(&digest).await.unwrap(), content);
    settle().await;
    assert_eq!(heard.kinds(), kinds(&[("missing", "near"), ("repaired", "near")]));
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_last_copy_that_is_wrong_is_told_of_once_however_often_it_is_looked_at() {
    let world = World::new(1);
    let mut options = quick();
    options.max_backoff = Duration::from_secs(1);
    let (store, registry, heard) = site(&world, options).await;
    let workers = store.start();
    let (digest, content) = blob(3, 1000);
    registry.push_blob(&"team/app".parse().unwrap(), &digest, None, once(content.clone())).await.unwrap();
    world.media[0].overwrite_unchecked(&digest, content.slice(..999));
    let reads = world.zones[0].calls(Op::Read);
    store.read_all(&digest).await.unwrap_err();
    settle().await;
    assert!(world.zones[0].calls(Op::Read) > reads + 10, "it is looked at again and again");
    assert_eq!(heard.kinds(), kinds(&[("corrupt", "near")]));
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_never_was_there_and_is_not_wanted_is_not_told_to_be_missing() {
    let world = World::new(3);
    let (store, registry, heard) = site(&world, quick()).await;
    world.zones[1].set_plan(FaultPlan::down());
    world.zones[2].set_plan(FaultPlan::down());
    let workers = store.start();
    let (digest, content) = blob(4, 1000);
    registry.push_blob(&"team/app".parse().unwrap(), &digest, None, once(content)).await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    store.drain("middle").await.unwrap();
    world.zones[1].heal();
    settle().await;
    let told = heard.kinds();
    assert!(!told.iter().any(|(kind, _)| *kind == "missing"), "{told:?}");
    // It comes back, and a copy of it is made for the first time, at the second attempt.
    store.uncordon("middle").await.unwrap();
    world.zones[2].heal();
    settle().await;
    let told = heard.kinds();
    assert!(told.contains(&("replicated", "middle".to_owned())) && !told.iter().any(|(kind, _)| *kind == "repaired"), "{told:?}");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn zones_that_are_down_and_late_are_told_when_it_begins_and_when_it_ends() {
    let world = World::new(3);
    let mut options = quick();
    options.lag_alert = Duration::from_secs(600);
    let (store, registry, heard) = site(&world, options).await;
    let workers = store.start();
    let minutes = async |count: u64| tokio::time::sleep(Duration::from_secs(count * 60)).await;
    minutes(1).await;
    world.zones[2].set_plan(FaultPlan::down());
    minutes(2).await;
    let events = heard.take();
    assert!(matches!(&events[..], [Event::ZoneDown { zone, reason }] if zone == "far" && !reason.is_empty()), "{events:?}");
    let (digest, content) = blob(2, 1000);
    registry.push_blob(&"team/app".parse().unwrap(), &digest, None, once(content)).await.unwrap();
    minutes(9).await;
    assert_eq!(heard.kinds(), kinds(&[("replicated", "middle")]));
    minutes(3).await;
    let events = heard.take();
    let [Event::Late { zone, lag, copies: 1 }] = &events[..] else { panic!("{events:?}") };
    assert!(zone == "far" && *lag > Duration::from_secs(600) && *lag < Duration::from_secs(660), "{events:?}");
    minutes(60).await;
    assert_eq!(heard.take(), [], "it is not told again");
    world.zones[2].heal();
    minutes(5).await;
    assert_eq!(heard.kinds(), kinds(&[("in_time", "far"), ("replicated", "far"), ("zone_up", "far")]));
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_jobs_are_told() {
    let world = World::new(3);
    let (store, registry, heard) = site(&world, quick()).await;
    for number in 0..40 {
        let (digest, content) = blob(100 + number, 100);
        registry.push_blob(&"team/app".parse().unwrap(), &digest, None, once(content)).await.unwrap();
    }
    store.work_once().await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    heard.take();
    let workers = store.start();
    for number in 0..20 {
        world.medium(1).delete(&blob(100 + number, 100).0).await.unwrap();
    }
    store.reconcile("middle").await.unwrap();
    settle().await;
    let events = heard.take();
    let [Event::JobFailed { job: "reconcile", zone, reason }] = &events[..] else { panic!("{events:?}") };
    assert!(zone == "middle" && reason.contains("20 of the 40 blobs that are to be in the zone are not"), "{reason}");
    store.drain("near").await.unwrap();
    settle().await;
    let told: Vec<_> = heard.kinds().into_iter().filter(|(_, zone)| zone == "near").collect();
    assert_eq!(told, kinds(&[("drained", "near")]));
    store.remove("near").await.unwrap();
    settle().await;
    assert_eq!(heard.kinds(), kinds(&[("removed", "near")]));
    workers.stop().await;
}
