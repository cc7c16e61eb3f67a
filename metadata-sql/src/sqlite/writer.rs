//! The one connection of this process that writes, and the thread that drives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use registry_core::{Clock, Error, ErrorKind, Result, Timestamp};
use rusqlite::Connection;

use super::connection::{connect, execute, query, use_wal};
use super::error::wrap;
use crate::driver::{CommitError, Inbox, Reader, Row, Session, Transaction, Value, commit};
use crate::{Durability, SqliteOptions};

/// A writer's connection.
pub(crate) struct SqliteSession {
    connection: Connection,
    clock: Arc<dyn Clock>,
    durability: Durability,
    /// Whether commits flush the log to the disk, as it was last set.
    flushes: Option<bool>,
    tainted: bool,
    now: Timestamp,
    path: PathBuf,
}

impl SqliteSession {
    pub(crate) fn open(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let connection = connect(path, options.busy_timeout)?;
        use_wal(&connection, options.busy_timeout)?;
        // A log that once grew long (a reader that held it, a great transaction) is cut back when it is next started over.
        connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(wrap)?;
        if let Some(bytes) = options.max_size {
            let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(wrap)?;
            let pages = (i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1)).max(1);
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(wrap)?;
        }
        let (clock, durability) = (Arc::clone(&options.clock), options.durability);
        Ok(Self { connection, clock, durability, flushes: None, tainted: false, now: Timestamp::default(), path: path.to_owned() })
    }

    /// With a write-ahead log, NORMAL writes a commit to the log and leaves the flush to whoever comes next: it survives this process, not a power loss.
    /// FULL flushes, and with its own frames all that stand before them.
    fn flush_commits(&mut self, flushes: bool) -> Result<()> {
        if self.flushes != Some(flushes) {
            self.connection
                .execute_batch(if flushes { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })
                .map_err(wrap)?;
            self.flushes = Some(flushes);
        }
        Ok(())
    }

    /// Moves the log into the database, so that the next start has nothing to read back and a copy of the file alone is complete.
    fn finish(self) {
        let tidy = self
            .connection
            .execute_batch("PRAGMA optimize")
            .and_then(|()| self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        if let Err(error) = tidy {
            tracing::warn!(path = %self.path.display(), %error, "the database was closed with its log still beside it; nothing is lost");
        }
    }
}

impl Reader for SqliteSession {
    async fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let outcome = query(&self.connection, sql, params);
        self.tainted |= outcome.is_err();
        outcome
    }

    async fn now(&mut self) -> Result<Timestamp> {
        Ok(self.now)
    }
}

impl Transaction for SqliteSession {
    async fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        self.tainted = true;
        execute(&self.connection, sql, params)
    }

    async fn returning(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.tainted = true;
        query(&self.connection, sql, params)
    }

    async fn served_changes(&mut self) -> Result<()> {
        self.execute("UPDATE meta SET value = value + 1 WHERE name = 'served'", &[]).await.map(drop)
    }
}

impl Session for SqliteSession {
    async fn begin(&mut self, durable: bool) -> Result<()> {
        self.flush_commits(durable && self.durability == Durability::Full)?;
        // IMMEDIATE: wait for other processes' writers here, under the busy timeout, and never in the middle.
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(wrap)?;
        self.next_command();
        Ok(())
    }

    fn next_command(&mut self) {
        self.tainted = false;
        self.now = self.clock.now();
    }

    fn is_tainted(&self) -> bool {
        self.tainted
    }

    async fn commit(&mut self) -> Result<(), CommitError> {
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => Ok(()),
            Err(error) => {
                self.rollback().await;
                Err(CommitError::RolledBack(wrap(error)))
            }
        }
    }

    async fn rollback(&mut self) {
        // SQLite itself rolls back after some errors, a full disk among them.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(path = %self.path.display(), %error, "a transaction could not be rolled back");
        }
    }

    fn is_lost(&self) -> bool {
        false
    }
}

/// Drives a future that never waits, which is what everything on SQLite comes to.
pub(crate) fn drive<F: Future>(future: F) -> Result<F::Output> {
    future.now_or_never().ok_or_else(|| Error::new(ErrorKind::Internal, "a command waited in the middle of an SQLite transaction"))
}

/// Serves the queue until it is closed, or every handle is gone.
pub(super) fn serve(mut session: SqliteSession, mut inbox: Inbox<SqliteSession>) {
    let tally = inbox.tally();
    while let Some(jobs) = inbox.blocking_next() {
        if let Err(error) = drive(commit(&mut session, jobs, &tally)) {
            tracing::error!(%error, "a batch of commands was given up");
            drop(drive(session.rollback()));
        }
    }
    session.finish();
    drop(inbox);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_durable_transactions_flush_and_only_if_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        super::super::connection::create_file(&path).unwrap();
        for (durability, durable, expected) in
            [(Durability::Full, true, 2), (Durability::Full, false, 1), (Durability::Process, true, 1), (Durability::Process, false, 1)]
        {
            let options = SqliteOptions::default().with_durability(durability);
            let mut session = SqliteSession::open(&path, &options).unwrap();
            // From either state, since the setting stays with the connection.
            for before in [true, false] {
                drive(session.begin(before)).unwrap().unwrap();
                drive(session.commit()).unwrap().unwrap();
                drive(session.begin(durable)).unwrap().unwrap();
                let synchronous: i64 = session.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
                assert_eq!(synchronous, expected, "{durability:?}, durable: {durable}");
                drive(session.commit()).unwrap().unwrap();
            }
        }
    }
}
