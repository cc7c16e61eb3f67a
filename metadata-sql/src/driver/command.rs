//! Commands and queries: what the store asks a database for, written once for both.

use std::future::Future;

use futures_util::future::BoxFuture;
use registry_core::{Error, Result, Timestamp};
use tokio::sync::oneshot;

use super::{Dialect, Row, Value};

/// Something that answers questions: a connection, or a transaction in progress.
///
/// Statements name their parameters `?1`, `?2`, …; they use only what SQLite and PostgreSQL understand alike.
pub(crate) trait Reader: Send {
    /// How the database spells what the two do not understand alike.
    const DIALECT: Dialect;

    /// Runs a `SELECT`.
    fn query(&mut self, sql: &str, params: &[Value<'_>]) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// The store's time. The same all through a command.
    fn now(&mut self) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Both at once, for a database where each costs a round trip.
    fn query_now(&mut self, sql: &str, params: &[Value<'_>]) -> impl Future<Output = Result<(Vec<Row>, Timestamp)>> + Send {
        async {
            let rows = self.query(sql, params).await?;
            Ok((rows, self.now().await?))
        }
    }
}

/// A transaction in progress. No other transaction writes while it does: on both databases, writers take turns.
pub(crate) trait Transaction: Reader {
    /// Runs a statement that changes rows, and says how many.
    fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> impl Future<Output = Result<u64>> + Send;

    /// Runs a statement that changes rows and has a `RETURNING`.
    fn returning(&mut self, sql: &str, params: &[Value<'_>]) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Says that something which a cache may hold is about to change or go: a link, what is known of a linked blob, a manifest, a tag. Something that
    /// merely appears is not that, since caches do not keep what is not there.
    fn served_changes(&mut self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// A question. It may run on any connection, beside writers, and each of its statements may see a newer state than the one before.
pub(crate) trait Query: Send + Sync + 'static {
    type Output: Send + 'static;

    fn run<R: Reader>(&self, reader: &mut R) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// A change, which happens wholly or not at all.
///
/// It runs in a transaction that it may share with other callers' commands. An error undoes what it did, and only that. It is cheapest to check first and
/// write afterwards: an error after a write makes the whole batch start over, each command on its own.
pub(crate) trait Command: Send + Sync + 'static {
    type Output: Send + 'static;

    /// Whether it has to survive a power loss once it is answered.
    const DURABLE: bool = true;

    /// About how many bytes it writes, if that may be many: those that it shares a transaction with wait for it.
    fn weight(&self) -> usize {
        0
    }

    fn run<T: Transaction>(&self, transaction: &mut T) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// A command on its way through the queue of a writer whose transactions are `T`.
pub(crate) trait Job<T>: Send {
    fn is_durable(&self) -> bool;

    /// See [`Command::weight`].
    fn weight(&self) -> usize;

    /// Runs the command and keeps its answer; whether it succeeded. May be called again after a rollback.
    fn run<'a>(&'a mut self, transaction: &'a mut T) -> BoxFuture<'a, bool>;

    /// Hands out the answer: what it was based on is committed.
    fn settle(self: Box<Self>);

    /// Answers with a failure instead.
    fn fail(self: Box<Self>, error: Error);
}

/// A [`Command`] whose caller waits.
pub(crate) struct Pending<C: Command> {
    command: C,
    reply: oneshot::Sender<Result<C::Output>>,
    answer: Option<Result<C::Output>>,
}

impl<C: Command> Pending<C> {
    pub(crate) fn new(command: C) -> (Self, oneshot::Receiver<Result<C::Output>>) {
        let (reply, answer) = oneshot::channel();
        (Self { command, reply, answer: None }, answer)
    }
}

impl<C: Command, T: Transaction> Job<T> for Pending<C> {
    fn is_durable(&self) -> bool {
        C::DURABLE
    }

    fn weight(&self) -> usize {
        self.command.weight()
    }

    fn run<'a>(&'a mut self, transaction: &'a mut T) -> BoxFuture<'a, bool> {
        Box::pin(async {
            let answer = self.command.run(transaction).await;
            let succeeded = answer.is_ok();
            self.answer = Some(answer);
            succeeded
        })
    }

    // A caller that is gone does not hear the answer; its command stands all the same.
    fn settle(self: Box<Self>) {
        if let Some(answer) = self.answer {
            drop(self.reply.send(answer));
        }
    }

    fn fail(self: Box<Self>, error: Error) {
        drop(self.reply.send(Err(error)));
    }
}
