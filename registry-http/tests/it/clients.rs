//! The requests that real clients send, in their order and framing, over TCP.

use bytes::Bytes;
use registry_core::Digest;
use serde_json::json;

use crate::support::images::{CONFIG, DOCKER_IMAGE, IMAGE, INDEX, LAYER, descriptor};
use crate::support::wire::{Server, Wire};
use crate::support::{Answer, Fixture, content};

const UPLOADS: &str = "/v2/library/app/blobs/uploads/";

struct Image {
    config: Bytes,
    layers: Vec<Bytes>,
    manifest: Bytes,
}

fn an_image(media_type: &str) -> Image {
    let config = Bytes::from_static(b"{\"os\":\"linux\"}");
    let layers = vec![content(700_000), content(3_000_000), Bytes::from_static(b"tiny")];
    let described: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": descriptor(CONFIG, &config), "layers": described });
    Image { config, layers, manifest: Bytes::from(serde_json::to_vec(&manifest).unwrap()) }
}

/// The path to go on at: clients follow `Location` as it is given.
fn location(answer: &Answer) -> String {
    answer.header("location").to_owned()
}

/// `digest` put behind whatever query the location has.
fn with_digest(location: &str, digest: &Digest) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("{location}{joint}digest={}", digest.to_string().replace(':', "%3A"))
}

/// Pulls by tag and compares every byte.
async fn pull(wire: &mut Wire, image: &Image, media_type: &str) {
    let accept = format!("accept: {DOCKER_IMAGE}\naccept: {IMAGE}, {INDEX};q=0.5\naccept: */*");
    let head = wire.ask(&format!("HEAD /v2/library/app/manifests/latest HTTP/1.1\n{accept}")).await;
    let digest = head.assert(200).header("docker-content-digest").to_owned();
    assert_eq!(head.header("content-length"), image.manifest.len().to_string());
    assert_eq!(head.header("content-type"), media_type);
    let manifest = wire.ask(&format!("GET /v2/library/app/manifests/{digest} HTTP/1.1\n{accept}")).await;
    assert_eq!(manifest.assert(200).body, image.manifest);
    assert_eq!(Digest::sha256(&manifest.body).to_string(), digest);
    for blob in image.layers.iter().chain([&image.config]) {
        let answer = wire.ask(&format!("GET /v2/library/app/blobs/{} HTTP/1.1\naccept-encoding: identity", Digest::sha256(blob))).await;
        assert_eq!(answer.assert(200).body, blob);
        assert_eq!(answer.maybe("content-encoding"), None);
    }
}

async fn put_manifest(wire: &mut Wire, image: &Image, media_type: &str) {
    let answer = wire.request(&format!("PUT /v2/library/app/manifests/latest HTTP/1.1\ncontent-type: {media_type}"), &image.manifest).await;
    assert_eq!(answer.assert(201).header("docker-content-digest"), Digest::sha256(&image.manifest).to_string());
}

#[tokio::test]
async fn docker_pushes_each_blob_by_head_post_patch_put_and_pulls() {
    let server = Server::start(Fixture::new().router).await;
    let image = an_image(DOCKER_IMAGE);
    let mut wire = server.connect().await;
    wire.ask("GET /v2/ HTTP/1.1\nuser-agent: docker/27").await.assert(200);
    for blob in image.layers.iter().chain([&image.config]) {
        let digest = Digest::sha256(blob);
        wire.ask(&format!("HEAD /v2/library/app/blobs/{digest} HTTP/1.1")).await.assert(404);
        let begun = wire.request(&format!("POST {UPLOADS} HTTP/1.1"), b"").await;
        assert_eq!(begun.assert(202).header("docker-upload-uuid").len(), 32);
        let pieces: Vec<&[u8]> = blob.chunks(32 << 10).collect();
        let patched = wire.chunked(&format!("PATCH {} HTTP/1.1\nuser-agent: docker/27", location(&begun)), &pieces).await;
        assert_eq!(patched.assert(202).header("range"), format!("0-{}", blob.len() - 1));
        let put = wire.request(&format!("PUT {} HTTP/1.1", with_digest(&location(&patched), &digest)), b"").await;
        put.assert(201);
        let head = wire.ask(&format!("HEAD /v2/library/app/blobs/{digest} HTTP/1.1")).await;
        assert_eq!(head.assert(200).header("content-length"), blob.len().to_string());
    }
    put_manifest(&mut wire, &image, DOCKER_IMAGE).await;
    pull(&mut wire, &image, DOCKER_IMAGE).await;
}

#[tokio::test]
async fn docker_mounts_what_another_repository_has() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let image = an_image(DOCKER_IMAGE);
    for blob in image.layers.iter().chain([&image.config]) {
        fixture.push("library/base", blob.clone()).await;
    }
    let mut wire = server.connect().await;
    for blob in image.layers.iter().chain([&image.config]) {
        let digest = Digest::sha256(blob);
        let uri = format!("{UPLOADS}?from=library%2Fbase&mount={}", digest.to_string().replace(':', "%3A"));
        let mounted = wire.request(&format!("POST {uri} HTTP/1.1"), b"").await;
        assert_eq!(mounted.assert(201).header("location"), format!("/v2/library/app/blobs/{digest}"));
        assert_eq!(mounted.header("docker-content-digest"), digest.to_string());
    }
    put_manifest(&mut wire, &image, DOCKER_IMAGE).await;
    pull(&mut wire, &image, DOCKER_IMAGE).await;
}

#[tokio::test]
async fn containerd_and_buildkit_push_by_post_and_one_put_several_at_once() {
    let server = Server::start(Fixture::new().router).await;
    let image = an_image(IMAGE);
    let mut pushes = Vec::new();
    for blob in image.layers.iter().chain([&image.config]) {
        let blob = blob.clone();
        let mut wire = server.connect().await;
        pushes.push(tokio::spawn(async move {
            let digest = Digest::sha256(&blob);
            wire.ask(&format!("HEAD /v2/library/app/blobs/{digest} HTTP/1.1\naccept: application/octet-stream, */*")).await.assert(404);
            let begun = wire.request(&format!("POST {UPLOADS}?mount={digest}&from=library/other HTTP/1.1"), b"").await;
            let uri = with_digest(&location(begun.assert(202)), &digest);
            let put = wire.request(&format!("PUT {uri} HTTP/1.1\ncontent-type: application/octet-stream"), &blob).await;
            assert_eq!(put.assert(201).header("docker-content-digest"), digest.to_string());
        }));
    }
    for push in pushes {
        push.await.unwrap();
    }
    let mut wire = server.connect().await;
    let digest = Digest::sha256(&image.manifest);
    wire.ask("HEAD /v2/library/app/manifests/latest HTTP/1.1").await.assert(404);
    put_manifest(&mut wire, &image, IMAGE).await;
    let pinned = wire.request(&format!("PUT /v2/library/app/manifests/{digest} HTTP/1.1\ncontent-type: {IMAGE}"), &image.manifest).await;
    pinned.assert(201);
    pull(&mut wire, &image, IMAGE).await;
}

#[tokio::test]
async fn containerd_resumes_a_pull_by_range() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.router.clone()).await;
    let blob = content(3_000_000);
    let digest = fixture.push("library/app", blob.clone()).await;
    let mut wire = server.connect().await;
    let rest = wire.ask(&format!("GET /v2/library/app/blobs/{digest}?ns=docker.io HTTP/1.1\nrange: bytes=1000000-")).await;
    assert_eq!(rest.assert(206).body, blob[1_000_000..]);
    assert_eq!(rest.header("content-range"), "bytes 1000000-2999999/3000000");
}

#[tokio::test]
async fn skopeo_and_podman_push_by_a_patch_without_length_and_a_put_without_body() {
    let server = Server::start(Fixture::new().router).await;
    let image = an_image(IMAGE);
    let mut wire = server.connect().await;
    wire.ask("GET /v2/ HTTP/1.1").await.assert(200);
    for blob in image.layers.iter().chain([&image.config]) {
        let digest = Digest::sha256(blob);
        wire.ask(&format!("HEAD /v2/library/app/blobs/{digest} HTTP/1.1")).await.assert(404);
        let begun = wire.request(&format!("POST {UPLOADS} HTTP/1.1\ndocker-distribution-api-version: registry/2.0"), b"").await;
        let patch = format!("PATCH {} HTTP/1.1\ncontent-type: application/octet-stream", location(begun.assert(202)));
        let patched = wire.chunked(&patch, &blob.chunks(100_000).collect::<Vec<_>>()).await;
        let put = format!("PUT {} HTTP/1.1\ncontent-type: application/octet-stream", with_digest(&location(patched.assert(202)), &digest));
        wire.request(&put, b"").await.assert(201);
    }
    put_manifest(&mut wire, &image, IMAGE).await;
    pull(&mut wire, &image, IMAGE).await;
    let tags = wire.ask("GET /v2/library/app/tags/list HTTP/1.1").await;
    assert_eq!(tags.assert(200).json()["tags"], json!(["latest"]));
    let digest = Digest::sha256(&image.manifest);
    wire.ask(&format!("DELETE /v2/library/app/manifests/{digest} HTTP/1.1")).await.assert(202);
    wire.ask("GET /v2/library/app/manifests/latest HTTP/1.1").await.assert(404);
}

#[tokio::test]
async fn curl_like_clients_wait_for_100_before_they_send_a_layer() {
    let server = Server::start(Fixture::new().router).await;
    let blob = content(1_000_000);
    let digest = Digest::sha256(&blob);
    let mut wire = server.connect().await;
    let begun = wire.request(&format!("POST {UPLOADS} HTTP/1.1"), b"").await;
    let uri = location(begun.assert(202));
    wire.head(&format!("PATCH {uri} HTTP/1.1\nexpect: 100-continue\ncontent-length: {}", blob.len())).await;
    assert_eq!(wire.answer_head().await.0, 100);
    wire.write(&blob).await;
    wire.answer(false).await.assert(202);
    wire.request(&format!("PUT {} HTTP/1.1", with_digest(&uri, &digest)), b"").await.assert(201);
}

#[tokio::test]
async fn oras_pushes_an_artifact_with_a_subject_and_finds_it_again() {
    let server = Server::start(Fixture::new().router).await;
    let image = an_image(IMAGE);
    let mut wire = server.connect().await;
    for blob in image.layers.iter().chain([&image.config, &Bytes::from_static(b"{}")]) {
        let digest = Digest::sha256(blob);
        let begun = wire.request(&format!("POST {UPLOADS} HTTP/1.1"), b"").await;
        wire.request(&format!("PUT {} HTTP/1.1", with_digest(&location(begun.assert(202)), &digest)), blob).await.assert(201);
    }
    put_manifest(&mut wire, &image, IMAGE).await;
    let subject = Digest::sha256(&image.manifest);
    let artifact = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "artifactType": "application/vnd.example.sbom+json",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [descriptor("text/plain", b"tiny")],
        "subject": descriptor(IMAGE, &image.manifest),
    });
    let artifact = serde_json::to_vec(&artifact).unwrap();
    let digest = Digest::sha256(&artifact);
    let put = wire.request(&format!("PUT /v2/library/app/manifests/{digest} HTTP/1.1\ncontent-type: {IMAGE}"), &artifact).await;
    assert_eq!(put.assert(201).header("oci-subject"), subject.to_string());
    let kind = "application%2Fvnd.example.sbom%2Bjson";
    let found = wire.ask(&format!("GET /v2/library/app/referrers/{subject}?artifactType={kind} HTTP/1.1")).await;
    assert_eq!(found.assert(200).header("oci-filters-applied"), "artifactType");
    assert_eq!(found.json()["manifests"][0]["digest"], digest.to_string());
}

#[tokio::test]
async fn a_client_whose_connection_was_cut_asks_where_it_stands_and_goes_on() {
    let server = Server::start(Fixture::new().router).await;
    let blob = content(2_000_000);
    let digest = Digest::sha256(&blob);
    let mut wire = server.connect().await;
    let begun = wire.request(&format!("POST {UPLOADS} HTTP/1.1"), b"").await;
    let uri = location(begun.assert(202));
    wire.head(&format!("PATCH {uri} HTTP/1.1\ncontent-length: {}", blob.len())).await;
    wire.write(&blob[..1_200_000]).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(wire);
    let mut wire = server.connect().await;
    let mut offset = 0;
    for _ in 0..100 {
        let status = wire.ask(&format!("GET {uri} HTTP/1.1")).await;
        offset = status.assert(204).header("range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        if offset > 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(offset > 1 && offset <= 1_200_000, "{offset}");
    let range = format!("content-range: {offset}-{}", blob.len() - 1);
    let put = wire.request(&format!("PUT {} HTTP/1.1\n{range}", with_digest(&uri, &digest)), &blob[offset..]).await;
    put.assert(201);
    assert_eq!(wire.ask(&format!("GET {} HTTP/1.1", location(&put))).await.body, blob);
}
