//! The cache answers from memory, and never with what is past.

use std::sync::Arc;
use std::time::Duration;

use metadata_sql::{Durability, SqlMetadataStore, SqliteOptions};
use registry_core::metadata::{MountBlob, Observation, Sweep};
use registry_core::testing::{ManualClock, Rng};
use registry_core::{Digest, MetadataStore as _, Reference};

use super::{as_child, child, folder, open, outsider};
use crate::support::{digest, dynamic, push_blob, push_manifest, repository, tag};

fn latest() -> Reference {
    Reference::Tag(tag("latest"))
}

#[tokio::test]
async fn what_was_asked_before_is_answered_from_memory() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let blob = push_blob(&store, "team/app", "layer").await.unwrap();
    push_manifest(&store, "team/app", "manifest", vec![blob], &["latest"]).await.unwrap();
    for _ in 0..100 {
        store.manifest(&repository("team/app"), &latest()).await.unwrap().unwrap();
        store.manifest(&repository("team/app"), &digest("manifest").into()).await.unwrap().unwrap();
        store.blob_link(&repository("team/app"), &blob).await.unwrap().unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.cache_hits, stats.cache_misses), (297, 3));
}

#[tokio::test]
async fn commits_that_change_nothing_that_is_served_leave_the_cache_as_it_is() {
    let (_folder, path) = folder();
    let (store, other) = (open(&path).await, open(&path).await);
    let mut blobs = Vec::new();
    for number in 0..50 {
        blobs.push(push_blob(&store, "team/app", &format!("layer {number}")).await.unwrap());
    }
    for blob in &blobs {
        store.blob_link(&repository("team/app"), blob).await.unwrap().unwrap();
    }
    let before = store.stats();
    // New blobs, here and in another process: one question makes sure, the others are hits again.
    for number in 0..3 {
        push_blob(&store, "team/app", &format!("another {number}")).await.unwrap();
        push_blob(&other, "team/app", &format!("yet another {number}")).await.unwrap();
        for blob in &blobs {
            store.blob_link(&repository("team/app"), blob).await.unwrap().unwrap();
        }
    }
    let after = store.stats();
    assert_eq!((after.cache_hits - before.cache_hits, after.cache_misses - before.cache_misses), (147, 3));
}

#[tokio::test]
async fn a_tag_moved_in_another_process_is_seen_at_once() {
    let (_folder, path) = folder();
    let (store, other) = (open(&path).await, open(&path).await);
    let blob = push_blob(&store, "team/app", "layer").await.unwrap();
    for number in 0..50 {
        let pushed = push_manifest(&other, "team/app", &format!("manifest {number}"), vec![blob], &["latest"]).await.unwrap();
        for _ in 0..2 {
            let seen = store.manifest(&repository("team/app"), &latest()).await.unwrap().unwrap();
            assert_eq!(seen.digest, pushed);
        }
    }
    assert!(store.stats().cache_hits >= 50);
    other.delete_tag(&repository("team/app"), &tag("latest")).await.unwrap();
    assert_eq!(store.manifest(&repository("team/app"), &latest()).await.unwrap(), None);
}

/// Another process moves the tag and says so; from then on nobody may see the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_acknowledged_is_seen_from_then_on() {
    use std::io::BufRead as _;
    let (_folder, path) = folder();
    let store = open(&path).await;
    let blob = push_blob(&store, "team/app", "layer").await.unwrap();
    push_manifest(&store, "team/app", "manifest 0", vec![blob], &["latest"]).await.unwrap();
    let number_of = |manifest: Option<registry_core::metadata::StoredManifest>| -> u32 {
        let text = String::from_utf8(manifest.unwrap().bytes.to_vec()).unwrap();
        text.strip_prefix("manifest ").unwrap().parse().unwrap()
    };
    // Someone who keeps asking, so that there is something to be stale all the time.
    let asking = tokio::spawn({
        let store = store.clone();
        async move {
            let mut newest = 0;
            while newest < 200 {
                let seen = number_of(store.manifest(&repository("team/app"), &latest()).await.unwrap());
                assert!(seen >= newest, "back from {newest} to {seen}");
                newest = seen;
                tokio::task::yield_now().await;
            }
        }
    });
    let mut mover = child("sqlite::freshness::child_that_moves_a_tag", &path);
    let lines = std::io::BufReader::new(mover.stdout.take().unwrap()).lines();
    let runtime = tokio::runtime::Handle::current();
    let watching = std::thread::spawn(move || {
        let mut last = 0;
        for line in lines.map_while(Result::ok) {
            if let Some(said) = line.strip_prefix("acknowledged ") {
                last = said.parse().unwrap();
                let seen = number_of(runtime.block_on(store.manifest(&repository("team/app"), &latest())).unwrap());
                assert!(seen >= last, "{last} was acknowledged, {seen} is served");
            }
        }
        (last, store.stats())
    });
    assert!(mover.wait().unwrap().success());
    let (last, stats) = watching.join().unwrap();
    assert_eq!(last, 200);
    asking.await.unwrap();
    assert!(stats.cache_hits > 200, "{stats:?}");
}

#[tokio::test]
#[ignore = "run by what_another_process_acknowledged_is_seen_from_then_on"]
async fn child_that_moves_a_tag() {
    let Some(path) = as_child() else { return };
    let store = open(&path).await;
    for number in 1..=200 {
        push_manifest(&store, "team/app", &format!("manifest {number}"), vec![digest("layer")], &["latest"]).await.unwrap();
        println!("\nacknowledged {number}");
    }
}

#[tokio::test]
async fn a_program_that_knows_nothing_of_caches_is_noticed_when_it_says_what_it_changed() {
    // The rule for whoever changes rows by hand: raise `served`.
    let (_folder, path) = folder();
    let store = open(&path).await;
    let blob = push_blob(&store, "team/app", "layer").await.unwrap();
    store.blob_link(&repository("team/app"), &blob).await.unwrap().unwrap();
    outsider(&path).execute_batch("BEGIN; DELETE FROM links; UPDATE meta SET value = value + 1 WHERE name = 'served'; COMMIT").unwrap();
    assert_eq!(store.blob_link(&repository("team/app"), &blob).await.unwrap(), None);
}

#[tokio::test]
async fn the_cache_is_bounded_and_keeps_what_is_asked_for() {
    let (_folder, path) = folder();
    let store = SqlMetadataStore::sqlite(&path, SqliteOptions::default().with_cache_bytes(64 << 10)).await.unwrap();
    let mut digests = Vec::new();
    for number in 0..100 {
        digests.push(push_manifest(&store, "team/app", &format!("{number:0>2000}"), Vec::new(), &[]).await.unwrap());
    }
    let hot = Reference::from(digests[0]);
    for digest in &digests {
        store.manifest(&repository("team/app"), &hot).await.unwrap().unwrap();
        store.manifest(&repository("team/app"), &(*digest).into()).await.unwrap().unwrap();
    }
    let stats = store.stats();
    assert!(stats.cache_misses <= 102, "what is asked for all the time was given up: {stats:?}");
    let kept = format!("{store:?}");
    let bytes: usize = kept.split("bytes: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((32 << 10..=64 << 10).contains(&bytes), "{kept}");
    // And one that is too large for it is served all the same.
    let large = push_manifest(&store, "team/app", &"x".repeat(100_000), Vec::new(), &[]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.manifest(&repository("team/app"), &large.into()).await.unwrap().unwrap().bytes.len(), 100_000);
    }
}

const NAMES: [&str; 2] = ["team/app", "team/other"];
const TAGS: [&str; 2] = ["latest", "v1"];

fn blob(number: u64) -> String {
    format!("layer {number}")
}

fn text(number: u64) -> String {
    format!("manifest {number}")
}

/// One random change; refusals are as good as successes.
async fn change(store: &SqlMetadataStore, rng: &mut Rng) -> &'static str {
    let name = NAMES[usize::try_from(rng.below(2)).unwrap()];
    let (number, tag_name) = (rng.below(3), TAGS[usize::try_from(rng.below(2)).unwrap()]);
    let (layer, document) = (digest(blob(number)), digest(text(number)));
    let sweep = Sweep { grace: Duration::ZERO, cursor: None, limit: 100 };
    match rng.below(14) {
        0 | 1 => {
            drop(push_blob(store, name, &blob(number)).await);
            "push a blob"
        }
        2 => {
            let mount = MountBlob { from: None, to: repository(name), digest: layer };
            drop(store.mount_blob(mount).await);
            "mount"
        }
        3 => {
            drop(store.unlink_blob(&repository(name), &layer).await);
            "unlink"
        }
        4 => {
            drop(store.rely_on_blob(&repository(name), &layer, Duration::from_millis(rng.below(3))).await);
            "rely"
        }
        5 => {
            drop(store.observe_blob(&layer, Observation::Suspect).await);
            "suspect"
        }
        6 => {
            drop(store.observe_blob(&layer, Observation::Verified).await);
            "verify"
        }
        7..=9 => {
            drop(push_manifest(store, name, &text(number), vec![layer], &[tag_name]).await);
            "push a manifest"
        }
        10 => {
            drop(store.delete_manifest(&repository(name), &document).await);
            "delete a manifest"
        }
        11 => {
            drop(store.delete_tag(&repository(name), &tag(tag_name)).await);
            "delete a tag"
        }
        12 => {
            drop(store.expire_links(&sweep).await);
            "expire links"
        }
        _ => {
            drop(store.condemn_blobs(&sweep).await);
            for deletion in store.claim_deletions(Duration::ZERO, Duration::ZERO, 10).await.unwrap() {
                store.complete_deletion(&deletion).await.unwrap();
            }
            drop(store.tidy(Duration::ZERO).await);
            "collect"
        }
    }
}

async fn everything_served(store: &SqlMetadataStore) -> Vec<String> {
    let mut served = Vec::new();
    for name in NAMES {
        let name = repository(name);
        for tag_name in TAGS {
            served.push(format!("{name}:{tag_name} {:?}", store.manifest(&name, &Reference::Tag(tag(tag_name))).await.unwrap()));
        }
        for number in 0..3 {
            let document: Digest = digest(text(number));
            served.push(format!("{name}@{document} {:?}", store.manifest(&name, &document.into()).await.unwrap()));
            served.push(format!("{name} {number} {:?}", store.blob_link(&name, &digest(blob(number))).await.unwrap()));
        }
    }
    served
}

#[tokio::test]
async fn after_any_change_by_anybody_the_cache_agrees_with_the_database() {
    let seed =
        std::env::var("METADATA_SQL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("METADATA_SQL_TEST_SEED={seed}");
    let mut rng = Rng::new(seed);
    let (_folder, path) = folder();
    let clock = Arc::new(ManualClock::default());
    let options = SqliteOptions::default().with_clock(dynamic(&clock)).with_durability(Durability::Process);
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(SqlMetadataStore::sqlite(&path, options.clone()).await.unwrap());
    }
    let uncached = SqlMetadataStore::sqlite(&path, options.with_cache_bytes(0)).await.unwrap();
    for step in 0..400 {
        clock.advance(Duration::from_millis(1));
        let done = change(&stores[usize::try_from(rng.below(2)).unwrap()], &mut rng).await;
        let truth = everything_served(&uncached).await;
        for store in &stores {
            // Twice: as it comes, and from memory.
            for _ in 0..2 {
                assert_eq!(everything_served(store).await, truth, "step {step}: {done}");
            }
        }
    }
    assert_eq!(uncached.stats().cache_hits, 0);
    for store in &stores {
        assert!(store.stats().cache_hits > 1000, "{:?}", store.stats());
    }
}
