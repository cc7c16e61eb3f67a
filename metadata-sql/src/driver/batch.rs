//! Group commit: many callers' commands in one transaction.
//!
//! A durable commit costs a disk flush, or a network round trip and a flush. What queues up while one is under way is committed by the next as one
//! transaction, so that the price is shared exactly when it matters and nobody waits for company when it does not.
//!
//! Commands must not feel each other's failures. A savepoint around each would do that at a round trip per command; instead the session notes whether
//! the command that failed had changed anything. If not, which is the rule since commands check before they write, there is nothing to undo. If it had,
//! the whole transaction is rolled back and each command runs again in one of its own.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use registry_core::{Error, Result};

use super::{Job, Transaction};

/// The connection of a writer, which runs one transaction after the other.
pub(crate) trait Session: Transaction {
    /// Begins a transaction that excludes all other writers. After an error there is none.
    fn begin(&mut self, durable: bool) -> impl Future<Output = Result<()>> + Send;

    /// Says that another command begins: [`is_tainted`](Self::is_tainted) is about that one.
    fn next_command(&mut self);

    /// Whether the command changed something, or a statement of it failed, so that the transaction cannot simply go on without it.
    fn is_tainted(&self) -> bool;

    /// Commits. After an error the transaction is gone.
    fn commit(&mut self) -> impl Future<Output = Result<(), CommitError>> + Send;

    /// Undoes the transaction, if there is one.
    fn rollback(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether the connection broke, so that the same commands may well succeed on the next.
    fn is_lost(&self) -> bool;
}

/// Why a transaction did not commit.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing of it happened.
    RolledBack(Error),
    /// Nobody can tell.
    Unknown(Error),
}

enum Attempt {
    Committed,
    /// There was no transaction.
    NotBegun(Error),
    /// Rolled back because of a command, which has its answer.
    Failed,
    RolledBack(Error),
    Unknown(Error),
}

type Jobs<S> = Vec<Box<dyn Job<S>>>;

/// Runs the commands and answers every one of them. Returns how many transactions it took.
pub(crate) async fn commit<S: Session>(session: &mut S, mut jobs: Jobs<S>) -> u64 {
    let outcome = match guarded(session, &mut jobs).await {
        Some(outcome) => outcome,
        // A bug. The callers of this batch learn of it as their jobs are dropped; the writer lives.
        None => return 1,
    };
    let may_start_over = jobs.len() > 1 || session.is_lost();
    match outcome {
        Attempt::Committed => settle(jobs),
        Attempt::NotBegun(error) => {
            fail(jobs, &error);
            return 0;
        }
        Attempt::Unknown(error) => fail(jobs, &error),
        Attempt::Failed | Attempt::RolledBack(_) if may_start_over => return 1 + one_by_one(session, jobs).await,
        Attempt::Failed => settle(jobs),
        Attempt::RolledBack(error) => fail(jobs, &error),
    }
    1
}

async fn one_by_one<S: Session>(session: &mut S, jobs: Jobs<S>) -> u64 {
    let mut transactions = 0;
    let mut jobs = jobs.into_iter();
    while let Some(job) = jobs.next() {
        let mut alone = vec![job];
        match guarded(session, &mut alone).await {
            None => {}
            Some(Attempt::Committed | Attempt::Failed) => settle(alone),
            Some(Attempt::Unknown(error) | Attempt::RolledBack(error)) => fail(alone, &error),
            // The others would wait for the same nothing.
            Some(Attempt::NotBegun(error)) => {
                fail(alone, &error);
                fail(jobs.collect(), &error);
                return transactions;
            }
        }
        transactions += 1;
    }
    transactions
}

/// [`attempt`], which `None` says panicked.
async fn guarded<S: Session>(session: &mut S, jobs: &mut Jobs<S>) -> Option<Attempt> {
    let attempt = AssertUnwindSafe(attempt(session, jobs)).catch_unwind().await;
    if attempt.is_err() {
        tracing::error!("a database command panicked; its batch is rolled back");
        session.rollback().await;
    }
    attempt.ok()
}

async fn attempt<S: Session>(session: &mut S, jobs: &mut Jobs<S>) -> Attempt {
    let durable = jobs.iter().any(|job| job.is_durable());
    if let Err(error) = session.begin(durable).await {
        return Attempt::NotBegun(error);
    }
    for job in jobs {
        session.next_command();
        if !job.run(session).await && session.is_tainted() {
            session.rollback().await;
            return Attempt::Failed;
        }
    }
    match session.commit().await {
        Ok(()) => Attempt::Committed,
        Err(CommitError::RolledBack(error)) => Attempt::RolledBack(error),
        Err(CommitError::Unknown(error)) => Attempt::Unknown(error),
    }
}

fn settle<S>(jobs: Jobs<S>) {
    for job in jobs {
        job.settle();
    }
}

fn fail<S>(jobs: Jobs<S>, error: &Error) {
    for job in jobs {
        job.fail(again(error));
    }
}

/// The same failure once more: an error has one owner, and here many callers share it.
pub(crate) fn again(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.to_string());
    if let Some(retry_after) = error.retry_after() {
        copy = copy.with_retry_after(retry_after);
    }
    copy
}
