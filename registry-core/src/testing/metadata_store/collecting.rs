//! Links that expire, sweeps, and what is said of them beforehand.

use super::Fixture;
use super::kit::{GRACE, HOUR, MINUTE, SECOND, TRASH, blob, condemn_in_pages, expire_in_pages, repo, set, tag};
use crate::metadata::GcPreview;

pub(super) async fn a_link_nobody_relies_on_expires(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    f.pass(GRACE - MINUTE);
    assert!(f.expire().await.is_empty(), "a minute too early");
    assert!(f.has("team/app", &digest).await);
    let young = f.push("team/app", "another layer").await;
    f.pass(MINUTE + SECOND);
    assert_eq!(f.expire().await, set([(repo("team/app"), digest)]));
    assert!(!f.has("team/app", &digest).await && f.has("team/app", &young).await);
    assert!(f.expire().await.is_empty(), "it is gone already");
}

pub(super) async fn relying_spares_a_link(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    f.link("other", &digest).await;
    f.pass(GRACE - HOUR);
    assert!(f.store.rely_on_blob(&repo("team/app"), &digest, HOUR).await.expect("rely_on_blob").is_some());
    // Looking, without relying, is nothing to the link.
    assert!(f.has("other", &digest).await);
    f.pass(2 * HOUR);
    assert_eq!(f.expire().await, set([(repo("other"), digest)]), "somebody relied on the other link two hours ago");
    f.pass(GRACE);
    assert_eq!(f.expire().await, set([(repo("team/app"), digest)]));
}

pub(super) async fn relying_is_noted_at_most_so_often(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    f.pass(HOUR / 2);
    let link = f.store.rely_on_blob(&repo("team/app"), &digest, HOUR).await.expect("rely_on_blob");
    assert!(link.is_some(), "it is told all the same");
    f.pass(GRACE - HOUR / 4);
    assert_eq!(f.expire().await, set([(repo("team/app"), digest)]), "the first hour counts from the push");
}

pub(super) async fn mounting_counts_as_relying(f: Fixture) {
    let digest = f.push("from", "layer").await;
    f.link("had-it", &digest).await;
    f.pass(GRACE - HOUR);
    assert!(f.mount(Some("from"), "new", &digest).await.is_some());
    assert!(f.mount(Some("from"), "had-it", &digest).await.is_some());
    f.pass(2 * HOUR);
    f.expire().await;
    assert!(f.has("new", &digest).await, "it was mounted two hours ago");
    assert!(f.has("had-it", &digest).await, "a link that was there already is as good as new");
}

pub(super) async fn links_that_a_manifest_needs_are_kept_however_old(f: Fixture) {
    let [config, layer, loose] = [f.push("team/app", "config").await, f.push("team/app", "layer").await, f.push("team/app", "loose").await];
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = vec![config, layer, layer];
    f.put(image).await;
    f.pass(GRACE * 100);
    assert_eq!(f.expire().await, set([(repo("team/app"), loose)]));
    assert!(f.has("team/app", &config).await && f.has("team/app", &layer).await);
    assert_eq!(f.condemn().await, set([loose]));
}

pub(super) async fn what_a_manifest_may_lack_is_kept_where_it_is_held(f: Fixture) {
    let held = f.push("team/app", "foreign layer").await;
    let mut image = f.manifest("team/app", "image").await;
    image.optional = vec![held, blob("elsewhere")];
    f.put(image).await;
    f.pass(GRACE * 2);
    assert!(f.expire().await.is_empty());
    assert!(f.has("team/app", &held).await);
}

pub(super) async fn another_repositorys_manifest_keeps_no_link(f: Fixture) {
    let layer = f.push("one", "layer").await;
    f.link("two", &layer).await;
    let mut image = f.manifest("one", "image").await;
    image.blobs = vec![layer];
    f.put(image).await;
    f.pass(GRACE + SECOND);
    assert_eq!(f.expire().await, set([(repo("two"), layer)]), "two has no manifest that needs it");
    assert!(f.condemn().await.is_empty(), "but one has");
}

pub(super) async fn a_pushed_manifest_relies_on_its_blobs(f: Fixture) {
    let layer = f.push("team/app", "layer").await;
    let foreign = f.push("team/app", "foreign layer").await;
    f.pass(GRACE - HOUR);
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = vec![layer];
    image.optional = vec![foreign];
    let image = f.put(image).await;
    f.pass(2 * HOUR);
    // Nothing needs them any more, but their client was told two hours ago that they are there.
    assert!(f.delete_manifest("team/app", &image).await);
    assert!(f.expire().await.is_empty());
    assert!(f.has("team/app", &layer).await && f.has("team/app", &foreign).await);
}

pub(super) async fn what_a_deleted_manifest_needed_expires(f: Fixture) {
    let [own, shared] = [f.push("team/app", "own").await, f.push("team/app", "shared").await];
    let mut first = f.manifest("team/app", "first").await;
    first.blobs = vec![own, shared];
    let mut second = f.manifest("team/app", "second").await;
    second.blobs = vec![shared];
    let first = f.put(first).await;
    let second = f.put(second).await;
    f.pass(GRACE + SECOND);
    assert!(f.delete_manifest("team/app", &first).await);
    assert_eq!(f.expire().await, set([(repo("team/app"), own)]), "the other manifest needs what they share");
    assert_eq!(f.condemn().await, set([own, first]));
    assert!(f.delete_manifest("team/app", &second).await);
    assert_eq!(f.expire().await, set([(repo("team/app"), shared)]));
    assert_eq!(f.condemn().await, set([shared, second]));
}

pub(super) async fn a_sweep_of_links_visits_each_once(f: Fixture) {
    let mut old = Vec::new();
    for n in 0..24 {
        let name = ["a", "a-b", "a/b", "b"][n % 4];
        old.push((repo(name), f.push(name, &format!("layer {}", n / 4)).await));
    }
    let mut image = f.manifest("a-b", "image").await;
    image.blobs = vec![old[1].1];
    f.put(image).await;
    f.pass(GRACE + SECOND);
    let young = f.push("a/b", "young").await;
    let removed = expire_in_pages(&*f.store, GRACE, 5).await;
    let needed = old.remove(1);
    assert_eq!(removed.len(), old.len(), "none twice");
    assert_eq!(set(removed), set(old));
    assert!(f.has("a/b", &young).await && f.has("a-b", &needed.1).await);
    assert!(expire_in_pages(&*f.store, GRACE, 1).await.is_empty());
}

pub(super) async fn a_sweep_of_blobs_visits_each_once(f: Fixture) {
    let mut idle = Vec::new();
    for n in 0..17 {
        let digest = blob(&format!("layer {n}"));
        f.intend(&digest).await;
        idle.push(digest);
    }
    for n in 0..6 {
        f.push("team/app", &format!("linked {n}")).await;
    }
    f.pass(GRACE + SECOND);
    f.intend(&blob("young")).await;
    let removed = condemn_in_pages(&*f.store, GRACE, 4).await;
    assert_eq!(removed.len(), idle.len(), "none twice");
    assert_eq!(set(removed), set(idle));
    assert!(condemn_in_pages(&*f.store, GRACE, 1).await.is_empty());
}

pub(super) async fn the_preview_says_what_would_go_and_changes_nothing(f: Fixture) {
    let preview = || async { f.store.preview_collection(GRACE).await.expect("preview_collection") };
    assert_eq!(preview().await, GcPreview::default());
    let [needed, loose] = [f.push("team/app", "needed").await, f.push("team/app", "loose").await];
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = vec![needed];
    f.put(image).await;
    // Two repositories lose one blob, and one loses what another keeps.
    f.link("other", &loose).await;
    f.link("other", &needed).await;
    assert_eq!(preview().await, GcPreview::default(), "all of it is young");
    f.pass(GRACE + SECOND);
    f.push("team/app", "young").await;
    assert_eq!(preview().await, GcPreview { links: 3, blobs: 1, bytes: 7 });
    assert_eq!(preview().await, GcPreview { links: 3, blobs: 1, bytes: 7 }, "looking changes nothing");
    assert_eq!(f.expire().await, set([(repo("team/app"), loose), (repo("other"), loose), (repo("other"), needed)]));
    assert_eq!(preview().await, GcPreview { links: 0, blobs: 1, bytes: 7 });
    assert_eq!(f.condemn().await, set([loose]), "it was as the preview said");
}

pub(super) async fn the_preview_counts_what_is_condemned_already(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    f.unlink("team/app", &digest).await;
    let claim = f.claim_one(&digest).await;
    let condemned = f.push("team/app", "another layer").await;
    f.unlink("team/app", &condemned).await;
    f.pass(SECOND);
    assert_eq!(f.store.condemn(&[condemned], SECOND / 2).await.expect("condemn"), [condemned]);
    let preview = f.store.preview_collection(GRACE).await.expect("preview_collection");
    assert_eq!(preview, GcPreview { links: 0, blobs: 2, bytes: 14 }, "both would be gone with no trash delay");
    f.store.complete_deletion(&claim).await.expect("looking left the claim alone");
    f.pass(TRASH + SECOND);
    let claimed = f.claim().await;
    assert_eq!(claimed.iter().map(|deletion| deletion.digest).collect::<Vec<_>>(), [condemned]);
    f.store.complete_deletion(&claimed[0]).await.expect("complete_deletion");
    assert_eq!(f.store.preview_collection(GRACE).await.expect("preview_collection"), GcPreview::default());
}

pub(super) async fn tidying_forgets_empty_repositories(f: Fixture) {
    let image = f.put_tagged("emptied", "image", &["latest"]).await;
    let layer = f.push("blobs-only", "layer").await;
    f.put_tagged("kept", "another image", &["latest"]).await;
    assert!(f.delete_manifest("emptied", &image).await);
    assert_eq!(f.tags("emptied", None, 10).await, Some(Vec::new()), "it is known until it is tidied away");
    f.store.tidy(GRACE).await.expect("tidy");
    assert_eq!(f.tags("emptied", None, 10).await, None);
    assert_eq!(f.tags("blobs-only", None, 10).await, Some(Vec::new()), "it holds a blob");
    assert!(f.has("blobs-only", &layer).await);
    assert_eq!(f.tags("kept", None, 10).await, Some(vec!["latest".to_owned()]));
    // And it can begin anew.
    f.put_tagged("emptied", "image", &["again"]).await;
    assert_eq!(f.tagged("emptied", "again").await, Some(image));
    assert!(f.store.delete_tag(&repo("emptied"), &tag("again")).await.expect("delete_tag"));
}
