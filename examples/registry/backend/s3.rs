//! A bucket of S3's kind, which may not be reachable.

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::blob::Capabilities;
use registry_core::{BlobStore, Result};
use storage_s3::S3Builder;

use super::{Backend, Seen, Shared};
use crate::config::S3;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    builder: S3Builder,
    may_be_made: bool,
}

impl Bucket {
    pub(super) fn new(s3: &S3, shared: &Shared) -> Self {
        let mut builder = S3Builder::new(s3.config.clone())
            .with_budget(shared.budget.clone())
            .with_connect_timeout(s3.connection.connect_timeout)
            .with_idle_timeout(s3.connection.idle_timeout);
        if let Some(pem) = &shared.authorities {
            builder = builder.with_authorities(Arc::clone(pem));
        }
        Self { builder, may_be_made: s3.config.create_bucket }
    }
}

#[async_trait]
impl Backend for Bucket {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_presign(true)
    }

    async fn open(&self, may_make: bool) -> Result<(Arc<dyn BlobStore>, Seen)> {
        // A zone that was used before, and whose bucket is not there, is not itself.
        let builder = self.builder.clone().with_create_bucket(may_make && self.may_be_made);
        Ok((Arc::new(builder.build_blob_store().await?), Seen::default()))
    }
}
