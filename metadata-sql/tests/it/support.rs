//! What the tests share.

#![allow(dead_code, reason = "each database's tests use their part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_core::metadata::{LinkBlob, Page, PutManifest};
use registry_core::{Clock, Digest, MetadataStore, RepositoryName, Result, Tag};

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().expect("a repository name")
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().expect("a tag")
}

pub(crate) fn digest(content: impl AsRef<[u8]>) -> Digest {
    Digest::sha256(content.as_ref())
}

/// Everything at once.
pub(crate) fn all() -> Page {
    Page { after: None, limit: u32::MAX }
}

/// Intends and links a blob, as a push does.
pub(crate) async fn push_blob(store: &dyn MetadataStore, name: &str, content: &str) -> Result<Digest> {
    let digest = digest(content);
    let generation = store.intend_blob(&digest).await?.generation;
    store.link_blob(LinkBlob { repository: repository(name), digest, size: content.len() as u64, generation, upload: None }).await?;
    Ok(digest)
}

/// A manifest that requires these blobs.
pub(crate) async fn manifest(store: &dyn MetadataStore, name: &str, text: &str, blobs: Vec<Digest>, tags: &[&str]) -> Result<PutManifest> {
    let digest = digest(text);
    let generation = store.intend_blob(&digest).await?.generation;
    Ok(PutManifest {
        repository: repository(name),
        digest,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes: Bytes::from(text.to_owned()),
        generation,
        blobs,
        manifests: Vec::new(),
        optional: Vec::new(),
        subject: None,
        artifact_type: None,
        annotations: std::collections::BTreeMap::new(),
        tags: tags.iter().map(|name| tag(name)).collect(),
    })
}

pub(crate) async fn push_manifest(store: &dyn MetadataStore, name: &str, text: &str, blobs: Vec<Digest>, tags: &[&str]) -> Result<Digest> {
    let put = manifest(store, name, text, blobs, tags).await?;
    let digest = put.digest;
    store.put_manifest(put).await?;
    Ok(digest)
}

/// As the trait wants it.
pub(crate) fn dynamic<C: Clock>(clock: &Arc<C>) -> Arc<dyn Clock> {
    Arc::clone(clock) as Arc<dyn Clock>
}

/// Repeats until it holds, for what other threads do in their own time.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
