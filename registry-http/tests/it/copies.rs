//! What a client is told when its image has fewer copies than it is to have.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use registry_core::blob::{
    Assurance, BlobInfo, BlobReader, ByteStream, Capabilities, ItemStream, ListOptions, PendingUpload, ReadOptions, ResumeOptions,
    WriteOptions,
};
use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
use registry_core::testing::{FaultPlan, FaultStore};
use registry_core::{BlobStore, BlobUpload, Digest, Error, ErrorKind, Registry, Result, Timestamp};
use registry_http::HttpOptions;

use crate::support::Fixture;
use crate::support::images::{IMAGE, bytes, image};

/// A memory store that answers the next that waits for copies with this.
#[derive(Clone, Debug, Default)]
struct Copies(MemoryBlobStore, Arc<Mutex<Option<Result<Assurance>>>>);

#[async_trait]
impl BlobStore for Copies {
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
    async fn await_copies(&self, _digests: &[Digest], scope: &str) -> Result<Assurance> {
        assert_eq!(scope, "a");
        self.1.lock().unwrap().take().unwrap_or(Ok(Assurance::Met))
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}

fn fixture(store: &Copies, options: HttpOptions) -> Fixture {
    let registry = Registry::builder(Arc::new(store.clone()), Arc::new(MemoryMetadataStore::default())).build();
    let faults = FaultStore::new(Arc::new(MemoryBlobStore::default()), FaultPlan::default());
    Fixture { router: registry_http::router(registry.clone(), options), registry, faults }
}

#[tokio::test]
async fn a_push_with_fewer_copies_than_it_is_to_have_is_201_with_a_warning() {
    let store = Copies::default();
    let fixture = fixture(&store, HttpOptions::default().with_warning("moving on Monday"));
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let answer = async |assurance| {
        *store.1.lock().unwrap() = Some(Ok(assurance));
        let answer = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, manifest.clone()).await;
        assert_eq!(answer.assert(201).header("docker-content-digest"), Digest::sha256(&manifest).to_string());
        answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let always = "299 - \"moving on Monday\"";
    assert_eq!(answer(Assurance::Met).await, [always]);
    let warnings = answer(Assurance::Fewer("1 copy of 2: \"boston\" is\r\nX: z\u{fc}".to_owned())).await;
    assert_eq!(warnings, ["299 - \"1 copy of 2: \\\"boston\\\" isX: z\"", always]);
    let warnings = answer(Assurance::Fewer("\\".repeat(9000))).await;
    let total: usize = warnings.iter().map(String::len).sum();
    assert!(warnings.len() == 2 && (4000..=4096).contains(&total), "{total} bytes in all");
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.assert(200).maybe("warning"), Some(always), "it is the push that is warned of");
}

#[tokio::test]
async fn a_push_with_too_few_copies_is_503_with_retry_after_and_may_be_sent_again() {
    let store = Copies::default();
    let fixture = fixture(&store, HttpOptions::default());
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let error = Error::new(ErrorKind::Unavailable, "one copy in boston").with_retry_after(Duration::from_secs(7));
    *store.1.lock().unwrap() = Some(Err(error));
    let answer = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, manifest.clone()).await;
    answer.assert_error(503, "UNAVAILABLE");
    assert_eq!((answer.header("retry-after"), answer.maybe("warning")), ("7", None));
    assert!(!answer.body.windows(6).any(|word| word == b"boston"), "nothing of the inside");
    let again = fixture.put_manifest("/v2/a/manifests/v1", IMAGE, manifest.clone()).await;
    assert_eq!(again.assert(201).maybe("warning"), None);
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.assert(200).body, manifest);
}
