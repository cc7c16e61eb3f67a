//! How much an upload holds in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use registry_core::BlobStore as _;
use registry_core::blob::WriteOptions;
use storage_object::{Budget, ObjectBlobStore};

#[tokio::test]
async fn uploads_of_all_stores_share_one_budget_and_wait_for_each_other() {
    let budget = Budget::new(4 << 20);
    let store = |_| ObjectBlobStore::builder(Arc::new(InMemory::new())).with_part_size(2 << 20).with_budget(budget.clone()).build();
    let stores: Vec<_> = (0..3).map(store).collect();
    let begin = |n: usize| stores[n].begin(WriteOptions::default());
    let (mut one, mut two, mut three) = (begin(0).await.unwrap(), begin(1).await.unwrap(), begin(2).await.unwrap());
    assert_eq!(budget.available(), 4 << 20, "nothing is held before the first byte");
    one.write(Bytes::from(vec![1; 1000])).await.unwrap();
    two.write(Bytes::from(vec![2; 1000])).await.unwrap();
    assert_eq!(budget.available(), 0);
    let waits = tokio::time::timeout(Duration::from_millis(50), three.write(Bytes::from(vec![3; 1000]))).await;
    assert!(waits.is_err(), "the third waits");
    drop(three);
    let mut three = begin(2).await.unwrap();
    one.suspend().await.unwrap();
    assert_eq!(budget.available(), 2 << 20, "what is stored is not held");
    three.write(Bytes::from(vec![3; 1000])).await.unwrap();
    drop((two, three));
    assert_eq!(budget.available(), 4 << 20, "a dropped upload holds nothing");
}

#[tokio::test]
async fn a_blob_of_known_size_takes_only_as_much_as_it_needs() {
    let budget = Budget::new(16 << 20);
    let store = ObjectBlobStore::builder(Arc::new(InMemory::new())).with_budget(budget.clone()).build();
    let mut upload = store.begin(WriteOptions::default().with_size(10_000)).await.unwrap();
    upload.write(Bytes::from(vec![1; 1000])).await.unwrap();
    assert!(budget.available() >= (16 << 20) - (12 << 10), "{}", budget.available());
}

#[tokio::test]
async fn uploads_that_are_larger_than_the_budget_get_through() {
    let budget = Budget::new(1 << 20);
    let store = ObjectBlobStore::builder(Arc::new(InMemory::new())).with_budget(budget.clone()).build();
    let mut uploads = Vec::new();
    for n in 0..4_u8 {
        let store = store.clone();
        uploads.push(tokio::spawn(async move {
            let mut upload = store.begin(WriteOptions::default()).await.unwrap();
            for _ in 0..40 {
                upload.write(Bytes::from(vec![n; 500_000])).await.unwrap();
            }
            upload.suspend().await.unwrap().offset
        }));
    }
    for upload in uploads {
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), upload).await.unwrap().unwrap(), 20_000_000);
    }
    assert_eq!(budget.available(), 1 << 20);
}
