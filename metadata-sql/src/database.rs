//! One database or the other.

use registry_core::{Error, Result};

use crate::commands::{Hot, Reliance, RelyOnBlob, Served};
use crate::driver::{Command, Query, Stats};
#[cfg(feature = "postgres")]
use crate::postgres::Postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite::Sqlite;

/// An open database: it runs commands and answers queries.
#[derive(Debug)]
pub(crate) enum Database {
    #[cfg(feature = "sqlite")]
    Sqlite(Box<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Box<Postgres>),
}

/// Calls the same method of whichever database it is.
macro_rules! each {
    ($database:expr, $open:ident => $call:expr) => {
        match $database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite($open) => $call,
            #[cfg(feature = "postgres")]
            Database::Postgres($open) => $call,
        }
    };
}

impl Database {
    /// Runs a command and returns once it is committed.
    pub(crate) async fn write<C: Command>(&self, command: C) -> Result<C::Output> {
        each!(self, open => open.write(command).await)
    }

    /// Answers a query.
    pub(crate) async fn read<Q: Query>(&self, query: Q) -> Result<Q::Output> {
        each!(self, open => open.read(query).await)
    }

    /// Answers a query, from memory if that is no older than the database.
    pub(crate) async fn serve(&self, key: Hot) -> Result<Option<Served>> {
        each!(self, open => open.serve(key).await)
    }

    /// Whether the command has anything to write.
    pub(crate) async fn relied_on(&self, command: &RelyOnBlob) -> Result<Reliance> {
        each!(self, open => open.relied_on(command).await)
    }

    /// Whether it has been closed, or its writer has ended.
    pub(crate) fn is_closed(&self) -> bool {
        each!(self, open => open.is_closed())
    }

    /// Why nothing is written any more, if the disk failed. A server looks after its own disk, and ends.
    pub(crate) fn failure(&self) -> Option<Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(open) => open.failure(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        each!(self, open => open.stats())
    }

    /// Finishes what is queued and closes the connections.
    pub(crate) async fn close(&self) {
        each!(self, open => open.close().await);
    }
}
