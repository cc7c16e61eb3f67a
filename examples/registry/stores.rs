//! Opens what the configuration names: the zones, the database, and a registry over both.
//!
//! One zone is a plain store. Over several lies a [`ReplicatedStore`], whose ledger is in the same database; so it is for a single one that was once one of
//! several, since the ledger has to hear of all that happens to its zones.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use metadata_sql::{PostgresOptions, SqlMetadataStore, SqliteOptions};
use registry_core::{BlobStore, Error, MetadataStore, Registry, VerifyReads};
use replication::ledger::ZoneRecord;
use replication::{BuildError, PlacementLedger, ReplicatedStore, ZoneId};
use storage_fs::{FsBlobStore, FsBlobStoreBuilder};

use crate::config::{Config, Database, Survives, Zone};
use crate::disk::Disk;
use crate::failure::Failure;
use crate::identity;

/// Why the stores are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To serve, or to try: what is not there yet is made.
    Make,
    /// To look at what is there, or to change it: nothing is made.
    Use,
}

/// The stores.
pub(crate) struct Stores {
    /// The blobs.
    pub(crate) blobs: Arc<dyn BlobStore>,
    /// The rows.
    pub(crate) metadata: Arc<SqlMetadataStore>,
    /// The zones, if what lies over them is more than a plain store.
    pub(crate) zones: Option<Zones>,
}

/// Several zones.
pub(crate) struct Zones {
    /// What lies over them.
    pub(crate) replicated: ReplicatedStore,
    /// Each of them.
    pub(crate) disks: Vec<(String, Disk)>,
    /// What is in which of them.
    pub(crate) ledger: Arc<dyn PlacementLedger>,
    /// What was pushed when there was one plain store may be unknown to the ledger.
    pub(crate) must_adopt: bool,
    /// Some zone is here for the first time.
    pub(crate) has_new: bool,
}

impl Stores {
    /// Opens them, and makes sure that the zones are those they were.
    pub(crate) async fn open(config: &Config, purpose: Purpose) -> Result<Self, Failure> {
        if purpose == Purpose::Use && !config.data.is_dir() {
            return Err(Failure::new(format!("there is no registry in {}", config.data.display()))
                .hint("name its data directory with --data DIR or its configuration with --config FILE"));
        }
        make_directory(&config.data)?;
        let metadata = Arc::new(open_metadata(config, purpose).await?);
        let opened = open_zones(config, purpose, &metadata).await;
        match opened {
            Ok((blobs, zones)) => Ok(Self { blobs, metadata, zones }),
            Err(failure) => {
                metadata.close().await;
                Err(failure)
            }
        }
    }

    /// A registry over them.
    pub(crate) fn registry(&self, config: &Config) -> Registry {
        let metadata: Arc<dyn MetadataStore> = Arc::<SqlMetadataStore>::clone(&self.metadata);
        let of_one = config.zones.first().filter(|_| self.zones.is_none());
        Registry::builder(Arc::clone(&self.blobs), metadata)
            .read_only(config.read_only)
            .max_manifest_size(config.max_manifest_size)
            .sparse_indexes(config.sparse_indexes)
            // Over several zones each read is verified as its zone says, and falls over to the next.
            .verify_reads(of_one.map_or(VerifyReads::Never, |zone| zone.verify_reads))
            .grace(config.gc.grace)
            .trash_delay(config.gc.trash_delay)
            .upload_expiry(config.gc.upload_expiry)
            .build()
    }

    /// Closes the database: everything that was committed is in its main file.
    pub(crate) async fn close(&self) {
        self.metadata.close().await;
    }
}

fn make_directory(data: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(data).map_err(|error| {
        Failure::because(format!("cannot make the data directory {}", data.display()), &error)
            .hint("choose another with --data DIR, or let the user that the registry runs as write there")
    })
}

/// How a filesystem zone is opened.
pub(crate) fn builder(zone: &Zone) -> FsBlobStoreBuilder {
    FsBlobStore::builder(&zone.path).durability(match zone.durability {
        Survives::PowerLoss => storage_fs::Durability::PowerLoss,
        Survives::ProcessCrash => storage_fs::Durability::ProcessCrash,
    })
}

async fn open_zones(
    config: &Config,
    purpose: Purpose,
    metadata: &Arc<SqlMetadataStore>,
) -> Result<(Arc<dyn BlobStore>, Option<Zones>), Failure> {
    let ledger = ledger(metadata);
    let cannot = |error: Error| Failure::because("cannot read the ledger of the zones", &error);
    let seen = ledger.zones().await.map_err(cannot)?;
    if let ([zone], []) = (&config.zones[..], &seen[..]) {
        let store = open_plain(zone).await?;
        identity::confirm(&config.data, zone, &*store, !config.read_only).await?;
        return Ok((store, None));
    }
    let may_make = purpose == Purpose::Make && !config.read_only;
    let is_new = |zone: &Zone| !seen.iter().any(|known| known.name == zone.name);
    let has_new = config.zones.iter().any(is_new);
    // Two servers that start over one new zone must not both name it.
    let _lock = (may_make && has_new).then(|| identity::lock(&config.data)).transpose()?;
    let plain = identity::known(&config.data)?;
    take_over(&*ledger, &plain).await.map_err(cannot)?;
    for missing in seen.iter().filter(|known| !config.zones.iter().any(|zone| zone.name == known.name)) {
        tracing::warn!(zone = missing.name, "the zone is not configured any more: what is only there cannot be read");
    }

    let disks: Vec<_> =
        config.zones.iter().map(|zone| (zone.name.clone(), Disk::new(zone.clone(), Arc::clone(&ledger), may_make))).collect();
    let rows: Arc<dyn MetadataStore> = Arc::<SqlMetadataStore>::clone(metadata);
    let mut builder = ReplicatedStore::builder(Arc::clone(&ledger))
        .metadata(rows)
        .closest(config.closest.clone())
        .policy(config.policy.clone())
        .options(config.replication.clone());
    for (zone, (_, disk)) in config.zones.iter().zip(&disks) {
        let member = replication::Zone::new(&zone.name, Arc::new(disk.clone()))
            .with_verify_reads(zone.verify_reads)
            .with_concurrency(zone.concurrency);
        builder = builder.zone(member);
    }
    let replicated = builder.build().await.map_err(refused)?;
    let must_adopt = seen.is_empty() || !plain.is_empty();
    let blobs = Arc::new(replicated.clone());
    Ok((blobs, Some(Zones { replicated, disks, ledger, must_adopt, has_new })))
}

/// Tells the ledger what the data directory remembers of the time when there was one plain store.
async fn take_over(ledger: &dyn PlacementLedger, plain: &BTreeMap<String, String>) -> registry_core::Result<()> {
    let seen = ledger.zones().await?;
    for (name, id) in plain.iter().filter(|(name, _)| !seen.iter().any(|known| known.name == **name)) {
        ledger.register_zone(&ZoneRecord { id: ZoneId::new(id), name: name.clone() }).await?;
    }
    Ok(())
}

fn refused(error: BuildError) -> Failure {
    let failure = Failure::because("cannot serve from these zones", &error);
    match error {
        BuildError::SamePlace(..) => failure.hint("give each [[zone]] a path of its own: two copies in one place are one copy"),
        _ => failure,
    }
}

/// The ledger of placements: in the same database.
fn ledger(_metadata: &SqlMetadataStore) -> Arc<dyn PlacementLedger> {
    Arc::new(replication::MemoryLedger::default())
}

async fn open_plain(zone: &Zone) -> Result<Arc<dyn BlobStore>, Failure> {
    match builder(zone).build().await {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(Failure::because(format!("cannot open zone {} in {}", zone.name, zone.path.display()), &error)
            .hint("is its disk mounted, and may the user that the registry runs as write there? Its path is set by path in [[zone]]")),
    }
}

async fn open_metadata(config: &Config, purpose: Purpose) -> Result<SqlMetadataStore, Failure> {
    let durability = match config.database_durability {
        Survives::PowerLoss => metadata_sql::Durability::Full,
        Survives::ProcessCrash => metadata_sql::Durability::Process,
    };
    match &config.database {
        Database::Sqlite(path) => {
            if purpose == Purpose::Use && !path.is_file() {
                return Err(Failure::new(format!("there is no database in {}", path.display()))
                    .hint("name its data directory with --data DIR or its configuration with --config FILE"));
            }
            let failed = |error: Error| {
                Failure::because(format!("cannot open the database {}", path.display()), &error)
                    .hint("it is set by metadata.url; SQLite needs a local disk that the user that the registry runs as may write to")
            };
            SqlMetadataStore::sqlite(path, SqliteOptions::default().with_durability(durability).with_readers(config.connections))
                .await
                .map_err(failed)
        }
        Database::Postgres(url, schema) => {
            let failed = |error: Error| {
                Failure::because("cannot open the PostgreSQL database", &error).hint(
                    "it is set by metadata.url (or metadata.url_file): does the server run, and are user, password and database right?",
                )
            };
            let mut options = PostgresOptions::default().with_durability(durability).with_readers(config.connections);
            if let Some(schema) = schema {
                options = options.with_schema(schema);
            }
            SqlMetadataStore::postgres(url.expose(), options).await.map_err(failed)
        }
    }
}
