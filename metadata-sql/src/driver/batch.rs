//! Group commit: many callers' commands in one transaction.
//!
//! A durable commit costs a disk flush, or a network round trip and a flush. What queues up while one is under way is committed by the next as one
//! transaction, so that the price is shared exactly when it matters and nobody waits for company when it does not.
//!
//! Commands must not feel each other's failures. A savepoint around each would do that at a round trip per command; instead the session notes whether
//! the command that failed had changed anything. If not, which is the rule since commands check before they write, there is nothing to undo. If it had,
//! the whole transaction is rolled back and each command that was in it runs again in one of its own.
//!
//! Nor must they feel each other's weight: all writers, of all processes, wait for the transaction at hand. So it ends once it has taken its time, and
//! those who have not had their turn by then share the next one.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use registry_core::{Error, ErrorKind, Result};

use super::{Job, Tally, Transaction};

/// How long the commands of one transaction may take together before it is committed. The last of them may take longer.
const PATIENCE: Duration = Duration::from_millis(100);

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
    /// Nothing of it happened, so that it may be tried again.
    RolledBack(Error),
    /// Nobody can tell, so that it must not be.
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

/// Runs the commands and answers every one of them. What is answered is counted before, so that whoever has an answer finds it counted.
pub(crate) async fn commit<S: Session>(session: &mut S, mut jobs: Jobs<S>, tally: &Tally) {
    while !jobs.is_empty() {
        let (outcome, taken) = guarded(session, &mut jobs, tally).await;
        let rest = jobs.split_off(taken);
        let may_start_over = jobs.len() > 1 || session.is_lost();
        match outcome {
            Attempt::Failed | Attempt::RolledBack(_) if may_start_over => one_by_one(session, jobs, tally).await,
            Attempt::Committed | Attempt::Failed => settle(jobs, tally),
            Attempt::NotBegun(error) | Attempt::RolledBack(error) | Attempt::Unknown(error) => fail(jobs, error, tally),
        }
        jobs = rest;
    }
}

async fn one_by_one<S: Session>(session: &mut S, jobs: Jobs<S>, tally: &Tally) {
    let mut jobs = jobs.into_iter();
    while let Some(job) = jobs.next() {
        let mut alone = vec![job];
        match guarded(session, &mut alone, tally).await.0 {
            Attempt::Committed | Attempt::Failed => settle(alone, tally),
            Attempt::RolledBack(error) | Attempt::Unknown(error) => fail(alone, error, tally),
            // The others would wait for the same nothing.
            Attempt::NotBegun(error) => {
                alone.extend(jobs);
                return fail(alone, error, tally);
            }
        }
    }
}

/// [`attempt`], where a panic is the failure of whoever turns out to be the one that panics.
async fn guarded<S: Session>(session: &mut S, jobs: &mut Jobs<S>, tally: &Tally) -> (Attempt, usize) {
    match AssertUnwindSafe(attempt(session, jobs, tally)).catch_unwind().await {
        Ok(attempt) => attempt,
        Err(_) => {
            tracing::error!("a database command panicked; its transaction is rolled back");
            session.rollback().await;
            (Attempt::RolledBack(Error::new(ErrorKind::Internal, "the command panicked")), jobs.len())
        }
    }
}

/// Runs the first commands, as many as their time allows, and commits them. What came of it, and how many they were.
async fn attempt<S: Session>(session: &mut S, jobs: &mut Jobs<S>, tally: &Tally) -> (Attempt, usize) {
    let durable = jobs.iter().any(|job| job.is_durable());
    if let Err(error) = session.begin(durable).await {
        return (Attempt::NotBegun(error), jobs.len());
    }
    tally.transaction();
    // From here on others wait; the wait for them was before.
    let (begun, mut taken) = (Instant::now(), 0);
    for job in jobs {
        session.next_command();
        taken += 1;
        if !job.run(session).await && session.is_tainted() {
            session.rollback().await;
            return (Attempt::Failed, taken);
        }
        if begun.elapsed() >= PATIENCE {
            break;
        }
    }
    let outcome = match session.commit().await {
        Ok(()) => Attempt::Committed,
        Err(CommitError::RolledBack(error)) => Attempt::RolledBack(error),
        Err(CommitError::Unknown(error)) => Attempt::Unknown(error),
    };
    (outcome, taken)
}

fn settle<S>(jobs: Jobs<S>, tally: &Tally) {
    for job in jobs {
        tally.command();
        job.settle();
    }
}

fn fail<S>(jobs: Jobs<S>, error: Error, tally: &Tally) {
    let mut jobs = jobs.into_iter();
    let first = jobs.next();
    for job in jobs {
        tally.command();
        job.fail(again(&error));
    }
    if let Some(job) = first {
        tally.command();
        job.fail(error);
    }
}

/// The same failure once more: an error has one owner, and here many callers share it.
fn again(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.message());
    if let Some(key) = error.key() {
        copy = copy.with_key(key);
    }
    if let Some(retry_after) = error.retry_after() {
        copy = copy.with_retry_after(retry_after);
    }
    copy
}
