//! What a store has besides blobs: named objects, an identity, a probe, hints, URLs.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::kit::{blob, content, holds, lists, ok, put, refused, staged};
use super::{Case, Fixture, cases};
use crate::ErrorKind;
use crate::blob::{Assurance, BlobStore, DownloadOptions, ListOptions, NamedObjects, StoreIdentity};

pub(super) const CASES: &[Case] = cases![Nothing:
    named_objects_are_there_if_the_store_says_so,
    a_probe_succeeds_and_leaves_nothing,
    hints_about_scopes_are_taken,
    copies_of_what_is_there_are_enough,
    download_urls_are_there_if_the_store_says_so,
];

pub(super) const NAMED: &[Case] = cases![NamedObjects:
    a_named_object_is_put_and_deleted,
    a_named_object_is_replaced_as_a_whole,
    named_objects_are_listed_by_prefix_in_order,
    names_that_are_none_are_refused,
    a_named_object_has_at_most_4_mib,
    a_second_process_sees_named_objects,
    the_identity_stays,
];

fn named(store: &dyn BlobStore) -> &dyn NamedObjects {
    store.named().unwrap_or_else(|| panic!("the store says that it has named objects, and has none"))
}

async fn named_objects_are_there_if_the_store_says_so(f: &Fixture) {
    assert_eq!(f.store.named().is_some(), f.store.capabilities().named_objects, "capabilities and named() must agree");
}

async fn a_probe_succeeds_and_leaves_nothing(f: &Fixture) {
    let blob = blob(1, 1000);
    put(&*f.store, &blob).await;
    let report = f.store.probe().await;
    assert!(report.failure().is_none() && !report.steps.is_empty(), "a probe of a sound store failed: {report:?}");
    lists(f, "a list after a probe", &ListOptions::default(), &[&blob]).await;
    staged(f, "uploads after a probe", 0).await;
}

async fn hints_about_scopes_are_taken(f: &Fixture) {
    let there = blob(1, 1000);
    put(&*f.store, &there).await;
    for digest in [there.0, blob(2, 10).0] {
        ok("retain", f.store.retain(&digest, "team/app").await);
        ok("retain for another scope", f.store.retain(&digest, "team/other").await);
        ok("release", f.store.release(&digest, "team/app").await);
    }
    // It is no order to delete, not even from the last scope.
    ok("release from the last scope", f.store.release(&there.0, "team/other").await);
    holds(&*f.store, &there).await;
}

async fn copies_of_what_is_there_are_enough(f: &Fixture) {
    let (one, two) = (blob(1, 1000), blob(2, 0));
    put(&*f.store, &one).await;
    put(&*f.store, &two).await;
    for digests in [&[one.0, two.0][..], &[one.0, one.0], &[]] {
        // Here nobody demands more than what was acknowledged. It may take a while, and the case's time limit is the store's own patience.
        let assurance = ok("waiting for copies", f.store.await_copies(digests, "team/app").await);
        assert_eq!(assurance, Assurance::Met, "copies of {} acknowledged blobs", digests.len());
    }
    holds(&*f.store, &one).await;
    holds(&*f.store, &two).await;
}

async fn download_urls_are_there_if_the_store_says_so(f: &Fixture) {
    let blob = blob(1, 1000);
    put(&*f.store, &blob).await;
    let mut options = DownloadOptions::new(Duration::from_secs(60));
    options.content_type = Some("application/octet-stream".to_owned());
    let url = ok("a download URL", f.store.download_url(&http::Method::GET, &blob.0, options).await);
    assert_eq!(url.is_some(), f.store.capabilities().presign, "capabilities and download_url() must agree: {url:?}");
    if let Some(url) = url {
        let web = matches!(url.scheme_str(), Some("http" | "https"));
        assert!(web && url.host().is_some(), "a client can fetch a download URL by itself: {url}");
    }
}

async fn a_named_object_is_put_and_deleted(f: &Fixture) {
    let objects = named(&*f.store);
    let name = "suite/one.part-of_two";
    assert_eq!(ok("get", objects.get(name).await), None, "an object that is not there");
    ok("deleting an object that is not there", objects.delete(name).await);
    for value in [Bytes::from_static(b"value"), Bytes::new(), content(1, 100_000)] {
        ok("put", objects.put(name, value.clone()).await);
        assert!(ok("get", objects.get(name).await) == Some(value), "an object gives back what was put");
    }
    assert_eq!(ok("get", objects.get("suite/one").await), None, "the beginning of a name is another name");
    ok("delete", objects.delete(name).await);
    assert_eq!(ok("get", objects.get(name).await), None, "a deleted object is gone at once");
}

async fn a_named_object_is_replaced_as_a_whole(f: &Fixture) {
    let values = [content(1, 200_000), content(2, 50_000)];
    let name = "suite/replaced";
    ok("put", named(&*f.store).put(name, values[1].clone()).await);
    let (store, written) = (super::kit::shared(f), values.clone());
    let writing = tokio::spawn(async move {
        for _ in 0..5 {
            for value in &written {
                ok("put over an object", named(&*store).put(name, value.clone()).await);
                tokio::task::yield_now().await;
            }
        }
    });
    while !writing.is_finished() {
        let seen = ok("get", named(&*f.store).get(name).await);
        assert!(seen.is_some_and(|seen| values.contains(&seen)), "a reader sees the old object or the new one, whole");
        tokio::task::yield_now().await;
    }
    assert!(writing.await.is_ok(), "a put over an object that is being read failed");
    assert!(ok("get", named(&*f.store).get(name).await).as_ref() == Some(&values[1]), "the last put counts");
}

async fn named_objects_are_listed_by_prefix_in_order(f: &Fixture) {
    let objects = named(&*f.store);
    let mut names = ["suite/b", "suite/a", "suite/a/x", "suite/a.b", "suite/ab", "suite-2", "suite/a/y/z", "suite/a-1"];
    for (name, len) in names.iter().zip(1_usize..) {
        ok("put", objects.put(name, content(1, len)).await);
    }
    names.sort_unstable();
    for prefix in ["suite", "suite/", "suite/a", "suite/a/", "suite/a/x", "suite/zzz"] {
        let listed: Vec<_> = ok("list", objects.list(prefix).try_collect().await);
        let listed: Vec<_> = listed.iter().map(|info| info.name.as_str()).collect();
        let expected: Vec<_> = names.iter().copied().filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(listed, expected, "the objects whose name starts with {prefix}, in the order of their names");
    }
    let everything: Vec<_> = ok("list", objects.list("").try_collect().await);
    assert!(names.iter().all(|name| everything.iter().any(|info| info.name == *name)), "an empty prefix lists all: {everything:?}");
    let size = everything.iter().find(|info| info.name == "suite/ab").map(|info| info.size);
    assert_eq!(size, Some(5), "a list tells the size");
    ok("delete", objects.delete("suite/a/x").await);
    let listed: Vec<_> = ok("list", objects.list("suite/a/").try_collect().await);
    assert_eq!(listed.len(), 1, "a deleted object is not listed: {listed:?}");
}

async fn names_that_are_none_are_refused(f: &Fixture) {
    let objects = named(&*f.store);
    let long = "a".repeat(256);
    for name in ["", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", ".hidden", "a/.b", "A", "a b", "a\0", "ä", "a\\b", "a%2e", &long]
    {
        refused(&format!("a put under {name:?}"), ErrorKind::InvalidInput, objects.put(name, Bytes::from_static(b"x")).await);
        let found = objects.get(name).await;
        assert!(!matches!(found, Ok(Some(_))), "{name:?} is no name, and has an object");
    }
    let longest = "a".repeat(255);
    ok("a put under a name of 255 bytes", objects.put(&longest, Bytes::from_static(b"x")).await);
    assert_eq!(ok("get", objects.get(&longest).await), Some(Bytes::from_static(b"x")), "a long name is a name");
}

async fn a_named_object_has_at_most_4_mib(f: &Fixture) {
    let objects = named(&*f.store);
    let largest = content(1, 4 << 20);
    ok("a put of 4 MiB", objects.put("suite/large", largest.clone()).await);
    refused("a put of more than 4 MiB", ErrorKind::TooLarge, objects.put("suite/large", content(2, (4 << 20) + 1)).await);
    assert!(ok("get", objects.get("suite/large").await) == Some(largest), "a put that was refused changes nothing");
    refused("a put of more than 4 MiB", ErrorKind::TooLarge, objects.put("suite/none", content(2, (4 << 20) + 1)).await);
    assert_eq!(ok("get", objects.get("suite/none").await), None, "a put that was refused leaves nothing");
}

async fn a_second_process_sees_named_objects(f: &Fixture) {
    let other = f.reopened().await;
    ok("put", named(&*f.store).put("suite/shared", Bytes::from_static(b"one")).await);
    assert_eq!(ok("get", named(&*other).get("suite/shared").await).as_deref(), Some(&b"one"[..]), "a second process sees the object");
    ok("put", named(&*other).put("suite/shared", Bytes::from_static(b"two")).await);
    assert_eq!(ok("get", named(&*f.store).get("suite/shared").await).as_deref(), Some(&b"two"[..]), "the last put counts");
    ok("delete", named(&*other).delete("suite/shared").await);
    assert_eq!(ok("get", named(&*f.store).get("suite/shared").await), None, "a deleted object is gone for every process");
}

async fn the_identity_stays(f: &Fixture) {
    let first = ok("the identity", StoreIdentity::read_or_write(named(&*f.store), "zone-1", "native").await);
    let other = f.reopened().await;
    let seen = ok("the identity", StoreIdentity::read_or_write(named(&*other), "zone-2", "other").await);
    assert_eq!(first, seen, "a store that has an identity keeps it, whoever opens it");
    put(&*other, &blob(1, 10)).await;
    let again = ok("the identity", StoreIdentity::read(named(&*f.reopened().await)).await);
    assert_eq!(again, Some(first), "the identity is what was written");
}
