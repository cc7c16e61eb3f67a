//! Behind a reverse proxy.

use registry_core::Digest;
use registry_http::HttpOptions;
use serde_json::json;

use crate::support::Fixture;
use crate::support::images::{IMAGE, artifact, bytes, descriptor, image, push_tagged};

const PROXY: [(&str, &str); 3] =
    [("x-forwarded-proto", "https"), ("x-forwarded-host", "registry.example"), ("x-forwarded-prefix", "/mirror")];

#[tokio::test]
async fn locations_are_relative_and_forwarded_headers_ignored_by_default() {
    let fixture = Fixture::new();
    let mut request =
        fixture.request("POST", "/v2/a/blobs/uploads/").header("forwarded", "host=evil.example;proto=https").header("host", "evil.example");
    for (name, value) in PROXY {
        request = request.header(name, value);
    }
    let answer = request.send().await;
    assert!(answer.assert(202).header("location").starts_with("/v2/a/blobs/uploads/"));
}

#[tokio::test]
async fn every_location_and_link_is_where_the_trusted_proxy_was_addressed() {
    let fixture = Fixture::with(HttpOptions::default().with_trust_forwarded_headers(true).with_page_sizes(1, 1));
    let digest = fixture.push("a", "x").await;
    push_tagged(&fixture, "a", "v1").await;
    push_tagged(&fixture, "a", "v2").await;
    push_tagged(&fixture, "b", "v1").await;
    let manifest = bytes(&image(&fixture, "a", "y").await);
    let begun = fixture.begin("a").await;
    let subject = descriptor(IMAGE, b"a subject");
    for kind in ["a/b", "a/c"] {
        let manifest = bytes(&artifact(&fixture, "a", json!({ "subject": subject, "artifactType": kind })).await);
        fixture.put_manifest(&format!("/v2/a/manifests/{}", Digest::sha256(&manifest)), IMAGE, manifest).await.assert(201);
    }
    let referrers = format!("/v2/a/referrers/{}", Digest::sha256(b"a subject"));
    let put = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b"y"));
    let begin = "https://registry.example/mirror/v2/";
    for (method, uri, content_type, body, header) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned(), "", bytes::Bytes::new(), "location"),
        ("POST", put, "", "y".into(), "location"),
        ("POST", format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), "", bytes::Bytes::new(), "location"),
        ("PATCH", begun.clone(), "", "0".into(), "location"),
        ("GET", begun.clone(), "", bytes::Bytes::new(), "location"),
        ("PUT", format!("{begun}?digest={}", Digest::sha256(b"0")), "", bytes::Bytes::new(), "location"),
        ("PUT", "/v2/a/manifests/y".to_owned(), IMAGE, manifest, "location"),
        ("GET", "/v2/a/tags/list".to_owned(), "", bytes::Bytes::new(), "link"),
        ("GET", "/v2/_catalog".to_owned(), "", bytes::Bytes::new(), "link"),
        ("GET", referrers, "", bytes::Bytes::new(), "link"),
    ] {
        let mut request = fixture.request(method, &uri).header("content-type", content_type).body(body);
        for (name, value) in PROXY {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        let value = answer.header(header).trim_start_matches('<').to_owned();
        assert!(value.starts_with(begin), "{method} {uri}: {answer:?}");
    }
}

#[tokio::test]
async fn the_standard_forwarded_header_is_honoured() {
    let fixture = Fixture::with(HttpOptions::default().with_trust_forwarded_headers(true));
    let forwarded = "for=192.0.2.60;proto=https;host=\"registry.example:8443\", for=10.0.0.1;host=inner";
    let answer = fixture.request("POST", "/v2/a/blobs/uploads/").header("forwarded", forwarded).send().await;
    assert!(answer.assert(202).header("location").starts_with("https://registry.example:8443/v2/a/"), "{answer:?}");
    let plain = fixture.request("POST", "/v2/a/blobs/uploads/").header("host", "direct:5000").send().await;
    assert!(plain.header("location").starts_with("/v2/"), "a client that came directly needs no host");
}

#[tokio::test]
async fn an_out_of_order_chunk_behind_a_proxy_is_told_where_to_go_on() {
    let fixture = Fixture::with(HttpOptions::default().with_trust_forwarded_headers(true));
    let location = fixture.begin("a").await;
    let request = fixture.request("PATCH", &location).header("content-range", "5-5").header("x-forwarded-host", "registry.example");
    let answer = request.body("x").send().await;
    assert_eq!(answer.assert(416).header("location"), format!("http://registry.example{location}"));
}
