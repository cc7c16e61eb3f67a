//! A bucket in Google Cloud Storage, which may not be reachable.

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::blob::Capabilities;
use registry_core::{BlobStore, Result};
use storage_gcs::GcsBuilder;

use super::{Backend, Seen, Shared};
use crate::config::Gcs;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    builder: GcsBuilder,
}

impl Bucket {
    pub(super) fn new(gcs: &Gcs, shared: &Shared) -> Self {
        let mut builder = GcsBuilder::new(gcs.config.clone())
            .with_budget(shared.budget.clone())
            .with_connect_timeout(gcs.connection.connect_timeout)
            .with_idle_timeout(gcs.connection.idle_timeout);
        if let Some(pem) = &shared.authorities {
            builder = builder.with_authorities(Arc::clone(pem));
        }
        Self { builder }
    }
}

#[async_trait]
impl Backend for Bucket {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_presign(true)
    }

    async fn open(&self, _may_make: bool) -> Result<(Arc<dyn BlobStore>, Seen)> {
        Ok((Arc::new(self.builder.build_blob_store().await?), Seen::default()))
    }
}
