//! The suite of [`BlobStore`](registry_core::BlobStore), with each way to be somebody.

use std::sync::Arc;

use registry_core::testing::blob_store::{self, Fixture};
use storage_gcs::{GcsConfig, Secret};
use storage_object::ObjectBlobStore;

use crate::stand_in::StandIn;

pub(crate) const BUCKET: &str = "quay-enterprise";

/// How one is somebody.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    ServiceAccount,
    Keys,
}

impl By {
    pub(crate) const ALL: [Self; 2] = [Self::ServiceAccount, Self::Keys];

    pub(crate) fn config(self, stand_in: &StandIn) -> GcsConfig {
        let mut config = GcsConfig::default();
        config.bucket = BUCKET.to_owned();
        config.endpoint = Some(stand_in.url());
        config.storage_path = "/datastorage/registry".to_owned();
        match self {
            Self::ServiceAccount => config.service_account = Some(Secret::from(stand_in.service_account())),
            Self::Keys => {
                config.access_key = Some(stand_in.access_key().to_owned());
                config.secret_key = Some(Secret::from(stand_in.secret_key()));
            }
        }
        config
    }
}

/// A blob store with parts of 5 MiB.
pub(crate) async fn open(config: &GcsConfig) -> ObjectBlobStore {
    storage_gcs::GcsBuilder::new(config.clone()).with_part_size(5 << 20).build_blob_store().await.unwrap()
}

async fn conforms(by: By) {
    let stand_in = Arc::new(StandIn::start(BUCKET).await);
    blob_store::check(move || {
        let mut config = by.config(&stand_in);
        config.storage_path = format!("/datastorage/{}", registry_core::random_id());
        let config = Arc::new(config);
        let open = move || {
            let config = Arc::clone(&config);
            async move { Arc::new(open(&config).await) as Arc<dyn registry_core::BlobStore> }
        };
        async move { Fixture::new(open().await).with_reopen(open) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_a_service_account_conform() {
    conforms(By::ServiceAccount).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_with_interoperability_keys_conform() {
    conforms(By::Keys).await;
}
