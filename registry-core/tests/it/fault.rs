//! [`FaultStore`]: it does what it is told, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use registry_core::blob::{ByteRange, ListOptions, ReadOptions, WriteOptions, once};
use registry_core::memory::MemoryBlobStore;
use registry_core::testing::blob_store::{self, Fixture};
use registry_core::testing::{Damage, Fault, FaultPlan, FaultStore, Injected, Op, Rng};
use registry_core::{BlobStore, BlobStoreExt as _, Digest, Error, ErrorKind, Result, Timestamp};

fn store(plan: FaultPlan) -> FaultStore {
    FaultStore::new(Arc::new(MemoryBlobStore::default()), plan)
}

fn blob(seed: u64, len: usize) -> (Digest, Bytes) {
    let content = Bytes::from(Rng::new(seed).bytes(len));
    (Digest::sha256(&content), content)
}

async fn put(store: &FaultStore, (digest, content): &(Digest, Bytes)) -> Result<()> {
    store.put_bytes(digest, content.clone()).await.map(drop)
}

/// The bytes up to the end of the stream, and the error that it ended with.
async fn read(store: &FaultStore, digest: &Digest, range: Option<ByteRange>) -> (Vec<u8>, Option<Error>) {
    let options = range.map_or_else(ReadOptions::default, |range| ReadOptions::default().with_range(range));
    let mut reader = match store.read(digest, options).await {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_it_keeps_the_contract_of_the_store_underneath() {
    blob_store::check(|| async {
        let memory = MemoryBlobStore::default();
        let other = memory.clone();
        let open = |memory: MemoryBlobStore| -> Arc<dyn BlobStore> { Arc::new(FaultStore::new(Arc::new(memory), FaultPlan::new(1))) };
        Fixture::new(open(memory)).with_large_size(1_000_003).with_reopen(move || {
            let other = open(other.clone());
            async move { other }
        })
    })
    .await;
}

#[tokio::test]
async fn an_error_before_the_effect_leaves_the_store_as_it_was() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 1000);
    store.fail_next(Op::Put, Fault::Before(ErrorKind::TimedOut));
    assert_eq!(kind(put(&store, &blob).await), Some(ErrorKind::TimedOut));
    assert!(!store.contains(&blob.0).await.unwrap());
    put(&store, &blob).await.unwrap();

    store.fail_next(Op::Delete, Fault::Before(ErrorKind::Unavailable));
    assert_eq!(kind(store.delete(&blob.0).await), Some(ErrorKind::Unavailable));
    assert!(store.contains(&blob.0).await.unwrap());
    assert_eq!(store.counts().before, 2);
}

#[tokio::test]
async fn an_error_after_the_effect_is_a_lost_acknowledgement() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 1000);
    store.fail_next(Op::Commit, Fault::After(ErrorKind::Unavailable));
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    upload.write(blob.1.clone()).await.unwrap();
    let error = upload.commit(&blob.0).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(store.inner().read_all(&blob.0).await.unwrap(), blob.1);
    upload.commit(&blob.0).await.expect("the same commit again");

    store.fail_next(Op::Delete, Fault::After(ErrorKind::Unavailable));
    assert_eq!(kind(store.delete(&blob.0).await), Some(ErrorKind::Unavailable));
    assert!(!store.contains(&blob.0).await.unwrap());
    assert_eq!(store.counts().after, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_done_or_not_as_was_asked() {
    let store = store(FaultPlan::default());
    let (one, two) = (blob(1, 10), blob(2, 10));
    store.fail_next(Op::Put, Fault::HangBefore);
    store.fail_next(Op::Put, Fault::HangAfter);
    for blob in [&one, &two] {
        tokio::time::timeout(Duration::from_secs(3600), put(&store, blob)).await.unwrap_err();
    }
    assert!(!store.contains(&one.0).await.unwrap());
    assert!(store.contains(&two.0).await.unwrap());
    assert_eq!(store.counts().hung, 2);
}

#[tokio::test]
async fn faults_are_scripted_in_order_and_by_count() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 10);
    store.fail_after(Op::Stat, 2, Fault::Before(ErrorKind::Denied));
    store.fail_next(Op::Stat, Fault::Before(ErrorKind::Internal));
    store.fail_next(Op::Stat, Fault::Before(ErrorKind::TimedOut));
    put(&store, &blob).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(kind(store.stat(&blob.0).await));
    }
    assert_eq!(seen, [Some(ErrorKind::Internal), Some(ErrorKind::TimedOut), Some(ErrorKind::Denied), None]);
    assert_eq!(store.calls(Op::Stat), 4);
    assert_eq!(store.calls(Op::Put), 1);
}

#[tokio::test]
async fn a_cut_read_ends_with_an_error_after_so_many_bytes() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 200_000);
    put(&store, &blob).await.unwrap();
    for at in [0, 1, 65_536, 100_001, 200_000] {
        store.fail_next(Op::Read, Fault::Cut(at as u64));
        let (bytes, error) = read(&store, &blob.0, None).await;
        assert_eq!(bytes, blob.1[..at]);
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Interrupted));
    }
    assert_eq!(read(&store, &blob.0, None).await.0, blob.1);
    assert_eq!(store.counts().cut, 5);
}

#[tokio::test]
async fn a_truncated_read_ends_as_if_that_were_all() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 200_000);
    put(&store, &blob).await.unwrap();
    for at in [0, 1, 65_536, 199_999] {
        store.fail_next(Op::Read, Fault::Truncate(at as u64));
        let (bytes, error) = read(&store, &blob.0, None).await;
        assert!(error.is_none());
        assert_eq!(bytes, blob.1[..at]);
    }
    assert_eq!(store.counts().truncated, 4);
}

#[tokio::test]
async fn a_flipped_bit_is_wrong_once() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 200_000);
    put(&store, &blob).await.unwrap();
    store.fail_next(Op::Read, Fault::Flip(70_000));
    let (bytes, error) = read(&store, &blob.0, None).await;
    assert!(error.is_none());
    let wrong: Vec<_> = (0..200_000).filter(|n| bytes[*n] != blob.1[*n]).collect();
    assert_eq!(wrong, [70_000]);
    assert_eq!(read(&store, &blob.0, None).await.0, blob.1);
}

#[tokio::test]
async fn rot_stays_until_the_blob_is_written_again() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 200_000);
    store.fail_next(Op::Put, Fault::Rot(150_000));
    put(&store, &blob).await.expect("a write that rots is acknowledged");
    let wrong = |bytes: &[u8], from: usize| (0..bytes.len()).map(|n| n + from).find(|n| bytes[n - from] != blob.1[*n]);
    for _ in 0..2 {
        assert_eq!(wrong(&read(&store, &blob.0, None).await.0, 0), Some(150_000));
    }
    let from = |first| Some(ByteRange::FromTo(first, None));
    assert_eq!(wrong(&read(&store, &blob.0, from(140_000)).await.0, 140_000), Some(150_000));
    assert_eq!(wrong(&read(&store, &blob.0, from(150_001)).await.0, 150_001), None);
    assert_eq!(wrong(&read(&store, &blob.0, Some(ByteRange::FromTo(0, Some(149_999)))).await.0, 0), None);
    assert_eq!(store.stat(&blob.0).await.unwrap().size, 200_000, "rot is not seen by stat");

    store.heal();
    assert_eq!(wrong(&read(&store, &blob.0, None).await.0, 0), Some(150_000), "what rotted does not heal by itself");
    put(&store, &blob).await.unwrap();
    assert_eq!(wrong(&read(&store, &blob.0, None).await.0, 0), None);
    assert_eq!(store.counts().rotten, 1);
}

#[tokio::test]
async fn a_commit_can_rot_too() {
    let store = store(FaultPlan::new(1).with_rot(1.0));
    let blob = blob(1, 1000);
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    upload.write(blob.1.clone()).await.unwrap();
    upload.commit(&blob.0).await.unwrap();
    upload.commit(&blob.0).await.unwrap();
    assert_ne!(read(&store, &blob.0, None).await.0, blob.1);
    assert_eq!(store.counts().rotten, 1, "a repeated commit writes nothing that could rot");
}

#[tokio::test]
async fn a_blob_truncated_on_the_medium_looks_like_a_shorter_one() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 1000);
    put(&store, &blob).await.unwrap();
    store.damage(&blob.0, Damage::Truncate(400));
    assert_eq!(store.stat(&blob.0).await.unwrap().size, 400);
    assert_eq!(read(&store, &blob.0, None).await.0, blob.1[..400]);
    assert_eq!(read(&store, &blob.0, Some(ByteRange::Last(10))).await.0, blob.1[390..400]);
    let (_, error) = read(&store, &blob.0, Some(ByteRange::FromTo(400, None))).await;
    assert_eq!(error.unwrap().offset(), Some(400));
    let listed: Vec<_> = store.list(ListOptions::default()).try_collect().await.unwrap();
    assert_eq!(listed[0].size, 400);

    store.damage(&blob.0, Damage::Truncate(0));
    assert_eq!(read(&store, &blob.0, None).await.0, b"");
    put(&store, &blob).await.unwrap();
    assert_eq!(read(&store, &blob.0, None).await.0, blob.1);
}

#[tokio::test]
async fn a_put_whose_content_breaks_leaves_nothing() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 1000);
    store.fail_next(Op::Put, Fault::Cut(999));
    assert_eq!(kind(put(&store, &blob).await), Some(ErrorKind::Interrupted));
    assert!(!store.contains(&blob.0).await.unwrap());
    store.fail_next(Op::Put, Fault::Cut(1000));
    assert_eq!(kind(put(&store, &blob).await), Some(ErrorKind::Interrupted));
    assert!(!store.contains(&blob.0).await.unwrap());
}

#[tokio::test]
async fn a_full_disk_takes_no_more_and_still_reads() {
    let store = store(FaultPlan::default().with_space(2500));
    let (one, two) = (blob(1, 1000), blob(2, 2000));
    put(&store, &one).await.unwrap();
    assert_eq!(kind(put(&store, &two).await), Some(ErrorKind::StorageFull));
    assert!(!store.contains(&two.0).await.unwrap());
    assert_eq!(read(&store, &one.0, None).await.0, one.1);
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    assert_eq!(kind(upload.write(two.1.clone()).await), Some(ErrorKind::StorageFull));
    let named = store.named().unwrap();
    assert_eq!(kind(named.put("object", two.1.clone()).await), Some(ErrorKind::StorageFull));
    assert_eq!(store.counts().full, 3);
    store.heal();
    put(&store, &two).await.unwrap();
}

#[tokio::test]
async fn lists_break_end_early_and_fail_at_either_end() {
    let store = store(FaultPlan::default());
    for seed in 0..5 {
        put(&store, &blob(seed, 10)).await.unwrap();
    }
    let list = async || {
        let items: Vec<_> = store.list(ListOptions::default()).collect().await;
        (items.iter().filter(|item| item.is_ok()).count(), items.into_iter().find_map(kind))
    };
    store.fail_next(Op::List, Fault::Cut(2));
    assert_eq!(list().await, (2, Some(ErrorKind::Interrupted)));
    store.fail_next(Op::List, Fault::Truncate(3));
    assert_eq!(list().await, (3, None));
    store.fail_next(Op::List, Fault::Before(ErrorKind::Denied));
    assert_eq!(list().await, (0, Some(ErrorKind::Denied)));
    store.fail_next(Op::List, Fault::After(ErrorKind::TimedOut));
    assert_eq!(list().await, (5, Some(ErrorKind::TimedOut)));
    assert_eq!(list().await, (5, None));

    store.fail_next(Op::Uploads, Fault::Before(ErrorKind::Denied));
    let uploads: Vec<_> = store.uploads(Timestamp::from_millis(0)).collect().await;
    assert_eq!(uploads.into_iter().find_map(kind), Some(ErrorKind::Denied));
}

#[tokio::test]
async fn named_objects_have_faults_of_their_own() {
    let store = store(FaultPlan::default());
    let named = store.named().unwrap();
    store.fail_next(Op::NamedPut, Fault::After(ErrorKind::TimedOut));
    assert_eq!(kind(named.put("zone", Bytes::from_static(b"abc")).await), Some(ErrorKind::TimedOut));
    store.fail_next(Op::NamedGet, Fault::Flip(1));
    assert_eq!(named.get("zone").await.unwrap().unwrap(), "acc");
    assert_eq!(named.get("zone").await.unwrap().unwrap(), "abc");
    store.fail_next(Op::NamedDelete, Fault::Before(ErrorKind::Denied));
    assert_eq!(kind(named.delete("zone").await), Some(ErrorKind::Denied));
    store.fail_next(Op::NamedList, Fault::Truncate(0));
    assert_eq!(named.list("").count().await, 0);
    assert_eq!(named.list("").count().await, 1);
}

#[tokio::test]
async fn a_store_is_switched_off_and_on() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 1000);
    put(&store, &blob).await.unwrap();
    let steerer = store.clone();
    steerer.set_plan(FaultPlan::down());
    assert_eq!(kind(store.stat(&blob.0).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.named().unwrap().get("zone").await), Some(ErrorKind::Unavailable));
    let probe = store.probe().await;
    assert_eq!(probe.failure().map(|(step, _)| step), Some("write"), "a probe sees the faults");
    steerer.heal();
    assert!(store.contains(&blob.0).await.unwrap());
    assert!(store.probe().await.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_never_answers() {
    let store = store(FaultPlan::black_hole());
    tokio::time::timeout(Duration::from_secs(100_000), store.stat(&blob(1, 1).0)).await.unwrap_err();
    store.heal();
    assert_eq!(kind(store.stat(&blob(1, 1).0).await), Some(ErrorKind::NotFound));
}

#[tokio::test(start_paused = true)]
async fn latency_goes_by_tokios_clock_and_the_seed() {
    let (shortest, longest) = (Duration::from_millis(20), Duration::from_secs(30));
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let store = store(FaultPlan::new(seed).with_latency(shortest, longest));
        let mut waits = Vec::new();
        for _ in 0..20 {
            let start = tokio::time::Instant::now();
            store.delete(&blob(1, 1).0).await.unwrap();
            waits.push(start.elapsed());
        }
        // Tokio's timers round up to the next millisecond.
        assert!(waits.iter().all(|wait| (shortest..longest + Duration::from_millis(1)).contains(wait)), "{waits:?}");
        assert_eq!(store.counts().delayed, 20);
        runs.push(waits);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

/// Everything at once, in an order of tasks that depends on `order`.
async fn storm(plan: FaultPlan, order: u64) -> (FaultStore, Vec<Injected>) {
    let store = store(plan);
    let mut rng = Rng::new(order);
    let mut seeds: Vec<u64> = (0..60).collect();
    for n in (1..seeds.len()).rev() {
        seeds.swap(n, usize::try_from(rng.below(n as u64 + 1)).unwrap());
    }
    for seed in seeds {
        let blob = blob(seed, 5000);
        for _ in 0..3 {
            drop(put(&store, &blob).await);
            drop(read(&store, &blob.0, None).await);
            drop(store.delete(&blob.0).await);
        }
    }
    let mut injected = store.injected();
    injected.sort_by_key(|injected| format!("{injected:?}"));
    (store, injected)
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults_in_whatever_order_things_happen() {
    let plan = |seed| {
        FaultPlan::new(seed)
            .with_errors_before(0.1)
            .with_errors_after(0.1)
            .with_cuts(0.1)
            .with_truncation(0.1)
            .with_flips(0.1)
            .with_rot(0.1)
    };
    let (store, first) = storm(plan(1), 1).await;
    assert_eq!(first, storm(plan(1), 2).await.1);
    assert_ne!(first, storm(plan(2), 1).await.1);
    let counts = store.counts();
    // 540 calls, 180 of each kind; a call has one fault, and a read or delete of what is not there has no answer to lose.
    assert!((30..90).contains(&counts.before) && (20..80).contains(&counts.after), "{counts:?}");
    assert!([counts.cut, counts.truncated, counts.flipped, counts.rotten].iter().all(|count| (3..50).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn one_more_kind_of_fault_does_not_move_the_others() {
    let before = |injected: Vec<Injected>| -> Vec<_> { injected.into_iter().filter(|one| matches!(one.fault, Fault::Before(_))).collect() };
    let plain = storm(FaultPlan::new(3).with_errors_before(0.2), 1).await.1;
    let more = storm(FaultPlan::new(3).with_errors_before(0.2).with_flips(0.5).with_errors_after(0.1), 1).await.1;
    assert!(more.len() > plain.len());
    assert_eq!(before(plain), before(more));
}

#[tokio::test]
async fn faults_can_be_kept_to_some_operations() {
    let store = store(FaultPlan::down().only([Op::Delete, Op::Read]));
    let blob = blob(1, 10);
    put(&store, &blob).await.unwrap();
    store.stat(&blob.0).await.unwrap();
    assert_eq!(kind(store.delete(&blob.0).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.read_all(&blob.0).await), Some(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_failure_of_the_store_underneath_is_its_own() {
    let store = store(FaultPlan::default());
    store.fail_next(Op::Put, Fault::After(ErrorKind::Unavailable));
    let result = store.put(&blob(1, 10).0, WriteOptions::default(), once(Bytes::from_static(b"other"))).await;
    assert_eq!(kind(result), Some(ErrorKind::DigestInvalid), "there was no effect to lose the answer of");
    assert_eq!(store.counts().after, 0);
}

/// Runs a call that may never end for an hour of tokio's time; whether it ended.
async fn ends(call: impl Future) -> bool {
    tokio::time::timeout(Duration::from_secs(3600), call).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_stalled_read_gives_so_many_bytes_and_never_goes_on() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 200_000);
    put(&store, &blob).await.unwrap();
    for at in [0, 1, 65_536, 100_001, 200_000] {
        store.fail_next(Op::Read, Fault::Stall(at as u64));
        let mut reader = store.read(&blob.0, ReadOptions::default()).await.unwrap();
        let mut bytes = Vec::new();
        let all = async {
            while let Some(chunk) = reader.stream.next().await {
                bytes.extend_from_slice(&chunk.unwrap());
            }
        };
        assert!(!ends(all).await, "neither an end nor an error");
        assert_eq!(bytes, blob.1[..at]);
    }
    assert_eq!(read(&store, &blob.0, None).await.0, blob.1);
    assert_eq!(store.counts().stalled, 5);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_put_takes_so_many_bytes_in_and_leaves_nothing() {
    let store = store(FaultPlan::default());
    let blob = blob(1, 1000);
    for (at, expected) in [(0, 0), (250, 3), (1000, 10)] {
        store.fail_next(Op::Put, Fault::Stall(at));
        let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (counter, content) = (Arc::clone(&taken), blob.1.clone());
        let chunks = futures_util::stream::iter(0..10).map(move |n| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(content.slice(n * 100..(n + 1) * 100))
        });
        assert!(!ends(store.put(&blob.0, WriteOptions::default(), Box::pin(chunks))).await);
        assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), expected, "chunks taken in before {at} bytes");
        assert!(!store.contains(&blob.0).await.unwrap());
    }
    put(&store, &blob).await.unwrap();
    assert_eq!(store.counts().stalled, 3);
}

#[tokio::test(start_paused = true)]
async fn stalls_are_drawn_by_the_seed_and_move_no_other_fault() {
    let run = async |plan: FaultPlan| {
        let store = store(plan);
        for seed in 0..60 {
            let blob = blob(seed, 5000);
            ends(put(&store, &blob)).await;
            ends(read(&store, &blob.0, None)).await;
            ends(store.delete(&blob.0)).await;
        }
        store.injected()
    };
    let plan = || FaultPlan::new(5).with_errors_before(0.2).with_cuts(0.2).with_rot(0.1);
    let (plain, more) = (run(plan()).await, run(plan().with_stalls(0.5)).await);
    assert_eq!(more, run(plan().with_stalls(0.5)).await);
    let (stalls, others): (Vec<_>, Vec<_>) = more.into_iter().partition(|one| matches!(one.fault, Fault::Stall(_)));
    assert!((20..60).contains(&stalls.len()), "{} of 120 streams", stalls.len());
    assert!(stalls.iter().all(|one| matches!(one.op, Op::Read | Op::Put) && matches!(one.fault, Fault::Stall(at) if at < 5000)));
    // What was put stalled is not there to be read, and its read then has no stream to break.
    let puts = |all: &[Injected]| all.iter().filter(|one| one.op == Op::Put).cloned().collect::<Vec<_>>();
    assert!(!puts(&plain).is_empty());
    assert_eq!(puts(&plain), puts(&others));
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_brings_small_pieces_and_takes_its_time_each_way() {
    let store = store(FaultPlan::default().with_throughput(1000));
    let blob = blob(1, 30_000);
    let clock = tokio::time::Instant::now;
    let takes = |start: tokio::time::Instant| start.elapsed().as_millis();
    let start = clock();
    put(&store, &blob).await.unwrap();
    assert!((30_000..30_010).contains(&takes(start)), "{} ms for a put", takes(start));
    let start = clock();
    let mut reader = store.read(&blob.0, ReadOptions::default()).await.unwrap();
    let (mut bytes, mut last) = (Vec::new(), clock());
    while let Some(chunk) = reader.stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
        assert!(takes(last) <= 101, "{} ms without a byte", takes(last));
        last = clock();
    }
    assert_eq!(bytes, blob.1);
    assert!((30_000..30_010).contains(&takes(start)), "{} ms for a read", takes(start));
    let start = clock();
    let mut upload = store.begin(WriteOptions::default()).await.unwrap();
    upload.write(blob.1.clone()).await.unwrap();
    assert!((30_000..30_010).contains(&takes(start)), "{} ms for an upload", takes(start));

    store.fail_next(Op::Read, Fault::Stall(1500));
    let mut reader = store.read(&blob.0, ReadOptions::default()).await.unwrap();
    let mut seen = 0;
    let all = async {
        while let Some(chunk) = reader.stream.next().await {
            seen += chunk.unwrap().len();
        }
    };
    assert!(!ends(all).await && seen == 1500, "{seen} bytes before a slow line stalled");
    store.fail_next(Op::Read, Fault::Cut(1500));
    let (bytes, error) = read(&store, &blob.0, None).await;
    assert_eq!((bytes.len(), kind::<()>(error.map_or(Ok(()), Err))), (1500, Some(ErrorKind::Interrupted)));
    store.heal();
    let start = clock();
    assert_eq!(read(&store, &blob.0, None).await.0, blob.1);
    assert_eq!(takes(start), 0);
}
