//! How a store is opened.

use std::sync::Arc;
use std::time::Duration;

use registry_core::Clock;
#[cfg(feature = "sqlite")]
use registry_core::SystemClock;

/// What an acknowledged change survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A power loss, wherever the contract asks for that (see [`MetadataStore`](registry_core::MetadataStore), "Durability").
    #[default]
    Full,
    /// The end of the process, but not of the machine: nothing waits for the disk. For tests, and for data that can be pushed again.
    Process,
}

/// How a store on SQLite is opened.
#[cfg(feature = "sqlite")]
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) durability: Durability,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) max_size: Option<u64>,
}

#[cfg(feature = "sqlite")]
impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(10),
            readers: 4,
            cache_bytes: 16 << 20,
            max_size: None,
        }
    }
}

#[cfg(feature = "sqlite")]
impl SqliteOptions {
    /// The source of the store's time; the machine's clock by default.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What an acknowledged change survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long to wait for another process that writes, before the change fails as [`Unavailable`](registry_core::ErrorKind::Unavailable); 10 seconds by
    /// default.
    #[must_use]
    pub fn with_busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout;
        self
    }

    /// How many queries may read from the disk at once; 4 by default.
    #[must_use]
    pub fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// How many bytes of manifests and links to keep in memory; 16 MiB by default. What is kept is never stale.
    #[must_use]
    pub fn with_cache_bytes(mut self, cache_bytes: usize) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// How large the file may grow, in bytes, rounded down to pages. A change that does not fit fails as
    /// [`StorageFull`](registry_core::ErrorKind::StorageFull). No bound by default.
    #[must_use]
    pub fn with_max_size(mut self, max_size: u64) -> Self {
        self.max_size = Some(max_size);
        self
    }
}

/// How a store on PostgreSQL is opened.
#[cfg(feature = "postgres")]
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) durability: Durability,
    pub(crate) schema: Option<String>,
    pub(crate) readers: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) authorities: Option<Arc<[u8]>>,
}

#[cfg(feature = "postgres")]
impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            clock: None,
            durability: Durability::Full,
            schema: None,
            readers: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(15),
            authorities: None,
        }
    }
}

#[cfg(feature = "postgres")]
impl PostgresOptions {
    /// A source of time for tests. By default the store's time is the server's, so that processes whose clocks disagree agree on it.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What an acknowledged change survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The schema that the tables are in, made if it is not there; by default the first of the connection's search path. Lower-case letters, digits and
    /// underscores, not starting with a digit, at most 63.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// How many connections may read at once; 8 by default. One more writes.
    #[must_use]
    pub fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// How long to wait for a connection; 5 seconds by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// How long a statement may run, and a transaction may stand idle, before the server ends it; 30 seconds by default. It bounds how long a process
    /// that hangs in the middle of a transaction can hold up the writers of all others.
    #[must_use]
    pub fn with_statement_timeout(mut self, statement_timeout: Duration) -> Self {
        self.statement_timeout = statement_timeout;
        self
    }

    /// How long to wait for the writers of other processes; 15 seconds by default.
    #[must_use]
    pub fn with_lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// Certificates of authorities, in PEM form, that are trusted besides the system's. They say whom to trust, not whether there is TLS: see
    /// [`SqlMetadataStore::postgres`](crate::SqlMetadataStore::postgres).
    #[must_use]
    pub fn with_authorities(mut self, pem: Arc<[u8]>) -> Self {
        self.authorities = Some(pem);
        self
    }
}
