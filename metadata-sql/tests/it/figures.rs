//! Figures, printed, for `benches/README.md`; nothing is asserted.
//!
//! `cargo test --release -p metadata-sql --all-features --test it -- --ignored --nocapture --test-threads=1 figures`

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metadata_sql::SqlMetadataStore;
use registry_core::metadata::{LinkBlob, Page};
use registry_core::{MetadataStore as _, Reference};

use crate::support::{digest, push_blob, push_manifest, repository, tag};

/// Microseconds of wall-clock time per operation, the best of three rounds.
async fn each<Fut: Future<Output = ()>>(count: u32, mut operation: impl FnMut(u32) -> Fut) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        for number in 0..count {
            operation(number).await;
        }
        best = best.min(start.elapsed() / count);
    }
    best.as_secs_f64() * 1e6
}

pub(crate) async fn reads(what: &str, store: &SqlMetadataStore) {
    let (name, latest) = (repository("team/app"), Reference::Tag(tag("latest")));
    let blob = push_blob(store, "team/app", "layer").await.unwrap();
    push_manifest(store, "team/app", &"x".repeat(2000), vec![blob], &["latest"]).await.unwrap();
    let by_tag = each(20_000, |_| async {
        store.manifest(&name, &latest).await.unwrap().unwrap();
    });
    println!("{what}: manifest by tag, again and again: {:.2} us", by_tag.await);
    let by_digest = Reference::from(digest("x".repeat(2000)));
    let again = each(20_000, |_| async {
        store.manifest(&name, &by_digest).await.unwrap().unwrap();
    });
    println!("{what}: manifest by digest, again and again: {:.2} us", again.await);
    let link = each(20_000, |_| async {
        store.blob_link(&name, &blob).await.unwrap().unwrap();
    });
    println!("{what}: blob link, again and again: {:.2} us", link.await);
    let missing = Reference::Tag(tag("missing"));
    let miss = each(5000, |_| async {
        assert!(store.manifest(&name, &missing).await.unwrap().is_none());
    });
    println!("{what}: manifest by tag that is not there (never cached): {:.2} us", miss.await);
}

pub(crate) async fn at_once(what: &str, store: &SqlMetadataStore) {
    let start = Instant::now();
    let asking: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let (name, latest) = (repository("team/app"), Reference::Tag(tag("latest")));
                for _ in 0..5000 {
                    store.manifest(&name, &latest).await.unwrap().unwrap();
                }
            })
        })
        .collect();
    for one in asking {
        one.await.unwrap();
    }
    println!("{what}: manifest by tag, 64 at once: {:.2} us each", start.elapsed().as_secs_f64() * 1e6 / 320_000.0);
}

pub(crate) async fn tags(what: &str, store: &SqlMetadataStore) {
    let manifest = push_manifest(store, "team/tags", "tagged", Vec::new(), &[]).await.unwrap();
    for hundred in 0..100 {
        let names: Vec<_> = (0..100).map(|number| format!("v{:05}", hundred * 100 + number)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(push_manifest(store, "team/tags", "tagged", Vec::new(), &names).await.unwrap(), manifest);
    }
    for (where_, after) in [("first", None), ("middle", Some("v04999")), ("last", Some("v09899"))] {
        let page = Page { after: after.map(ToOwned::to_owned), limit: 100 };
        let name = repository("team/tags");
        let time = each(500, |_| async {
            assert_eq!(store.tags(&name, &page).await.unwrap().unwrap().len(), 100);
        });
        println!("{what}: {where_} page of 100 of 10,000 tags: {:.0} us", time.await);
    }
}

/// Each of 16 pushers intends and links one blob after the other.
pub(crate) async fn pushes(what: &str, store: &SqlMetadataStore, each: u32) {
    let store = Arc::new(store.clone());
    for what_else in ["intend and link", "link alone"] {
        let mut links = Vec::new();
        for pusher in 0..16 {
            for number in 0..each {
                let digest = digest(format!("{what_else} {pusher} {number}"));
                let generation = if what_else == "link alone" { store.intend_blob(&digest).await.unwrap().generation } else { 0 };
                links.push(LinkBlob { repository: repository("team/app"), digest, size: 1, generation, upload: None });
            }
        }
        let before = store.stats();
        let start = Instant::now();
        let pushing: Vec<_> = links
            .chunks(each as usize)
            .map(|links| {
                let (store, links) = (Arc::clone(&store), links.to_vec());
                tokio::spawn(async move {
                    for mut link in links {
                        if link.generation == 0 {
                            link.generation = store.intend_blob(&link.digest).await.unwrap().generation;
                        }
                        store.link_blob(link).await.unwrap();
                    }
                })
            })
            .collect();
        for one in pushing {
            one.await.unwrap();
        }
        let time = start.elapsed().as_secs_f64();
        let stats = store.stats();
        let transactions = stats.transactions - before.transactions;
        let per = (stats.commands - before.commands) as f64 / transactions as f64;
        println!("{what}: {what_else}, 16 at once: {:.0} blobs/s, {per:.1} commands per transaction", links.len() as f64 / time);
    }
}
