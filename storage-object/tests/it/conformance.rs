//! The suite of [`BlobStore`](registry_core::BlobStore), over an object store in memory, with each way to promote that such a store has.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use registry_core::testing::blob_store::{self, Fixture};
use storage_object::{Budget, CopyParts, ObjectBlobStore, Promote};

use crate::slo::Slo;

fn fixture<S: Default + Send + Sync + 'static>(configure: impl Fn(Arc<S>) -> ObjectBlobStore + Send + Sync + 'static) -> Fixture {
    let memory = Arc::new(S::default());
    let store = configure(Arc::clone(&memory));
    let configure = Arc::new(configure);
    Fixture::new(Arc::new(store)).with_reopen(move || {
        let (memory, configure) = (Arc::clone(&memory), Arc::clone(&configure));
        async move { Arc::new(configure(memory)) as _ }
    })
}

#[tokio::test]
async fn a_store_as_it_is_by_default_conforms() {
    blob_store::check(|| async { fixture(|memory: Arc<InMemory>| ObjectBlobStore::builder(memory).build()) }).await;
}

#[tokio::test]
async fn a_store_in_a_folder_with_small_parts_and_little_memory_conforms() {
    let configure = |memory: Arc<InMemory>| {
        let budget = Budget::new(1 << 20);
        ObjectBlobStore::builder(memory).with_storage_path("/a/folder/").with_part_size(100_000).with_budget(budget).build()
    };
    blob_store::check(move || async move { fixture(configure) }).await;
}

#[tokio::test]
async fn a_store_that_copies_only_little_conforms() {
    let configure = |memory: Arc<InMemory>| {
        ObjectBlobStore::builder(memory).with_part_size(300_000).with_promote(Promote::Copy { limit: 1_000_000 }).build()
    };
    blob_store::check(move || async move { fixture(configure) }).await;
}

/// Does what a service does by its part copies.
#[derive(Debug)]
struct Joiner(Arc<InMemory>);

#[async_trait]
impl CopyParts for Joiner {
    async fn join(&self, sources: &[(Path, Range<u64>)], to: &Path) -> object_store::Result<()> {
        let mut all = Vec::new();
        for (path, range) in sources {
            all.extend_from_slice(&self.0.get_range(path, range.clone()).await?);
        }
        self.0.put(to, PutPayload::from(all)).await.map(drop)
    }
}

#[tokio::test]
async fn a_store_that_copies_parts_conforms() {
    let configure = |memory: Arc<InMemory>| {
        let parts = Arc::new(Joiner(Arc::clone(&memory)));
        ObjectBlobStore::builder(memory).with_part_size(300_000).with_promote(Promote::PartCopy { limit: 1_000_000, parts }).build()
    };
    blob_store::check(move || async move { fixture(configure) }).await;
}

#[tokio::test]
async fn a_store_whose_blobs_are_manifests_conforms() {
    let configure = |memory: Arc<Slo>| {
        let manifests = Promote::Manifest(Arc::clone(&memory) as _);
        ObjectBlobStore::builder(memory).with_storage_path("a/folder").with_part_size(300_000).with_promote(manifests).build()
    };
    blob_store::check(move || async move { fixture(configure) }).await;
}
