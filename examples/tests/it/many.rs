//! Two hundred small images at once, each pushed and pulled as Docker and containerd do it.

use registry_core::Digest;
use registry_core::testing::Rng;
use serde_json::json;
use tokio::task::JoinSet;

use crate::http::{Client, push_blob, push_manifest};
use crate::image::MANIFEST;
use crate::process::Server;

/// Pushes an image whose base layer is everybody's and whose other layer is its own; its manifest.
async fn push(client: &Client, n: u64, base: &[u8]) -> std::io::Result<(String, String)> {
    let repository = format!("team-{}/app-{n}", n % 7);
    let own = Rng::new(n).bytes(500 + 13 * usize::try_from(n).unwrap());
    let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"n\":{n}}}");
    let mut layers = Vec::new();
    for layer in [base, &own] {
        let digest = push_blob(client, &repository, layer).await?;
        layers.push(json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": layer.len() }));
    }
    let digest = push_blob(client, &repository, config.as_bytes()).await?;
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.to_string(), "size": config.len() });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }).to_string();
    push_manifest(client, &repository, "latest", manifest.as_bytes()).await?;
    Ok((repository, manifest))
}

/// As a pull does it: HEAD by tag, GET by digest, then every blob.
async fn pull(client: &Client, repository: &str, manifest: &str) {
    let head = client.send("HEAD", &format!("/v2/{repository}/manifests/latest"), &[("Accept", MANIFEST)], b"").await.expect(200);
    let digest = head.header("docker-content-digest").to_owned();
    assert_eq!(digest, Digest::sha256(manifest.as_bytes()).to_string());
    assert_eq!(client.get(&format!("/v2/{repository}/manifests/{digest}")).await.expect(200).text(), manifest);
    let parsed: serde_json::Value = serde_json::from_str(manifest).unwrap();
    for descriptor in parsed["layers"].as_array().unwrap().iter().chain([&parsed["config"]]) {
        let digest = descriptor["digest"].as_str().unwrap();
        let blob = client.get(&format!("/v2/{repository}/blobs/{digest}")).await.expect(200);
        assert_eq!(Digest::sha256(&blob.body).to_string(), digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_small_images_are_pushed_and_pulled_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--log", "warn"]);
    let base = Rng::new(4711).bytes(200_000);
    let mut pushes = JoinSet::new();
    for n in 0..200 {
        let (client, base) = (server.client(), base.clone());
        pushes.spawn(async move { push(&client, n, &base).await });
    }
    let images = pushes.join_all().await;
    let mut pulls = JoinSet::new();
    for image in images {
        let (repository, manifest) = image.unwrap();
        let client = server.client();
        pulls.spawn(async move { pull(&client, &repository, &manifest).await });
    }
    pulls.join_all().await;
    let catalog: serde_json::Value = serde_json::from_slice(&server.client().get("/v2/_catalog?n=1000").await.expect(200).body).unwrap();
    assert_eq!(catalog["repositories"].as_array().unwrap().len(), 200);
}
