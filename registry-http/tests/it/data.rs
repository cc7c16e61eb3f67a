//! The kinds of content that the conformance suite of the distribution-spec pushes, pulls, lists and deletes.

use bytes::Bytes;
use registry_core::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::support::images::{DOCKER_IMAGE, DOCKER_LIST, IMAGE, INDEX, artifact, bytes, descriptor, image};
use crate::support::{Fixture, content};

/// Pushes by digest and by tag, pulls and heads by both, lists, and deletes again.
async fn round_trip(fixture: &Fixture, repository: &str, media_type: &str, manifest: &Value) -> Value {
    let bytes = bytes(manifest);
    for algorithm in Algorithm::ALL {
        let digest = Digest::of(algorithm, &bytes);
        let answer = fixture.put_manifest(&format!("/v2/{repository}/manifests/{digest}?tag=t"), media_type, bytes.clone()).await;
        answer.assert(201);
        for reference in [digest.to_string(), "t".to_owned()] {
            let answer = fixture.get_and_head(&format!("/v2/{repository}/manifests/{reference}")).await;
            assert_eq!(answer.assert(200).body, bytes);
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        }
        assert_eq!(fixture.get(&format!("/v2/{repository}/tags/list")).await.json()["tags"], json!(["t"]));
        fixture.delete(&format!("/v2/{repository}/manifests/t")).await.assert(202);
        fixture.head(&format!("/v2/{repository}/manifests/t")).await.assert(404);
    }
    descriptor(media_type, &bytes)
}

#[tokio::test]
async fn an_image_an_index_and_an_index_of_indexes() {
    let fixture = Fixture::new();
    let first = round_trip(&fixture, "a", IMAGE, &image(&fixture, "a", "amd64").await).await;
    let second = round_trip(&fixture, "a", IMAGE, &image(&fixture, "a", "arm64").await).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [first, second] });
    let inner = round_trip(&fixture, "a", INDEX, &index).await;
    let outer = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner] });
    round_trip(&fixture, "a", INDEX, &outer).await;
}

#[tokio::test]
async fn an_image_and_a_list_of_docker_s() {
    let fixture = Fixture::new();
    let mut manifest = image(&fixture, "a", "x").await;
    manifest["mediaType"] = json!(DOCKER_IMAGE);
    let image = round_trip(&fixture, "a", DOCKER_IMAGE, &manifest).await;
    let list = json!({ "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [image] });
    round_trip(&fixture, "a", DOCKER_LIST, &list).await;
}

#[tokio::test]
async fn an_empty_index_and_an_image_without_layers() {
    let fixture = Fixture::new();
    round_trip(&fixture, "a", INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })).await;
    let mut manifest = image(&fixture, "a", "x").await;
    manifest["layers"] = json!([]);
    round_trip(&fixture, "a", IMAGE, &manifest).await;
}

#[tokio::test]
async fn artifacts_with_and_without_layers_and_as_indexes() {
    let fixture = Fixture::new();
    fixture.push("a", "layer").await;
    let with = json!({ "artifactType": "application/vnd.x", "layers": [descriptor("application/vnd.y", b"layer")] });
    round_trip(&fixture, "a", IMAGE, &artifact(&fixture, "a", with).await).await;
    round_trip(&fixture, "a", IMAGE, &artifact(&fixture, "a", json!({ "artifactType": "application/vnd.x" })).await).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "artifactType": "application/vnd.x", "manifests": [] });
    round_trip(&fixture, "a", INDEX, &index).await;
}

#[tokio::test]
async fn a_manifest_with_a_missing_subject_a_data_field_and_unknown_fields() {
    let fixture = Fixture::new();
    let mut manifest =
        artifact(&fixture, "a", json!({ "subject": descriptor(IMAGE, b"missing"), "org.example": { "deep": [1, null] } })).await;
    manifest["config"]["data"] = json!("e30=");
    manifest["config"]["org.example"] = json!(true);
    round_trip(&fixture, "a", IMAGE, &manifest).await;
}

#[tokio::test]
async fn layers_that_are_not_distributed_are_never_pushed() {
    let fixture = Fixture::new();
    let mut manifest = image(&fixture, "a", "x").await;
    let foreign = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"never pushed");
    manifest["layers"].as_array_mut().unwrap().push(foreign);
    round_trip(&fixture, "a", IMAGE, &manifest).await;
}

#[tokio::test]
async fn a_manifest_of_nearly_four_megabytes() {
    let fixture = Fixture::new();
    let mut manifest = image(&fixture, "a", "x").await;
    let annotations: serde_json::Map<String, Value> = (0..390).map(|n| (format!("large-{n}"), json!("A".repeat(10_000)))).collect();
    manifest["annotations"] = Value::Object(annotations);
    round_trip(&fixture, "a", IMAGE, &manifest).await;
}

#[tokio::test]
async fn blobs_of_every_awkward_size_by_every_way_and_algorithm() {
    let fixture = Fixture::new();
    for bytes in [Bytes::new(), Bytes::from_static(b"{}"), content(1), content(512), content(64 << 10), content((1 << 20) + 1)] {
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, &bytes);
            for way in ["post", "put", "patch"] {
                let answer = match way {
                    "post" => fixture.request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}")).body(bytes.clone()).send().await,
                    "put" => {
                        let location = fixture.begin("a").await;
                        fixture.request("PUT", &format!("{location}?digest={digest}")).body(bytes.clone()).send().await
                    }
                    _ => {
                        let location = fixture.begin("a").await;
                        fixture.request("PATCH", &location).body(bytes.clone()).send().await.assert(202);
                        fixture.request("PUT", &format!("{location}?digest={digest}")).send().await
                    }
                };
                let uri = answer.assert(201).header("location").to_owned();
                assert_eq!(fixture.get_and_head(&uri).await.assert(200).body, bytes, "{way} {digest}");
                fixture.delete(&uri).await.assert(202);
            }
        }
    }
}
