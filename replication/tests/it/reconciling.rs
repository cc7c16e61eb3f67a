//! What is in the zones, against what the ledger and the metadata say: nothing is lost by it, and everything is found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::{
    BlobInfo, BlobReader, BlobUpload, ByteStream, Capabilities, ItemStream, ListOptions, NamedObjects, PendingUpload, ReadOptions,
    ResumeOptions, WriteOptions,
};
use registry_core::memory::MemoryMetadataStore;
use registry_core::testing::{FaultPlan, Op};
use registry_core::{BlobStore, BlobStoreExt as _, Digest, ErrorKind, MetadataStore, Registry, Result, Timestamp};
use replication::ledger::MemoryLedger;
use replication::{JobStatus, PlacementPolicy, ReplicatedStore, Zone};

use crate::support::{NAMES, Site, app, blob, by_order};

impl Site {
    async fn process(&self) -> (Registry, ReplicatedStore) {
        let store = self.over(3).await;
        (self.registry(&store), store)
    }

    /// Some blobs that are everywhere, and that were pushed long ago.
    async fn with_blobs(count: u64) -> (Self, Vec<(Digest, Bytes)>) {
        let site = Self::new();
        // The last one has no bytes.
        let len = |number: u64| if number + 1 == count { 0 } else { 50 + usize::try_from(number % 97).unwrap() };
        let blobs: Vec<_> = (0..count).map(|number| blob(2_000 + number, len(number))).collect();
        site.push_to(3, &blobs).await;
        (site, blobs)
    }
}

/// Compares one zone, and does what there is to do.
async fn reconcile(store: &ReplicatedStore, zone: &str) -> JobStatus {
    let begun = store.reconcile(zone).await.unwrap();
    let workers = store.start();
    let job = loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let job = store.jobs(100).await.unwrap().into_iter().find(|job| job.id == begun.id).unwrap();
        if !job.is_open() {
            break job;
        }
    };
    tokio::time::sleep(Duration::from_secs(10)).await;
    workers.stop().await;
    job
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_as_it_should_be_is_left_alone() {
    let (site, blobs) = Site::with_blobs(300).await;
    let (_registry, store) = site.process().await;
    let before = site.world.ledger.placements(&blobs.iter().map(|(digest, _)| *digest).collect::<Vec<_>>()).await.unwrap();
    for zone in NAMES {
        let job = reconcile(&store, zone).await;
        assert_eq!((job.state, job.done, job.total, job.unit), ("done", 512, Some(512), "shards"));
        assert_eq!(job.counts, counts(&[("blobs", 300)]), "{zone}");
    }
    let after = site.world.ledger.placements(&blobs.iter().map(|(digest, _)| *digest).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(before, after);
    for zone in 0..3 {
        assert_eq!(site.world.zones[zone].calls(Op::Delete), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_and_added_behind_our_back_is_told_exactly_and_put_right() {
    let (site, blobs) = Site::with_blobs(300).await;
    for (digest, _) in &blobs[..15] {
        site.world.medium(0).delete(digest).await.unwrap();
    }
    for number in 0..15 {
        let (digest, content) = blob(5_000 + number, 80);
        site.world.medium(0).put_bytes(&digest, content).await.unwrap();
    }
    // Another length, as after a torn write.
    let torn = &blobs[20];
    site.world.media[0].overwrite_unchecked(&torn.0, torn.1.slice(..10));
    let (registry, store) = site.process().await;
    let job = reconcile(&store, "near").await;
    let expected = [("blobs", 315), ("missing", 15), ("wrong_size", 1), ("young", 15)];
    assert_eq!((job.state, &job.counts), ("done", &counts(&expected)), "{:?}", job.error);
    assert_eq!(site.count(0).await, 315, "what is missing was copied back; what nobody knows is too young to go");
    assert_eq!(site.world.medium(0).read_all(&torn.0).await.unwrap(), torn.1);
    site.days_pass();
    let job = reconcile(&store, "near").await;
    assert_eq!((job.state, &job.counts), ("done", &counts(&[("blobs", 315), ("foreign", 15)])));
    assert_eq!(site.count(0).await, 315, "they can be had back for a while: the metadata may be older than they are");
    site.days_pass();
    store.work_once().await.unwrap();
    assert_eq!(site.count(0).await, 300);
    for (digest, content) in &blobs {
        assert_eq!(site.world.holders(digest).await, [0, 1, 2]);
        assert_eq!(registry.blob(&app(), digest, None).await.unwrap().collect().await.unwrap(), *content);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_ledger_is_rebuilt_from_the_zones() {
    let (mut site, blobs) = Site::with_blobs(100).await;
    // One that is only in one zone, and one that rotted.
    for zone in [1, 2] {
        site.world.medium(zone).delete(&blobs[7].0).await.unwrap();
    }
    let mut rotten = blobs[8].1.to_vec();
    rotten[3] ^= 1;
    site.world.media[0].overwrite_unchecked(&blobs[8].0, rotten.into());
    site.world.ledger = Arc::new(MemoryLedger::with_clock(Arc::<crate::support::Time>::clone(&site.world.clock)));
    let (registry, store) = site.process().await;
    assert_eq!(registry.blob(&app(), &blobs[0].0, None).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    let job = reconcile(&store, "near").await;
    assert_eq!((job.state, &job.counts), ("done", &counts(&[("adopted", 100), ("blobs", 100)])), "{:?}", job.error);
    for (zone, name) in [(1, "middle"), (2, "far")] {
        let job = reconcile(&store, name).await;
        assert_eq!((job.state, &job.counts), ("done", &counts(&[("blobs", 100)])), "zone {zone}");
    }
    for (digest, content) in &blobs {
        assert_eq!(registry.blob(&app(), digest, None).await.unwrap().collect().await.unwrap(), *content);
        for zone in 0..3 {
            assert_eq!(site.world.medium(zone).read_all(digest).await.unwrap(), *content);
        }
    }
    // Only what was missing or wrong was sent.
    let puts: u64 = site.world.zones.iter().map(|zone| zone.calls(Op::Put)).sum();
    assert_eq!(puts, 300 + 2 + 1);
    assert_eq!(store.reconcile_policies().await.unwrap().missing, 0);
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_lacks_too_much_is_not_believed() {
    let (site, blobs) = Site::with_blobs(300).await;
    for (digest, _) in &blobs[..16] {
        site.world.medium(0).delete(digest).await.unwrap();
    }
    let (_registry, store) = site.process().await;
    let puts = site.world.zones[0].calls(Op::Put);
    let job = reconcile(&store, "near").await;
    assert_eq!(job.state, "failed");
    let error = job.error.unwrap();
    assert!(error.contains("16 of the 300 blobs that are to be in the zone are not: nothing was changed"), "{error}");
    assert_eq!(site.world.zones[0].calls(Op::Put), puts);
    let rows = site.world.ledger.placements(&[blobs[0].0]).await.unwrap();
    assert!(rows.iter().all(replication::ledger::Placement::is_source), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn metadata_that_know_nothing_are_not_believed() {
    let (mut site, blobs) = Site::with_blobs(300).await;
    // The database was lost, and somebody has made a new one and compares.
    site.metadata = Arc::new(MemoryMetadataStore::with_clock(Arc::<crate::support::Time>::clone(&site.world.clock)));
    for is_ledger_lost in [false, true] {
        if is_ledger_lost {
            site.world.ledger = Arc::new(MemoryLedger::with_clock(Arc::<crate::support::Time>::clone(&site.world.clock)));
        }
        let (_registry, store) = site.process().await;
        for zone in NAMES {
            let job = reconcile(&store, zone).await;
            assert_eq!(job.state, "failed", "{:?}", job.counts);
            let error = job.error.unwrap();
            assert!(error.contains("300 of the 300 blobs in the zone are known to nobody: they were left alone"), "{error}");
        }
        site.days_pass();
        store.work_once().await.unwrap();
        for (digest, _) in &blobs {
            assert_eq!(site.world.holders(digest).await, [0, 1, 2]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_deleted_need_not_be_known_any_more() {
    let (site, blobs) = Site::with_blobs(100).await;
    let (_registry, store) = site.process().await;
    // As after a garbage collection that has found much.
    for number in 0..50 {
        let (digest, content) = blob(8_000 + number, 70);
        store.put_bytes(&digest, content).await.unwrap();
        site.world.ledger.condemn(&digest, None, Duration::from_secs(7 * 24 * 3600), &[]).await.unwrap();
    }
    site.world.medium(0).delete(&blobs[0].0).await.unwrap();
    let job = reconcile(&store, "near").await;
    assert_eq!((job.state, job.error, job.counts["missing"]), ("done", None, 1));
}

#[tokio::test(start_paused = true)]
async fn metadata_that_know_too_little_of_few_blobs_are_not_believed_and_all_else_is_put_right() {
    let (site, blobs) = Site::with_blobs(12).await;
    let (_registry, store) = site.process().await;
    let unknown: Vec<_> = (0..9).map(|number| blob(8_100 + number, 70)).collect();
    for (digest, content) in &unknown {
        site.world.medium(0).put_bytes(digest, content.clone()).await.unwrap();
    }
    site.world.medium(0).delete(&blobs[0].0).await.unwrap();
    site.days_pass();
    let job = reconcile(&store, "near").await;
    let error = job.error.unwrap();
    assert!(
        error.contains("9 of the 21 blobs in the zone are known to nobody: they were left alone, and all else was put right"),
        "{error}"
    );
    assert_eq!(job.counts, counts(&[("blobs", 21), ("missing", 1), ("unknown", 9)]));
    site.days_pass();
    store.work_once().await.unwrap();
    for (digest, _) in unknown.iter().chain(&blobs) {
        assert!(site.world.holders(digest).await.contains(&0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_not_the_one_it_was_is_not_compared() {
    let (site, blobs) = Site::with_blobs(50).await;
    let (_registry, store) = site.process().await;
    // Another bucket in its place: empty, and with nobody's identity.
    site.world.medium(0).named().unwrap().delete("zone").await.unwrap();
    for (digest, _) in &blobs {
        site.world.medium(0).delete(digest).await.unwrap();
    }
    let begun = store.reconcile("near").await.unwrap();
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let job = store.jobs(1).await.unwrap().remove(0);
    assert_eq!((job.id, job.state), (begun.id, "open"));
    assert!(job.note.contains("lost its identity"), "{}", job.note);
    assert_eq!(site.count(0).await, 0, "nothing is copied to it");
    let rows = site.world.ledger.placements(&[blobs[0].0]).await.unwrap();
    assert!(rows.iter().all(replication::ledger::Placement::is_source), "{rows:?}");
    workers.stop().await;
}

/// A zone whose lists are behind: they have every third blob only.
#[derive(Debug)]
struct Behind(Arc<dyn BlobStore>);

#[async_trait::async_trait]
impl BlobStore for Behind {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.0.stat(digest).await
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        self.0.read(digest, options).await
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.0.begin(options).await
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.0.resume(options).await
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.0.put(digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.0.delete(digest).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        let is_listed = |info: &Result<BlobInfo>| info.as_ref().is_ok_and(|info| info.digest.shard() % 3 == 0);
        Box::pin(self.0.list(options).filter(move |info| std::future::ready(is_listed(info))))
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.0.uploads(older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.0.discard(id).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        self.0.named()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities().with_list_is_hint(true)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_list_does_not_have_is_asked_for_by_name() {
    let (site, blobs) = Site::with_blobs(120).await;
    let metadata = site.metadata();
    let mut builder = ReplicatedStore::builder(Arc::clone(&site.world.ledger)).metadata(metadata).options(by_order());
    builder = builder.clock(Arc::<crate::support::Time>::clone(&site.world.clock));
    for (name, zone) in NAMES.iter().zip(&site.world.zones) {
        builder = builder.zone(Zone::new(*name, Arc::new(Behind(Arc::new(zone.clone())))));
    }
    let store = builder.build().await.unwrap();
    // One of those that are not listed is really gone.
    let gone = blobs.iter().find(|(digest, _)| digest.shard() % 3 == 1).unwrap();
    site.world.medium(0).delete(&gone.0).await.unwrap();
    let stats = site.world.zones[0].calls(Op::Stat);
    let job = reconcile(&store, "near").await;
    assert_eq!((job.state, &job.counts), ("done", &counts(&[("blobs", 120), ("missing", 1)])), "{:?}", job.error);
    assert!(site.world.zones[0].calls(Op::Stat) > stats + 60, "they were asked for");
    assert_eq!(site.world.medium(0).read_all(&gone.0).await.unwrap(), gone.1);
}

#[tokio::test(start_paused = true)]
async fn another_process_goes_on_with_a_dead_ones_comparison() {
    let (site, blobs) = Site::with_blobs(200).await;
    for (digest, _) in &blobs[..10] {
        site.world.medium(0).delete(digest).await.unwrap();
    }
    let (_registry, first) = site.process().await;
    site.world.zones[0].set_plan(FaultPlan::default().with_latency(Duration::from_millis(20), Duration::from_millis(20)).only([Op::List]));
    let begun = first.reconcile("near").await.unwrap();
    let workers = first.start();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if first.jobs(1).await.unwrap()[0].done > 300 {
            break;
        }
    }
    drop(workers);
    let (done, found) = {
        let job = first.jobs(1).await.unwrap().remove(0);
        (job.done, job.counts)
    };
    site.world.clock.advance(Duration::from_secs(60));
    let (_registry, other) = site.process().await;
    let job = reconcile(&other, "near").await;
    assert_eq!((job.id, job.state), (begun.id, "done"));
    assert!(done < 512 && found["blobs"] < 200, "it was in the middle: {done} {found:?}");
    assert_eq!(job.counts, counts(&[("blobs", 200), ("missing", 10)]), "each is told once");
    assert_eq!(site.count(0).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_takes_longer_to_read_than_the_lease_is_read_by_one_process() {
    let (site, _) = Site::with_blobs(3).await;
    let (_registry, store) = site.process().await;
    let (_registry, other) = site.process().await;
    // Longer than the lease, and never so long that it is taken to stand still.
    let content = blob(7_000, 100_000);
    site.world.zones[0].put_bytes(&content.0, content.1.clone()).await.unwrap();
    site.metadata.intend_blob(&content.0).await.unwrap();
    store.put_bytes(&content.0, content.1).await.unwrap();
    store.work_once().await.unwrap();
    site.world.zones[0].set_plan(FaultPlan::default().with_throughput(5_000).only([Op::Read]));
    let reads = site.world.zones[0].calls(Op::Read);
    let begun = store.scrub("near", Duration::ZERO).await.unwrap();
    let workers = [store.start(), other.start()];
    let job = ended(&store, &begun.id).await;
    assert_eq!((job.state, job.counts["read"]), ("done", 4), "{job:?}");
    assert_eq!(site.world.zones[0].calls(Op::Read), reads + 4, "each once");
    for workers in workers {
        workers.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_metadata_have_never_heard_of_goes_and_what_they_know_stays() {
    let (site, blobs) = Site::with_blobs(30).await;
    let (_registry, store) = site.process().await;
    // Its writer overslept: the ledger has heard of it, and nobody else.
    let forgotten = blob(6_000, 70);
    store.put_bytes(&forgotten.0, forgotten.1.clone()).await.unwrap();
    // This one is about to be linked, or to be collected.
    let intended = blob(6_001, 70);
    site.metadata.intend_blob(&intended.0).await.unwrap();
    store.put_bytes(&intended.0, intended.1.clone()).await.unwrap();
    store.work_once().await.unwrap();
    let job = reconcile(&store, "near").await;
    assert_eq!(job.counts, counts(&[("blobs", 32)]), "both were pushed just now");
    site.days_pass();
    let job = reconcile(&store, "near").await;
    assert_eq!(job.counts, counts(&[("blobs", 32), ("forgotten", 1)]));
    site.days_pass();
    store.work_once().await.unwrap();
    assert_eq!(site.world.holders(&forgotten.0).await, [0; 0]);
    assert_eq!(site.world.holders(&intended.0).await, [0, 1, 2]);
    // Bytes of one that the ledger does not know, and that garbage collection does.
    let collected = blob(6_002, 70);
    site.metadata.intend_blob(&collected.0).await.unwrap();
    site.world.medium(1).put_bytes(&collected.0, collected.1.clone()).await.unwrap();
    site.days_pass();
    let job = reconcile(&store, "middle").await;
    assert_eq!(job.counts, counts(&[("blobs", 32), ("unheld", 1)]));
    assert_eq!(site.world.holders(&collected.0).await, [1]);
    assert_eq!(site.count(0).await, blobs.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_the_metadata_do_not_answer_for_it() {
    let site = Site::new();
    let store = site.world.process(by_order()).await;
    let (digest, content) = blob(6_010, 70);
    site.world.medium(0).put_bytes(&digest, content).await.unwrap();
    site.days_pass();
    let job = reconcile(&store, "near").await;
    assert_eq!(job.counts, counts(&[("blobs", 1), ("unknown", 1)]), "there are none");
    assert_eq!(site.world.holders(&digest).await, [0]);
}

/// Waits for the end of a job of this id.
async fn ended(store: &ReplicatedStore, id: &str) -> JobStatus {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let job = store.jobs(100).await.unwrap().into_iter().find(|job| job.id == id).unwrap();
        if !job.is_open() {
            return job;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_scrub_finds_what_rotted_and_it_is_made_again() {
    let (site, blobs) = Site::with_blobs(100).await;
    let mut good: u64 = blobs.iter().map(|(_, content)| content.len() as u64).sum();
    for (digest, content) in &blobs[..5] {
        let mut rotten = content.to_vec();
        rotten[7] ^= 16;
        site.world.media[0].overwrite_unchecked(digest, rotten.into());
    }
    for (digest, _) in &blobs[5..7] {
        site.world.medium(0).delete(digest).await.unwrap();
    }
    good -= blobs[..7].iter().map(|(_, content)| content.len() as u64).sum::<u64>();
    let (_registry, store) = site.process().await;
    let begun = store.scrub("near", Duration::ZERO).await.unwrap();
    let workers = store.start();
    let job = ended(&store, &begun.id).await;
    assert_eq!((job.kind, job.state, job.done, job.total), ("scrub", "done", 256, Some(256)));
    assert_eq!(job.counts, counts(&[("bytes", good), ("corrupt", 5), ("missing", 2), ("read", 100)]));
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (digest, content) in &blobs {
        assert_eq!(site.world.medium(0).read_all(digest).await.unwrap(), *content);
    }
    assert!(store.failures(10).await.unwrap().is_empty());
    // What was just read is not read again, unless all of it is asked for.
    let begun = store.scrub("near", Duration::from_secs(24 * 3600)).await.unwrap();
    assert_eq!(ended(&store, &begun.id).await.counts, counts(&[]));
    let begun = store.scrub("near", Duration::ZERO).await.unwrap();
    assert_eq!(ended(&store, &begun.id).await.counts["read"], 100);
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn zones_are_scrubbed_once_a_month_give_or_take_five_days() {
    let (site, blobs) = Site::with_blobs(30).await;
    let metadata = site.metadata();
    let mut options = by_order();
    options.scrub_interval = Duration::from_secs(30 * 24 * 3600);
    options.poll_interval = Duration::from_secs(60);
    options.probe_interval = Duration::from_secs(600);
    let store = site.world.with_metadata(options, PlacementPolicy::default(), metadata).await;
    let workers = store.start();
    let scrubs =
        async || store.jobs(100).await.unwrap().into_iter().filter(|job| job.kind == "scrub" && job.state == "done").collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(scrubs().await.len(), 3, "at once: when the last one was is not known");
    let day = Duration::from_secs(24 * 3600);
    let mut days = [0; 3];
    for today in 0..40 {
        site.world.clock.advance(day);
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        for job in scrubs().await.iter().filter(|job| job.counts.get("read") == Some(&(blobs.len() as u64))) {
            let zone = NAMES.iter().position(|name| job.zone.as_deref() == Some(name)).unwrap();
            if days[zone] == 0 {
                days[zone] = today;
            }
        }
    }
    // Of each day two hours more have passed.
    assert!(days.iter().all(|day| (22..34).contains(day)), "{days:?}");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_blob_that_cannot_be_looked_at_keeps_nobody_from_the_others() {
    let (site, blobs) = Site::with_blobs(60).await;
    for (digest, _) in &blobs[..3] {
        site.world.medium(0).delete(digest).await.unwrap();
    }
    let (_registry, store) = site.process().await;
    // One of the three is asked for, and cannot be answered for: each of the two times.
    site.world.zones[0].fail_next(Op::Stat, registry_core::testing::Fault::Before(ErrorKind::Unavailable));
    site.world.zones[0].fail_after(Op::Stat, 3, registry_core::testing::Fault::Before(ErrorKind::Denied));
    let job = reconcile(&store, "near").await;
    assert_eq!((job.state, job.counts["blobs"]), ("done", 60), "{job:?}");
    assert!((1..=3).contains(&job.counts["missing"]), "{:?}", job.counts);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_ends_early_or_repeats_itself_takes_no_trust_away() {
    let (site, blobs) = Site::with_blobs(120).await;
    let (_registry, store) = site.process().await;
    for skip in [0, 40, 100, 300, 420] {
        site.world.zones[0].fail_after(Op::List, skip, registry_core::testing::Fault::Truncate(0));
    }
    let job = reconcile(&store, "near").await;
    assert_eq!((job.state, &job.counts), ("done", &counts(&[("blobs", 120)])));
    let rows = site.world.ledger.placements(&blobs.iter().map(|(digest, _)| *digest).collect::<Vec<_>>()).await.unwrap();
    assert!(rows.len() == 360 && rows.iter().all(replication::ledger::Placement::is_source));
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_stalls_while_it_is_read_is_read_later() {
    let (site, _) = Site::with_blobs(40).await;
    let (_registry, store) = site.process().await;
    for (skip, after) in [(3, 0), (5, 20), (9, 1)] {
        site.world.zones[0].fail_after(Op::Read, skip, registry_core::testing::Fault::Stall(after));
    }
    site.world.zones[0].fail_after(Op::List, 50, registry_core::testing::Fault::Cut(0));
    let begun = store.scrub("near", Duration::ZERO).await.unwrap();
    let compared = store.reconcile("near").await.unwrap();
    let workers = store.start();
    let job = ended(&store, &begun.id).await;
    assert_eq!(job.state, "done");
    assert_eq!(job.counts["read"] + job.counts.get("unreadable").copied().unwrap_or(0), 40, "{:?}", job.counts);
    assert_eq!(job.counts.get("corrupt"), None);
    let job = ended(&store, &compared.id).await;
    assert_eq!((job.state, &job.counts), ("done", &counts(&[("blobs", 40)])));
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_to_stop_leaves_a_long_read_at_once_and_another_goes_on() {
    let (site, _) = Site::with_blobs(2).await;
    let (_registry, store) = site.process().await;
    site.world.zones[0].set_plan(FaultPlan::default().with_throughput(1).only([Op::Read]));
    let begun = store.scrub("near", Duration::ZERO).await.unwrap();
    let workers = store.start();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let start = tokio::time::Instant::now();
    workers.stop().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    site.world.zones[0].heal();
    let job = store.jobs(1).await.unwrap().remove(0);
    assert!(job.is_open() && !job.running, "anybody may have it at once: {job:?}");
    let (_registry, other) = site.process().await;
    let workers = other.start();
    assert_eq!(ended(&other, &begun.id).await.counts["read"], 2);
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn zones_are_compared_once_a_week_give_or_take_a_day() {
    let (site, blobs) = Site::with_blobs(30).await;
    let metadata = site.metadata();
    let mut options = by_order();
    options.compare_interval = Duration::from_secs(7 * 24 * 3600);
    options.poll_interval = Duration::from_secs(60);
    options.probe_interval = Duration::from_secs(600);
    let store = site.world.with_metadata(options, PlacementPolicy::default(), metadata).await;
    let workers = store.start();
    let day = Duration::from_secs(24 * 3600);
    let mut compared = Vec::new();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        let jobs = store.jobs(100).await.unwrap();
        let done = jobs.iter().filter(|job| job.kind == "reconcile" && job.state == "done" && job.counts["blobs"] == blobs.len() as u64);
        compared.push(done.count());
        site.world.clock.advance(day);
    }
    assert_eq!(compared[0], 3, "at once: when the last one was is not known");
    assert_eq!(compared[4], 3, "not before it is time: {compared:?}");
    let last = compared[39];
    assert!((15..=21).contains(&last), "five or six times in 40 days, each of three zones: {compared:?}");
    workers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scrub_that_failed_is_no_scrub() {
    let (site, _) = Site::with_blobs(5).await;
    let metadata = site.metadata();
    let mut options = by_order();
    options.scrub_interval = Duration::from_secs(30 * 24 * 3600);
    options.poll_interval = Duration::from_secs(60);
    let store = site.world.with_metadata(options, PlacementPolicy::default(), metadata).await;
    let ids: Vec<_> = site.world.ledger.zones().await.unwrap().into_iter().map(|zone| zone.id).collect();
    for id in &ids {
        site.world.ledger.begin_job(replication::ledger::JobKind::Scrub, Some(id), Bytes::new()).await.unwrap();
        let mut job = site.world.ledger.take_job(std::slice::from_ref(id), Duration::from_secs(60)).await.unwrap().unwrap();
        job.state = replication::ledger::JobState::Failed;
        site.world.ledger.end_job(&job).await.unwrap();
    }
    let workers = store.start();
    site.world.clock.advance(Duration::from_secs(2 * 24 * 3600));
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let done = store.jobs(100).await.unwrap().into_iter().filter(|job| job.kind == "scrub" && job.state == "done").count();
    assert_eq!(done, 3, "they are scrubbed the day after, not the month after");
    workers.stop().await;
}
