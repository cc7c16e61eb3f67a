//! The one connection of this process that writes, and the task that drives it.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use registry_core::{Clock, Error, ErrorKind, Result, Timestamp};
use tokio_postgres::SimpleQueryMessage;

use super::connect::{Failure, Target, client, in_time};
use super::value::{parameters, row, spell};
use crate::driver::{CommitError, Dialect, Inbox, Reader, Row, Session, Transaction, Value, commit};
use crate::{Durability, PostgresOptions};

/// The first half of the key of the lock by which writers take turns; the second is the schema's. Any number that others are unlikely to choose.
const LOCK: i32 = 0x0c1_de9;

/// A writer's connection, or the lack of one.
pub(crate) struct PostgresSession {
    /// Of one connection.
    pool: Pool,
    client: Option<Object>,
    deadline: Duration,
    clock: Option<Arc<dyn Clock>>,
    durability: Durability,
    /// As an SQL expression of text.
    schema: String,
    tainted: bool,
    now: Timestamp,
}

impl PostgresSession {
    pub(super) fn new(target: &Target, options: &PostgresOptions) -> Result<Self> {
        let schema = match &options.schema {
            Some(schema) => format!("'{schema}'"),
            // Not NULL, of which the lock function makes a lock that excludes nobody.
            None => "coalesce(current_schema(), '')".to_owned(),
        };
        let (clock, durability) = (options.clock.clone(), options.durability);
        Ok(Self {
            pool: target.pool(1)?,
            client: None,
            deadline: target.deadline,
            clock,
            durability,
            schema,
            tainted: false,
            now: Timestamp::default(),
        })
    }

    /// One round trip: begins, waits for its turn, and asks for the time, which is thus later than that of whoever had the turn before.
    async fn try_begin(&mut self, durable: bool) -> Result<(), Failure> {
        let lost = || Failure::NoAnswer;
        let client = self.client.as_ref().ok_or_else(lost)?;
        let flush = if durable && self.durability == Durability::Full { "on" } else { "off" };
        // Nothing is left to the defaults of a role or a database. At a level where the whole transaction sees one state, that would be the one before the
        // wait for the lock: what the writer before us did would be missing from it, and conflicts with it be found out at commit.
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = {flush}; SELECT pg_advisory_xact_lock({LOCK}, hashtext({})); SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
            self.schema
        );
        let answer = in_time(self.deadline, client.simple_query(&sql)).await?;
        let time = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        self.now = Timestamp::from_millis(time.ok_or_else(lost)?);
        Ok(())
    }

    /// Gives up the connection, and with it whatever transaction it was in.
    fn abandon(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }

    /// Keeps what a statement came to, and notes whether the connection can be used further.
    fn note<T>(&mut self, outcome: Result<T, Failure>) -> Result<T> {
        outcome.map_err(|failure| {
            self.tainted = true;
            if failure.is_fatal() {
                self.abandon();
            }
            failure.into()
        })
    }

    async fn rows(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let client = self.client.as_ref().ok_or_else(lost)?;
        let outcome = in_time(self.deadline, async {
            let statement = client.prepare_cached(&spell(sql)).await?;
            client.query(&statement, &parameters(params)).await
        });
        let outcome = outcome.await;
        let rows = self.note(outcome)?.iter().map(row).collect::<Result<_>>();
        self.tainted |= rows.is_err();
        rows
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to PostgreSQL was lost")
}

impl Reader for PostgresSession {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn query(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.rows(sql, params).await
    }

    async fn now(&mut self) -> Result<Timestamp> {
        Ok(self.now)
    }
}

impl Transaction for PostgresSession {
    async fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<u64> {
        self.tainted = true;
        let client = self.client.as_ref().ok_or_else(lost)?;
        let outcome = in_time(self.deadline, async {
            let statement = client.prepare_cached(&spell(sql)).await?;
            client.execute(&statement, &parameters(params)).await
        });
        let outcome = outcome.await;
        self.note(outcome)
    }

    async fn returning(&mut self, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.tainted = true;
        self.rows(sql, params).await
    }
}

impl Session for PostgresSession {
    async fn begin(&mut self, durable: bool) -> Result<()> {
        // A connection may have broken since it was last used (a restarted server, a fail-over). Nothing has happened yet, so the next one is tried at once.
        for is_last in [false, true] {
            if self.client.as_ref().is_none_or(|client| client.is_closed()) {
                self.abandon();
                self.client = Some(client(&self.pool).await?);
            }
            match self.try_begin(durable).await {
                Ok(()) => {
                    self.next_command();
                    return Ok(());
                }
                Err(failure) => {
                    let may_retry = failure.is_fatal() && !is_last;
                    if failure.is_fatal() {
                        self.abandon();
                    } else {
                        self.rollback().await;
                    }
                    if !may_retry {
                        return Err(failure.into());
                    }
                }
            }
        }
        Err(lost())
    }

    fn next_command(&mut self) {
        self.tainted = false;
        if let Some(clock) = &self.clock {
            self.now = clock.now();
        }
    }

    fn is_tainted(&self) -> bool {
        self.tainted
    }

    async fn commit(&mut self) -> Result<(), CommitError> {
        let Some(client) = &self.client else { return Err(CommitError::RolledBack(lost())) };
        match in_time(self.deadline, client.batch_execute("COMMIT")).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_fatal() => {
                self.abandon();
                let error = Error::new(
                    ErrorKind::Unavailable,
                    "the connection to PostgreSQL was lost while it committed: the change may have been made or not",
                );
                Err(CommitError::Unknown(error.with_source(Error::from(failure))))
            }
            Err(failure) => {
                self.rollback().await;
                Err(CommitError::RolledBack(failure.into()))
            }
        }
    }

    async fn rollback(&mut self) {
        if let Some(client) = &self.client
            && in_time(self.deadline, client.batch_execute("ROLLBACK")).await.is_err()
        {
            // Without its connection the transaction ends as well.
            self.abandon();
        }
    }

    fn is_lost(&self) -> bool {
        self.client.is_none()
    }
}

/// Serves the queue until it is closed, or every handle is gone.
pub(super) async fn serve(mut session: PostgresSession, mut inbox: Inbox<PostgresSession>) {
    let tally = inbox.tally();
    while let Some(jobs) = inbox.next().await {
        commit(&mut session, jobs, &tally).await;
    }
    session.abandon();
    drop(inbox);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server of `REGISTRY_TEST_POSTGRES`. See the integration tests for what skips and what fails without.
    fn url(test: &str) -> Option<String> {
        let url = std::env::var("REGISTRY_TEST_POSTGRES").ok().filter(|url| !url.is_empty());
        if url.is_none() {
            let required = std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(!required, "{test}: REGISTRY_TEST_POSTGRES is not set, and services are required");
            println!("SKIPPED {test}: REGISTRY_TEST_POSTGRES is not set");
        }
        url
    }

    fn session(test: &str, options: &PostgresOptions) -> Option<PostgresSession> {
        Some(PostgresSession::new(&Target::new(&url(test)?, options).unwrap(), options).unwrap())
    }

    #[tokio::test]
    async fn only_durable_transactions_flush_and_only_if_asked_to() {
        for (durability, durable, expected) in [
            (Durability::Full, true, "on"),
            (Durability::Full, false, "off"),
            (Durability::Process, true, "off"),
            (Durability::Process, false, "off"),
        ] {
            let options = PostgresOptions::default().with_durability(durability);
            let Some(mut session) = session("only_durable_transactions_flush_and_only_if_asked_to", &options) else { return };
            for before in [true, false] {
                session.begin(before).await.unwrap();
                session.commit().await.unwrap();
                session.begin(durable).await.unwrap();
                let found = session.query("SELECT current_setting('synchronous_commit')", &[]).await.unwrap().remove(0).text(0).unwrap();
                assert_eq!(found, expected, "{durability:?}, durable: {durable}");
                session.commit().await.unwrap();
            }
        }
    }

    /// The URL, with defaults that a role might have.
    fn with_defaults(url: &str) -> String {
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}options=-c%20default_transaction_isolation%3Dserializable%20-c%20synchronous_commit%3Doff")
    }

    #[tokio::test]
    async fn the_defaults_of_a_role_change_neither_isolation_nor_durability() {
        let test = "the_defaults_of_a_role_change_neither_isolation_nor_durability";
        let options = PostgresOptions::default();
        let Some(url) = url(test) else { return };
        let target = Target::new(&with_defaults(&url), &options).unwrap();
        let mut session = PostgresSession::new(&target, &options).unwrap();
        for (durable, expected) in [(true, "on"), (false, "off"), (true, "on")] {
            session.begin(durable).await.unwrap();
            let sql = "SELECT current_setting('transaction_isolation'), current_setting('synchronous_commit')";
            let mut row = session.query(sql, &[]).await.unwrap().remove(0);
            assert_eq!((row.text(0).unwrap().as_str(), row.text(1).unwrap().as_str()), ("read committed", expected), "durable: {durable}");
            session.commit().await.unwrap();
        }
        let reader = client(&target.pool(1).unwrap()).await.unwrap();
        let isolation: String = reader.query_one("SELECT current_setting('transaction_isolation')", &[]).await.unwrap().get(0);
        assert_eq!(isolation, "read committed");
    }

    #[tokio::test]
    async fn the_server_ends_a_transaction_that_stands_idle_and_the_next_one_works() {
        let options = PostgresOptions::default().with_statement_timeout(Duration::from_millis(200));
        let test = "the_server_ends_a_transaction_that_stands_idle_and_the_next_one_works";
        let Some(mut session) = session(test, &options) else { return };
        session.begin(true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(800)).await;
        session.query("SELECT 1", &[]).await.unwrap_err();
        assert!(session.is_tainted() && session.is_lost());
        session.begin(true).await.unwrap();
        assert!(!session.is_tainted() && !session.is_lost());
        session.commit().await.unwrap();
    }

    #[tokio::test]
    async fn an_sql_error_taints_and_leaves_the_connection() {
        let Some(mut session) = session("an_sql_error_taints_and_leaves_the_connection", &PostgresOptions::default()) else { return };
        session.begin(true).await.unwrap();
        session.query("SELECT nothing FROM nowhere", &[]).await.unwrap_err();
        assert!(session.is_tainted() && !session.is_lost());
        session.rollback().await;
        session.begin(true).await.unwrap();
        assert_eq!(session.query("SELECT 1", &[]).await.unwrap().remove(0).int(0).unwrap(), 1);
        session.commit().await.unwrap();
    }
}
