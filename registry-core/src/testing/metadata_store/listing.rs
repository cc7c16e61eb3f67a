//! Lists of tags and of repositories.

use super::Fixture;
use super::kit::{SECOND, blob, fails, repo, tag};
use crate::metadata::{ManifestUse, UsedManifest};
use crate::{Digest, ErrorKind};

pub(super) async fn tags_are_in_byte_order(f: Fixture) {
    // In the order of bytes: - . digits, capitals, _ and small letters. No dictionary has it like this.
    let expected = ["1", "1-a", "1.0", "10", "2", "A", "B", "Z", "_", "_a", "a", "a-b", "a.b", "aB", "a_b", "ab", "b"];
    let mut shuffled = expected;
    shuffled.reverse();
    shuffled.swap(2, 9);
    f.put_tagged("team/app", "image", &shuffled).await;
    assert_eq!(f.tags("team/app", None, 100).await.expect("known"), expected);
}

pub(super) async fn tags_are_listed_in_pages(f: Fixture) {
    let all = ["A", "_b", "a", "c", "e"];
    f.put_tagged("team/app", "image", &all).await;
    f.put_tagged("team/apple", "image", &["b", "d"]).await;
    let page = |after: Option<&'static str>, limit| f.tags("team/app", after, limit);
    assert_eq!(page(None, 2).await.expect("known"), ["A", "_b"]);
    assert_eq!(page(Some("_b"), 2).await.expect("known"), ["a", "c"]);
    assert_eq!(page(Some("c"), 2).await.expect("known"), ["e"]);
    assert_eq!(page(Some("e"), 2).await.expect("known"), [""; 0]);
    // What is asked for need not exist, nor be a tag.
    assert_eq!(page(Some("b"), 2).await.expect("known"), ["c", "e"]);
    assert_eq!(page(Some(""), 2).await.expect("known"), ["A", "_b"]);
    assert_eq!(page(Some("d%_'\u{e9}"), 9).await.expect("known"), ["e"]);
    assert_eq!(page(None, 0).await, Some(Vec::new()));
    assert_eq!(page(Some("a"), 0).await, Some(Vec::new()));
    assert_eq!(page(None, u32::MAX).await.expect("known"), all);
}

pub(super) async fn an_unknown_repository_has_no_list_of_tags(f: Fixture) {
    f.put_tagged("team/app", "image", &["latest"]).await;
    for name in ["team", "team/ap", "team/app/x"] {
        assert_eq!(f.tags(name, None, 10).await, None, "{name}");
    }
    assert_eq!(f.tags("unknown", None, 0).await, None);
    // Nothing that fails, or that may come to nothing, makes one known.
    assert!(f.mount(None, "unknown", &blob("layer")).await.is_none());
    fails(f.store.link_blob(Fixture::link_of("unknown", &blob("layer"), 1)).await, ErrorKind::Conflict);
    assert!(!f.store.delete_tag(&repo("unknown"), &tag("latest")).await.expect("delete_tag"));
    let mut key = super::kit::key("session");
    key.repository = repo("unknown");
    let upload = crate::metadata::NewUpload { key, algorithm: crate::Algorithm::Sha256 };
    f.store.create_upload(upload).await.expect("create_upload");
    assert_eq!(f.tags("unknown", None, 10).await, None);
}

pub(super) async fn a_known_repository_may_have_no_tags(f: Fixture) {
    f.put_tagged("manifest", "image", &[]).await;
    let layer = f.push("blob", "layer").await;
    assert!(f.mount(Some("blob"), "mounted", &layer).await.is_some());
    for name in ["manifest", "blob", "mounted"] {
        assert_eq!(f.tags(name, None, 10).await, Some(Vec::new()), "{name}");
    }
}

pub(super) async fn repositories_are_in_byte_order_and_pages(f: Fixture) {
    let all = ["a", "a-b", "a.b", "a/b", "a0", "a_b", "ab", "b"];
    for name in ["ab", "b", "a/b", "a_b", "a", "a.b", "a0", "a-b"] {
        f.put_tagged(name, "image", &[]).await;
    }
    assert_eq!(f.repositories(None, 100).await, all);
    assert_eq!(f.repositories(None, 3).await, all[..3]);
    assert_eq!(f.repositories(Some("a.b"), 3).await, all[3..6]);
    assert_eq!(f.repositories(Some("a_b"), 3).await, all[6..]);
    assert_eq!(f.repositories(Some("b"), 3).await, [""; 0]);
    assert_eq!(f.repositories(Some("a+"), 2).await, all[1..3], "which does not exist, nor could");
    assert_eq!(f.repositories(None, 0).await, [""; 0]);
    assert_eq!(f.repositories(Some("a"), u32::MAX).await, all[1..]);
}

pub(super) async fn only_repositories_with_a_manifest_are_listed(f: Fixture) {
    assert_eq!(f.repositories(None, 10).await, [""; 0]);
    f.push("blobs-only", "layer").await;
    let image = f.put_tagged("emptied", "image", &["latest"]).await;
    f.put_tagged("kept", "image", &[]).await;
    assert_eq!(f.repositories(None, 10).await, ["emptied", "kept"]);
    assert!(f.delete_manifest("emptied", &image).await);
    assert_eq!(f.repositories(None, 10).await, ["kept"], "no tidying is needed for that");
    assert_eq!(f.repositories(None, 1).await, ["kept"], "a page is not filled with what is not shown");
}

impl Fixture {
    async fn by_use(&self, after: Option<&ManifestUse>, limit: u32) -> Vec<UsedManifest> {
        self.store.manifests_by_use(after, limit).await.expect("manifests_by_use")
    }

    /// All of them: repository and digest.
    async fn used(&self) -> Vec<(String, Digest)> {
        let used = self.by_use(None, u32::MAX).await;
        used.into_iter().map(|used| (used.last_use.repository.to_string(), used.last_use.digest)).collect()
    }

    async fn note(&self, uses: &[(&str, &Digest)]) {
        let uses: Vec<_> = uses.iter().map(|(name, digest)| (repo(name), **digest)).collect();
        self.store.note_uses(&uses).await.expect("note_uses");
    }
}

pub(super) async fn manifests_are_listed_by_their_last_use_with_what_they_need(f: Fixture) {
    assert_eq!(f.by_use(None, 100).await, []);
    let layers = [f.push("team/app", "a layer").await, f.push("team/app", "another").await];
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = layers.to_vec();
    image.subject = Some(blob("subject"));
    image.optional = vec![blob("foreign")];
    f.pass(SECOND);
    let image = f.put(image).await;
    let mut needs = vec![layers[0], layers[1], blob("foreign")];
    needs.sort_unstable();
    let used = f.by_use(None, 100).await;
    let last_use = ManifestUse { used_at: used[0].last_use.used_at, repository: repo("team/app"), digest: image };
    assert_eq!(used, [UsedManifest::new(last_use, needs)]);
    f.pass(SECOND);
    let second = f.put_tagged("other", "second", &["latest"]).await;
    f.pass(SECOND);
    let third = f.put_tagged("team/app", "third", &[]).await;
    let (app, other) = ("team/app".to_owned(), "other".to_owned());
    assert_eq!(f.used().await, [(app.clone(), third), (other.clone(), second), (app.clone(), image)]);
    // Pushed again, and by another repository.
    f.pass(SECOND);
    f.put_tagged("team/app", "second", &[]).await;
    f.pass(SECOND);
    f.put_tagged("other", "second", &["v2"]).await;
    assert_eq!(f.used().await, [(other.clone(), second), (app.clone(), second), (app.clone(), third), (app.clone(), image)]);
    assert!(f.delete_manifest("team/app", &third).await);
    assert_eq!(f.used().await, [(other, second), (app.clone(), second), (app, image)]);
}

pub(super) async fn noting_a_use_moves_a_manifest_to_the_front(f: Fixture) {
    let mut images = Vec::new();
    for number in 0..4 {
        images.push(f.put_tagged("team/app", &format!("image {number}"), &["latest"]).await);
        f.pass(SECOND);
    }
    let order = async || {
        f.used().await.iter().map(|(_, digest)| images.iter().position(|image| image == digest).expect("ours")).collect::<Vec<_>>()
    };
    assert_eq!(order().await, [3, 2, 1, 0]);
    f.note(&[("team/app", &images[0])]).await;
    assert_eq!(order().await, [0, 3, 2, 1]);
    let used = f.by_use(None, 2).await;
    assert_eq!(used[0].last_use.used_at, used[1].last_use.used_at + SECOND);
    f.pass(SECOND);
    // What is not there is passed over.
    f.note(&[("other", &images[1]), ("team/app", &blob("no manifest")), ("team/app", &images[2]), ("nobody", &images[3])]).await;
    assert_eq!(order().await, [2, 0, 3, 1]);
    f.note(&[]).await;
    let other = f.other().await;
    assert_eq!(other.manifests_by_use(None, 1).await.expect("manifests_by_use")[0].last_use.digest, images[2]);
    assert_eq!(f.tagged("team/app", "latest").await, Some(images[3]), "that moves no tag");
}

pub(super) async fn manifests_are_listed_by_use_in_pages(f: Fixture) {
    let mut all = Vec::new();
    for number in 0..9 {
        let repository = ["b", "a/b", "c"][number % 3];
        let digest = f.put_tagged(repository, &format!("image {}", number / 2), &[]).await;
        all.push((repository.to_owned(), digest));
        if number % 4 == 0 {
            // The others are of one moment.
            f.pass(SECOND);
        }
    }
    all.sort();
    for limit in [1, 2, 4, 9, u32::MAX] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = f.by_use(after.as_ref(), limit).await;
            assert!(page.len() <= limit as usize, "a page of {limit} has {}", page.len());
            after = page.last().map(|used| used.last_use.clone());
            let is_last = page.len() < limit as usize;
            seen.extend(page.into_iter().map(|used| used.last_use));
            assert!(seen.len() <= all.len(), "pages of {limit} do not end");
            if is_last {
                break;
            }
        }
        assert!(seen.is_sorted_by(|one, next| one.used_at >= next.used_at), "{seen:?}");
        let mut seen: Vec<_> = seen.into_iter().map(|used| (used.repository.to_string(), used.digest)).collect();
        seen.sort();
        assert_eq!(seen, all, "in pages of {limit}");
    }
    assert_eq!(f.by_use(None, 0).await, []);
}
