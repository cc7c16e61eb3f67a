//! Two zones on a filesystem, and a store over them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use benches::measure::Result;
use metadata_sql::{SqlMetadataStore, SqliteOptions};
use registry_core::{BlobStore, Digest, Hasher, MetadataStore};
use replication::{Closest, Options, PlacementLedger, ReplicatedStore, ReplicatedStoreBuilder, Zone};
use storage_fs::FsBlobStore;

/// Two directories and a ledger on SQLite, gone when dropped.
pub(crate) struct World {
    folder: tempfile::TempDir,
    database: SqlMetadataStore,
}

impl World {
    pub(crate) async fn new(folder: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("replicate-").tempdir_in(folder)?;
        let database = SqlMetadataStore::sqlite(folder.path().join("ledger.db"), SqliteOptions::default()).await?;
        Ok(Self { folder, database })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ledger(&self) -> Arc<dyn PlacementLedger> {
        Arc::new(self.database.ledger())
    }

    pub(crate) async fn zone(&self, name: &str) -> Result<Arc<dyn BlobStore>> {
        Ok(Arc::new(FsBlobStore::builder(self.path(name)).build().await?))
    }

    pub(crate) fn metadata(&self) -> Arc<dyn MetadataStore> {
        Arc::new(self.database.clone())
    }

    /// A store over the zones `a`, where writes go, and `b`.
    pub(crate) async fn store(&self) -> Result<ReplicatedStore> {
        Ok(self.builder(Options::default()).await?.build().await?)
    }

    /// The same, to be told more.
    pub(crate) async fn builder(&self, options: Options) -> Result<ReplicatedStoreBuilder> {
        Ok(ReplicatedStore::builder(self.ledger())
            .zone(Zone::new("a", self.zone("a").await?))
            .zone(Zone::new("b", self.zone("b").await?))
            .closest(Closest::Preference(vec!["a".to_owned()]))
            .options(options))
    }
}

/// Bytes that compress badly, different for each seed, and a stream of them that is made as it is read.
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    chunk: bytes::Bytes,
}

impl Content {
    pub(crate) fn new(seed: u64, size: u64) -> Self {
        let chunk = bytes::Bytes::from(registry_core::testing::Rng::new(seed).bytes(1 << 20));
        let mut content = Self { digest: Digest::sha256(b""), size, chunk };
        let mut hasher = Hasher::new(registry_core::Algorithm::Sha256);
        for chunk in content.chunks() {
            hasher.update(&chunk);
        }
        content.digest = hasher.finalize();
        content
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = bytes::Bytes> + Send + 'static {
        let (chunk, size) = (self.chunk.clone(), self.size);
        let step = chunk.len() as u64;
        (0..size.div_ceil(step)).map(move |n| {
            let len = usize::try_from((size - n * step).min(step)).unwrap_or(chunk.len());
            chunk.slice(..len)
        })
    }

    pub(crate) fn stream(&self) -> registry_core::blob::ByteStream {
        Box::pin(futures_util::stream::iter(self.chunks().map(Ok)))
    }
}
