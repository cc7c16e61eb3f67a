//! PostgreSQL: one database for any number of processes on any number of machines.
//!
//! - One task with one connection writes ([`writer`]). Each of its transactions first takes an advisory lock, so that the writers of all processes take
//!   turns, as on SQLite. The server ends a transaction that stands idle, so that a process that hangs in the middle of one does not hold up the others.
//! - Reads take a connection of a pool, and see what was committed when they began.
//! - With TLS ([`tls`]) or without, all connections are made by the same pools.

mod connect;
mod error;
mod tls;
mod value;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use futures_util::future::try_join;
use registry_core::{Clock, Result, Timestamp};

use self::connect::{Target, client, in_time};
use self::value::{parameters, row, spell};
use self::writer::PostgresSession;
use crate::PostgresOptions;
use crate::commands::{Hot, Reliance, RelyOnBlob, Served};
use crate::driver::{Command, Dialect, Query, Queue, Reader, Row, Session as _, Stats, Transaction as _, Value, migrate, queue};

/// A connected database.
#[derive(Debug)]
pub(crate) struct Postgres {
    writer: Queue<PostgresSession>,
    readers: Pool,
    deadline: Duration,
    clock: Option<Arc<dyn Clock>>,
}

impl Postgres {
    pub(crate) async fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        let target = Target::new(url, &options)?;
        let mut session = PostgresSession::new(&target, &options)?;
        if let Some(schema) = &options.schema {
            // Asked first, since whoever is given a schema need not be allowed to make one.
            session.begin(true).await?;
            if session.query("SELECT 1 FROM pg_namespace WHERE nspname = ?1", &[Value::from(schema)]).await?.is_empty() {
                session.execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""), &[]).await?;
            }
            session.commit().await.map_err(|error| match error {
                crate::driver::CommitError::RolledBack(error) | crate::driver::CommitError::Unknown(error) => error,
            })?;
        }
        migrate(&mut session, Dialect::Postgres).await?;
        let (writer, inbox) = queue();
        tokio::spawn(writer::serve(session, inbox));
        Ok(Self { writer, readers: target.pool(options.readers)?, deadline: target.deadline, clock: options.clock })
    }

    pub(crate) async fn write<C: Command>(&self, command: C) -> Result<C::Output> {
        self.writer.run(command).await
    }

    pub(crate) async fn read<Q: Query>(&self, query: Q) -> Result<Q::Output> {
        let (answer, is_dead) = self.ask(&query).await?;
        if is_dead {
            // It may have broken long ago, while nobody used it; asking again is no harm.
            return self.ask(&query).await?.0;
        }
        answer
    }

    /// Asks on one connection. Whether that is of no more use is told besides.
    async fn ask<Q: Query>(&self, query: &Q) -> Result<(Result<Q::Output>, bool)> {
        let client = client(&self.readers).await?;
        let mut reader = PostgresReader { client, deadline: self.deadline, clock: self.clock.as_deref(), is_dead: AtomicBool::new(false) };
        let answer = query.run(&mut reader).await;
        let is_dead = reader.is_dead.into_inner();
        if is_dead {
            // Not for the next one to find out.
            drop(Object::take(reader.client));
        }
        Ok((answer, is_dead))
    }

    pub(crate) async fn serve(&self, key: Hot) -> Result<Option<Served>> {
        self.read(key).await
    }

    pub(crate) async fn relied_on(&self, command: &RelyOnBlob) -> Result<Reliance> {
        self.read(command.clone()).await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.writer.stats()
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.readers.close();
    }
}

struct PostgresReader<'a> {
    client: Object,
    deadline: Duration,
    clock: Option<&'a dyn Clock>,
    is_dead: AtomicBool,
}

impl PostgresReader<'_> {
    async fn rows(&self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let client = &self.client;
        let rows = in_time(self.deadline, async {
            let statement = client.prepare_cached(&spell(sql)).await?;
            client.query(&statement, &parameters(params)).await
        });
        let rows = rows.await.inspect_err(|failure| {
            self.is_dead.fetch_or(failure.is_fatal(), Ordering::Relaxed);
        });
        rows?.iter().map(row).collect()
    }

    async fn time(&self) -> Result<Timestamp> {
        match self.clock {
            Some(clock) => Ok(clock.now()),
            None => {
                let sql = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)";
                let row = self.rows(sql, &[]).await?.pop();
                row.map_or_else(|| Ok(Timestamp::default()), |mut row| row.time(0))
            }
        }
    }
}

impl Reader for PostgresReader<'_> {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.rows(sql, params).await
    }

    async fn now(&mut self) -> Result<Timestamp> {
        self.time().await
    }

    /// Both are on their way at the same time.
    async fn query_now(&mut self, sql: &str, params: &[Value<'_>]) -> Result<(Vec<Row>, Timestamp)> {
        try_join(self.rows(sql, params), self.time()).await
    }
}
