//! Who holds a blob, and all blobs that somebody holds.

use super::Fixture;
use super::kit::{GRACE, SECOND, TRASH, blob, set};
use crate::metadata::{HeldBlob, LinkBlob};
use crate::{Algorithm, Digest};

/// More blobs than any case has.
const ALL: u32 = 1000;

impl Fixture {
    async fn holders(&self, digest: &Digest) -> Vec<String> {
        self.store.holders(digest).await.expect("holders").iter().map(ToString::to_string).collect()
    }

    async fn held(&self, after: Option<&Digest>, limit: u32) -> Vec<HeldBlob> {
        self.store.held_blobs(after, limit).await.expect("held_blobs")
    }

    async fn all_held(&self) -> Vec<Digest> {
        self.held(None, ALL).await.iter().map(|blob| blob.digest).collect()
    }
}

pub(super) async fn holders_link_a_blob_or_have_it_as_a_manifest(f: Fixture) {
    assert_eq!(f.holders(&blob("unknown")).await, [""; 0]);
    // In the order of bytes, and not in that in which they came.
    let layer = f.push("b", "layer").await;
    for name in ["ab", "a/b", "a-b"] {
        f.link(name, &layer).await;
    }
    assert!(f.mount(None, "a_b", &layer).await.is_some());
    assert_eq!(f.holders(&layer).await, ["a-b", "a/b", "a_b", "ab", "b"]);
    let image = f.put_tagged("team/one", "image", &["latest"]).await;
    f.put_tagged("team/another", "image", &[]).await;
    assert_eq!(f.holders(&image).await, ["team/another", "team/one"]);
    // The bytes of a manifest may be pushed as a blob, too.
    f.link("team/one", &image).await;
    f.link("a", &image).await;
    assert_eq!(f.holders(&image).await, ["a", "team/another", "team/one"], "each once");
    assert_eq!(f.holders(&layer).await.len(), 5, "and nothing of another blob");
    let other = f.other().await;
    assert_eq!(other.holders(&image).await.expect("holders").len(), 3);
}

pub(super) async fn who_let_go_of_a_blob_is_no_holder(f: Fixture) {
    let layer = f.push("one", "layer").await;
    f.link("two", &layer).await;
    assert!(f.unlink("one", &layer).await);
    assert_eq!(f.holders(&layer).await, ["two"]);
    let image = f.put_tagged("one", "image", &["latest"]).await;
    f.put_tagged("two", "image", &[]).await;
    f.link("one", &image).await;
    assert!(f.delete_manifest("one", &image).await);
    assert_eq!(f.holders(&image).await, ["one", "two"], "its bytes are linked there as well");
    assert!(f.unlink("one", &image).await);
    assert_eq!(f.holders(&image).await, ["two"]);
    f.pass(GRACE + SECOND);
    assert!(f.expire().await.len() == 1 && f.holders(&layer).await.is_empty());
    let intended = blob("intended");
    f.intend(&intended).await;
    assert_eq!(f.holders(&intended).await, [""; 0]);
}

pub(super) async fn held_blobs_are_listed_with_their_size_and_holders(f: Fixture) {
    assert_eq!(f.held(None, ALL).await, []);
    let large = blob("large");
    let generation = f.intend(&large).await;
    let repository = super::kit::repo("team/app");
    let link = LinkBlob { repository: repository.clone(), digest: large, size: 5_000_000_000, generation, upload: None };
    f.store.link_blob(link).await.expect("link_blob");
    let other = super::kit::repo("other");
    f.link("team/app", &blob("shared")).await;
    f.link("other", &blob("shared")).await;
    let image = f.put_tagged("team/app", "an image", &["latest", "v1"]).await;
    f.link("other", &image).await;
    f.link("team/app", &image).await;
    let mut expected = vec![
        HeldBlob::new(large, 5_000_000_000, vec![repository.clone()]),
        HeldBlob::new(blob("shared"), 7, vec![other.clone(), repository.clone()]),
        // Linked after it was pushed as a manifest, with the size that the kit's links have.
        HeldBlob::new(image, 7, vec![other, repository.clone()]),
    ];
    let second = f.put_tagged("team/app", "a second image", &[]).await;
    expected.push(HeldBlob::new(second, 14, vec![repository]));
    expected.sort_by_key(|blob| blob.digest);
    assert_eq!(f.held(None, ALL).await, expected);
}

pub(super) async fn held_blobs_are_listed_in_pages(f: Fixture) {
    let mut all = Vec::new();
    for number in 0..9 {
        all.push(f.push(["one", "two", "three"][number % 3], &format!("layer {number}")).await);
        f.link("four", &all[number]).await;
        // What is not held takes no room on a page.
        f.intend(&blob(&format!("intended {number}"))).await;
    }
    all.push(f.put_tagged("one", "image", &[]).await);
    // The longer digests come last.
    let long = Digest::of(Algorithm::Sha512, b"layer");
    f.link("one", &long).await;
    all.push(long);
    all.sort_unstable();
    for limit in [1, 2, 5, 11, u32::MAX] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = f.held(after.as_ref(), limit).await;
            assert!(page.len() <= limit as usize, "a page of {limit} has {}", page.len());
            seen.extend(page.iter().map(|blob| blob.digest));
            after = seen.last().copied();
            if page.len() < limit as usize {
                break;
            }
            assert!(seen.len() <= all.len(), "pages of {limit} do not end");
        }
        assert_eq!(seen, all, "in pages of {limit}");
    }
    assert_eq!(f.held(None, 0).await, []);
    assert_eq!(f.held(all.last(), ALL).await, []);
    // What a page ended with may be gone, or never was.
    let page = f.held(None, 4).await;
    let last = page[3].digest;
    for name in &page[3].repositories {
        f.unlink(name.as_str(), &last).await;
        f.delete_manifest(name.as_str(), &last).await;
    }
    assert!(page[3].repositories.len() <= 2 && f.holders(&last).await.is_empty());
    let rest: Vec<_> = f.held(Some(&last), ALL).await.iter().map(|blob| blob.digest).collect();
    assert_eq!(rest, all[4..]);
}

pub(super) async fn what_nobody_holds_is_not_among_the_held(f: Fixture) {
    f.intend(&blob("intended")).await;
    let unlinked = f.push("team/app", "unlinked").await;
    assert!(f.unlink("team/app", &unlinked).await);
    let image = f.put_tagged("team/app", "image", &["latest"]).await;
    assert!(f.delete_manifest("team/app", &image).await);
    let kept = f.push("team/app", "kept").await;
    assert_eq!(f.all_held().await, [kept]);
    f.pass(GRACE + SECOND);
    f.link("team/app", &kept).await;
    assert_eq!(f.condemn().await, set([blob("intended"), unlinked, image]));
    assert_eq!(f.all_held().await, [kept]);
    f.pass(TRASH + SECOND);
    assert_eq!(f.claim().await.len(), 3);
    assert_eq!(f.all_held().await, [kept], "nor while it is being deleted");
    // And again when it has come back.
    let back = f.push("other", "kept again").await;
    assert_eq!(set(f.all_held().await), set([kept, back]));
}

pub(super) async fn a_blob_is_unknown_as_long_as_it_has_no_row(f: Fixture) {
    let unknown = async |digests: &[Digest]| f.store.unknown_blobs(digests).await.expect("unknown_blobs");
    assert_eq!(unknown(&[]).await, []);
    let [intended, gone, other] = ["intended", "gone", "other"].map(blob);
    let long = Digest::of(Algorithm::Sha512, b"long");
    assert_eq!(unknown(&[other, long, intended]).await, [other, long, intended]);
    f.intend(&intended).await;
    let held = f.push("team/app", "held").await;
    let image = f.put_tagged("team/app", "image", &[]).await;
    f.link("team/app", &gone).await;
    assert!(f.unlink("team/app", &gone).await);
    assert_eq!(unknown(&[held, other, gone, image, intended, long]).await, [other, long], "whether anybody holds it or not");
}
