//! The conformance suite, on each kind of filesystem at hand and each way to open the store.

use std::path::PathBuf;
use std::sync::Arc;

use registry_core::BlobStore;
use registry_core::testing::blob_store::{self, Fixture};
use storage_fs::{Durability, FsBlobStore};

async fn open(root: PathBuf, durability: Durability) -> Arc<dyn BlobStore> {
    Arc::new(FsBlobStore::builder(root).durability(durability).build().await.unwrap())
}

async fn check(dir: fn() -> tempfile::TempDir, durability: Durability) {
    blob_store::check(move || async move {
        let dir = dir();
        let root = dir.path().join("store");
        let store = open(root.clone(), durability).await;
        Fixture::new(store).with_reopen(move || open(root.clone(), durability)).with_guard(dir)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms_on_a_disk() {
    check(|| tempfile::tempdir().unwrap(), Durability::PowerLoss).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_conforms_in_memory() {
    check(super::scratch, Durability::PowerLoss).await;
}

#[tokio::test]
async fn the_store_conforms_without_syncs_on_a_runtime_of_one_thread() {
    check(super::scratch, Durability::ProcessCrash).await;
}
