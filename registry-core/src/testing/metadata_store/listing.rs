//! Lists of tags and of repositories.

use super::Fixture;
use super::kit::{blob, fails, repo, tag};
use crate::ErrorKind;

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
