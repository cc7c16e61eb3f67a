//! Connections that only read, used on the blocking pool.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_core::{Clock, Error, ErrorKind, Result, Timestamp};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection::{connect_reader, query};
use super::writer::drive;
use crate::driver::{Dialect, Query, Reader, Row, Value};

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    /// As many permits as connections.
    turns: Arc<Semaphore>,
    count: usize,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    busy_timeout: Duration,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<Connection>>,
}

struct SqliteReader {
    connection: Connection,
    clock: Arc<dyn Clock>,
    failed: bool,
}

impl Reader for SqliteReader {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let rows = query(&self.connection, sql, params);
        self.failed |= rows.is_err();
        rows
    }

    async fn now(&mut self) -> Result<Timestamp> {
        Ok(self.clock.now())
    }
}

impl Readers {
    pub(super) fn new(path: PathBuf, count: usize, busy_timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        let count = count.clamp(1, 1024);
        let shared = Shared { path, busy_timeout, clock, idle: Mutex::default() };
        Self { shared: Arc::new(shared), turns: Arc::new(Semaphore::new(count)), count }
    }

    /// Runs the query off the async workers: a slow disk holds up those who ask of it, nobody else.
    pub(super) async fn run<Q: Query>(&self, question: Q) -> Result<Q::Output> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the metadata store is closed"))?;
        let shared = Arc::clone(&self.shared);
        let answer = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the caller, who may be gone before the query ends.
            let _turn = turn;
            shared.run(&question)
        });
        answer.await.map_err(|error| Error::new(ErrorKind::Internal, "a database query did not end").with_source(error))?
    }

    /// Lets no new query begin, waits for those that run, and closes the connections.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        if let Ok(turns) = self.turns.acquire_many(all).await {
            self.turns.close();
            drop(turns);
        }
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    fn run<Q: Query>(&self, question: &Q) -> Result<Q::Output> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| connect_reader(&self.path, self.busy_timeout), Ok)?;
        let mut reader = SqliteReader { connection, clock: Arc::clone(&self.clock), failed: false };
        let answer = drive(question.run(&mut reader))?;
        // One that met an error is not trusted with the next query.
        if !reader.failed {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader.connection);
        }
        answer
    }
}
