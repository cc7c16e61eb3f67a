//! Manifests, what they require, and the tags that point to them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Fixture;
use super::kit::{GRACE, HOUR, SECOND, blob, fails, repo, set, tag};
use crate::{Digest, ErrorKind, Reference};

pub(super) async fn a_manifest_is_found_by_digest_and_by_tag(f: Fixture) {
    let digest = f.put_tagged("team/app", "image", &["latest", "1.0"]).await;
    for reference in [Reference::Digest(digest), tag("latest").into(), tag("1.0").into()] {
        let found = f.store.manifest(&repo("team/app"), &reference).await.expect("manifest").expect("a manifest");
        assert_eq!((found.digest, found.bytes), (digest, Bytes::from_static(b"image")), "{reference}");
    }
    assert_eq!(f.tagged("team/app", "2.0").await, None);
    assert_eq!(f.tagged("team/app", "Latest").await, None, "tags tell case");
    assert!(!f.has_manifest("team/app", &blob("another image")).await);
}

pub(super) async fn bytes_and_media_type_come_back_exactly(f: Fixture) {
    // White space, a NUL, what is not UTF-8, and more than fits a page of any database.
    let mut bytes = b"{ \r\n\t\"a\":\"\0\xff\xfe\" }\n\n".to_vec();
    bytes.extend((0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    let mut manifest = f.manifest("team/app", "placeholder").await;
    manifest.digest = Digest::sha256(&bytes);
    manifest.generation = f.intend(&manifest.digest).await;
    manifest.bytes = bytes.into();
    manifest.media_type = "application/vnd.example.Thing+json".to_owned();
    let expected = manifest.clone();
    let digest = f.put(manifest).await;
    let found = f.store.manifest(&repo("team/app"), &digest.into()).await.expect("manifest").expect("a manifest");
    assert!(found.bytes == expected.bytes, "{} bytes came back as {} others", expected.bytes.len(), found.bytes.len());
    assert_eq!(found.media_type, expected.media_type);
    // And nothing at all.
    let empty = f.put_tagged("team/app", "", &[]).await;
    let found = f.store.manifest(&repo("team/app"), &empty.into()).await.expect("manifest").expect("a manifest");
    assert!(found.bytes.is_empty());
}

pub(super) async fn a_manifest_is_in_its_repository_only(f: Fixture) {
    let digest = f.put_tagged("one", "image", &["latest"]).await;
    assert!(f.has_manifest("one", &digest).await);
    assert!(!f.has_manifest("two", &digest).await);
    assert_eq!(f.tagged("two", "latest").await, None);
    let other = f.put_tagged("two", "another image", &["latest"]).await;
    assert_eq!(f.tagged("one", "latest").await, Some(digest), "tags of one name are two things in two repositories");
    assert_eq!(f.tagged("two", "latest").await, Some(other));
}

pub(super) async fn everything_missing_is_named_at_once(f: Fixture) {
    let held = f.push("team/app", "held").await;
    let [config, layer, child] = [blob("config"), blob("layer"), blob("child")];
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = vec![config, held, layer, layer];
    image.manifests = vec![child];
    let error = fails(f.store.put_manifest(image.clone()).await, ErrorKind::ManifestBlobUnknown);
    assert_eq!(error.digests().len(), 3, "each once: {:?}", error.digests());
    assert_eq!(set(error.digests().iter().copied()), set([config, layer, child]));
    // An intent is no link.
    f.intend(&config).await;
    let error = fails(f.store.put_manifest(image).await, ErrorKind::ManifestBlobUnknown);
    assert!(error.digests().contains(&config));
}

pub(super) async fn a_blob_of_another_repository_is_missing(f: Fixture) {
    let layer = f.push("two", "layer").await;
    let mut image = f.manifest("one", "image").await;
    image.blobs = vec![layer];
    let error = fails(f.store.put_manifest(image.clone()).await, ErrorKind::ManifestBlobUnknown);
    assert_eq!(error.digests(), [layer], "else a digest would be enough to read anybody's layers");
    assert!(f.mount(Some("two"), "one", &layer).await.is_some());
    f.put(image).await;
}

pub(super) async fn missing_children_are_named(f: Fixture) {
    let [here, elsewhere] = [f.put_tagged("team/app", "here", &[]).await, f.put_tagged("other", "elsewhere", &[]).await];
    let mut index = f.manifest("team/app", "index").await;
    index.manifests = vec![here, elsewhere];
    let error = fails(f.store.put_manifest(index.clone()).await, ErrorKind::ManifestBlobUnknown);
    assert_eq!(error.digests(), [elsewhere]);
    index.manifests = vec![here];
    let index = f.put(index).await;
    assert!(f.has_manifest("team/app", &index).await);
}

pub(super) async fn a_manifest_may_stand_for_a_blob_but_no_blob_for_a_manifest(f: Fixture) {
    let child = f.put_tagged("team/app", "child", &[]).await;
    let layer = f.push("team/app", "layer").await;
    let mut odd = f.manifest("team/app", "odd").await;
    odd.blobs = vec![child];
    f.put(odd).await;
    let mut index = f.manifest("team/app", "index").await;
    index.manifests = vec![layer];
    let error = fails(f.store.put_manifest(index).await, ErrorKind::ManifestBlobUnknown);
    assert_eq!(error.digests(), [layer], "a blob cannot be pulled as a manifest");
}

pub(super) async fn subject_and_optional_content_may_be_missing(f: Fixture) {
    let mut artifact = f.manifest("team/app", "signature").await;
    artifact.subject = Some(blob("not pushed yet"));
    artifact.optional = vec![blob("foreign layer"), blob("child of a sparse index")];
    let artifact = f.put(artifact).await;
    assert!(f.has_manifest("team/app", &artifact).await);
}

pub(super) async fn pushing_again_changes_nothing(f: Fixture) {
    let layer = f.push("team/app", "layer").await;
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = vec![layer];
    image.tags = vec![tag("latest"), tag("1.0")];
    image.annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    for _ in 0..3 {
        f.put(image.clone()).await;
    }
    image.tags = Vec::new();
    let digest = f.put(image).await;
    assert_eq!(f.tagged("team/app", "latest").await, Some(digest), "a push without tags takes none away");
    assert_eq!(f.tags("team/app", None, 10).await.expect("known"), ["1.0", "latest"]);
    assert!(f.delete_manifest("team/app", &digest).await);
    assert!(!f.has_manifest("team/app", &digest).await);
    f.pass(GRACE * 2);
    assert_eq!(f.expire().await, set([(repo("team/app"), layer)]), "nothing is left of any of the pushes");
}

pub(super) async fn a_tag_moves_to_the_newest_manifest(f: Fixture) {
    let first = f.put_tagged("team/app", "first", &["latest", "1"]).await;
    let second = f.put_tagged("team/app", "second", &["latest", "2"]).await;
    for (name, expected) in [("latest", second), ("1", first), ("2", second)] {
        assert_eq!(f.tagged("team/app", name).await, Some(expected), "{name}");
    }
    assert!(f.has_manifest("team/app", &first).await, "an untagged manifest is still a manifest");
    f.put_tagged("team/app", "first", &["latest"]).await;
    assert_eq!(f.tagged("team/app", "latest").await, Some(first), "and the tag can go back");
}

pub(super) async fn an_old_generation_cannot_push_a_manifest(f: Fixture) {
    let mut image = f.manifest("team/app", "image").await;
    f.pass(GRACE + SECOND);
    assert_eq!(f.condemn().await, set([image.digest]));
    fails(f.store.put_manifest(image.clone()).await, ErrorKind::Conflict);
    let old = image.generation;
    image.generation = f.intend(&image.digest).await;
    fails(
        f.store
            .put_manifest({
                let mut image = image.clone();
                image.generation = old;
                image
            })
            .await,
        ErrorKind::Conflict,
    );
    assert!(!f.has_manifest("team/app", &image.digest).await);
    let digest = f.put(image).await;
    assert!(f.has_manifest("team/app", &digest).await);
    let mut never = f.manifest("team/app", "another image").await;
    never.digest = blob("never intended");
    fails(f.store.put_manifest(never).await, ErrorKind::Conflict);
}

pub(super) async fn a_failed_push_changes_nothing(f: Fixture) {
    let first = f.put_tagged("team/app", "first", &["latest"]).await;
    let held = f.push("team/app", "held").await;
    f.pass(GRACE - HOUR);
    let mut image = f.manifest("team/app", "image").await;
    image.blobs = vec![held, blob("missing")];
    image.subject = Some(first);
    image.tags = vec![tag("latest"), tag("new")];
    fails(f.store.put_manifest(image.clone()).await, ErrorKind::ManifestBlobUnknown);
    let mut stale = image.clone();
    stale.blobs = vec![held];
    stale.generation += 1_000_000;
    fails(f.store.put_manifest(stale).await, ErrorKind::Conflict);
    let mut elsewhere = image.clone();
    elsewhere.repository = repo("new");
    fails(f.store.put_manifest(elsewhere).await, ErrorKind::ManifestBlobUnknown);
    assert!(!f.has_manifest("team/app", &image.digest).await);
    assert_eq!(f.tagged("team/app", "latest").await, Some(first), "the tag did not move");
    assert_eq!(f.tags("team/app", None, 10).await.expect("known"), ["latest"]);
    assert_eq!(f.tags("new", None, 10).await, None, "no repository came of it");
    assert_eq!(f.repositories(None, 10).await, ["team/app"]);
    let query =
        crate::metadata::ReferrersQuery { repository: repo("team/app"), subject: first, artifact_type: None, after: None, limit: 10 };
    assert!(f.store.referrers(&query).await.expect("referrers").is_empty());
    f.pass(2 * HOUR);
    assert_eq!(f.expire().await, set([(repo("team/app"), held)]), "nothing relies on what a refused manifest refers to");
}

pub(super) async fn a_pushed_manifest_cannot_lose_its_blobs_to_a_sweep(f: Fixture) {
    // Whichever of the two comes first: either the push is told what it lacks, or the sweep spares it.
    for n in 0..8 {
        let layer = f.push("team/app", &format!("layer {n}")).await;
        f.pass(GRACE + SECOND);
        let mut image = f.manifest("team/app", &format!("image {n}")).await;
        image.blobs = vec![layer];
        let other = f.other().await;
        let sweep = super::kit::expire_in_pages(&*other, GRACE, 100);
        let (pushed, swept) = futures_util::future::join(f.store.put_manifest(image.clone()), sweep).await;
        let swept = swept.contains(&(repo("team/app"), layer));
        match pushed {
            Ok(()) => assert!(!swept && f.has("team/app", &layer).await, "the layer of an acknowledged manifest is gone"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ManifestBlobUnknown, "{error}");
                assert!(swept && !f.has_manifest("team/app", &image.digest).await);
            }
        }
    }
}

pub(super) async fn deleting_a_manifest_takes_its_tags(f: Fixture) {
    let doomed = f.put_tagged("team/app", "doomed", &["a", "b"]).await;
    let kept = f.put_tagged("team/app", "kept", &["c"]).await;
    assert!(f.delete_manifest("team/app", &doomed).await);
    assert!(!f.has_manifest("team/app", &doomed).await);
    assert_eq!(f.tagged("team/app", "a").await, None);
    assert_eq!(f.tags("team/app", None, 10).await.expect("known"), ["c"]);
    assert_eq!(f.tagged("team/app", "c").await, Some(kept));
    // And none comes back with it.
    f.put_tagged("team/app", "doomed", &[]).await;
    assert_eq!(f.tagged("team/app", "a").await, None);
}

pub(super) async fn deleting_a_manifest_leaves_the_other_repository_alone(f: Fixture) {
    let layer = f.push("one", "layer").await;
    f.link("two", &layer).await;
    let mut digest = None;
    for name in ["one", "two"] {
        let mut image = f.manifest(name, "image").await;
        image.blobs = vec![layer];
        image.tags = vec![tag("latest")];
        digest = Some(f.put(image).await);
    }
    let digest = digest.expect("a digest");
    assert!(f.delete_manifest("one", &digest).await);
    assert!(f.has_manifest("two", &digest).await);
    assert_eq!(f.tagged("two", "latest").await, Some(digest));
    f.pass(GRACE * 2);
    assert_eq!(f.expire().await, set([(repo("one"), layer)]));
    assert!(f.condemn().await.is_empty(), "two holds the manifest and its layer");
}

pub(super) async fn a_deleted_tag_leaves_its_manifest(f: Fixture) {
    let digest = f.put_tagged("team/app", "image", &["a", "b"]).await;
    assert!(f.store.delete_tag(&repo("team/app"), &tag("a")).await.expect("delete_tag"));
    assert_eq!(f.tagged("team/app", "a").await, None);
    assert_eq!(f.tagged("team/app", "b").await, Some(digest));
    assert!(f.store.delete_tag(&repo("team/app"), &tag("b")).await.expect("delete_tag"));
    assert!(f.has_manifest("team/app", &digest).await);
    assert_eq!(f.tags("team/app", None, 10).await, Some(Vec::new()));
}

pub(super) async fn deleting_what_is_not_there_is_false(f: Fixture) {
    let digest = f.put_tagged("team/app", "image", &["latest"]).await;
    assert!(!f.delete_manifest("team/app", &blob("unknown")).await);
    assert!(!f.delete_manifest("other", &digest).await);
    assert!(!f.store.delete_tag(&repo("team/app"), &tag("unknown")).await.expect("delete_tag"));
    assert!(!f.store.delete_tag(&repo("other"), &tag("latest")).await.expect("delete_tag"));
    assert_eq!(f.tagged("team/app", "latest").await, Some(digest));
    assert!(f.delete_manifest("team/app", &digest).await);
    assert!(!f.delete_manifest("team/app", &digest).await, "a second time");
}
