//! A container in Swift, which may not be reachable.

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::blob::Capabilities;
use registry_core::{BlobStore, Result};
use storage_swift::SwiftBuilder;

use super::{Backend, Seen, Shared};
use crate::config::Swift;

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    builder: SwiftBuilder,
    may_be_made: bool,
    has_urls: bool,
}

impl Container {
    pub(super) fn new(swift: &Swift, shared: &Shared) -> Self {
        let mut builder = SwiftBuilder::new(swift.config.clone())
            .with_budget(shared.budget.clone())
            .with_connect_timeout(swift.connection.connect_timeout)
            .with_idle_timeout(swift.connection.idle_timeout);
        if let Some(pem) = &shared.authorities {
            builder = builder.with_authorities(Arc::clone(pem));
        }
        let has_urls = swift.config.temp_url_key.as_ref().is_some_and(|key| !key.is_empty());
        Self { builder, may_be_made: swift.config.create_container, has_urls }
    }
}

#[async_trait]
impl Backend for Container {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_presign(self.has_urls).with_list_is_hint(true)
    }

    async fn open(&self, may_make: bool) -> Result<(Arc<dyn BlobStore>, Seen)> {
        // A zone that was used before, and whose container is not there, is not itself.
        let builder = self.builder.clone().with_create_container(may_make && self.may_be_made);
        Ok((Arc::new(builder.build_blob_store().await?), Seen::default()))
    }
}
