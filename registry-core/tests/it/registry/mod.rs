//! The use-cases, without HTTP: what somebody gets who embeds a registry in something else than a web server.

mod manifests;
mod uploads;

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
