//! The use-cases, without HTTP: what somebody gets who embeds a registry in something else than a web server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::blob::{ByteRange, ByteStream, once};
use registry_core::manifest::media_type;
use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
use registry_core::metadata::{Observation, Page, ReferrersQuery};
use registry_core::testing::ManualClock;
use registry_core::{
    Algorithm, BlobStore, BlobStoreExt as _, Digest, Error, ErrorKind, GcOptions, MetadataStore, Reference, Registry, RegistryBuilder,
    RepositoryName, Tag, VerifyReads,
};

struct Fixture {
    blobs: MemoryBlobStore,
    clock: Arc<ManualClock>,
    metadata: MemoryMetadataStore,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let metadata = MemoryMetadataStore::with_clock(Arc::clone(&clock) as _);
        Self { blobs: MemoryBlobStore::default(), clock, metadata }
    }

    fn builder(&self) -> RegistryBuilder {
        Registry::builder(Arc::new(self.blobs.clone()), Arc::new(self.metadata.clone())).clock(Arc::clone(&self.clock) as _)
    }

    fn registry(&self) -> Registry {
        self.builder().build()
    }

    /// Changes stored bytes behind the registry's back, keeping their number.
    async fn rot(&self, digest: &Digest) {
        let mut bytes = self.blobs.read_all(digest).await.unwrap().to_vec();
        bytes[0] ^= 1;
        self.blobs.overwrite_unchecked(digest, bytes.into());
    }
}

fn repo(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn by_tag(name: &str) -> Reference {
    Reference::Tag(name.parse().unwrap())
}

fn chunks(parts: Vec<Result<Bytes, Error>>) -> ByteStream {
    Box::pin(futures_util::stream::iter(parts))
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "gone")
}

async fn push(registry: &Registry, name: &RepositoryName, content: &'static [u8]) -> Digest {
    let digest = Digest::sha256(content);
    registry.push_blob(name, &digest, Some(content.len() as u64), once(Bytes::from_static(content))).await.unwrap();
    digest
}

fn image(config: &Digest, layers: &[Digest], more: &str) -> Bytes {
    let layers: Vec<_> =
        layers.iter().map(|d| format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{d}","size":1}}"#)).collect();
    let config = format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":1}}"#);
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}]{more}}}"#, media_type::OCI_MANIFEST, layers.join(","))
        .into()
}

async fn put(registry: &Registry, name: &RepositoryName, reference: &Reference, bytes: Bytes) -> Result<Digest, Error> {
    registry.put_manifest(name, reference, None, bytes, Vec::new()).await.map(|pushed| pushed.digest)
}

#[tokio::test]
async fn an_image_is_pushed_and_pulled_byte_for_byte() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a/b/c/d"));
    let (config, layer) = (push(&registry, &name, b"{}").await, push(&registry, &name, b"layer").await);
    let bytes = image(&config, &[layer], r#","unknown":  {"kept":1}"#);
    let digest = put(&registry, &name, &by_tag("v1"), bytes.clone()).await.unwrap();
    for reference in [by_tag("v1"), Reference::Digest(digest)] {
        let found = registry.manifest(&name, &reference).await.unwrap();
        assert_eq!((found.bytes, found.media_type.as_str(), found.digest), (bytes.clone(), media_type::OCI_MANIFEST, digest));
    }
    assert_eq!(registry.blob(&name, &layer, None).await.unwrap().collect().await.unwrap(), "layer");
    let part = registry.blob(&name, &layer, Some(ByteRange::Last(2))).await.unwrap();
    assert_eq!(part.collect().await.unwrap(), "er");
    // The manifest's bytes are a blob of the store, too: so they are copied, checked and rebuilt from like all others.
    assert_eq!(fixture.blobs.read_all(&digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_blob_is_only_seen_through_a_repository_that_holds_it() {
    let fixture = Fixture::new();
    let registry = fixture.registry();
    let digest = push(&registry, &repo("mine"), b"secret").await;
    for result in
        [registry.blob_info(&repo("yours"), &digest).await.map(drop), registry.blob(&repo("yours"), &digest, None).await.map(drop)]
    {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::BlobUnknown);
    }
}

#[tokio::test]
async fn content_with_another_digest_changes_nothing_and_the_upload_lives() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (right, wrong) = (Digest::sha256(b"hello"), Digest::sha256(b"hellO"));
    let error = registry.push_blob(&name, &wrong, None, once("hello".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestInvalid);
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("hel".into())).await.unwrap();
    let error = registry.finish_upload(&key, &wrong, None, Some(once("lo".into()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestInvalid);
    for digest in [right, wrong] {
        assert_eq!(registry.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
        assert!(!fixture.blobs.contains(&digest).await.unwrap());
    }
    // The same request again, with the digest put right.
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 3);
    registry.append(&key, Some(3), once("lo".into())).await.unwrap();
    assert_eq!(registry.finish_upload(&key, &wrong, Some(5), None).await.unwrap_err().kind(), ErrorKind::DigestInvalid);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 5);
    registry.finish_upload(&key, &right, Some(5), None).await.unwrap();
    assert_eq!(registry.blob_info(&name, &right).await.unwrap().size, 5);
}

#[tokio::test]
async fn bytes_out_of_order_are_refused_with_the_right_offset_and_the_upload_lives() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, Some(0), once("abc".into())).await.unwrap();
    for start in [0, 2, 4, u64::MAX] {
        let error = registry.append(&key, Some(start), once("x".into())).await.unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::RangeInvalid, Some(3)));
        let error = registry.finish_upload(&key, &Digest::sha256(b"abcx"), Some(start), Some(once("x".into()))).await.unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::RangeInvalid, Some(3)));
    }
    registry.finish_upload(&key, &Digest::sha256(b"abcdef"), Some(3), Some(once("def".into()))).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_cut_off_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    let error = registry.append(&key, None, chunks(vec![Ok("abc".into()), Err(interrupted())])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 3);
    let cut = chunks(vec![Ok("de".into()), Err(interrupted())]);
    let digest = Digest::sha256(b"abcdef");
    assert_eq!(registry.finish_upload(&key, &digest, None, Some(cut)).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 5);
    registry.finish_upload(&key, &digest, Some(5), Some(once("f".into()))).await.unwrap();
}

#[tokio::test]
async fn a_body_that_lies_about_its_length_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    let too_long = || Error::new(ErrorKind::SizeInvalid, "more than was declared");
    let error = registry.append(&key, None, chunks(vec![Ok("abc".into()), Err(too_long())])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SizeInvalid);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 0);
    registry.append(&key, Some(0), once("ab".into())).await.unwrap();
    registry.append(&key, Some(2), chunks(vec![Ok("xyz".into()), Err(too_long())])).await.unwrap_err();
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 2);
    registry.finish_upload(&key, &Digest::sha256(b"abc"), Some(2), Some(once("c".into()))).await.unwrap();
}

#[tokio::test]
async fn finishing_again_what_was_finished_succeeds_and_other_digests_do_not() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("abc".into())).await.unwrap();
    let digest = Digest::sha256(b"abc");
    for _ in 0..3 {
        assert_eq!(registry.finish_upload(&key, &digest, Some(3), None).await.unwrap().size, 3);
    }
    assert_eq!(registry.finish_upload(&key, &Digest::sha256(b""), None, None).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    assert_eq!(registry.append(&key, None, once("x".into())).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    assert_eq!(registry.upload_status(&key).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
}

#[tokio::test]
async fn every_way_to_upload_takes_sha512_announced_or_not() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let of = |content: &[u8]| Digest::of(Algorithm::Sha512, content);
    registry.push_blob(&name, &of(b"one"), None, once("one".into())).await.unwrap();
    for (algorithm, content) in [(Algorithm::Sha256, "two"), (Algorithm::Sha512, "three")] {
        let key = registry.start_upload(&name, "", algorithm).await.unwrap();
        registry.append(&key, None, once(content.into())).await.unwrap();
        registry.finish_upload(&key, &of(content.as_bytes()), None, None).await.unwrap();
    }
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.finish_upload(&key, &of(b"four"), None, Some(once("four".into()))).await.unwrap();
    for content in ["one", "two", "three", "four"] {
        assert_eq!(registry.blob(&name, &of(content.as_bytes()), None).await.unwrap().collect().await.unwrap(), content);
    }
}

#[tokio::test]
async fn an_empty_blob_can_be_pushed_in_every_way() {
    for way in 0..3 {
        let fixture = Fixture::new();
        let (registry, name, digest) = (fixture.registry(), repo("a"), Digest::sha256(b""));
        if way == 0 {
            registry.push_blob(&name, &digest, Some(0), once(Bytes::new())).await.unwrap();
        } else {
            let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
            if way == 2 {
                registry.append(&key, Some(0), once(Bytes::new())).await.unwrap();
            }
            registry.finish_upload(&key, &digest, None, None).await.unwrap();
        }
        assert!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository_and_its_owner() {
    let fixture = Fixture::new();
    let registry = fixture.registry();
    let key = registry.start_upload(&repo("a"), "alice", Algorithm::Sha256).await.unwrap();
    for (repository, owner) in [("b", "alice"), ("a", "bob"), ("a", "")] {
        let mut other = key.clone();
        (other.repository, other.owner) = (repo(repository), owner.to_owned());
        assert_eq!(registry.upload_status(&other).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
        assert_eq!(registry.append(&other, None, once("x".into())).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
        assert_eq!(registry.cancel_upload(&other).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    }
    registry.append(&key, None, once("x".into())).await.unwrap();
    registry.cancel_upload(&key).await.unwrap();
    assert_eq!(registry.upload_status(&key).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    let later = registry_core::Timestamp::from_millis(i64::MAX);
    assert_eq!(fixture.blobs.uploads(later).count().await, 0, "a cancelled upload's bytes are dropped");
}

#[tokio::test]
async fn of_two_requests_for_one_offset_exactly_one_wins() {
    let fixture = Fixture::new();
    let (registry, other, name) = (fixture.registry(), fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("base ".into())).await.unwrap();
    // The first request has begun to arrive when the second takes over.
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    send.send(Ok(Bytes::from("late"))).unwrap();
    let slow: ByteStream = Box::pin(futures_util::stream::unfold(receive, |mut r| async { r.recv().await.map(|item| (item, r)) }));
    let first = tokio::spawn({
        let (registry, key) = (registry.clone(), key.clone());
        async move { registry.append(&key, Some(5), slow).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.append(&key, Some(5), once("won".into())).await.unwrap();
    send.send(Ok(Bytes::from(" part"))).unwrap();
    drop(send);
    let error = first.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::RangeInvalid, Some(8)));
    registry.finish_upload(&key, &Digest::sha256(b"base won"), Some(8), None).await.unwrap();
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_repository_that_has_it_or_from_any() {
    let fixture = Fixture::new();
    let registry = fixture.registry();
    let digest = push(&registry, &repo("source"), b"x").await;
    assert!(registry.mount_blob(&repo("to"), &digest, Some(&repo("empty"))).await.unwrap().is_none());
    assert!(registry.mount_blob(&repo("to"), &Digest::sha256(b"y"), None).await.unwrap().is_none());
    assert_eq!(registry.mount_blob(&repo("to"), &digest, Some(&repo("source"))).await.unwrap().unwrap().size, 1);
    assert!(registry.mount_blob(&repo("too"), &digest, None).await.unwrap().is_some());
    registry.delete_blob(&repo("source"), &digest).await.unwrap();
    assert_eq!(registry.blob_info(&repo("source"), &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    assert!(registry.blob_info(&repo("to"), &digest).await.is_ok(), "other repositories keep it");
}

#[tokio::test]
async fn a_manifest_that_names_what_is_not_there_is_refused_and_changes_nothing() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (config, missing) = (push(&registry, &name, b"{}").await, Digest::sha256(b"missing"));
    let error = put(&registry, &name, &by_tag("v1"), image(&config, &[missing], "")).await.unwrap_err();
    assert_eq!((error.kind(), error.digests()), (ErrorKind::ManifestBlobUnknown, &[missing][..]));
    assert_eq!(registry.manifest(&name, &by_tag("v1")).await.unwrap_err().kind(), ErrorKind::ManifestUnknown);
    let foreign = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{missing}","size":1,"urls":["https://example.com"]}}]}}"#,
        media_type::OCI_MANIFEST
    );
    put(&registry, &name, &by_tag("v1"), foreign.into()).await.unwrap();
}

#[tokio::test]
async fn an_index_needs_its_manifests_unless_sparse_ones_are_allowed() {
    let fixture = Fixture::new();
    let (registry, name, child) = (fixture.registry(), repo("a"), Digest::sha256(b"child"));
    let index = |child: &Digest| {
        Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{0}","manifests":[{{"mediaType":"{0}","digest":"{child}","size":1}}]}}"#,
            media_type::OCI_INDEX
        ))
    };
    assert_eq!(put(&registry, &name, &by_tag("i"), index(&child)).await.unwrap_err().kind(), ErrorKind::ManifestBlobUnknown);
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
    let empty = put(&registry, &name, &by_tag("empty"), empty.into()).await.unwrap();
    put(&registry, &name, &by_tag("nested"), index(&empty)).await.unwrap();
    let sparse = fixture.builder().sparse_indexes(true).build();
    put(&sparse, &name, &by_tag("i"), index(&child)).await.unwrap();
}

#[tokio::test]
async fn manifests_that_contradict_themselves_are_refused() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let config = push(&registry, &name, b"{}").await;
    let good = image(&config, &[], "");
    let refused = |content_type: Option<&'static str>, bytes: Bytes| {
        let (registry, name) = (registry.clone(), name.clone());
        async move { registry.put_manifest(&name, &by_tag("x"), content_type, bytes, vec![]).await.unwrap_err().kind() }
    };
    assert_eq!(refused(Some(media_type::OCI_INDEX), good.clone()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, "{}".into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, "[]".into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(Some(media_type::DOCKER_V1), r#"{"schemaVersion":1}"#.into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(Some("application/json"), r#"{"schemaVersion":1,"fsLayers":[]}"#.into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, image(&config, &[], r#","manifests":[]"#)).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, vec![b' '; (4 << 20) + 1].into()).await, ErrorKind::TooLarge);
    let wrong = Reference::Digest(Digest::sha256(b"other"));
    assert_eq!(put(&registry, &name, &wrong, good.clone()).await.unwrap_err().kind(), ErrorKind::DigestInvalid);
    let pushed =
        registry.put_manifest(&name, &by_tag("x"), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), good, vec![]).await;
    assert!(pushed.is_ok(), "parameters of a content type do not matter: {pushed:?}");
}

#[tokio::test]
async fn what_an_artifact_or_a_build_cache_refers_to_is_required_and_kept() {
    let fixture = Fixture::new();
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let (registry, name) = (fixture.registry(), repo("a"));
    let (blob, missing) = (push(&registry, &name, b"signature").await, Digest::sha256(b"missing"));
    let artifact = |digest: &Digest| {
        let media_type = "application/vnd.oci.artifact.manifest.v1+json";
        Bytes::from(format!(r#"{{"mediaType":"{media_type}","blobs":[{{"mediaType":"a/b","digest":"{digest}","size":9}}]}}"#))
    };
    let cache = |digest: &Digest| {
        let media_type = "application/vnd.buildkit.cacheconfig.v0";
        let index = media_type::OCI_INDEX;
        Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{{"mediaType":"{media_type}","digest":"{digest}","size":9}}]}}"#
        ))
    };
    for (tag, refused, good) in [("artifact", artifact(&missing), artifact(&blob)), ("cache", cache(&missing), cache(&blob))] {
        assert_eq!(put(&registry, &name, &by_tag(tag), refused).await.unwrap_err().digests(), [missing]);
        put(&registry, &name, &by_tag(tag), good).await.unwrap();
    }
    fixture.clock.advance(hours(48));
    registry.collect_garbage(&GcOptions::default()).await.unwrap();
    fixture.clock.advance(hours(2));
    registry.collect_garbage(&GcOptions::default()).await.unwrap();
    assert!(registry.blob(&name, &blob, None).await.is_ok());
    let shapeless = Bytes::from_static(br#"{"mediaType":"application/x","files":[]}"#);
    assert_eq!(put(&registry, &name, &by_tag("x"), shapeless).await.unwrap_err().kind(), ErrorKind::ManifestInvalid);
    for media_type in ["", "x", r"x\u0000y/z", r"x/y\r\nX-Evil: 1", "x/é", "a/b/c"] {
        let bytes = Bytes::from(format!(r#"{{"mediaType":"{media_type}","layers":[]}}"#));
        assert_eq!(put(&registry, &name, &by_tag("x"), bytes).await.unwrap_err().kind(), ErrorKind::ManifestInvalid, "{media_type}");
    }
    let bytes = Bytes::from_static(br#"{"mediaType":"a/b","artifactType":"x\u0000y","layers":[]}"#);
    assert_eq!(put(&registry, &name, &by_tag("x"), bytes).await.unwrap_err().kind(), ErrorKind::ManifestInvalid);
}

#[tokio::test]
async fn a_page_of_referrers_never_passes_four_mebibytes_of_json() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (config, subject) = (push(&registry, &name, b"{}").await, Digest::sha256(b"subject"));
    let mut expected = Vec::new();
    for n in 0..24 {
        // A control character is one byte in memory and six in JSON.
        let text = if n % 2 == 0 { "\\u0001".repeat(150_000) } else { "small".to_owned() };
        let more = format!(r#","subject":{{"digest":"{subject}","size":1}},"annotations":{{"n":"{n}","text":"{text}"}}"#);
        expected.push(put(&registry, &name, &by_tag("t"), image(&config, &[], &more)).await.unwrap());
    }
    expected.sort();
    let mut query = ReferrersQuery { repository: name, subject, artifact_type: None, after: None, limit: 1_000 };
    let mut seen = Vec::new();
    loop {
        let page = registry.referrers(&query).await.unwrap();
        let json: usize = page.items.iter().map(|item| serde_json::to_vec(&item.annotations).unwrap().len()).sum();
        assert!(json < 4 << 20 && !page.items.is_empty());
        seen.extend(page.items.iter().map(|item| item.digest));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn control_characters_in_what_is_looked_for_are_refused() {
    let fixture = Fixture::new();
    let (registry, page) = (fixture.registry(), Page { after: Some("a\0".to_owned()), limit: 5 });
    push(&registry, &repo("a"), b"x").await;
    assert_eq!(registry.tags(&repo("a"), &page).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(registry.repositories(&page).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let artifact_type = Some("x\0y".to_owned());
    let query = ReferrersQuery { repository: repo("a"), subject: Digest::sha256(b""), artifact_type, after: None, limit: 5 };
    assert_eq!(registry.referrers(&query).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_manifest_of_nearly_four_mebibytes_is_kept_byte_for_byte() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let config = push(&registry, &name, b"{}").await;
    let bytes = image(&config, &[], &format!(r#","annotations":{{"x":"{}"}}"#, "y".repeat(3_900_000)));
    put(&registry, &name, &by_tag("big"), bytes.clone()).await.unwrap();
    assert_eq!(registry.manifest(&name, &by_tag("big")).await.unwrap().bytes, bytes);
}

#[tokio::test]
async fn referrers_tell_what_refers_to_a_manifest_even_before_it_exists() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (config, subject) = (push(&registry, &name, b"{}").await, Digest::sha256(b"not there"));
    let mut expected = Vec::new();
    for (n, artifact) in ["application/x", "application/y", ""].into_iter().enumerate() {
        let artifact = if artifact.is_empty() { String::new() } else { format!(r#","artifactType":"{artifact}""#) };
        let more = format!(r#"{artifact},"subject":{{"digest":"{subject}","size":1}},"annotations":{{"n":"{n}"}}"#);
        let pushed = registry.put_manifest(&name, &by_tag("t"), None, image(&config, &[], &more), vec![]).await.unwrap();
        assert_eq!(pushed.subject, Some(subject));
        expected.push(pushed.digest);
    }
    let query = |artifact_type: Option<&str>, after, limit| ReferrersQuery {
        repository: name.clone(),
        subject,
        artifact_type: artifact_type.map(str::to_owned),
        after,
        limit,
    };
    let image_type = registry.referrers(&query(Some("application/vnd.oci.image.config.v1+json"), None, 9)).await.unwrap();
    assert_eq!(image_type.items.iter().map(|r| r.digest).collect::<Vec<_>>(), [expected[2]]);
    expected.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = registry.referrers(&query(None, after, 2)).await.unwrap();
        seen.extend(page.items.iter().map(|r| r.digest));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let other = ReferrersQuery { repository: repo("unknown"), ..query(None, None, 5) };
    assert!(registry.referrers(&other).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_deleted_manifest_takes_its_tags_along_and_a_deleted_tag_leaves_the_manifest() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let config = push(&registry, &name, b"{}").await;
    let tags: Vec<Tag> = ["b", "c", "a"].map(|t| t.parse().unwrap()).to_vec();
    let pushed = registry.put_manifest(&name, &by_tag("a"), None, image(&config, &[], ""), tags).await.unwrap();
    assert_eq!(pushed.tags.len(), 3);
    registry.delete_manifest(&name, &by_tag("b")).await.unwrap();
    let list = || async { registry.tags(&name, &Page { after: None, limit: 10 }).await.unwrap() };
    assert_eq!(list().await.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "c"]);
    registry.delete_manifest(&name, &Reference::Digest(pushed.digest)).await.unwrap();
    assert!(list().await.is_empty());
    assert_eq!(registry.manifest(&name, &by_tag("a")).await.unwrap_err().kind(), ErrorKind::ManifestUnknown);
    for reference in [by_tag("a"), Reference::Digest(pushed.digest)] {
        assert_eq!(registry.delete_manifest(&name, &reference).await.unwrap_err().kind(), ErrorKind::ManifestUnknown);
    }
    assert_eq!(registry.tags(&repo("no"), &Page { after: None, limit: 1 }).await.unwrap_err().kind(), ErrorKind::RepositoryUnknown);
}

#[tokio::test]
async fn bytes_that_rotted_are_never_served_as_complete_and_pushing_again_heals() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.builder().verify_reads(VerifyReads::Always).build(), repo("a"));
    let digest = push(&registry, &name, b"precious").await;
    fixture.rot(&digest).await;
    let mut stream = registry.blob(&name, &digest, None).await.unwrap().stream;
    let mut received = 0;
    let error = loop {
        match stream.next().await.expect("an error before the end") {
            Ok(chunk) => received += chunk.len(),
            Err(error) => break error,
        }
    };
    assert!(error.kind() == ErrorKind::Corrupt && received < 8, "{received} bytes, then {error:?}");
    assert_eq!(registry.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown, "so that clients push it again");
    assert!(registry.mount_blob(&repo("b"), &digest, None).await.unwrap().is_none());
    let part = registry.blob(&name, &digest, Some(ByteRange::FromTo(0, Some(2)))).await;
    assert_eq!(part.unwrap_err().kind(), ErrorKind::BlobUnknown, "no part of it can be checked");
    let whole = registry.blob(&name, &digest, Some(ByteRange::FromTo(0, None))).await.unwrap();
    assert_eq!(whole.collect().await.unwrap_err().kind(), ErrorKind::Corrupt, "all of it, asked for as a range, can");
    push(&registry, &name, b"precious").await;
    assert!(registry.blob_info(&name, &digest).await.is_ok());
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap(), "precious");
}

#[tokio::test]
async fn over_a_store_that_verifies_by_itself_nothing_is_hashed_noted_or_held_against_a_blob() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.builder().verify_reads(VerifyReads::Never).build(), repo("a"));
    let digest = push(&registry, &name, b"precious").await;
    let suspect = async || fixture.metadata.blob_link(&name, &digest).await.unwrap().unwrap().suspect;
    fixture.rot(&digest).await;
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap().len(), 8, "as the store gives it");
    // Missing now, or of the wrong size: that is told to the client that asks, and held against nobody later.
    fixture.blobs.delete(&digest).await.unwrap();
    assert_eq!(registry.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    fixture.blobs.put_bytes(&digest, "precious".into()).await.unwrap();
    fixture.blobs.overwrite_unchecked(&digest, "short".into());
    assert_eq!(registry.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!suspect().await, "the store keeps that book");
    fixture.blobs.put_bytes(&digest, "precious".into()).await.unwrap();
    registry.blob_info(&name, &digest).await.expect("a good copy is found again without anybody pushing");
    // Nor does it matter what a registry over another kind of store noted once.
    fixture.metadata.observe_blob(&digest, Observation::Suspect).await.unwrap();
    registry.blob_info(&name, &digest).await.unwrap();
    let part = registry.blob(&name, &digest, Some(ByteRange::FromTo(0, Some(2)))).await.unwrap();
    assert_eq!(part.collect().await.unwrap(), "pre");
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap(), "precious");
    assert!(suspect().await, "and nothing was noted the other way");
    // With any other setting it does.
    let careful = fixture.builder().verify_reads(VerifyReads::Always).build();
    assert_eq!(careful.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
}

#[tokio::test]
async fn stale_bytes_are_verified_once_and_then_not_for_a_while() {
    let fixture = Fixture::new();
    let month = Duration::from_secs(30 * 24 * 3600);
    let (registry, name) = (fixture.builder().verify_reads(VerifyReads::Stale(month)).build(), repo("a"));
    let digest = push(&registry, &name, b"x").await;
    let before = fixture.metadata.blob_link(&name, &digest).await.unwrap().unwrap().verified_at;
    registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap();
    assert_eq!(fixture.metadata.blob_link(&name, &digest).await.unwrap().unwrap().verified_at, before);
    fixture.clock.advance(month + Duration::from_secs(1));
    registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap();
    let mut tries = 0;
    while fixture.metadata.blob_link(&name, &digest).await.unwrap().unwrap().verified_at <= before {
        tries += 1;
        assert!(tries < 1000, "it is never noted");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fixture.clock.advance(month + Duration::from_secs(1));
    fixture.rot(&digest).await;
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_blob_that_vanished_from_the_store_is_asked_for_again() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let digest = push(&registry, &name, b"x").await;
    fixture.blobs.delete(&digest).await.unwrap();
    assert_eq!(registry.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
    push(&registry, &name, b"x").await;
    assert!(registry.blob_info(&name, &digest).await.is_ok());
}

#[tokio::test]
async fn a_push_whose_client_hangs_up_at_the_end_is_still_whole() {
    let fixture = Fixture::new();
    let (registry, name, digest) = (fixture.registry(), repo("a"), Digest::sha256(b"abc"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("abc".into())).await.unwrap();
    {
        let mut finish = Box::pin(registry.finish_upload(&key, &digest, None, None));
        // The request is dropped at its first await: its work goes on by itself.
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(finish.as_mut().poll(cx).is_pending())).await;
        assert!(first);
    }
    for _ in 0..1000 {
        if registry.blob_info(&name, &digest).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the commit was left half done");
}

#[tokio::test]
async fn a_read_only_registry_serves_and_refuses_every_change() {
    let fixture = Fixture::new();
    let (writable, name) = (fixture.registry(), repo("a"));
    let config = push(&writable, &name, b"{}").await;
    let manifest = put(&writable, &name, &by_tag("v"), image(&config, &[], "")).await.unwrap();
    let key = writable.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    let registry = fixture.builder().read_only(true).build();
    assert!(registry.blob_info(&name, &config).await.is_ok());
    assert!(registry.manifest(&name, &Reference::Digest(manifest)).await.is_ok());
    let digest = Digest::sha256(b"x");
    let refused = [
        registry.start_upload(&name, "", Algorithm::Sha256).await.map(drop),
        registry.append(&key, None, once("x".into())).await.map(drop),
        registry.finish_upload(&key, &digest, None, None).await.map(drop),
        registry.cancel_upload(&key).await,
        registry.push_blob(&name, &digest, None, once("x".into())).await.map(drop),
        registry.mount_blob(&repo("b"), &config, None).await.map(drop),
        registry.delete_blob(&name, &config).await,
        registry.delete_manifest(&name, &by_tag("v")).await,
        put(&registry, &name, &by_tag("w"), image(&config, &[], "")).await.map(drop),
        registry.collect_garbage(&GcOptions::default()).await.map(drop),
    ];
    assert!(refused.iter().all(|result| result.as_ref().unwrap_err().kind() == ErrorKind::Denied), "{refused:?}");
}

#[tokio::test]
async fn garbage_goes_after_grace_and_trash_delay_and_not_before() {
    let fixture = Fixture::new();
    let hour = Duration::from_secs(3600);
    let (registry, name) = (fixture.builder().grace(hour * 24).trash_delay(hour).build(), repo("a"));
    let (config, layer, loose) =
        (push(&registry, &name, b"{}").await, push(&registry, &name, b"l").await, push(&registry, &name, b"loose").await);
    let manifest = put(&registry, &name, &by_tag("v"), image(&config, &[layer], "")).await.unwrap();
    let collect = || async { registry.collect_garbage(&GcOptions::default()).await.unwrap() };
    let held = |digest: Digest| {
        let blobs = fixture.blobs.clone();
        async move { blobs.contains(&digest).await.unwrap() }
    };
    assert_eq!(collect().await.links, 0, "within the grace period");
    fixture.clock.advance(hour * 25);
    let preview = registry.collect_garbage(&GcOptions::default().with_dry_run(true)).await.unwrap().preview.unwrap();
    assert_eq!((preview.links, preview.blobs, preview.bytes), (1, 1, 5));
    assert!(held(loose).await);
    let report = collect().await;
    assert_eq!((report.links, report.condemned, report.deleted), (1, 1, 0), "condemned, and kept for the trash delay");
    assert!(held(loose).await);
    fixture.clock.advance(hour + Duration::from_secs(1));
    let report = collect().await;
    assert_eq!((report.deleted, report.bytes), (1, 5));
    assert!(!held(loose).await && held(config).await && held(layer).await && held(manifest).await);
    registry.delete_manifest(&name, &Reference::Digest(manifest)).await.unwrap();
    collect().await;
    fixture.clock.advance(hour + Duration::from_secs(1));
    collect().await;
    assert!(!held(config).await && !held(layer).await && !held(manifest).await);
    assert!(registry.repositories(&Page { after: None, limit: 9 }).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_takes_longer_than_the_expiry_is_not_taken_for_abandoned() {
    let clock: Arc<dyn registry_core::Clock> = Arc::new(registry_core::testing::TokioClock::default());
    let blobs = MemoryBlobStore::default().with_clock(Arc::clone(&clock));
    let metadata = MemoryMetadataStore::with_clock(Arc::clone(&clock));
    let registry = Registry::builder(Arc::new(blobs), Arc::new(metadata)).clock(clock).build();
    let (name, hour) = (repo("a"), Duration::from_secs(3600));
    let collector = tokio::spawn({
        let registry = registry.clone();
        async move {
            loop {
                registry.collect_garbage(&GcOptions::default()).await.unwrap();
                tokio::time::sleep(hour).await;
            }
        }
    });
    let slow = |from: u8, n: u8| -> ByteStream {
        Box::pin(futures_util::stream::iter(from..from + n).then(move |byte| async move {
            tokio::time::sleep(hour).await;
            Ok(Bytes::from(vec![byte]))
        }))
    };
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    assert_eq!(registry.append(&key, Some(0), slow(0, 100)).await.unwrap().offset, 100);
    let digest = Digest::sha256(&(0..200).collect::<Vec<u8>>());
    registry.finish_upload(&key, &digest, Some(100), Some(slow(100, 100))).await.unwrap();
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap().len(), 200);
    collector.abort();
}

#[tokio::test]
async fn abandoned_uploads_are_dropped_and_live_ones_are_not() {
    let clock = Arc::new(ManualClock::new(registry_core::Clock::now(&registry_core::SystemClock)));
    let blobs = MemoryBlobStore::default().with_clock(Arc::clone(&clock) as _);
    let metadata = MemoryMetadataStore::with_clock(Arc::clone(&clock) as _);
    let registry = Registry::builder(Arc::new(blobs), Arc::new(metadata)).clock(Arc::clone(&clock) as _).build();
    let name = repo("a");
    let old = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&old, None, once("old".into())).await.unwrap();
    clock.advance(Duration::from_secs(47 * 3600));
    let live = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&live, None, once("live".into())).await.unwrap();
    clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(registry.collect_garbage(&GcOptions::default()).await.unwrap().uploads, 1);
    assert_eq!(registry.upload_status(&old).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    registry.finish_upload(&live, &Digest::sha256(b"live"), Some(4), None).await.unwrap();
}
