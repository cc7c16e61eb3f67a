//! What goes over the wire, to the letter.

use insta::assert_snapshot;

use crate::support::images::push_tagged;
use crate::support::{Answer, Fixture};

/// The head without what differs from run to run.
fn head(all: &mut String, answer: &Answer) {
    let upload = answer.maybe("docker-upload-uuid").unwrap_or("none").to_owned();
    for line in answer.head().lines().filter(|line| !line.starts_with("x-request-id")) {
        all.push_str(&line.replace(&upload, "UPLOAD"));
        all.push('\n');
    }
    all.push('\n');
}

fn text(all: &mut String, answer: &Answer) {
    let body = std::str::from_utf8(&answer.body).unwrap();
    all.push_str(&format!("{} {body}\n", answer.status.as_u16()));
}

#[tokio::test]
async fn heads_of_answers() {
    let fixture = Fixture::new();
    let mut all = String::new();
    let digest = fixture.push("a", "x").await;
    push_tagged(&fixture, "a", "v1").await;
    head(&mut all, &fixture.get("/v2/").await);
    head(&mut all, &fixture.get(&format!("/v2/a/blobs/{digest}")).await);
    let range = fixture.request("GET", &format!("/v2/a/blobs/{digest}")).header("range", "bytes=0-").send().await;
    head(&mut all, &range);
    head(&mut all, &fixture.get("/v2/a/manifests/v1").await);
    let unchanged = fixture.request("GET", "/v2/a/manifests/v1").header("if-none-match", "*").send().await;
    head(&mut all, &unchanged);
    head(&mut all, &fixture.request("POST", "/v2/a/blobs/uploads/").send().await);
    let location = fixture.begin("a").await;
    head(&mut all, &fixture.request("PATCH", &location).body("012").send().await);
    head(&mut all, &fixture.get(&location).await);
    head(&mut all, &fixture.request("PATCH", &location).header("content-range", "9-9").body("x").send().await);
    head(&mut all, &fixture.request("PUT", &format!("{location}?digest={}", registry_core::Digest::sha256(b"012"))).send().await);
    head(&mut all, &fixture.get(&format!("/v2/a/referrers/{digest}?artifactType=x")).await);
    head(&mut all, &fixture.get("/v2/a/tags/list").await);
    head(&mut all, &fixture.delete(&format!("/v2/a/blobs/{digest}")).await);
    assert_snapshot!(all, @r#"
    200
    content-length: 2
    content-type: application/json
    docker-distribution-api-version: registry/2.0

    200
    accept-ranges: bytes
    cache-control: max-age=31536000, immutable
    content-length: 1
    content-type: application/octet-stream
    docker-content-digest: sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
    docker-distribution-api-version: registry/2.0
    etag: "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    x-content-type-options: nosniff

    206
    accept-ranges: bytes
    cache-control: max-age=31536000, immutable
    content-length: 1
    content-range: bytes 0-0/1
    content-type: application/octet-stream
    docker-content-digest: sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
    docker-distribution-api-version: registry/2.0
    etag: "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    x-content-type-options: nosniff

    200
    cache-control: no-cache
    content-length: 474
    content-type: application/vnd.oci.image.manifest.v1+json
    docker-content-digest: sha256:99a75660c797af04a7838012420d68170f16f9b330c3c29a4e09e92914a9bbf6
    docker-distribution-api-version: registry/2.0
    etag: "sha256:99a75660c797af04a7838012420d68170f16f9b330c3c29a4e09e92914a9bbf6"
    x-content-type-options: nosniff

    304
    cache-control: no-cache
    docker-content-digest: sha256:99a75660c797af04a7838012420d68170f16f9b330c3c29a4e09e92914a9bbf6
    docker-distribution-api-version: registry/2.0
    etag: "sha256:99a75660c797af04a7838012420d68170f16f9b330c3c29a4e09e92914a9bbf6"

    202
    content-length: 0
    docker-distribution-api-version: registry/2.0
    docker-upload-uuid: UPLOAD
    location: /v2/a/blobs/uploads/UPLOAD
    range: 0-0

    202
    content-length: 0
    docker-distribution-api-version: registry/2.0
    docker-upload-uuid: UPLOAD
    location: /v2/a/blobs/uploads/UPLOAD
    range: 0-2

    204
    docker-distribution-api-version: registry/2.0
    docker-upload-uuid: UPLOAD
    location: /v2/a/blobs/uploads/UPLOAD
    range: 0-2

    416
    content-length: 78
    content-type: application/json
    docker-distribution-api-version: registry/2.0
    docker-upload-uuid: UPLOAD
    location: /v2/a/blobs/uploads/UPLOAD
    range: 0-2

    201
    content-length: 0
    docker-content-digest: sha256:bf6aaaab7c143ca12ae448c69fb72bb4cf1b29154b9086a927a0a91ae334cdf7
    docker-distribution-api-version: registry/2.0
    location: /v2/a/blobs/sha256:bf6aaaab7c143ca12ae448c69fb72bb4cf1b29154b9086a927a0a91ae334cdf7

    200
    content-length: 88
    content-type: application/vnd.oci.image.index.v1+json
    docker-distribution-api-version: registry/2.0
    oci-filters-applied: artifactType

    200
    content-length: 26
    content-type: application/json
    docker-distribution-api-version: registry/2.0

    202
    content-length: 0
    docker-distribution-api-version: registry/2.0
    "#);
}

#[tokio::test]
async fn bodies_of_errors() {
    let fixture = Fixture::new();
    let mut all = String::new();
    let digest = fixture.push("a", "x").await;
    let other = registry_core::Digest::sha256(b"y");
    text(&mut all, &fixture.get("/v2/nowhere").await);
    text(&mut all, &fixture.request("PUT", "/v2/").send().await);
    text(&mut all, &fixture.get("/v2/A/tags/list").await);
    text(&mut all, &fixture.get("/v2/none/tags/list").await);
    text(&mut all, &fixture.get(&format!("/v2/a/blobs/{other}")).await);
    text(&mut all, &fixture.get("/v2/a/blobs/sha256:notadigest").await);
    text(&mut all, &fixture.get("/v2/a/blobs/md5:00").await);
    text(&mut all, &fixture.get("/v2/a/manifests/v1").await);
    text(&mut all, &fixture.get("/v2/a/manifests/.bad").await);
    text(&mut all, &fixture.request("PUT", "/v2/a/manifests/.bad").send().await);
    text(&mut all, &fixture.get("/v2/a/blobs/uploads/0123").await);
    text(&mut all, &fixture.get("/v2/a/tags/list?n=x").await);
    let range = fixture.request("GET", &format!("/v2/a/blobs/{digest}")).header("range", "bytes=5-").send().await;
    text(&mut all, &range);
    text(&mut all, &fixture.request("POST", &format!("/v2/a/blobs/uploads/?digest={other}")).body("z").send().await);
    let location = fixture.begin("a").await;
    text(&mut all, &fixture.request("PATCH", &location).header("content-range", "9-9").body("x").send().await);
    text(&mut all, &fixture.request("PATCH", &location).header("content-range", "x").body("x").send().await);
    text(&mut all, &fixture.request("PATCH", &location).header("content-range", "0-5").body("x").send().await);
    text(&mut all, &fixture.request("PUT", "/v2/a/manifests/v1").body("{").send().await);
    assert_snapshot!(all, @r#"
    404 {"errors":[{"code":"UNSUPPORTED","message":"there is no such resource in the OCI distribution API"}]}
    405 {"errors":[{"code":"UNSUPPORTED","message":"the resource does not have this method"}]}
    400 {"errors":[{"code":"NAME_INVALID","message":"a repository name is lower-case letters, digits and single separators (. _ __ -), in parts divided by /, at most 255 characters"}]}
    404 {"errors":[{"code":"NAME_UNKNOWN","message":"the repository is not known","detail":{"name":"none"}}]}
    404 {"errors":[{"code":"BLOB_UNKNOWN","message":"the repository has no such blob","detail":{"digest":"sha256:a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"}}]}
    400 {"errors":[{"code":"DIGEST_INVALID","message":"a digest is sha256: and 64, or sha512: and 128 lower-case hex digits"}]}
    400 {"errors":[{"code":"DIGEST_INVALID","message":"the digest algorithm is not supported; sha256 and sha512 are"}]}
    404 {"errors":[{"code":"MANIFEST_UNKNOWN","message":"the repository has no such manifest","detail":{"reference":"v1"}}]}
    404 {"errors":[{"code":"MANIFEST_UNKNOWN","message":"the repository has no such manifest"}]}
    400 {"errors":[{"code":"MANIFEST_INVALID","message":"a tag is letters, digits, _ . and -, at most 128 characters, not starting with . or -"}]}
    404 {"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"there is no such upload","detail":{"upload":"0123"}}]}
    400 {"errors":[{"code":"UNSUPPORTED","message":"n is not a number"}]}
    416 {"errors":[{"code":"SIZE_INVALID","message":"the range is not satisfiable: the blob has 1 bytes"}]}
    400 {"errors":[{"code":"DIGEST_INVALID","message":"the content's digest is sha256:594e519ae499312b29433b7dd8a97ff068defcba9755b6d5d00e84c524d67b06"}]}
    416 {"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"the upload stands at 0"}]}
    400 {"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"the Content-Range is not <start>-<end>"}]}
    400 {"errors":[{"code":"SIZE_INVALID","message":"Content-Range and Content-Length contradict each other"}]}
    400 {"errors":[{"code":"MANIFEST_INVALID","message":"not a manifest: EOF while parsing an object at line 1 column 1"}]}
    "#);
}
