//! Pulling and deleting blobs.

use registry_core::{Algorithm, Digest};
use registry_http::HttpOptions;

use crate::support::{Fixture, content};

#[tokio::test]
async fn a_blob_is_pulled_whole_with_its_length_and_digest() {
    let fixture = Fixture::new();
    let bytes = content(300_000);
    let digest = fixture.push("team/app", bytes.clone()).await;
    let answer = fixture.get_and_head(&format!("/v2/team/app/blobs/{digest}")).await;
    assert_eq!(answer.assert(200).body, bytes);
    assert_eq!(answer.header("content-length"), "300000");
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("accept-ranges"), "bytes");
}

#[tokio::test]
async fn the_digest_header_has_the_algorithm_that_was_asked_for() {
    let fixture = Fixture::new();
    let digest = Digest::of(Algorithm::Sha512, b"x");
    fixture.request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}")).body("x").send().await.assert(201);
    let answer = fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(answer.assert(200).header("docker-content-digest"), digest.to_string());
    fixture.get(&format!("/v2/a/blobs/{}", Digest::sha256(b"x"))).await.assert(404);
}

#[tokio::test]
async fn an_empty_blob_and_an_empty_object_are_pulled_like_any_other() {
    let fixture = Fixture::new();
    for bytes in ["", "{}"] {
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, bytes.as_bytes());
            fixture.request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}")).body(bytes).send().await.assert(201);
            let answer = fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await;
            assert_eq!(answer.assert(200).body, bytes);
            assert_eq!(answer.header("content-length"), bytes.len().to_string());
        }
    }
}

#[tokio::test]
async fn an_unknown_blob_is_404_in_every_repository_that_does_not_hold_it() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", "x").await;
    for uri in [format!("/v2/b/blobs/{digest}"), format!("/v2/a/blobs/{}", Digest::sha256(b"y"))] {
        fixture.get_and_head(&uri).await.assert_error(404, "BLOB_UNKNOWN");
        fixture.delete(&uri).await.assert_error(404, "BLOB_UNKNOWN");
    }
}

#[tokio::test]
async fn a_malformed_digest_is_400() {
    let fixture = Fixture::new();
    let upper = Digest::sha256(b"x").to_string().to_uppercase().replace("SHA256", "sha256");
    for digest in ["sha256:notadigest", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "nocolon", "..", &upper, "%zz"] {
        fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await.assert_error(400, "DIGEST_INVALID");
        fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert_error(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn a_single_range_is_206_with_the_place_and_the_length() {
    let fixture = Fixture::new();
    let bytes = content(4000);
    let uri = format!("/v2/a/blobs/{}", fixture.push("a", bytes.clone()).await);
    for (range, first, last) in [
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 3999),
        ("bytes=-500", 3500, 3999),
        ("bytes=2000-5000", 2000, 3999),
        ("bytes=0-0", 0, 0),
        ("bytes=3999-", 3999, 3999),
        ("bytes=-9000", 0, 3999),
        ("bytes=0-", 0, 3999),
        ("Bytes=0-99999999999999999999", 0, 3999),
    ] {
        let answer = fixture.request("GET", &uri).header("range", range).send().await;
        assert_eq!(answer.assert(206).body, bytes[first..=last], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/4000"), "{range}");
        assert_eq!(answer.header("content-length"), (last - first + 1).to_string(), "{range}");
        assert_eq!(answer.header("docker-content-digest"), Digest::sha256(&bytes).to_string());
    }
}

#[tokio::test]
async fn a_range_that_the_blob_does_not_have_is_416_with_the_blob_s_length() {
    let fixture = Fixture::new();
    let uri = format!("/v2/a/blobs/{}", fixture.push("a", content(4000)).await);
    for range in ["bytes=500-0", "bytes=5000-10000", "bytes=4000-", "bytes=-0", "bytes=99999999999999999999-"] {
        let answer = fixture.request("GET", &uri).header("range", range).send().await;
        answer.assert_error(416, "SIZE_INVALID");
        assert_eq!(answer.header("content-range"), "bytes */4000", "{range}");
    }
    let uri = format!("/v2/a/blobs/{}", fixture.push("a", "").await);
    let answer = fixture.request("GET", &uri).header("range", "bytes=0-").send().await;
    assert_eq!(answer.assert(416).header("content-range"), "bytes */0");
}

#[tokio::test]
async fn several_ranges_or_other_units_get_the_whole_blob() {
    let fixture = Fixture::new();
    let bytes = content(4000);
    let uri = format!("/v2/a/blobs/{}", fixture.push("a", bytes.clone()).await);
    for range in ["bytes=0-1,5-6", "items=0-5", "bytes=", "bytes=x-y", "nonsense", "bytes=1--2"] {
        let answer = fixture.request("GET", &uri).header("range", range).send().await;
        assert_eq!(answer.assert(200).body, bytes, "{range}");
        assert_eq!(answer.maybe("content-range"), None, "{range}");
    }
    let twice = fixture.request("GET", &uri).header("range", "bytes=0-1").header("range", "bytes=5-6").send().await;
    assert_eq!(twice.assert(200).body, bytes);
    let head = fixture.request("HEAD", &uri).header("range", "bytes=0-5").send().await;
    assert_eq!(head.assert(200).header("content-length"), "4000", "a range is of GET only");
}

#[tokio::test]
async fn a_range_is_honoured_only_if_if_range_still_holds() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", content(4000)).await;
    let uri = format!("/v2/a/blobs/{digest}");
    let with = |value: String| fixture.request("GET", &uri).header("range", "bytes=0-9").header("if-range", &value).send();
    with(format!("\"{digest}\"")).await.assert(206);
    for value in [format!("W/\"{digest}\""), "\"other\"".to_owned(), "Wed, 21 Oct 2015 07:28:00 GMT".to_owned()] {
        with(value).await.assert(200);
    }
}

#[tokio::test]
async fn a_client_that_has_the_blob_is_told_304() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", "x").await;
    let uri = format!("/v2/a/blobs/{digest}");
    let etag = fixture.get_and_head(&uri).await.header("etag").to_owned();
    assert_eq!(etag, format!("\"{digest}\""));
    for value in [etag.clone(), format!("W/{etag}"), format!("\"a\", {etag}"), "*".to_owned()] {
        for method in ["GET", "HEAD"] {
            let answer = fixture.request(method, &uri).header("if-none-match", &value).send().await;
            assert!(answer.assert(304).body.is_empty());
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(answer.header("cache-control"), "max-age=31536000, immutable");
        }
    }
    fixture.request("GET", &uri).header("if-none-match", "\"a\", \"b\"").send().await.assert(200);
    let gone = format!("/v2/b/blobs/{digest}");
    fixture.request("GET", &gone).header("if-none-match", &etag).send().await.assert_error(404, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_deleted_blob_is_gone_at_once_and_stays_in_other_repositories() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", "x").await;
    fixture.push("b", "x").await;
    fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert(202);
    fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await.assert_error(404, "BLOB_UNKNOWN");
    fixture.delete(&format!("/v2/a/blobs/{digest}")).await.assert_error(404, "BLOB_UNKNOWN");
    assert_eq!(fixture.get(&format!("/v2/b/blobs/{digest}")).await.assert(200).body, "x");
    fixture.push("a", "x").await;
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(200);
}

mod redirects {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use registry_core::blob::{
        BlobInfo, BlobReader, ByteStream, Capabilities, DownloadOptions, ItemStream, ListOptions, PendingUpload, ReadOptions,
        ResumeOptions, WriteOptions,
    };
    use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
    use registry_core::testing::{FaultPlan, FaultStore};
    use registry_core::{BlobStore, BlobUpload, Registry, Result, Timestamp};

    use super::*;

    /// A store that clients can fetch from by themselves.
    #[derive(Debug, Default)]
    struct Presigning(MemoryBlobStore);

    #[async_trait]
    impl BlobStore for Presigning {
        async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
            self.0.stat(digest).await
        }
        async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
            self.0.read(digest, options).await
        }
        async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
            self.0.begin(options).await
        }
        async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
            self.0.resume(options).await
        }
        async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
            self.0.put(digest, options, content).await
        }
        async fn delete(&self, digest: &Digest) -> Result<()> {
            self.0.delete(digest).await
        }
        fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
            self.0.list(options)
        }
        fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
            self.0.uploads(older_than)
        }
        async fn discard(&self, id: &str) -> Result<()> {
            self.0.discard(id).await
        }
        async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
            assert_eq!(method, "GET");
            let uri = format!("https://store.test/{}?ttl={}", digest.hex(), options.ttl.as_secs());
            Ok(Some(uri.parse().unwrap()))
        }
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities().with_presign(true)
        }
    }

    #[tokio::test]
    async fn where_it_is_switched_on_a_pull_is_redirected_to_the_store() {
        let registry = Registry::builder(Arc::new(Presigning::default()), Arc::new(MemoryMetadataStore::default())).build();
        let faults = FaultStore::new(Arc::new(MemoryBlobStore::default()), FaultPlan::default());
        let off = Fixture { router: registry_http::router(registry.clone(), HttpOptions::default()), registry, faults };
        let on = off.again(HttpOptions::default().with_redirect(Duration::from_secs(600)));
        let digest = on.push("a", "x").await;
        let uri = format!("/v2/a/blobs/{digest}");
        let answer = on.request("GET", &uri).header("range", "bytes=0-0").send().await;
        assert_eq!(answer.assert(307).header("location"), format!("https://store.test/{}?ttl=600", digest.hex()));
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_eq!(answer.header("cache-control"), "no-store");
        on.head(&uri).await.assert(200);
        on.get(&format!("/v2/b/blobs/{digest}")).await.assert_error(404, "BLOB_UNKNOWN");
        assert_eq!(off.get(&uri).await.assert(200).body, "x");
    }
}
