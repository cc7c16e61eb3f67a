//! The driver layer over a real SQLite connection, with commands that no store has.

use std::time::Duration;

use registry_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

use super::schema::upgrade;
use super::{Command, Dialect, Job, Pending, Reader as _, Session, Tally, Transaction, commit, params, queue};
use crate::SqliteOptions;
use crate::sqlite::{SqliteSession, create_file, drive};

/// What to do, in order.
#[derive(Clone, Copy)]
enum Step {
    Write(i64),
    Fail,
    BreakSql,
    Panic,
    /// A tenth of a second and a little more.
    Linger,
}
use Step::{BreakSql, Fail, Linger, Panic, Write};

struct Steps(&'static [Step]);

impl Command for Steps {
    type Output = i64;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<i64> {
        for step in self.0 {
            match step {
                Write(number) => drop(transaction.execute("INSERT INTO numbers (number) VALUES (?1)", params![*number]).await?),
                Fail => return Err(Error::new(ErrorKind::Conflict, "as asked")),
                BreakSql => drop(transaction.query("SELECT nothing FROM nowhere", &[]).await?),
                Panic => panic!("as asked"),
                Linger => std::thread::sleep(Duration::from_millis(110)),
            }
        }
        transaction.query("SELECT COUNT(*) FROM numbers", &[]).await?.remove(0).int(0)
    }
}

fn session() -> (TempDir, SqliteSession) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    create_file(&path).unwrap();
    let session = SqliteSession::open(&path, &SqliteOptions::default()).unwrap();
    (folder, session)
}

fn with_numbers() -> (TempDir, SqliteSession) {
    let (folder, mut session) = session();
    drive(upgrade(&mut session, Dialect::Sqlite, &[&["CREATE TABLE numbers (number {int} NOT NULL UNIQUE) {heap}"]])).unwrap().unwrap();
    (folder, session)
}

fn numbers(session: &mut SqliteSession) -> Vec<i64> {
    let rows = drive(session.query("SELECT number FROM numbers ORDER BY number", &[])).unwrap().unwrap();
    rows.into_iter().map(|mut row| row.int(0).unwrap()).collect()
}

type Answer = Result<i64, ErrorKind>;

/// Runs them as one batch: what each came to, and in how many transactions.
fn run(session: &mut SqliteSession, batch: &[&'static [Step]]) -> (Vec<Answer>, u64) {
    let mut jobs: Vec<Box<dyn Job<SqliteSession>>> = Vec::new();
    let mut answers = Vec::new();
    for steps in batch {
        let (pending, answer) = Pending::new(Steps(steps));
        jobs.push(Box::new(pending));
        answers.push(answer);
    }
    let tally = Tally::default();
    drive(commit(session, jobs, &tally)).unwrap();
    assert_eq!(tally.stats().commands, batch.len() as u64);
    let transactions = tally.stats().transactions;
    let answers = answers.iter_mut().map(|answer| answer.try_recv().unwrap().map_err(|error| error.kind())).collect();
    (answers, transactions)
}

#[test]
fn commands_that_queued_up_share_one_transaction_and_see_each_other() {
    let (_folder, mut session) = with_numbers();
    let (answers, transactions) = run(&mut session, &[&[Write(1)], &[Write(2)], &[Write(3)]]);
    assert_eq!((answers, transactions), (vec![Ok(1), Ok(2), Ok(3)], 1));
    assert_eq!(numbers(&mut session), [1, 2, 3]);
}

#[test]
fn a_command_that_fails_before_it_writes_costs_the_others_nothing() {
    let (_folder, mut session) = with_numbers();
    let (answers, transactions) = run(&mut session, &[&[Write(1)], &[Fail], &[Write(3)]]);
    assert_eq!((answers, transactions), (vec![Ok(1), Err(ErrorKind::Conflict), Ok(2)], 1));
    assert_eq!(numbers(&mut session), [1, 3]);
}

#[test]
fn a_command_that_fails_after_it_wrote_is_undone_and_the_others_are_not() {
    let (_folder, mut session) = with_numbers();
    let (answers, transactions) = run(&mut session, &[&[Write(1)], &[Write(2), Fail], &[Write(3)]]);
    assert_eq!((answers, transactions), (vec![Ok(1), Err(ErrorKind::Conflict), Ok(2)], 4));
    assert_eq!(numbers(&mut session), [1, 3]);
}

#[test]
fn a_single_command_that_fails_after_it_wrote_is_undone() {
    let (_folder, mut session) = with_numbers();
    assert_eq!(run(&mut session, &[&[Write(1), Fail]]), (vec![Err(ErrorKind::Conflict)], 1));
    assert!(numbers(&mut session).is_empty());
}

#[test]
fn an_sql_error_is_its_own_commands_only() {
    let (_folder, mut session) = with_numbers();
    let (answers, _) = run(&mut session, &[&[Write(1)], &[BreakSql], &[Write(1)], &[Write(4)]]);
    assert_eq!(answers, [Ok(1), Err(ErrorKind::Internal), Err(ErrorKind::Internal), Ok(2)]);
    assert_eq!(numbers(&mut session), [1, 4]);
}

#[test]
fn a_panic_is_its_own_commands_only_and_the_writer_lives() {
    let (_folder, mut session) = with_numbers();
    let (answers, _) = run(&mut session, &[&[Write(1)], &[Write(2), Panic], &[Write(3)]]);
    assert_eq!(answers, [Ok(1), Err(ErrorKind::Internal), Ok(2)]);
    assert_eq!(run(&mut session, &[&[Panic]]).0, [Err(ErrorKind::Internal)]);
    assert_eq!(run(&mut session, &[&[Write(4)]]), (vec![Ok(3)], 1));
    assert_eq!(numbers(&mut session), [1, 3, 4]);
}

#[test]
fn a_transaction_that_has_taken_its_time_ends_and_the_rest_share_the_next() {
    let (_folder, mut session) = with_numbers();
    let batch: &[&'static [Step]] = &[&[Write(1)], &[Write(2), Linger], &[Write(3)], &[Write(4)], &[Write(5), Linger], &[Write(6)]];
    let (answers, transactions) = run(&mut session, batch);
    assert_eq!((answers, transactions), ((1..=6).map(Ok).collect(), 3));
    // Those before one that fails late are undone and repeated; those behind it never knew.
    let (answers, transactions) = run(&mut session, &[&[Write(7)], &[Write(8), Linger, Fail], &[Write(9)]]);
    assert_eq!((answers, transactions), (vec![Ok(7), Err(ErrorKind::Conflict), Ok(8)], 4));
    assert_eq!(numbers(&mut session), [1, 2, 3, 4, 5, 6, 7, 9]);
}

/// A command that does nothing and says that it is heavy.
struct Heavy(usize);

impl Command for Heavy {
    type Output = ();

    fn weight(&self) -> usize {
        self.0
    }

    async fn run<T: Transaction>(&self, _: &mut T) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_heavy_command_is_in_nobodys_way_but_of_those_behind_it() {
    let (queue, mut inbox) = queue::<SqliteSession>();
    let weights = [1, 2, 300 << 10, 3, 0, 200 << 10, 56 << 10, 1, 10 << 20];
    for weight in weights {
        let queued = queue.run(Heavy(weight));
        // It is in the queue once it was polled; the answer is of no interest.
        assert!(futures_util::FutureExt::now_or_never(queued).is_none());
    }
    let batches = tokio::task::spawn_blocking(move || {
        let mut batches = Vec::new();
        while batches.iter().flatten().count() < weights.len() {
            batches.push(inbox.blocking_next().unwrap().iter().map(|job| job.weight()).collect::<Vec<_>>());
        }
        batches
    });
    let expected = [vec![1, 2], vec![300 << 10], vec![3, 0, 200 << 10], vec![56 << 10, 1], vec![10 << 20]];
    assert_eq!(batches.await.unwrap(), expected);
}

#[tokio::test]
async fn a_queue_that_closes_hands_out_what_it_put_aside() {
    let (queue, mut inbox) = queue::<SqliteSession>();
    for weight in [1, 10 << 20] {
        assert!(futures_util::FutureExt::now_or_never(queue.run(Heavy(weight))).is_none());
    }
    assert!(futures_util::FutureExt::now_or_never(queue.close()).is_none());
    let sizes = tokio::task::spawn_blocking(move || {
        let mut sizes = Vec::new();
        while let Some(batch) = inbox.blocking_next() {
            sizes.push(batch.len());
        }
        sizes
    });
    assert_eq!(sizes.await.unwrap(), [1, 1]);
}

const ONE: &[&str] = &["CREATE TABLE one (x {int}) {heap}", "INSERT INTO one (x) VALUES (1)"];
const TWO: &[&str] = &["UPDATE one SET x = x + 1"];
const BROKEN: &[&str] = &["UPDATE one SET x = 100", "UPDATE no_such_table SET x = 1"];

fn upgraded(session: &mut SqliteSession, migrations: &[&[&str]]) -> Result<i64> {
    drive(upgrade(session, Dialect::Sqlite, migrations))??;
    drive(session.query("SELECT x FROM one", &[]))??.remove(0).int(0)
}

#[test]
fn an_upgrade_runs_what_is_new_once_and_in_order() {
    let (_folder, mut session) = session();
    assert_eq!(upgraded(&mut session, &[ONE]).unwrap(), 1);
    assert_eq!(upgraded(&mut session, &[ONE]).unwrap(), 1);
    assert_eq!(upgraded(&mut session, &[ONE, TWO, TWO]).unwrap(), 3);
    assert_eq!(upgraded(&mut session, &[ONE, TWO, TWO]).unwrap(), 3);
}

#[test]
fn an_upgrade_that_fails_changes_nothing_and_can_be_repeated() {
    let (_folder, mut session) = session();
    upgraded(&mut session, &[ONE]).unwrap();
    upgraded(&mut session, &[ONE, TWO, BROKEN]).unwrap_err();
    assert_eq!(upgraded(&mut session, &[ONE]).unwrap(), 1);
    assert_eq!(upgraded(&mut session, &[ONE, TWO]).unwrap(), 2);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (_folder, mut session) = session();
    upgraded(&mut session, &[ONE, TWO]).unwrap();
    assert_eq!(upgraded(&mut session, &[ONE]).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(upgraded(&mut session, &[ONE, TWO]).unwrap(), 2);
    assert!(!session.is_lost());
}
