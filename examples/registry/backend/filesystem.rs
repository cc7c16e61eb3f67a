//! A directory, whose disk may not be mounted.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use registry_core::blob::Capabilities;
use registry_core::{BlobStore, Error, ErrorKind, Result};
use storage_fs::FsBlobStore;

use super::{Backend, Seen};
use crate::config::{Filesystem, Survives};

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

#[async_trait]
impl Backend for Filesystem {
    fn capabilities(&self) -> Capabilities {
        // Those of every filesystem store.
        Capabilities::default()
    }

    /// Which directory of which file system is there.
    async fn look(&self) -> Result<Option<Seen>> {
        let path = self.path.clone();
        let look = move || match std::fs::metadata(path) {
            Ok(found) => Ok(Some((found.dev(), found.ino()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let looked = tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        looked.map_err(|error| unavailable(format!("its directory cannot be looked at: {error}")))
    }

    async fn open(&self, may_make: bool) -> Result<(Arc<dyn BlobStore>, Seen)> {
        match self.look().await? {
            None if !may_make => return Err(unavailable("its directory is not there: is its disk mounted?")),
            // A mount point without its disk: not even folders are to be made in it.
            Some(_) if !may_make && !holds_a_store(&self.path).await => {
                return Err(unavailable("its directory holds no zone: is its disk mounted?"));
            }
            _ => {}
        }
        let builder = FsBlobStore::builder(&self.path).durability(match self.durability {
            Survives::PowerLoss => storage_fs::Durability::PowerLoss,
            Survives::ProcessCrash => storage_fs::Durability::ProcessCrash,
        });
        let store = builder.build().await?;
        let seen = self.look().await.ok().flatten().ok_or_else(|| unavailable("its directory went away"))?;
        Ok((Arc::new(store), seen))
    }

    fn hint(&self) -> &'static str {
        "is its disk mounted, and may the user that the registry runs as write there? Its path is set by path in [[zone]]"
    }
}

/// Whether a store was ever made there: each has a file that tells its layout.
async fn holds_a_store(path: &Path) -> bool {
    let format = path.join("format");
    tokio::task::spawn_blocking(move || format.is_file()).await.unwrap_or(false)
}
