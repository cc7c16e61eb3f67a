//! The suite of blob stores, run on the stores of this crate.

use std::sync::Arc;

use registry_core::BlobStore;
use registry_core::memory::MemoryBlobStore;
use registry_core::testing::blob_store::{self, Fixture};

fn memory() -> Fixture {
    let store = MemoryBlobStore::default();
    let other = store.clone();
    Fixture::new(Arc::new(store)).with_reopen(move || {
        let other: Arc<dyn BlobStore> = Arc::new(other.clone());
        async move { other }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_keeps_the_contract() {
    blob_store::check(|| async { memory() }).await;
}
