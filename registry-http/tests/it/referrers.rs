//! What refers to a manifest.

use registry_core::Digest;
use registry_http::HttpOptions;
use serde_json::{Value, json};

use crate::support::images::{CONFIG, EMPTY, IMAGE, INDEX, artifact, bytes, descriptor, image};
use crate::support::{Answer, Fixture};

/// Pushes a manifest by digest; its digest and length.
async fn push(fixture: &Fixture, repository: &str, media_type: &str, manifest: &Value) -> (Digest, usize) {
    let content = bytes(manifest);
    let digest = Digest::sha256(&content);
    fixture.put_manifest(&format!("/v2/{repository}/manifests/{digest}"), media_type, content.clone()).await.assert(201);
    (digest, content.len())
}

fn subject() -> (Digest, Value) {
    let manifest = b"a manifest that may be missing";
    (Digest::sha256(manifest), descriptor(IMAGE, manifest))
}

#[track_caller]
fn is_empty_index(answer: &Answer) {
    assert_eq!(answer.assert(200).header("content-type"), INDEX);
    assert_eq!(answer.json(), json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
}

#[tokio::test]
async fn an_unknown_subject_or_repository_is_an_empty_index_and_never_404() {
    let fixture = Fixture::new();
    let digest = Digest::sha256(b"none");
    is_empty_index(&fixture.get_and_head(&format!("/v2/none/referrers/{digest}")).await);
    image(&fixture, "a", "x").await;
    is_empty_index(&fixture.get(&format!("/v2/a/referrers/{digest}")).await);
    let sha512 = Digest::of(registry_core::Algorithm::Sha512, b"none");
    is_empty_index(&fixture.get(&format!("/v2/a/referrers/{sha512}")).await);
}

#[tokio::test]
async fn a_malformed_digest_of_a_subject_is_400() {
    let fixture = Fixture::new();
    for digest in ["sha256:notadigest", "latest", "md5:00"] {
        fixture.get(&format!("/v2/a/referrers/{digest}")).await.assert_error(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn referrers_are_listed_as_descriptors_with_artifact_type_and_annotations() {
    let fixture = Fixture::new();
    let (digest, subject) = subject();
    let signature =
        artifact(&fixture, "a", json!({ "subject": subject, "artifactType": "application/vnd.sig", "annotations": { "k\"": "v" } })).await;
    let (signature, signature_size) = push(&fixture, "a", IMAGE, &signature).await;
    let mut about = image(&fixture, "a", "x").await;
    about["subject"] = subject.clone();
    let (about, about_size) = push(&fixture, "a", IMAGE, &about).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject });
    let (index, index_size) = push(&fixture, "a", INDEX, &index).await;
    let answer = fixture.get_and_head(&format!("/v2/a/referrers/{digest}")).await;
    assert_eq!(answer.assert(200).header("content-type"), INDEX);
    let mut expected = vec![
        json!({ "mediaType": IMAGE, "digest": signature.to_string(), "size": signature_size, "artifactType": "application/vnd.sig", "annotations": { "k\"": "v" } }),
        json!({ "mediaType": IMAGE, "digest": about.to_string(), "size": about_size, "artifactType": CONFIG }),
        json!({ "mediaType": INDEX, "digest": index.to_string(), "size": index_size }),
    ];
    expected.sort_by_key(|descriptor| descriptor["digest"].as_str().unwrap().to_owned());
    assert_eq!(answer.json(), json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": expected }));
    assert_eq!(answer.maybe("oci-filters-applied"), None);
}

#[tokio::test]
async fn a_filter_by_artifact_type_is_applied_and_announced() {
    let fixture = Fixture::new();
    let (digest, subject) = subject();
    for kind in ["application/vnd.a+json", "application/vnd.b+json"] {
        let manifest = artifact(&fixture, "a", json!({ "subject": subject, "artifactType": kind })).await;
        push(&fixture, "a", IMAGE, &manifest).await;
    }
    let mut fallback = artifact(&fixture, "a", json!({ "subject": subject })).await;
    fallback["config"] = descriptor("application/vnd.c", b"{}");
    push(&fixture, "a", IMAGE, &fallback).await;
    for (query, kind) in [
        ("application/vnd.a%2Bjson", "application/vnd.a+json"),
        ("application/vnd.b+json", "application/vnd.b+json"),
        ("application%2Fvnd.c", "application/vnd.c"),
    ] {
        let answer = fixture.get_and_head(&format!("/v2/a/referrers/{digest}?artifactType={query}")).await;
        assert_eq!(answer.assert(200).header("oci-filters-applied"), "artifactType");
        let json = answer.json();
        let found = json["manifests"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!(found[0]["artifactType"], kind);
    }
    let none = fixture.get(&format!("/v2/a/referrers/{digest}?artifactType=x/y")).await;
    is_empty_index(&none);
    assert_eq!(none.header("oci-filters-applied"), "artifactType");
}

#[tokio::test]
async fn pages_of_referrers_are_linked_and_keep_their_filter() {
    let fixture = Fixture::with(HttpOptions::default().with_page_sizes(2, 10));
    let (digest, subject) = subject();
    let mut all = Vec::new();
    for number in 0..5 {
        let manifest =
            artifact(&fixture, "a", json!({ "subject": subject, "artifactType": "a/b+c", "annotations": { "n": number.to_string() } }))
                .await;
        all.push(push(&fixture, "a", IMAGE, &manifest).await.0.to_string());
    }
    let other = artifact(&fixture, "a", json!({ "subject": subject, "artifactType": "other" })).await;
    push(&fixture, "a", IMAGE, &other).await;
    all.sort();
    let mut uri = Some(format!("/v2/a/referrers/{digest}?artifactType=a/b%2Bc"));
    let (mut seen, mut pages) = (Vec::new(), 0);
    while let Some(page) = uri {
        let answer = fixture.get(&page).await;
        assert_eq!(answer.assert(200).header("oci-filters-applied"), "artifactType");
        let json = answer.json();
        let items = json["manifests"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["digest"].as_str().unwrap().to_owned()));
        uri = answer.maybe("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        assert!(uri.iter().all(|uri| uri.contains("artifactType=a%2Fb%2Bc&")));
        pages += 1;
    }
    assert_eq!((seen, pages), (all, 3));
}

#[tokio::test]
async fn an_index_of_referrers_never_passes_four_mebibytes() {
    let fixture = Fixture::new();
    let (digest, subject) = subject();
    // JSON makes six bytes of a control character, and nothing of most others.
    for (number, big) in
        ["A".repeat(1_500_000), "\u{1}".repeat(400_000), "\u{1f}".repeat(300_000), "\"".repeat(1_000_000)].iter().enumerate()
    {
        let annotations = json!({ "n": number.to_string(), "big": big });
        let manifest = artifact(&fixture, "a", json!({ "subject": subject, "annotations": annotations })).await;
        push(&fixture, "a", IMAGE, &manifest).await;
    }
    let (mut uri, mut seen) = (Some(format!("/v2/a/referrers/{digest}")), 0);
    while let Some(page) = uri {
        let answer = fixture.get(&page).await;
        assert!(answer.assert(200).body.len() <= 4 << 20);
        seen += answer.json()["manifests"].as_array().unwrap().len();
        uri = answer.maybe("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
    }
    assert_eq!(seen, 4);
}

#[tokio::test]
async fn manifests_that_a_client_tagged_with_the_fallback_schema_are_referrers_too() {
    let fixture = Fixture::new();
    let (digest, subject) = subject();
    let manifest = artifact(&fixture, "a", json!({ "subject": subject, "artifactType": "application/vnd.sig" })).await;
    let (referrer, size) = push(&fixture, "a", IMAGE, &manifest).await;
    // What clients do where a registry does not know referrers: an index under a tag made of the subject's digest.
    let mut descriptor = descriptor(IMAGE, &bytes(&manifest));
    descriptor["artifactType"] = json!("application/vnd.sig");
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
    let tag = digest.to_string().replace(':', "-");
    fixture.put_manifest(&format!("/v2/a/manifests/{tag}"), INDEX, bytes(&index)).await.assert(201);
    let answer = fixture.get(&format!("/v2/a/referrers/{digest}")).await;
    let expected = json!([{ "mediaType": IMAGE, "digest": referrer.to_string(), "size": size, "artifactType": "application/vnd.sig" }]);
    assert_eq!(answer.assert(200).json()["manifests"], expected, "once, and the index itself is none");
    assert_eq!(fixture.get(&format!("/v2/a/manifests/{tag}")).await.assert(200).body, bytes(&index), "the tag stays for older clients");
}

#[tokio::test]
async fn a_deleted_referrer_is_gone_at_once() {
    let fixture = Fixture::new();
    let (digest, subject) = subject();
    let manifest = artifact(&fixture, "a", json!({ "subject": subject })).await;
    let (referrer, _) = push(&fixture, "a", IMAGE, &manifest).await;
    let uri = format!("/v2/a/referrers/{digest}");
    assert_eq!(fixture.get(&uri).await.json()["manifests"][0]["artifactType"], EMPTY);
    fixture.delete(&format!("/v2/a/manifests/{referrer}")).await.assert(202);
    is_empty_index(&fixture.get(&uri).await);
}
