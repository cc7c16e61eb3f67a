//! Manifests about manifests, and digests of the other algorithm.

use std::collections::BTreeMap;

use super::Fixture;
use super::kit::{GRACE, LEASE, SECOND, TRASH, blob, repo, set, tag};
use crate::metadata::{LinkBlob, MountBlob, Referrer, ReferrersQuery};
use crate::{Algorithm, Digest};

fn about(subject: Digest) -> ReferrersQuery {
    ReferrersQuery { repository: repo("team/app"), subject, artifact_type: None, after: None, limit: 100 }
}

async fn list(f: &Fixture, query: &ReferrersQuery) -> Vec<Digest> {
    f.store.referrers(query).await.expect("referrers").into_iter().map(|referrer| referrer.digest).collect()
}

/// Pushes manifests about `subject`, each of the given type; their digests in order.
async fn refer(f: &Fixture, subject: Digest, types: &[Option<&str>]) -> Vec<Digest> {
    let mut digests = Vec::new();
    for (n, artifact_type) in types.iter().enumerate() {
        let mut manifest = f.manifest("team/app", &format!("referrer {n} {artifact_type:?}")).await;
        manifest.subject = Some(subject);
        manifest.artifact_type = artifact_type.map(str::to_owned);
        digests.push(f.put(manifest).await);
    }
    digests.sort();
    digests
}

pub(super) async fn referrers_are_listed_by_digest_with_all_they_tell(f: Fixture) {
    let subject = blob("subject");
    let annotations =
        BTreeMap::from([("org.example.b".to_owned(), "\"b\"\n".to_owned()), ("org.example.a".to_owned(), "\u{e4}".to_owned())]);
    let mut expected = Vec::new();
    for n in 0..6 {
        let mut manifest = f.manifest("team/app", &format!("referrer {}", "x".repeat(n))).await;
        manifest.subject = Some(subject);
        manifest.media_type = format!("application/vnd.example.{n}+json");
        manifest.artifact_type = (n % 2 == 0).then(|| format!("application/vnd.example.type{n}"));
        manifest.annotations = if n < 3 { annotations.clone() } else { BTreeMap::new() };
        let size = manifest.bytes.len() as u64;
        expected.push(Referrer::new(
            manifest.digest,
            manifest.media_type.clone(),
            size,
            manifest.artifact_type.clone(),
            manifest.annotations.clone(),
        ));
        f.put(manifest).await;
    }
    expected.sort_by_key(|referrer| referrer.digest);
    f.put_tagged("team/app", "about nothing", &["latest"]).await;
    assert_eq!(f.store.referrers(&about(subject)).await.expect("referrers"), expected);
}

pub(super) async fn referrers_are_filtered_by_artifact_type(f: Fixture) {
    let subject = blob("subject");
    let signatures = refer(&f, subject, &[Some("sig"), Some("sig")]).await;
    let others = refer(&f, subject, &[Some("sbom"), Some("SIG"), Some("si"), None]).await;
    let of_type = |name: &str| ReferrersQuery { artifact_type: Some(name.to_owned()), ..about(subject) };
    assert_eq!(list(&f, &of_type("sig")).await, signatures);
    assert_eq!(list(&f, &of_type("sbom")).await.len(), 1);
    assert!(list(&f, &of_type("%")).await.is_empty());
    assert!(list(&f, &of_type("")).await.is_empty(), "to have no type is not to have an empty one");
    assert_eq!(set(list(&f, &about(subject)).await), set(signatures.into_iter().chain(others)));
}

pub(super) async fn referrers_are_listed_in_pages(f: Fixture) {
    let subject = blob("subject");
    let all = refer(&f, subject, &[Some("a"), Some("b"), Some("a"), Some("a"), None]).await;
    let page = |after, limit| ReferrersQuery { after, limit, ..about(subject) };
    assert_eq!(list(&f, &page(None, 2)).await, all[..2]);
    assert_eq!(list(&f, &page(Some(all[1]), 2)).await, all[2..4]);
    assert_eq!(list(&f, &page(Some(all[3]), 2)).await, all[4..]);
    assert!(list(&f, &page(Some(all[4]), 2)).await.is_empty());
    assert!(list(&f, &page(None, 0)).await.is_empty());
    assert_eq!(list(&f, &page(None, u32::MAX)).await, all);
    // Behind a digest that refers to nothing.
    let between = subject;
    let expected: Vec<_> = all.iter().copied().filter(|digest| *digest > between).collect();
    assert_eq!(list(&f, &page(Some(between), 100)).await, expected);
    // Pages of one type are pages of what is shown, not of what was looked at.
    let mut query = ReferrersQuery { artifact_type: Some("a".to_owned()), limit: 2, ..about(subject) };
    let first = list(&f, &query).await;
    query.after = first.last().copied();
    let second = list(&f, &query).await;
    assert_eq!((first.len(), second.len()), (2, 1));
}

pub(super) async fn an_unknown_subject_has_no_referrers(f: Fixture) {
    let subject = f.put_tagged("team/app", "image", &[]).await;
    assert!(list(&f, &about(subject)).await.is_empty(), "nobody refers to it");
    assert!(list(&f, &about(blob("unknown"))).await.is_empty());
    refer(&f, subject, &[None]).await;
    let elsewhere = ReferrersQuery { repository: repo("other"), ..about(subject) };
    assert!(list(&f, &elsewhere).await.is_empty(), "no such repository");
    f.put_tagged("other", "image", &[]).await;
    assert!(list(&f, &elsewhere).await.is_empty(), "referrers are their repository's own");
}

pub(super) async fn a_deleted_referrer_is_gone(f: Fixture) {
    let subject = f.put_tagged("team/app", "image", &[]).await;
    let referrers = refer(&f, subject, &[None, Some("sig")]).await;
    assert!(f.delete_manifest("team/app", &referrers[0]).await);
    assert_eq!(list(&f, &about(subject)).await, referrers[1..]);
    // A subject that goes leaves its referrers: it may come back.
    assert!(f.delete_manifest("team/app", &subject).await);
    assert_eq!(list(&f, &about(subject)).await, referrers[1..]);
}

pub(super) async fn sha512_is_as_good_as_sha256(f: Fixture) {
    let sha512 = |content: &[u8]| Digest::of(Algorithm::Sha512, content);
    let layer = sha512(b"layer");
    let generation = f.intend(&layer).await;
    let link = LinkBlob { repository: repo("team/app"), digest: layer, size: 5, generation, upload: None };
    f.store.link_blob(link).await.expect("link_blob");
    assert_eq!(f.blob_link("team/app", &layer).await.expect("a link").size, 5);
    assert!(!f.has("team/app", &blob("layer")).await, "the same bytes under another name are another blob");
    let mount = MountBlob { from: None, to: repo("other"), digest: layer };
    assert!(f.store.mount_blob(mount).await.expect("mount_blob").is_some());
    let mut image = f.manifest("team/app", "image").await;
    image.digest = sha512(&image.bytes);
    image.generation = f.intend(&image.digest).await;
    image.blobs = vec![layer];
    image.tags = vec![tag("latest")];
    let image = f.put(image).await;
    assert_eq!(f.tagged("team/app", "latest").await, Some(image));
    let mut signatures = Vec::new();
    for n in 0..4 {
        let mut signature = f.manifest("team/app", &format!("signature {n}")).await;
        signature.subject = Some(image);
        signatures.push(f.put(signature.clone()).await);
        signature.digest = sha512(&signature.bytes);
        signature.generation = f.intend(&signature.digest).await;
        signatures.push(f.put(signature).await);
    }
    signatures.sort();
    assert_eq!(signatures[3].algorithm(), Algorithm::Sha256);
    assert_eq!(list(&f, &about(image)).await, signatures, "sha256 before sha512, as in their text");
    assert_eq!(list(&f, &ReferrersQuery { after: Some(signatures[2]), ..about(image) }).await, signatures[3..]);
    assert!(f.events().await.iter().any(|event| event.digest == image));
    for manifest in signatures.iter().chain([&image]) {
        assert!(f.delete_manifest("team/app", manifest).await);
    }
    f.pass(GRACE + SECOND);
    assert_eq!(f.expire().await, set([(repo("team/app"), layer), (repo("other"), layer)]));
    assert!(f.condemn().await.contains(&layer));
    f.pass(TRASH + SECOND);
    let claimed = f.store.claim_deletions(TRASH, LEASE, 100).await.expect("claim_deletions");
    let claim = claimed.iter().find(|deletion| deletion.digest == layer).expect("a claim");
    assert_eq!(claim.size, 5);
    f.store.complete_deletion(claim).await.expect("complete_deletion");
}
