//! Images, indexes and artifacts to push.

use bytes::Bytes;
use registry_core::Digest;
use serde_json::{Value, json};

use super::Fixture;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(content).to_string(), "size": content.len() })
}

/// An image manifest of a config and layers, which are pushed.
pub(crate) async fn image(fixture: &Fixture, repository: &str, seed: &str) -> Value {
    let config = format!("{{\"seed\":\"{seed}\"}}");
    let layer = format!("layer of {seed}");
    fixture.push(repository, config.clone()).await;
    fixture.push(repository, layer.clone()).await;
    json!({
        "schemaVersion": 2, "mediaType": IMAGE,
        "config": descriptor(CONFIG, config.as_bytes()),
        "layers": [descriptor(LAYER, layer.as_bytes())],
    })
}

/// An artifact: an image manifest with an empty config, and these members besides.
pub(crate) async fn artifact(fixture: &Fixture, repository: &str, more: Value) -> Value {
    fixture.push(repository, "{}").await;
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE,
        "config": descriptor(EMPTY, b"{}"), "layers": [descriptor(EMPTY, b"{}")],
    });
    for (key, value) in more.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    manifest
}

pub(crate) fn bytes(manifest: &Value) -> Bytes {
    Bytes::from(serde_json::to_vec_pretty(manifest).unwrap())
}

/// Pushes an image by tag; its digest.
pub(crate) async fn push_tagged(fixture: &Fixture, repository: &str, tag: &str) -> Digest {
    let manifest = bytes(&image(fixture, repository, tag).await);
    fixture.put_manifest(&format!("/v2/{repository}/manifests/{tag}"), IMAGE, manifest.clone()).await.assert(201);
    Digest::sha256(&manifest)
}
