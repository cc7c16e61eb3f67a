//! What is to be in a zone that is new comes little by little, in an order that is of use, and in the end all of it is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_core::blob::once;
use registry_core::testing::{FaultPlan, Rng};
use registry_core::{BlobStoreExt as _, Clock as _, Digest, ErrorKind, Registry};
use replication::{Bandwidth, Event, EventSink, Hours, JobStatus, PlacementPolicy, PolicyRule, ReplicatedStore, ZoneSet};
use tokio::time::Instant;

use crate::support::{Heard, Site, app, blob, by_order};

/// More than a zone is owed at once.
const MANY: u64 = 150;

/// The zone that is new, by number and by name.
const NEW: usize = 2;
const FAR: &str = "far";

impl Site {
    /// What a process that knows all three zones tells, and the process.
    async fn heard(&self) -> (ReplicatedStore, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let sink: Arc<dyn EventSink> = Arc::<Heard>::clone(&heard);
        (self.world.telling(by_order(), PlacementPolicy::default(), self.metadata(), sink).await, heard)
    }

    /// A process that keeps to limits in the new zone.
    async fn limited(&self, limits: Bandwidth) -> ReplicatedStore {
        self.world.limited(by_order(), NEW, limits, Some(self.metadata())).await
    }

    /// Blobs that were pushed long ago, and are in the first two zones; one of them has no bytes.
    async fn in_two(count: u64, len: usize) -> (Self, Vec<(Digest, Bytes)>) {
        let site = Self::new();
        let blobs: Vec<_> = (0..count).map(|number| blob(5_000 + number, if number == 7 { 0 } else { len })).collect();
        site.push_to(2, &blobs).await;
        (site, blobs)
    }

    async fn has_all(&self, blobs: &[(Digest, Bytes)]) {
        for (digest, content) in blobs {
            assert_eq!(self.world.medium(NEW).read_all(digest).await.unwrap(), *content, "{digest}");
        }
    }
}

async fn fills(store: &ReplicatedStore) -> Vec<JobStatus> {
    store.jobs(100).await.unwrap().into_iter().filter(|job| job.kind == "fill").collect()
}

/// Waits until the newest job that fills a zone is as it is to be.
async fn until(store: &ReplicatedStore, what: &str, is: impl Fn(&JobStatus) -> bool) -> JobStatus {
    for _ in 0..20_000 {
        if let Some(job) = fills(store).await.into_iter().next().filter(&is) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: {:?}", fills(store).await)
}

/// An image of two layers and a configuration: the digest of its manifest, and what it needs.
async fn push_image(registry: &Registry, seed: u64) -> (Digest, Vec<Digest>) {
    let needs: Vec<_> = (0..3).map(|part| blob(10 * seed + part, 200)).collect();
    for (digest, content) in &needs {
        registry.push_blob(&app(), digest, Some(200), once(content.clone())).await.unwrap();
    }
    let of = |media_type: &str, digest: &Digest| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{media_type}","digest":"{digest}","size":200}}"#)
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{},{}]}}"#,
        of("config.v1+json", &needs[0].0),
        of("layer.v1.tar", &needs[1].0),
        of("layer.v1.tar", &needs[2].0),
    );
    let digest = Digest::sha256(manifest.as_bytes());
    let pushed = registry.put_manifest(&app(), &digest.into(), None, manifest.into(), Vec::new()).await.unwrap();
    (pushed.digest, needs.into_iter().map(|(digest, _)| digest).collect())
}

#[tokio::test(start_paused = true)]
async fn manifests_come_first_and_then_image_by_image_what_was_used_last() {
    const IMAGES: u64 = 120;
    let (site, loose) = Site::in_two(MANY, 100).await;
    let two = site.over(2).await;
    let registry = site.registry(&two);
    let mut images = Vec::new();
    for seed in 0..IMAGES {
        images.push(push_image(&registry, 1_000 + seed).await);
        site.world.clock.advance(Duration::from_secs(3600));
    }
    two.work_once().await.unwrap();
    // Every third is pulled again later, those that were pushed first last.
    let (mut pulled, mut order): (Vec<_>, Vec<_>) = images.into_iter().enumerate().partition(|(number, _)| number % 3 == 0);
    pulled.reverse();
    for (_, (manifest, _)) in &pulled {
        registry.manifest(&app(), &(*manifest).into()).await.unwrap();
        // Nobody waits for that to be noted.
        tokio::time::sleep(Duration::from_secs(1)).await;
        site.world.clock.advance(Duration::from_secs(3600));
    }
    order.append(&mut pulled);
    order.reverse();
    site.days_pass();

    // What is owed later is made later.
    site.world.zones[NEW].set_plan(FaultPlan::default().with_latency(Duration::from_millis(5), Duration::from_millis(15)));
    let (store, heard) = site.heard().await;
    let workers = store.start();
    let begun = store.fill(FAR).await.unwrap();
    let job = until(&store, "it is filled", |job| !job.is_open()).await;
    workers.stop().await;
    let all = MANY + 4 * IMAGES;
    assert_eq!((job.id, job.state, job.unit, job.done, job.total), (begun.id, "done", "blobs", all, Some(all)), "{}", job.note);
    let came: Vec<_> = heard.take();
    assert_eq!(came.iter().filter(|event| matches!(event, Event::Filled { zone } if zone == FAR)).count(), 1);
    let came: Vec<_> = came
        .iter()
        .filter_map(|event| if let Event::Replicated { digest, zone, .. } = event { Some((*digest, zone)) } else { None })
        .collect();
    assert!(came.iter().all(|(_, zone)| *zone == FAR) && came.len() as u64 == all, "{} came", came.len());
    let manifests: BTreeSet<_> = order.iter().map(|(_, (manifest, _))| *manifest).collect();
    let place = |digest: &Digest| came.iter().position(|(other, _)| other == digest).unwrap();
    // So many are owed at once, and come in any order.
    const SLACK: usize = 2 * 32 + 4;
    for manifest in &manifests {
        let place = place(manifest);
        assert!(place < manifests.len() + SLACK, "a manifest came as {place}");
    }
    for (rank, (_, (_, needs))) in order.iter().enumerate() {
        for need in needs {
            let (place, expected) = (place(need), manifests.len() + 3 * rank);
            assert!(place.abs_diff(expected) <= SLACK, "image {rank} came as {place} and not about {expected}");
        }
    }
    let images = manifests.len() * 4;
    assert!(loose.iter().all(|(digest, _)| place(digest) + SLACK >= images), "what is no image's came early");
    site.has_all(&loose).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_does_not_wait_behind_all_that_was_there_before() {
    const KIB: usize = 1024;
    let (site, blobs) = Site::in_two(400, 2 * KIB).await;
    // It is filled at 5 KiB/s: in 160 s.
    let limits = Bandwidth::default().with_write(10 * KIB as u64).with_background(0.5);
    let store = site.limited(limits).await;
    let registry = site.registry(&store);
    let start = Instant::now();
    let workers = store.start();
    // The first comparison of places with policies finds that it lacks much.
    let begun = until(&store, "a job has begun", |_| true).await;
    assert_eq!(begun.zone.as_deref(), Some(FAR));
    until(&store, "some has come", |job| job.done > 50).await;
    let (digest, content) = blob(1, 2 * KIB);
    registry.push_blob(&app(), &digest, Some(2 * KIB as u64), once(content.clone())).await.unwrap();
    let pushed = Instant::now();
    while !site.world.medium(NEW).contains(&digest).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let waited = pushed.elapsed().as_secs_f64();
    assert!(waited < 20.0, "it came after {waited} s");
    let mut most = 0;
    loop {
        let job = fills(&store).await.remove(0);
        if !job.is_open() {
            assert_eq!((job.state, job.done, job.total), ("done", 400, Some(400)));
            break;
        }
        most = most.max(store.status().await.unwrap()[NEW].backlog);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = start.elapsed().as_secs_f64();
    assert!((150.0..260.0).contains(&took), "it took {took} s");
    assert!((16..=65).contains(&most), "it was owed {most} at once");
    site.has_all(&blobs).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_finds_room_beside_large_blobs_that_were_there_before() {
    const KIB: usize = 1024;
    // Each takes 200 s alone, and only as many are made at once as leave room for another one.
    let (site, _) = Site::in_two(MANY, 2048 * KIB).await;
    let limits = Bandwidth::default().with_write(10 * KIB as u64).with_background(1.0);
    let store = site.limited(limits).await;
    let registry = site.registry(&store);
    store.fill(FAR).await.unwrap();
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(15)).await;
    for seed in 0..5 {
        // It takes 4 s, if all others wait for it, and 16 if not.
        let (digest, content) = blob(seed, 40 * KIB);
        registry.push_blob(&app(), &digest, Some(40 * KIB as u64), once(content.clone())).await.unwrap();
        let pushed = Instant::now();
        while !site.world.medium(NEW).contains(&digest).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let waited = pushed.elapsed().as_secs_f64();
        assert!(waited < 6.0, "number {seed} came after {waited} s");
        let owed = store.status().await.unwrap()[NEW].backlog;
        assert!((2..=3).contains(&owed), "it is owed {owed}");
        tokio::time::sleep(Duration::from_secs(250)).await;
    }
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_lacks_few_is_owed_them_at_once() {
    for (count, has_job) in [(20, false), (21, true)] {
        let (site, blobs) = Site::in_two(count, 50).await;
        let store = site.over(3).await;
        let report = store.reconcile_policies().await.unwrap();
        assert_eq!((report.blobs, report.changed), (count, 20));
        assert_eq!(fills(&store).await.len(), usize::from(has_job), "{count}");
        assert_eq!(store.status().await.unwrap()[NEW].backlog, 20);
        // The next comparison leaves the rest to the job.
        assert_eq!(store.reconcile_policies().await.unwrap().changed, 0);
        let workers = store.start();
        if has_job {
            let job = until(&store, "it is filled", |job| !job.is_open()).await;
            assert_eq!((job.state, job.done, job.total), ("done", 21, Some(21)));
        } else {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        workers.stop().await;
        site.has_all(&blobs).await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_often_its_process_dies_it_comes_to_its_end() {
    let (site, blobs) = Site::in_two(2 * MANY, 3000).await;
    let mut rng = Rng::new(77);
    let begun = site.over(3).await.fill(FAR).await.unwrap();
    let mut done = Vec::new();
    for _ in 0..20 {
        let limits = Bandwidth::default().with_write(60_000).with_background(1.0);
        let store = site.limited(limits).await;
        let workers = store.start();
        tokio::time::sleep(Duration::from_millis(300 + rng.below(3000))).await;
        // As a crash.
        drop(workers);
        let job = fills(&store).await.remove(0);
        assert!(job.total.is_none_or(|total| job.done <= total && total <= 2 * MANY), "{job:?}");
        done.push(job.done);
        // Its lease is over.
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    assert!(done.iter().any(|done| (1..2 * MANY).contains(done)), "it was met halfway: {done:?}");
    let store = site.over(3).await;
    let workers = store.start();
    let job = until(&store, "it is filled", |job| !job.is_open()).await;
    workers.stop().await;
    assert_eq!((job.id, job.state, job.done, job.total), (begun.id, "done", 2 * MANY, Some(2 * MANY)));
    assert_eq!(fills(&store).await.len(), 1, "it was one job all the time");
    site.has_all(&blobs).await;
    assert_eq!(site.count(NEW).await, blobs.len());
}

#[tokio::test(start_paused = true)]
async fn it_tells_what_it_waits_for_and_ends_when_the_zone_is_to_be_emptied() {
    let (site, blobs) = Site::in_two(MANY, 50).await;
    let store = site.over(3).await;
    store.cordon(FAR).await.unwrap();
    let workers = store.start();
    store.fill(FAR).await.unwrap();
    let job = until(&store, "it waits", |job| job.note.contains("cordoned")).await;
    // What a comparison owes at the same moment may be counted twice.
    assert!(job.done <= 20 && job.total == Some(MANY), "{job:?}");
    store.uncordon(FAR).await.unwrap();
    // Its disk is full.
    site.world.zones[NEW].set_plan(FaultPlan::default().with_space(0));
    until(&store, "copies fail", |job| job.note.contains("copies fail")).await;
    site.world.zones[NEW].set_plan(FaultPlan::default());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let job = until(&store, "it is filled", |job| !job.is_open()).await;
    assert_eq!((job.state, job.note.as_str()), ("done", ""));
    site.has_all(&blobs).await;

    let again = store.fill(FAR).await.unwrap();
    let job = until(&store, "there is nothing to do", |job| job.id == again.id && !job.is_open()).await;
    assert_eq!((job.state, job.done, job.total), ("done", MANY, Some(MANY)));

    site.world.zones[NEW].set_plan(FaultPlan::default().with_space(0));
    store.drain(FAR).await.unwrap();
    let refused = store.fill(FAR).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("the zone is draining: nothing is copied into it"), "{refused}");
    site.world.zones[NEW].set_plan(FaultPlan::default());
    tokio::time::sleep(Duration::from_secs(4000)).await;
    assert_eq!(site.count(NEW).await, 0);
    // What is gone from it comes back the same way.
    store.uncordon(FAR).await.unwrap();
    let third = store.fill(FAR).await.unwrap();
    until(&store, "it is filled again", |job| job.id == third.id && job.state == "done").await;
    store.drain(FAR).await.unwrap();
    workers.stop().await;
    site.has_all(&blobs).await;
    let unknown = store.fill("nowhere").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
    let blind = site.world.process(by_order()).await.fill(FAR).await.unwrap_err();
    assert_eq!(blind.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn outside_of_the_hours_of_the_zone_it_says_what_it_waits_for() {
    let (site, blobs) = Site::in_two(MANY, 50).await;
    let minute = u16::try_from(site.world.clock.now().as_millis() / 60_000 % (24 * 60)).unwrap();
    let hours = Hours::new((minute + 120) % (24 * 60), (minute + 240) % (24 * 60)).unwrap();
    let store = site.limited(Bandwidth::default().with_hours(hours)).await;
    store.fill(FAR).await.unwrap();
    let workers = store.start();
    until(&store, "it waits", |job| job.note.contains("waits for the hours")).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let owed = store.status().await.unwrap()[NEW].backlog;
    assert!(site.count(NEW).await == 0 && owed <= 32 + 20, "{owed}");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let job = until(&store, "it is filled", |job| !job.is_open()).await;
    assert_eq!((job.state, job.note.as_str()), ("done", ""));
    site.has_all(&blobs).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_drained_while_it_is_filled_is_not_filled_any_more() {
    let (site, _) = Site::in_two(2 * MANY, 3000).await;
    let limits = Bandwidth::default().with_write(30_000).with_background(1.0);
    let store = site.limited(limits).await;
    let workers = store.start();
    let begun = store.fill(FAR).await.unwrap();
    until(&store, "some has come", |job| job.done > 20).await;
    store.drain(FAR).await.unwrap();
    let job = until(&store, "it is called off", |job| !job.is_open()).await;
    assert_eq!((job.id, job.state), (begun.id, "cancelled"));
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        if site.count(NEW).await == 0 && store.jobs(1).await.unwrap()[0].state == "done" {
            workers.stop().await;
            return;
        }
    }
    panic!("it is not emptied: {:?}", store.jobs(2).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn while_a_zone_is_filled_another_one_that_is_emptied_keeps_what_is_not_there_yet() {
    let (site, blobs) = Site::in_two(MANY, 3000).await;
    let limits = Bandwidth::default().with_write(10_000).with_background(1.0);
    let store = site.limited(limits).await;
    let workers = store.start();
    store.fill(FAR).await.unwrap();
    until(&store, "some has come", |job| job.done > 10).await;
    let drain = store.drain("near").await.unwrap();
    let mut left = 0;
    for _ in 0..2000 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        left = 0;
        for (digest, _) in &blobs {
            let holders = site.world.holders(digest).await;
            assert!(holders.len() >= 2, "{digest} is only in {holders:?}");
            left += usize::from(!holders.contains(&0));
        }
        if left == blobs.len() && store.jobs(10).await.unwrap().iter().any(|job| job.id == drain.id && job.state == "done") {
            break;
        }
    }
    assert_eq!(left, blobs.len(), "it is not emptied");
    assert_eq!(until(&store, "it is filled", |job| !job.is_open()).await.state, "done");
    site.has_all(&blobs).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_copied_now_holds_up_nothing_else() {
    let site = Site::new();
    let some = |seed: u64| (0..MANY).map(|number| blob(seed + number, 50)).collect::<Vec<_>>();
    let (lonely, blobs) = (some(5_000), some(6_000));
    site.push_to(1, &lonely).await;
    site.push_to(2, &blobs).await;
    // The only zone that has the first is away.
    site.world.zones[0].set_plan(FaultPlan::default().with_errors_before(1.0));
    let store = site.over(3).await;
    let workers = store.start();
    store.fill(FAR).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1800)).await;
    site.has_all(&blobs).await;
    until(&store, "it says what is missing", |job| job.is_open() && job.note.contains("are in no zone that can be read now")).await;
    // But for what a comparison owed, nothing is owed that could not come.
    assert!(store.status().await.unwrap()[NEW].backlog <= 20);
    site.world.zones[0].set_plan(FaultPlan::default());
    assert_eq!(until(&store, "it is filled", |job| !job.is_open()).await.state, "done");
    site.has_all(&lonely).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn outside_of_the_hours_of_the_only_zone_that_has_them_nothing_is_owed() {
    let site = Site::new();
    let blobs: Vec<_> = (0..MANY).map(|number| blob(5_000 + number, 50)).collect();
    site.push_to(1, &blobs).await;
    let minute = u16::try_from(site.world.clock.now().as_millis() / 60_000 % (24 * 60)).unwrap();
    let hours = Hours::new((minute + 120) % (24 * 60), (minute + 240) % (24 * 60)).unwrap();
    let limits = Bandwidth::default().with_hours(hours);
    let store = site.world.limited(by_order(), 0, limits, Some(site.metadata())).await;
    let workers = store.start();
    store.fill(FAR).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(site.count(NEW).await == 0 && store.status().await.unwrap()[NEW].backlog <= 20);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    while fills(&store).await.iter().any(JobStatus::is_open) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    site.has_all(&blobs).await;
    workers.stop().await;
}

/// A process of which all blobs are to be in the middle and the new zone.
async fn moved(site: &Site) -> ReplicatedStore {
    let rule = PolicyRule::new("**".parse().unwrap(), ZoneSet::Named(vec!["middle".to_owned(), FAR.to_owned()]));
    site.world.with_metadata(by_order(), PlacementPolicy::new(vec![rule]), site.metadata()).await
}

async fn have_moved(site: &Site, blobs: &[(Digest, Bytes)]) {
    for _ in 0..5_000 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut moved = 0;
        for (digest, _) in blobs {
            let holders = site.world.holders(digest).await;
            moved += usize::from(holders == [1, NEW]);
            assert!(!holders.is_empty() && (holders.contains(&0) || holders == [1, NEW]), "{digest} is in {holders:?}");
        }
        if moved == blobs.len() {
            return;
        }
    }
    panic!("they have not moved");
}

#[tokio::test(start_paused = true)]
async fn where_all_zones_are_new_each_is_filled_and_the_old_one_goes_last() {
    let site = Site::new();
    let blobs: Vec<_> = (0..2 * MANY).map(|number| blob(5_000 + number, 50)).collect();
    site.push_to(1, &blobs).await;
    for zone in [1, NEW] {
        site.world.zones[zone].set_plan(FaultPlan::default().with_latency(Duration::from_millis(5), Duration::from_millis(15)));
    }
    let store = moved(&site).await;
    let workers = store.start();
    let mut most = 0;
    until(&store, "jobs have begun", |_| true).await;
    while fills(&store).await.iter().any(JobStatus::is_open) {
        most = most.max(store.status().await.unwrap()[NEW].backlog);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(fills(&store).await.len() >= 2 && most <= 20 + 64, "it was owed {most} at once");
    have_moved(&site, &blobs).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_for_a_zone_that_nobody_has_seen_yet() {
    let (site, blobs) = Site::in_two(MANY, 50).await;
    site.world.zones[NEW].set_plan(FaultPlan::down());
    let store = moved(&site).await;
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    for (digest, _) in &blobs {
        assert_eq!(site.world.holders(digest).await, [0, 1]);
    }
    site.world.zones[NEW].heal();
    have_moved(&site, &blobs).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_its_last_copies_goes_on_with_what_has_come_to_be_lacking() {
    let site = Site::new();
    let some = |seed: u64, count: u64| (0..count).map(|number| blob(seed + number, 50)).collect::<Vec<_>>();
    let (lonely, blobs) = (some(5_000, 15), some(6_000, MANY));
    site.push_to(1, &lonely).await;
    let store = site.over(3).await;
    store.reconcile_policies().await.unwrap();
    site.world.zones[0].set_plan(FaultPlan::down());
    let workers = store.start();
    let first = store.fill(FAR).await.unwrap();
    until(&store, "it waits for the last", |job| job.note.contains("the last 15 copies are waited for")).await;
    let registry = site.registry(&site.over(2).await);
    for (digest, content) in &blobs {
        registry.push_blob(&app(), digest, None, once(content.clone())).await.unwrap();
    }
    store.reconcile_policies().await.unwrap();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if site.count(NEW).await == blobs.len() {
            break;
        }
    }
    site.has_all(&blobs).await;
    site.world.zones[0].heal();
    assert_eq!(until(&store, "it is filled", |job| !job.is_open()).await.id, first.id);
    assert_eq!(fills(&store).await.len(), 1);
    site.has_all(&lonely).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_new_zones_are_filled_at_once_each_at_its_own_pace() {
    let site = Site::new();
    let blobs: Vec<_> = (0..2 * MANY).map(|number| blob(5_000 + number, 2000)).collect();
    site.push_to(1, &blobs).await;
    let limits = Bandwidth::default().with_write(10_000).with_background(1.0);
    let store = site.limited(limits).await;
    let workers = store.start();
    let mut most = 0;
    loop {
        let jobs = fills(&store).await;
        let of = |zone: &str| jobs.iter().find(|job| job.zone.as_deref() == Some(zone));
        if let (Some(middle), Some(far)) = (of("middle"), of(FAR)) {
            if far.state == "done" {
                assert_eq!(middle.state, "done");
                break;
            }
            most = most.max(store.status().await.unwrap()[NEW].backlog);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    workers.stop().await;
    // A few that a comparison owes at once, and what a job owes ahead.
    assert!((32..=20 + 64).contains(&most), "it was owed {most} at once");
    for (digest, _) in &blobs {
        assert_eq!(site.world.holders(digest).await, [0, 1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_for_a_moment_costs_a_long_fill_no_more_than_a_moment() {
    let (site, blobs) = Site::in_two(MANY, 2000).await;
    // It takes 300 seconds.
    let limits = Bandwidth::default().with_write(1_000).with_background(1.0);
    let store = site.limited(limits).await;
    let workers = store.start();
    let begun = Instant::now();
    store.fill(FAR).await.unwrap();
    tokio::time::sleep(Duration::from_secs(150)).await;
    for zone in [0, 1] {
        site.world.zones[zone].set_plan(FaultPlan::down());
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    site.world.zones[0].heal();
    site.world.zones[1].heal();
    assert_eq!(until(&store, "it is filled", |job| !job.is_open()).await.state, "done");
    assert!(begun.elapsed() < Duration::from_secs(500), "it took {:?}", begun.elapsed());
    site.has_all(&blobs).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_good_copy_is_not_waited_for_and_comes_with_its_next_push() {
    let site = Site::new();
    let (lost, content) = blob(4_999, 50);
    let mut blobs: Vec<_> = (0..MANY).map(|number| blob(5_000 + number, 50)).collect();
    blobs.push((lost, content.clone()));
    site.push_to(1, &blobs).await;
    site.world.medium(0).delete(&lost).await.unwrap();
    site.over(1).await.read_all(&lost).await.unwrap_err();
    blobs.pop();
    let store = site.over(3).await;
    let workers = store.start();
    store.fill(FAR).await.unwrap();
    assert_eq!(until(&store, "it is filled", |job| !job.is_open()).await.state, "done");
    site.has_all(&blobs).await;
    site.registry(&store).push_blob(&app(), &lost, None, once(content.clone())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    site.has_all(&[(lost, content)]).await;
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_hours_of_another_zone_holds_up_nothing_that_can_come() {
    let site = Site::new();
    let old: Vec<_> = (0..MANY).map(|number| blob(5_000 + number, 50)).collect();
    let minute = u16::try_from(site.world.clock.now().as_millis() / 60_000 % (24 * 60)).unwrap();
    let hours = Hours::new((minute + 120) % (24 * 60), (minute + 240) % (24 * 60)).unwrap();
    let limits = Bandwidth::default().with_hours(hours);
    let store = site.world.limited(by_order(), 0, limits, Some(site.metadata())).await;
    // More than a fill leaves put off.
    let registry = site.registry(&store);
    for number in 0..1_100 {
        let (digest, content) = blob(20_000 + number, 20);
        registry.push_blob(&app(), &digest, None, once(content)).await.unwrap();
    }
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let (count, backlog) = (site.count(NEW).await, store.status().await.unwrap()[NEW].backlog);
    assert!(count == 0 && backlog == 1_100, "{count} are there, {backlog} are owed");
    site.push_to(2, &old).await;
    store.fill(FAR).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1800)).await;
    site.has_all(&old).await;
    workers.stop().await;
}
