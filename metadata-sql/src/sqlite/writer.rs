//! The one connection of this process that writes, and the thread that drives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use registry_core::{Clock, Error, ErrorKind, Result, Timestamp};
use rusqlite::Connection;

use super::connection::{connect, execute, leave_log_on_close, query, use_wal};
use super::error::{is_flush, is_io, wrap};
use super::failure::Failure;
use crate::driver::{CommitError, Dialect, Inbox, Reader, Row, Session, Transaction, Value, commit};
use crate::{Durability, SqliteOptions};

/// How many pages the log may have before it is emptied into the database; SQLite's own default.
const LONG_LOG: i64 = 1000;

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
    failure: Arc<Failure>,
    #[cfg(test)]
    pub(super) faults: super::faults::Faults,
}

impl SqliteSession {
    pub(crate) fn open(path: &Path, options: &SqliteOptions) -> Result<Self> {
        let connection = connect(path, options.busy_timeout)?;
        use_wal(&connection, options.busy_timeout)?;
        // A log that once grew long (a reader that held it, a great transaction) is cut back when it is next started over.
        connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(wrap)?;
        // Else SQLite does it within commits, and keeps quiet about a flush that fails; see `empty_long_log`.
        connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(())).map_err(wrap)?;
        if let Some(bytes) = options.max_size {
            let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(wrap)?;
            let pages = (i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1)).max(1);
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(wrap)?;
        }
        let (clock, durability) = (Arc::clone(&options.clock), options.durability);
        Ok(Self {
            connection,
            clock,
            durability,
            flushes: None,
            tainted: false,
            now: Timestamp::default(),
            path: path.to_owned(),
            failure: Arc::default(),
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }

    /// Where it is noted that the disk failed.
    pub(super) fn failure(&self) -> Arc<Failure> {
        Arc::clone(&self.failure)
    }

    /// Runs a statement that may flush.
    fn flush(&self, sql: &'static str) -> rusqlite::Result<()> {
        #[cfg(test)]
        self.faults.meet(sql)?;
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Writes no more, and leaves the log as it is.
    ///
    /// After a flush that failed, systems take the pages for written although they are not, and the next flush succeeds. Whatever was only relied on to go
    /// with that next flush may be lost, and what follows in the log with it: so nothing may be acknowledged after it, and nothing be copied out of it.
    fn give_up(&self, cause: &dyn std::fmt::Display) {
        if self.failure.note(&self.path, cause)
            && let Err(error) = leave_log_on_close(&self.connection)
        {
            tracing::error!(path = %self.path.display(), %error, "the log may be emptied when the file is closed");
        }
    }

    /// Notes a flush that failed in a statement: one that starts the log over flushes too.
    fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| {
            if is_flush(error) {
                self.give_up(error);
            }
        })
    }

    /// Empties the log into the database if it has grown long.
    fn empty_long_log(&self) {
        if self.failure.error().is_some() {
            return;
        }
        let state = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)");
        let state = state.and_then(|mut state| state.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))));
        let outcome =
            state.and_then(
                |(pages, emptied)| {
                    if pages >= LONG_LOG && emptied < pages { self.flush("PRAGMA wal_checkpoint(PASSIVE)") } else { Ok(()) }
                },
            );
        match outcome {
            Ok(()) => {}
            Err(error) if is_io(&error) => self.give_up(&error),
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "the log could not be emptied and grows"),
        }
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
        if self.failure.error().is_some() {
            return;
        }
        let tidy = self.connection.execute_batch("PRAGMA optimize").and_then(|()| self.flush("PRAGMA wal_checkpoint(TRUNCATE)"));
        if let Err(error) = &tidy
            && is_io(error)
        {
            self.give_up(error);
        }
        if let Err(error) = tidy {
            tracing::warn!(path = %self.path.display(), %error, "the database was closed with its log still beside it; nothing is lost");
        }
    }
}

impl Reader for SqliteSession {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let outcome = query(&self.connection, sql, params);
        self.tainted |= outcome.is_err();
        self.note(outcome)
    }

    async fn now(&mut self) -> Result<Timestamp> {
        Ok(self.now)
    }
}

impl Transaction for SqliteSession {
    async fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        self.tainted = true;
        self.note(execute(&self.connection, sql, params))
    }

    async fn returning(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.tainted = true;
        self.note(query(&self.connection, sql, params))
    }

    async fn served_changes(&mut self) -> Result<()> {
        self.execute("UPDATE meta SET value = value + 1 WHERE name = 'served'", &[]).await.map(drop)
    }
}

impl Session for SqliteSession {
    async fn begin(&mut self, durable: bool) -> Result<()> {
        if let Some(error) = self.failure.error() {
            return Err(error);
        }
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
        let Err(error) = self.flush("COMMIT") else { return Ok(()) };
        if is_io(&error) {
            self.give_up(&error);
        }
        self.rollback().await;
        Err(match self.failure.error() {
            Some(failure) => CommitError::Unknown(failure.with_source(error)),
            None => CommitError::RolledBack(wrap(error)),
        })
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
        // Whoever waited has the answer.
        session.empty_long_log();
    }
    session.finish();
    drop(inbox);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intention_is_flushed_and_what_may_be_lost_is_not() {
        use registry_core::Digest;
        use registry_core::metadata::Observation;

        use crate::commands::{IntendBlob, ObserveBlob};
        use crate::driver::{Command, Dialect, Pending, Tally, migrate};

        fn synchronous(session: &mut SqliteSession, command: impl Command) -> i64 {
            drive(commit(session, vec![Box::new(Pending::new(command).0)], &Tally::default())).unwrap();
            session.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap()
        }

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        super::super::connection::create_file(&path).unwrap();
        let mut session = SqliteSession::open(&path, &SqliteOptions::default()).unwrap();
        drive(migrate(&mut session, Dialect::Sqlite)).unwrap().unwrap();
        let digest = Digest::sha256(b"layer");
        let observation = Observation::Suspect;
        assert_eq!(synchronous(&mut session, ObserveBlob { digest, observation }), 1);
        // One that makes the row, then one that takes it back from collection.
        assert_eq!(synchronous(&mut session, IntendBlob(digest)), 2);
        assert_eq!(synchronous(&mut session, ObserveBlob { digest, observation }), 1);
        session.connection.execute("UPDATE blobs SET state = 1", []).unwrap();
        assert_eq!(synchronous(&mut session, IntendBlob(digest)), 2);
        let state: i64 = session.connection.query_row("SELECT state FROM blobs", [], |row| row.get(0)).unwrap();
        assert_eq!(state, 0);
    }

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
