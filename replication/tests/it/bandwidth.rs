//! Limits on what goes to and from a zone, and the hours of work in the background.

use std::time::Duration;

use bytes::Bytes;
use registry_core::blob::{WriteOptions, once};
use registry_core::{BlobStore as _, BlobStoreExt as _, Clock as _};
use replication::{Bandwidth, Hours, ReplicatedStore};
use tokio::time::Instant;

use crate::support::{World, blob, quick};

const KIB: u64 = 1024;

/// A process that is limited in one zone.
async fn limited(world: &World, zone: usize, bandwidth: Bandwidth) -> ReplicatedStore {
    let mut options = quick();
    options.background_share = 1.0;
    (options.compare_interval, options.scrub_interval) = (Duration::ZERO, Duration::ZERO);
    world.limited(options, zone, bandwidth, None).await
}

/// Seconds that something takes.
async fn seconds<T>(work: impl Future<Output = T>) -> (f64, T) {
    let start = Instant::now();
    let done = work.await;
    (start.elapsed().as_secs_f64(), done)
}

#[tokio::test(start_paused = true)]
async fn pulls_and_pushes_of_all_kinds_keep_to_the_limit_however_slow_it_is() {
    let world = World::new(1);
    // A chunk takes longer than a zone may stand still.
    let store = limited(&world, 0, Bandwidth::default().with_read(5 * KIB).with_write(10 * KIB)).await;
    let content = blob(1, 200 * 1024);
    let chunks: Vec<_> = content.1.chunks(50 * 1024).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let put = store.put(&content.0, WriteOptions::default(), Box::pin(futures_util::stream::iter(chunks)));
    let (took, done) = seconds(put).await;
    done.unwrap();
    assert!((19.0..22.0).contains(&took), "a put of 200 KiB took {took}");
    let (took, read) = seconds(store.read_all(&content.0)).await;
    assert_eq!(read.unwrap(), content.1);
    assert!((39.0..42.0).contains(&took), "a pull took {took}");
    let other = blob(2, 200 * 1024);
    let upload = async {
        let mut upload = store.begin(WriteOptions::default()).await.unwrap();
        for chunk in other.1.chunks(50 * 1024) {
            upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        upload.commit(&other.0).await.unwrap();
    };
    let (took, ()) = seconds(upload).await;
    assert!((19.0..22.0).contains(&took), "an upload took {took}");
}

#[tokio::test(start_paused = true)]
async fn copies_and_scrubs_get_their_share() {
    let world = World::new(2);
    let store = limited(&world, 1, Bandwidth::default().with_read(20 * KIB).with_write(20 * KIB).with_background(0.25)).await;
    let content = blob(3, 200 * 1024);
    store.put(&content.0, WriteOptions::default(), once(content.1.clone())).await.unwrap();
    let (took, done) = seconds(store.work_once()).await;
    done.unwrap();
    assert!((39.0..42.0).contains(&took), "a copy of 200 KiB at 5 KiB/s took {took}");
    assert_eq!(world.holders(&content.0).await, [0, 1]);
    let workers = store.start();
    let scrub = async {
        let id = store.scrub("middle", Duration::ZERO).await.unwrap().id;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let job = store.jobs(10).await.unwrap().into_iter().find(|job| job.id == id).unwrap();
            if !job.is_open() {
                return job;
            }
        }
    };
    let (took, job) = seconds(scrub).await;
    assert_eq!((job.state, job.counts["bytes"]), ("done", 200 * 1024));
    assert!((39.0..44.0).contains(&took), "a scrub took {took}");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn work_in_the_background_waits_for_its_hours_and_clients_do_not() {
    let world = World::new(2);
    let minute = |offset: i64| u16::try_from((world.clock.now().as_millis() / 60_000 + offset).rem_euclid(24 * 60)).unwrap();
    let hours = Hours::new(minute(60), minute(120)).unwrap();
    let mut options = quick();
    options.lease = Duration::from_secs(60);
    (options.compare_interval, options.scrub_interval) = (Duration::ZERO, Duration::ZERO);
    let store = world.limited(options, 1, Bandwidth::default().with_hours(hours), None).await;
    let lease = async |id: &str| world.ledger.jobs(10).await.unwrap().into_iter().find(|job| job.id == id).unwrap().lease_id;
    let workers = store.start();
    let content = blob(4, 1000);
    store.put(&content.0, WriteOptions::default(), once(content.1.clone())).await.unwrap();
    let begun = store.scrub("middle", Duration::ZERO).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    let taken = lease(&begun.id).await;
    tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    assert!(taken.is_some() && lease(&begun.id).await == taken, "it is taken once");
    assert_eq!(world.holders(&content.0).await, [0]);
    let job = store.jobs(1).await.unwrap().remove(0);
    assert_eq!((&job.id, job.note.as_str()), (&begun.id, "it waits for the hours in which work in the background may be done in the zone"));
    assert!(job.running && job.is_open());
    assert_eq!(store.read_all(&content.0).await.unwrap(), content.1);
    tokio::time::sleep(Duration::from_secs(10 * 60)).await;
    assert_eq!(world.holders(&content.0).await, [0, 1]);
    let job = store.jobs(1).await.unwrap().remove(0);
    assert_eq!((job.state, job.note.as_str()), ("done", ""));
    // Nor is anything read there for others.
    tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    let only_there = blob(5, 1000);
    world.zones[0].set_plan(registry_core::testing::FaultPlan::down());
    store.put(&only_there.0, WriteOptions::default(), once(only_there.1.clone())).await.unwrap();
    world.zones[0].heal();
    tokio::time::sleep(Duration::from_secs(30 * 60)).await;
    assert_eq!(world.holders(&only_there.0).await, [1]);
    tokio::time::sleep(Duration::from_secs(23 * 3600)).await;
    assert_eq!(world.holders(&only_there.0).await, [0, 1]);
    workers.stop().await;
}
