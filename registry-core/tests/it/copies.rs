//! What a push waits for before its client is told that the image is safe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::blob::*;
use registry_core::manifest::media_type;
use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
use registry_core::{
    BlobStore, BlobUpload, Digest, Error, ErrorKind, MetadataStore, Reference, Registry, RepositoryName, Result, Timestamp,
};

/// How the store answers the next that waits for copies.
#[derive(Debug)]
enum Answer {
    Fewer(&'static str),
    Fail(ErrorKind),
    Never,
}

/// What was waited for, and whether the first of it was a manifest of the scope by then.
#[derive(Clone, Debug, PartialEq)]
struct Wait {
    digests: Vec<Digest>,
    scope: String,
    written_down: bool,
}

/// A memory store that says how many copies it has as it is told to: enough, if it is told nothing.
#[derive(Clone, Debug, Default)]
struct Copies {
    blobs: MemoryBlobStore,
    metadata: MemoryMetadataStore,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    waits: Arc<Mutex<Vec<Wait>>>,
    /// One reference more for each that waits.
    waiting: Arc<()>,
}

#[async_trait]
impl BlobStore for Copies {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.blobs.stat(digest).await
    }
    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        self.blobs.read(digest, options).await
    }
    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.blobs.begin(options).await
    }
    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.blobs.resume(options).await
    }
    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.blobs.put(digest, options, content).await
    }
    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.blobs.delete(digest).await
    }
    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        self.blobs.list(options)
    }
    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.blobs.uploads(older_than)
    }
    async fn discard(&self, id: &str) -> Result<()> {
        self.blobs.discard(id).await
    }
    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        let _waiting = Arc::clone(&self.waiting);
        let first = self.metadata.manifest(&scope.parse().unwrap(), &digests[0].into()).await?;
        let wait = Wait { digests: digests.to_vec(), scope: scope.to_owned(), written_down: first.is_some() };
        self.waits.lock().unwrap().push(wait);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            None => Ok(Assurance::Met),
            Some(Answer::Fewer(text)) => Ok(Assurance::Fewer(text.to_owned())),
            Some(Answer::Fail(kind)) => Err(Error::new(kind, "too few copies")),
            Some(Answer::Never) => std::future::pending().await,
        }
    }
    fn capabilities(&self) -> Capabilities {
        self.blobs.capabilities()
    }
}

impl Copies {
    fn registry(&self) -> Registry {
        Registry::builder(Arc::new(self.clone()), Arc::new(self.metadata.clone())).build()
    }

    fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn waits(&self) -> Vec<Wait> {
        self.waits.lock().unwrap().clone()
    }
}

fn repo() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.parse().unwrap())
}

async fn push(registry: &Registry, content: &'static str) -> Digest {
    let digest = Digest::sha256(content.as_bytes());
    registry.push_blob(&repo(), &digest, None, once(content.into())).await.unwrap();
    digest
}

fn descriptor(media_type: &str, digest: &Digest) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#)
}

fn image(config: &Digest, layers: &[String], more: &str) -> Bytes {
    let (media_type, config, layers) = (media_type::OCI_MANIFEST, descriptor("application/json", config), layers.join(","));
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]{more}}}"#).into()
}

fn index(manifests: &[Digest]) -> Bytes {
    let manifests: Vec<_> = manifests.iter().map(|digest| descriptor(media_type::OCI_MANIFEST, digest)).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, media_type::OCI_INDEX, manifests.join(",")).into()
}

/// A small image, its blobs pushed.
async fn small(registry: &Registry) -> Bytes {
    image(&push(registry, "{}").await, &[], "")
}

fn waited_for(digests: &[Digest]) -> Wait {
    Wait { digests: digests.to_vec(), scope: "team/app".to_owned(), written_down: true }
}

#[tokio::test]
async fn copies_of_all_that_an_image_requires_are_waited_for_once_it_is_written_down() {
    let store = Copies::default();
    let registry = store.registry();
    let (config, layer) = (push(&registry, "{}").await, push(&registry, "layer").await);
    assert_eq!(store.waits(), [], "a blob is acknowledged with one copy");
    let (foreign, subject) = (Digest::sha256(b"foreign"), Digest::sha256(b"subject"));
    let ordinary = descriptor("application/vnd.oci.image.layer.v1.tar", &layer);
    let layers = [ordinary.clone(), descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &foreign), ordinary];
    let bytes = image(&config, &layers, &format!(r#","subject":{}"#, descriptor(media_type::OCI_MANIFEST, &subject)));
    let pushed = registry.put_manifest(&repo(), &tag("v1"), None, bytes, vec![]).await.unwrap();
    assert_eq!(pushed.warning, None);
    assert_eq!(store.waits(), [waited_for(&[pushed.digest, config, layer])], "neither the foreign layer nor the subject, and each once");
}

#[tokio::test]
async fn copies_of_an_indexs_manifests_are_waited_for_where_they_are_required() {
    let store = Copies::default();
    let registry = store.registry();
    let bytes = small(&registry).await;
    let child = registry.put_manifest(&repo(), &tag("v1"), None, bytes, vec![]).await.unwrap().digest;
    let whole = registry.put_manifest(&repo(), &tag("all"), None, index(&[child]), vec![]).await.unwrap().digest;
    assert_eq!(store.waits()[1..], [waited_for(&[whole, child])]);
    let sparse = Registry::builder(Arc::new(store.clone()), Arc::new(store.metadata.clone())).sparse_indexes(true).build();
    let bytes = index(&[child, Digest::sha256(b"elsewhere")]);
    let part = sparse.put_manifest(&repo(), &tag("some"), None, bytes, vec![]).await.unwrap().digest;
    assert_eq!(store.waits()[2..], [waited_for(&[part])]);
}

#[tokio::test]
async fn fewer_copies_are_a_warning_if_the_store_does_not_insist() {
    let store = Copies::default();
    let registry = store.registry();
    let bytes = small(&registry).await;
    store.answer(Answer::Fewer("one copy of two"));
    let pushed = registry.put_manifest(&repo(), &tag("v1"), None, bytes, vec![]).await.unwrap();
    assert_eq!(pushed.warning.as_deref(), Some("one copy of two"));
    registry.manifest(&repo(), &tag("v1")).await.unwrap();
}

#[tokio::test]
async fn too_few_copies_are_the_clients_error_and_it_may_push_the_same_again() {
    let store = Copies::default();
    let registry = store.registry();
    let bytes = small(&registry).await;
    // A conflict is what makes the registry itself begin again elsewhere: here, it is not its to repeat.
    for kind in [ErrorKind::Unavailable, ErrorKind::Conflict] {
        store.answer(Answer::Fail(kind));
        let error = registry.put_manifest(&repo(), &tag("v1"), None, bytes.clone(), vec![]).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        registry.manifest(&repo(), &tag("v1")).await.expect("what was stored stays");
    }
    assert_eq!(store.waits().len(), 2, "one wait for one push");
    let pushed = registry.put_manifest(&repo(), &tag("v1"), None, bytes, vec![]).await.unwrap();
    assert_eq!((pushed.warning, store.waits().len()), (None, 3));
}

#[tokio::test]
async fn a_refused_manifest_waits_for_nothing() {
    let store = Copies::default();
    let bytes = image(&Digest::sha256(b"nowhere"), &[], "");
    let error = store.registry().put_manifest(&repo(), &tag("v1"), None, bytes, vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ManifestBlobUnknown);
    assert_eq!(store.waits(), []);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_waits_no_longer_and_its_manifest_stays() {
    let store = Copies::default();
    let registry = store.registry();
    let bytes = small(&registry).await;
    let handles = Arc::strong_count(&store.waiting);
    store.answer(Answer::Never);
    let (name, reference) = (repo(), tag("v1"));
    let put = registry.put_manifest(&name, &reference, None, bytes, vec![]);
    tokio::time::timeout(std::time::Duration::from_secs(3600), put).await.unwrap_err();
    assert_eq!(store.waits().len(), 1);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&store.waiting), handles, "nobody waits any more");
    registry.manifest(&repo(), &tag("v1")).await.unwrap();
}
