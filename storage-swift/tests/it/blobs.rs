//! The suite of [`BlobStore`](registry_core::BlobStore), on each kind of service.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use registry_core::blob::ListOptions;
use registry_core::testing::Rng;
use registry_core::testing::blob_store::{self, Fixture};
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest};
use storage_swift::SwiftConfig;

use crate::service::{self, builder, new_container};

async fn fixture(mut config: SwiftConfig, segment: u64) -> Fixture {
    config.container = new_container();
    config.storage_path = "some/folder".to_owned();
    let open = {
        let config = Arc::new(config);
        move || {
            let config = Arc::clone(&config);
            async move {
                Arc::new(builder(&config).with_segment_size(segment).build_blob_store().await.unwrap()) as Arc<dyn registry_core::BlobStore>
            }
        }
    };
    Fixture::new(open().await).with_reopen(open)
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_swift_conform() {
    let Some(config) = service::keystone() else { return };
    blob_store::check(move || fixture(config.clone(), 1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_radosgw_conform() {
    let Some(config) = service::rgw() else { return };
    blob_store::check(move || fixture(config.clone(), 1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_is_listed_with_its_size() {
    for config in [service::keystone(), service::tempauth(), service::rgw()] {
        let Some(config) = config else { continue };
        let store = builder(&config).with_segment_size(1 << 20).build_blob_store().await.unwrap();
        let bytes = Bytes::from(Rng::new(11).bytes((3 << 20) + 7));
        let digest = Digest::sha256(&bytes);
        store.put_bytes(&digest, bytes.clone()).await.unwrap();
        store.put_bytes(&Digest::sha256(b"small"), Bytes::from_static(b"small")).await.unwrap();
        let mut sizes: Vec<_> = store.list(ListOptions::default()).map_ok(|info| info.size).try_collect().await.unwrap();
        sizes.sort_unstable();
        assert_eq!(sizes, [5, bytes.len() as u64], "{config:?}");
    }
}
