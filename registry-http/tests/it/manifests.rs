//! Pulling, pushing and deleting manifests.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_core::{Algorithm, Digest};
use registry_http::HttpOptions;
use serde_json::json;

use crate::support::images::{DOCKER_IMAGE, IMAGE, INDEX, LAYER, artifact, bytes, descriptor, image, push_tagged};
use crate::support::{Fixture, content, pieces};

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest() {
    let fixture = Fixture::new();
    let odd = format!("{{ \"unknown\" : [1,\n2],\t{}", &serde_json::to_string(&image(&fixture, "a", "x").await).unwrap()[1..]);
    let digest = Digest::sha256(odd.as_bytes());
    let answer = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, odd.clone()).await;
    assert_eq!(answer.assert(201).header("location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    for uri in ["/v2/a/manifests/v1", answer.header("location")] {
        let answer = fixture.get_and_head(uri).await;
        assert_eq!(answer.assert(200).body, odd);
        assert_eq!(answer.header("content-length"), odd.len().to_string());
        assert_eq!(answer.header("content-type"), IMAGE);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    }
}

#[tokio::test]
async fn the_content_type_is_the_pushed_one_without_parameters() {
    let fixture = Fixture::new();
    let mut manifest = image(&fixture, "a", "x").await;
    fixture.put_manifest("/v2/a/manifests/v1", &format!("{IMAGE}; charset=utf-8"), bytes(&manifest)).await.assert(201);
    let answer = fixture.request("GET", "/v2/a/manifests/v1").header("accept", "text/html").send().await;
    assert_eq!(answer.assert(200).header("content-type"), IMAGE, "served as it is, whatever is accepted");
    manifest["mediaType"] = json!(DOCKER_IMAGE);
    fixture.put_manifest("/v2/a/manifests/v2", DOCKER_IMAGE, bytes(&manifest)).await.assert(201);
    assert_eq!(fixture.get("/v2/a/manifests/v2").await.header("content-type"), DOCKER_IMAGE);
    fixture.put_manifest("/v2/a/manifests/v3", INDEX, bytes(&manifest)).await.assert_error(400, "MANIFEST_INVALID");
}

#[tokio::test]
async fn a_manifest_pushed_by_sha512_is_served_with_sha512() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let digest = Digest::of(Algorithm::Sha512, &manifest);
    let answer = fixture.put_manifest(&format!("/v2/a/manifests/{digest}?tag=v1"), IMAGE, manifest.clone()).await;
    assert_eq!(answer.assert(201).header("docker-content-digest"), digest.to_string());
    for uri in [answer.header("location"), "/v2/a/manifests/v1"] {
        let answer = fixture.get_and_head(uri).await;
        assert_eq!(answer.assert(200).header("docker-content-digest"), digest.to_string());
        assert_eq!(answer.body, manifest);
    }
}

#[tokio::test]
async fn an_unknown_manifest_is_404_and_so_is_one_by_a_malformed_tag() {
    let fixture = Fixture::new();
    push_tagged(&fixture, "a", "v1").await;
    let none = Digest::sha256(b"none");
    for uri in ["/v2/a/manifests/v2".to_owned(), format!("/v2/a/manifests/{none}"), "/v2/b/manifests/v1".to_owned()] {
        fixture.get_and_head(&uri).await.assert_error(404, "MANIFEST_UNKNOWN");
        fixture.delete(&uri).await.assert_error(404, "MANIFEST_UNKNOWN");
    }
    let manifest = bytes(&image(&fixture, "a", "x").await);
    for reference in [".INVALID_MANIFEST_NAME", ".dot", "-dash", "%20", "a%2Fb", &"t".repeat(129)] {
        let uri = format!("/v2/a/manifests/{reference}");
        fixture.get_and_head(&uri).await.assert_error(404, "MANIFEST_UNKNOWN");
        fixture.delete(&uri).await.assert_error(404, "MANIFEST_UNKNOWN");
        fixture.put_manifest(&uri, IMAGE, manifest.clone()).await.assert_error(400, "MANIFEST_INVALID");
    }
    for digest in ["sha256:notadigest", "md5:00"] {
        let uri = format!("/v2/a/manifests/{digest}");
        fixture.get_and_head(&uri).await.assert_error(400, "DIGEST_INVALID");
        fixture.delete(&uri).await.assert_error(400, "DIGEST_INVALID");
        fixture.put_manifest(&uri, IMAGE, manifest.clone()).await.assert_error(400, "DIGEST_INVALID");
    }
    assert_eq!(fixture.get("/v2/a/tags/list").await.json()["tags"], json!(["v1"]));
}

#[tokio::test]
async fn a_client_that_has_the_manifest_is_told_304() {
    let fixture = Fixture::new();
    let digest = push_tagged(&fixture, "a", "v1").await;
    for (uri, cache) in
        [("/v2/a/manifests/v1".to_owned(), "no-cache"), (format!("/v2/a/manifests/{digest}"), "max-age=31536000, immutable")]
    {
        let etag = fixture.get_and_head(&uri).await.header("etag").to_owned();
        assert_eq!(etag, format!("\"{digest}\""));
        for method in ["GET", "HEAD"] {
            let answer = fixture.request(method, &uri).header("if-none-match", &format!("\"x\", W/{etag}")).send().await;
            assert!(answer.assert(304).body.is_empty());
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            assert_eq!(answer.header("cache-control"), cache);
        }
    }
    push_tagged(&fixture, "b", "other").await;
    fixture.request("GET", "/v2/a/manifests/v1").header("if-none-match", "\"sha256:other\"").send().await.assert(200);
}

#[tokio::test]
async fn a_manifest_whose_digest_is_another_is_400() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    for algorithm in Algorithm::ALL {
        let wrong = Digest::of(algorithm, b"wrong");
        fixture.put_manifest(&format!("/v2/a/manifests/{wrong}"), IMAGE, manifest.clone()).await.assert_error(400, "DIGEST_INVALID");
        fixture.get(&format!("/v2/a/manifests/{wrong}")).await.assert(404);
    }
}

#[tokio::test]
async fn what_is_no_manifest_is_400() {
    let fixture = Fixture::new();
    for content in ["", "{", "[]", "null", "\"x\"", "{}", "\u{feff}{}", "{\"schemaVersion\":1}"] {
        fixture.put_manifest("/v2/a/manifests/v1", IMAGE, content.to_owned()).await.assert_error(400, "MANIFEST_INVALID");
    }
    let schema1 = r#"{"schemaVersion":1,"fsLayers":[],"name":"a","tag":"v1"}"#;
    let answer = fixture.put_manifest("/v2/a/manifests/v1", "application/vnd.docker.distribution.manifest.v1+prettyjws", schema1).await;
    answer.assert_error(400, "MANIFEST_INVALID");
    fixture.get("/v2/a/tags/list").await.assert(404);
}

#[tokio::test]
async fn a_manifest_of_four_mebibytes_is_accepted_and_one_byte_more_is_413() {
    let fixture = Fixture::new();
    let manifest = image(&fixture, "a", "x").await;
    let sized = |size: usize| {
        let mut manifest = manifest.clone();
        manifest["annotations"] = json!({ "pad": "" });
        let rest = serde_json::to_vec(&manifest).unwrap().len();
        manifest["annotations"]["pad"] = json!("A".repeat(size - rest));
        Bytes::from(serde_json::to_vec(&manifest).unwrap())
    };
    let largest = sized(4 << 20);
    fixture.put_manifest("/v2/a/manifests/v1", IMAGE, largest.clone()).await.assert(201);
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.body, largest);
    let too_large = sized((4 << 20) + 1);
    fixture.put_manifest("/v2/a/manifests/v2", IMAGE, too_large.clone()).await.assert_error(413, "MANIFEST_INVALID");
    let halves = pieces(&[&too_large[..1 << 20], &too_large[1 << 20..]]);
    fixture
        .request("PUT", "/v2/a/manifests/v2")
        .header("content-type", IMAGE)
        .body(halves)
        .send()
        .await
        .assert_error(413, "MANIFEST_INVALID");
    fixture.get("/v2/a/manifests/v2").await.assert(404);
}

#[tokio::test]
async fn a_manifest_that_comes_in_pieces_is_put_together() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let body = pieces(&[&manifest[..1], &manifest[1..50], &manifest[50..]]);
    fixture.request("PUT", "/v2/a/manifests/v1").header("content-type", IMAGE).body(body).send().await.assert(201);
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.body, manifest);
}

#[tokio::test]
async fn a_manifest_cut_off_on_its_way_changes_nothing() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let length = manifest.len().to_string();
    for body in [&manifest[..manifest.len() - 1], &manifest[..0]] {
        let request = fixture.request("PUT", "/v2/a/manifests/v1").header("content-type", IMAGE).header("content-length", &length);
        request.body(pieces(&[body])).send().await.assert_error(400, "MANIFEST_INVALID");
    }
    fixture.get("/v2/a/manifests/v1").await.assert(404);
}

#[tokio::test]
async fn each_blob_that_is_missing_is_named() {
    let fixture = Fixture::new();
    let mut manifest = image(&fixture, "a", "x").await;
    let missing = [Digest::sha256(b"one"), Digest::sha256(b"two")];
    manifest["layers"] = json!([descriptor("x/y", b"one"), descriptor("x/y", b"two")]);
    let answer = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, bytes(&manifest)).await;
    answer.assert_error(400, "MANIFEST_BLOB_UNKNOWN");
    let json = answer.json();
    let mut named: Vec<_> = json["errors"].as_array().unwrap().iter().map(|error| error["detail"]["digest"].as_str().unwrap()).collect();
    named.sort_unstable();
    let mut expected = missing.map(|digest| digest.to_string());
    expected.sort();
    assert_eq!(named, expected);
    fixture.get("/v2/a/manifests/v1").await.assert(404);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, b"three")] });
    fixture.put_manifest("/v2/a/manifests/v1", INDEX, bytes(&index)).await.assert_error(400, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_subject_may_be_missing_and_is_echoed() {
    let fixture = Fixture::new();
    let subject = descriptor(IMAGE, b"missing");
    let manifest = artifact(&fixture, "a", json!({ "subject": subject })).await;
    let answer = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, bytes(&manifest)).await;
    assert_eq!(answer.assert(201).header("oci-subject"), subject["digest"].as_str().unwrap());
    let plain = bytes(&image(&fixture, "a", "x").await);
    assert_eq!(fixture.put_manifest("/v2/a/manifests/v2", IMAGE, plain).await.assert(201).maybe("oci-subject"), None);
}

#[tokio::test]
async fn a_manifest_is_pushed_under_many_tags_at_once() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let digest = Digest::sha256(&manifest);
    let tags: Vec<String> = (0..12).map(|n| format!("v{n:02}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let answer = fixture.put_manifest(&format!("/v2/a/manifests/{digest}?{}", query.join("&")), IMAGE, manifest.clone()).await;
    let told: Vec<_> = answer.assert(201).headers.get_all("oci-tag").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(told, tags);
    assert_eq!(fixture.get("/v2/a/tags/list").await.json()["tags"], json!(tags));
    let by_tag = fixture.put_manifest("/v2/a/manifests/main?tag=extra", IMAGE, manifest.clone()).await;
    assert_eq!(by_tag.assert(201).header("oci-tag"), "extra");
    for tag in ["main", "extra"] {
        assert_eq!(fixture.get(&format!("/v2/a/manifests/{tag}")).await.header("docker-content-digest"), digest.to_string());
    }
    let plain = fixture.put_manifest("/v2/a/manifests/main", IMAGE, manifest).await;
    assert_eq!(plain.assert(201).maybe("oci-tag"), None);
}

#[tokio::test]
async fn too_many_tags_are_414_and_a_malformed_one_400_and_nothing_is_tagged() {
    let fixture = Fixture::with(HttpOptions::default().with_max_tags_per_push(10));
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let digest = Digest::sha256(&manifest);
    let query: Vec<String> = (0..11).map(|n| format!("tag=v{n}")).collect();
    fixture.put_manifest(&format!("/v2/a/manifests/{digest}?{}", query.join("&")), IMAGE, manifest.clone()).await.assert(414);
    for tag in ["v1&tag=.bad", "a%2Fb", ""] {
        let answer = fixture.put_manifest(&format!("/v2/a/manifests/{digest}?tag={tag}"), IMAGE, manifest.clone()).await;
        answer.assert_error(400, "MANIFEST_INVALID");
    }
    assert_eq!(fixture.get("/v2/a/tags/list").await.json()["tags"], json!([]));
    fixture.put_manifest(&format!("/v2/a/manifests/{digest}?{}", query[1..].join("&")), IMAGE, manifest).await.assert(201);
}

#[tokio::test]
async fn a_deleted_tag_is_gone_at_once_and_the_manifest_stays() {
    let fixture = Fixture::new();
    let digest = push_tagged(&fixture, "a", "v1").await;
    fixture.delete("/v2/a/manifests/v1").await.assert(202);
    fixture.get_and_head("/v2/a/manifests/v1").await.assert_error(404, "MANIFEST_UNKNOWN");
    fixture.delete("/v2/a/manifests/v1").await.assert_error(404, "MANIFEST_UNKNOWN");
    fixture.get_and_head(&format!("/v2/a/manifests/{digest}")).await.assert(200);
    assert_eq!(fixture.get("/v2/a/tags/list").await.json()["tags"], json!([]));
}

#[tokio::test]
async fn a_deleted_manifest_takes_its_tags_with_it_at_once() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let digest = Digest::sha256(&manifest);
    fixture.put_manifest(&format!("/v2/a/manifests/{digest}?tag=v1&tag=v2"), IMAGE, manifest).await.assert(201);
    let other = push_tagged(&fixture, "a", "other").await;
    fixture.delete(&format!("/v2/a/manifests/{digest}")).await.assert(202);
    for reference in ["v1", "v2", &digest.to_string()] {
        fixture.get_and_head(&format!("/v2/a/manifests/{reference}")).await.assert_error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(fixture.get("/v2/a/manifests/other").await.assert(200).header("docker-content-digest"), other.to_string());
    assert_eq!(fixture.get("/v2/a/tags/list").await.json()["tags"], json!(["other"]));
}

#[tokio::test]
async fn a_tag_moves_to_what_was_pushed_last() {
    let fixture = Fixture::new();
    push_tagged(&fixture, "a", "v1").await;
    let second = bytes(&image(&fixture, "a", "second").await);
    fixture.put_manifest("/v2/a/manifests/v1", IMAGE, second.clone()).await.assert(201);
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.body, second);
}

/// A body that begins so, and then says nothing more.
fn stalling(beginning: Bytes) -> Body {
    let beginning = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(beginning)]);
    Body::from_stream(beginning.chain(futures_util::stream::pending()))
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_stalls_is_answered_408_and_no_word_of_anything_being_kept() {
    let fixture = Fixture::new();
    let answer =
        fixture.request("PUT", "/v2/a/manifests/v1").header("content-type", IMAGE).body(stalling(Bytes::from_static(b"{"))).send().await;
    answer.assert_error(408, "MANIFEST_INVALID");
    assert_eq!(answer.json()["errors"][0]["message"], "the body stalled");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_trickles_for_ever_is_answered_408() {
    let fixture = Fixture::new();
    let trickle = futures_util::stream::repeat(Bytes::from_static(b" ")).then(|byte| async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok::<_, std::convert::Infallible>(byte)
    });
    let request = fixture.request("PUT", "/v2/a/manifests/v1").header("content-type", IMAGE).body(Body::from_stream(trickle));
    request.send().await.assert_error(408, "MANIFEST_INVALID");
}

#[tokio::test(start_paused = true)]
async fn manifests_that_find_no_memory_are_503_until_others_have_given_it_back() {
    let fixture = Fixture::build(HttpOptions::default().with_body_memory(300_000), |builder| builder.max_manifest_size(200_000));
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let large = || fixture.request("PUT", "/v2/a/manifests/v1").header("content-type", IMAGE).body(stalling(content(190_000))).send();
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refused = large().await;
        assert_eq!(refused.assert_error(503, "UNAVAILABLE").header("retry-after"), "5");
        fixture.put_manifest("/v2/a/manifests/v2", IMAGE, manifest.clone()).await.assert(201);
    };
    let (stalled, ()) = tokio::join!(large(), others);
    stalled.assert_error(408, "MANIFEST_INVALID");
    large().await.assert_error(408, "MANIFEST_INVALID");
}

#[tokio::test(start_paused = true)]
async fn what_is_only_declared_takes_no_memory_from_others() {
    let fixture = Fixture::with(HttpOptions::default().with_body_memory(4 << 20));
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let idle = || {
        let request = fixture.request("PUT", "/v2/a/manifests/v1").header("content-type", IMAGE).header("content-length", "4194304");
        request.body(stalling(Bytes::from_static(b"{"))).send()
    };
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture.put_manifest("/v2/a/manifests/v2", IMAGE, manifest.clone()).await.assert(201);
    };
    tokio::join!(idle(), idle(), idle(), other);
}

#[tokio::test]
async fn a_build_cache_is_an_index_whose_children_are_blobs() {
    let fixture = Fixture::build(HttpOptions::default(), |builder| builder.grace(Duration::ZERO));
    let (config, layer) = ("{\"layers\":[]}", "a cached layer");
    fixture.push("a", config).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
        descriptor(LAYER, layer.as_bytes()),
        descriptor("application/vnd.buildkit.cacheconfig.v0", config.as_bytes()),
    ] });
    let missing = fixture.put_manifest("/v2/a/manifests/cache", INDEX, bytes(&index)).await;
    missing.assert_error(400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(missing.json()["errors"][0]["detail"]["digest"], Digest::sha256(layer.as_bytes()).to_string());
    let layer = fixture.push("a", layer).await;
    fixture.put_manifest("/v2/a/manifests/cache", INDEX, bytes(&index)).await.assert(201);
    assert_eq!(fixture.get("/v2/a/manifests/cache").await.assert(200).body, bytes(&index));
    keeps_its_blobs(&fixture, &[layer, Digest::sha256(config.as_bytes())]).await;
}

/// What a manifest needs stays however long nobody asks for it; what nobody needs goes.
async fn keeps_its_blobs(fixture: &Fixture, blobs: &[Digest]) {
    let garbage = fixture.push("a", "nobody's").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    fixture.registry.collect_garbage(&registry_core::GcOptions::default()).await.unwrap();
    fixture.head(&format!("/v2/a/blobs/{garbage}")).await.assert(404);
    for digest in blobs {
        fixture.head(&format!("/v2/a/blobs/{digest}")).await.assert(200);
    }
}

#[tokio::test]
async fn an_artifact_manifest_keeps_its_blobs() {
    let fixture = Fixture::build(HttpOptions::default(), |builder| builder.grace(Duration::ZERO));
    let media_type = "application/vnd.oci.artifact.manifest.v1+json";
    let manifest = json!({ "mediaType": media_type, "artifactType": "a/b", "blobs": [descriptor("x/y", b"signature")] });
    fixture.put_manifest("/v2/a/manifests/v1", media_type, bytes(&manifest)).await.assert_error(400, "MANIFEST_BLOB_UNKNOWN");
    let blob = fixture.push("a", "signature").await;
    fixture.put_manifest("/v2/a/manifests/v1", media_type, bytes(&manifest)).await.assert(201);
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.header("content-type"), media_type);
    keeps_its_blobs(&fixture, &[blob]).await;
}
