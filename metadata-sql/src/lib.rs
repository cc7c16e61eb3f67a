//! The registry's metadata in SQL: [`SqlMetadataStore`] on SQLite (embedded) or PostgreSQL (shared by many machines).
//!
//! # Why it is cut this way
//!
//! There is one set of statements and commands, and two small drivers. A command is an `async fn` over a transaction, and its SQL keeps to what both
//! databases understand alike; so a rule of the registry is written, tested and fixed once. Three decisions carry the rest:
//!
//! - **Writers take turns**, on both databases: SQLite has one writer by nature, and on PostgreSQL each write transaction first takes one advisory lock.
//!   Half of the commands say "if nobody holds this, then …"; at PostgreSQL's usual isolation level two of them pass each other between the question and
//!   the deed, and the blob that one has just linked is deleted by the other. Serializable transactions would find that out at commit and start over, most
//!   of the time for pages that were merely neighbours. With turns there is nothing to find out, and events become visible in the order of their numbers.
//! - **Group commit** pays for the turns: each process has one writer, which commits whatever has queued up as one transaction. A command that fails
//!   does no harm to those it shares one with. What the contract does not ask to survive a power loss is committed without a flush when it is alone.
//! - **Reads go beside the writer.** On SQLite they run on the blocking pool, behind a cache that asks the file before each answer, in about a
//!   microsecond and without touching the disk, whether anything changed; so it is never stale, whoever wrote.
//!
//! Rejected: `sqlx` (four times the cost per read, and a higher minimum Rust version); an ORM (the statements are the design); one transaction per
//! caller (a durable commit takes milliseconds); a time-to-live for cached rows (a tag that moved must be seen to have moved); stored procedures (one of
//! the two databases has none).
//!
//! The [placement ledger](SqlLedger) of the crate `replication` lies in the same database. What happens to a placement is said by
//! `replication::ledger::rules`, once for every ledger: here a blob's rows are read, the rule is applied, and what it changed is written back. Rejected: the
//! same in SQL, which is a second copy of rules that are subtle enough once.
//!
//! Features: `sqlite` (default; needs a C compiler), `postgres`, and `ledger` (default). The crate needs a tokio runtime. Connections to PostgreSQL are encrypted, and
//! the server's certificate checked, if its URL asks for that: `postgres://…?sslmode=require`.
//!
//! # An example
//!
//! ```
//! use metadata_sql::{SqlMetadataStore, SqliteOptions};
//! use registry_core::{MetadataStore, Reference};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("registry.db");
//! let store = SqlMetadataStore::sqlite(path, SqliteOptions::default()).await?;
//! let latest = "latest".parse::<Reference>()?;
//! assert_eq!(store.manifest(&"team/app".parse()?, &latest).await?, None);
//! store.close().await;
//! # Ok(())
//! # }
//! ```

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("metadata-sql needs a database: enable the feature `sqlite` or `postgres`");

mod commands;
mod database;
mod driver;
#[cfg(feature = "ledger")]
mod ledger;
mod options;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use self::driver::Stats;
#[cfg(feature = "ledger")]
pub use self::ledger::SqlLedger;
pub use self::options::Durability;
#[cfg(feature = "postgres")]
pub use self::options::PostgresOptions;
#[cfg(feature = "sqlite")]
pub use self::options::SqliteOptions;
pub use self::store::SqlMetadataStore;
