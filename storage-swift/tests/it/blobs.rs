//! The suite of [`BlobStore`](registry_core::BlobStore), on each kind of service.

use std::sync::Arc;

use registry_core::testing::blob_store::{self, Fixture};
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
async fn blobs_behind_a_log_in_of_version_1_conform() {
    let Some(config) = service::tempauth() else { return };
    blob_store::check(move || fixture(config.clone(), 1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_radosgw_conform() {
    let Some(config) = service::rgw() else { return };
    blob_store::check(move || fixture(config.clone(), 1 << 20)).await;
}
