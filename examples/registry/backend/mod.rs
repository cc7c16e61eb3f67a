//! What keeps a zone's blobs, as far as opening it goes. Everything else is the same for all: see `zone_store` and `zones`.

mod filesystem;
mod gcs;
mod s3;
mod swift;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use registry_core::blob::Capabilities;
use registry_core::{BlobStore, Result};
use storage_object::Budget;

use crate::config::{Config, Storage, Zone};

/// What is at a zone's place now: another value when something else was put there.
pub(crate) type Seen = (u64, u64);

/// Opens a zone's store.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// What its stores can do, whether one is open or not.
    fn capabilities(&self) -> Capabilities;

    /// Looks at what is there; `None` if nothing is. In a service, the same settings name the same place; whether it is still the same zone, its identity tells.
    async fn look(&self) -> Result<Option<Seen>> {
        Ok(Some(Seen::default()))
    }

    /// Opens the store, or makes it if that is allowed, and tells what it saw there.
    async fn open(&self, may_make: bool) -> Result<(Arc<dyn BlobStore>, Seen)>;

    /// What to look at when it cannot be opened.
    fn hint(&self) -> &'static str {
        "`registry validate` tries it again; the settings are those of its [[zone]]"
    }
}

/// What all backends of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    budget: Budget,
    authorities: Option<Arc<[u8]>>,
}

impl Shared {
    pub(crate) fn of(config: &Config) -> Self {
        Self { budget: Budget::new(config.upload_memory), authorities: config.authorities.clone() }
    }
}

/// The backend of a zone.
pub(crate) fn of(zone: &Zone, shared: &Shared) -> Arc<dyn Backend> {
    match &zone.storage {
        Storage::Filesystem(filesystem) => Arc::new(filesystem.clone()),
        Storage::Swift(swift) => Arc::new(swift::Container::new(swift, shared)),
        Storage::S3(s3) => Arc::new(s3::Bucket::new(s3, shared)),
        Storage::Gcs(gcs) => Arc::new(gcs::Bucket::new(gcs, shared)),
    }
}
