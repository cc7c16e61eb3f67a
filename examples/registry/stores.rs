//! Opens what the configuration names: the zones, the database, and a registry over both.

use std::path::Path;
use std::sync::Arc;

use metadata_sql::{PostgresOptions, SqlMetadataStore, SqliteOptions};
use registry_core::{BlobStore, Error, MetadataStore, Registry, VerifyReads};

use crate::config::{Config, Database, Survives};
use crate::failure::Failure;
use crate::zones::{self, Zones};

/// Why the stores are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To serve: what is not there yet is made.
    Serve,
    /// To try whether one could serve: what is not there yet is made, and what is stored stays as it is.
    Try,
    /// To look at what is there, or to change it: nothing is made.
    Use,
    /// To add zones to a registry that is there: those that are new are made.
    Add,
}

impl Purpose {
    /// Whether there has to be a registry.
    fn needs_one(self) -> bool {
        matches!(self, Self::Use | Self::Add)
    }
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

impl Stores {
    /// Opens them, and makes sure that the zones are those they were.
    pub(crate) async fn open(config: &Config, purpose: Purpose) -> Result<Self, Failure> {
        if purpose.needs_one() && !config.data.is_dir() {
            return Err(Failure::new(format!("there is no registry in {}", config.data.display()))
                .hint("name its data directory with --data DIR or its configuration with --config FILE"));
        }
        make_directory(&config.data)?;
        let metadata = Arc::new(open_metadata(config, purpose).await?);
        match zones::open(config, purpose, &metadata).await {
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

async fn open_metadata(config: &Config, purpose: Purpose) -> Result<SqlMetadataStore, Failure> {
    let durability = match config.database_durability {
        Survives::PowerLoss => metadata_sql::Durability::Full,
        Survives::ProcessCrash => metadata_sql::Durability::Process,
    };
    match &config.database {
        Database::Sqlite(path) => {
            if purpose.needs_one() && !path.is_file() {
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
            if let Some(pem) = &config.authorities {
                options = options.with_authorities(Arc::clone(pem));
            }
            SqlMetadataStore::postgres(url.expose(), options).await.map_err(failed)
        }
    }
}
