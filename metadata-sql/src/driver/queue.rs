//! The queue in front of a writer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use registry_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, watch};

use super::{Command, Job, Pending, Transaction};

/// How many commands may wait. More wait outside, in their callers.
const WAITING: usize = 1024;

/// How many commands share a transaction at most: a bound on how long the first of them waits for its answer.
const BATCH: usize = 256;

/// About how many bytes they write at most, unless one alone writes more: for the same reason.
const WEIGHT: usize = 256 << 10;

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Changes that were asked for and answered.
    pub commands: u64,
    /// The transactions that they took.
    pub transactions: u64,
    /// Questions that were answered from memory.
    pub cache_hits: u64,
    /// Questions that could have been, and were not.
    pub cache_misses: u64,
}

/// A writer's count of what it did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    commands: AtomicU64,
    transactions: AtomicU64,
}

impl Tally {
    pub(super) fn command(&self) {
        self.commands.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn transaction(&self) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            commands: self.commands.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

/// What the writer finds in its queue.
enum Message<T> {
    Job(Box<dyn Job<T>>),
    Close,
}

/// The callers' end.
pub(crate) struct Queue<T> {
    sender: mpsc::Sender<Message<T>>,
    /// Fails once the inbox is gone.
    ended: watch::Receiver<()>,
    tally: Arc<Tally>,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("closed", &self.sender.is_closed()).field("tally", &self.tally).finish()
    }
}

/// The writer's end. Whoever closes the queue waits until it is dropped.
pub(crate) struct Inbox<T> {
    receiver: mpsc::Receiver<Message<T>>,
    /// The first of the queue, if it was taken out and found too heavy for the batch before it.
    first: Option<Box<dyn Job<T>>>,
    tally: Arc<Tally>,
    _alive: watch::Sender<()>,
}

/// A queue and its two ends.
pub(crate) fn queue<T>() -> (Queue<T>, Inbox<T>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let tally = Arc::<Tally>::default();
    let (alive, ended) = watch::channel(());
    (Queue { sender, ended, tally: Arc::clone(&tally) }, Inbox { receiver, first: None, tally, _alive: alive })
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the metadata store is closed")
}

impl<T: Transaction + 'static> Queue<T> {
    /// Has the command run, and returns its answer once that is committed. If the caller does not wait for it, a command that was queued runs all the
    /// same; it never runs in part.
    pub(crate) async fn run<C: Command>(&self, command: C) -> Result<C::Output> {
        let (pending, answer) = Pending::new(command);
        self.sender.send(Message::Job(Box::new(pending))).await.map_err(|_| closed())?;
        answer.await.map_err(|_| Error::new(ErrorKind::Internal, "the database writer dropped a command"))?
    }

    /// Ends the writer after everything that is queued. Returns when it has ended.
    pub(crate) async fn close(&self) {
        // An error says that it has been closed before.
        drop(self.sender.send(Message::Close).await);
        drop(self.ended.clone().changed().await);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.tally.stats()
    }
}

impl<T> Inbox<T> {
    /// Waits for commands on this thread, and takes what has queued up; `None` when there will be no more.
    #[cfg(feature = "sqlite")]
    pub(crate) fn blocking_next(&mut self) -> Option<Vec<Box<dyn Job<T>>>> {
        loop {
            let first = match self.first.take() {
                Some(job) => Message::Job(job),
                None => self.receiver.blocking_recv()?,
            };
            if let Some(batch) = self.gather(first) {
                return Some(batch);
            }
        }
    }

    /// The same in a task.
    #[cfg(feature = "postgres")]
    pub(crate) async fn next(&mut self) -> Option<Vec<Box<dyn Job<T>>>> {
        loop {
            let first = match self.first.take() {
                Some(job) => Message::Job(job),
                None => self.receiver.recv().await?,
            };
            if let Some(batch) = self.gather(first) {
                return Some(batch);
            }
        }
    }

    fn gather(&mut self, first: Message<T>) -> Option<Vec<Box<dyn Job<T>>>> {
        let mut batch: Vec<Box<dyn Job<T>>> = Vec::new();
        let mut weight = 0_usize;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Job(job) => {
                    weight = weight.saturating_add(job.weight());
                    if weight > WEIGHT && !batch.is_empty() {
                        self.first = Some(job);
                        break;
                    }
                    batch.push(job);
                }
                // Nothing is accepted any more; what is queued is still done.
                Message::Close => self.receiver.close(),
            }
            next = if batch.len() < BATCH { self.receiver.try_recv().ok() } else { None };
        }
        (!batch.is_empty()).then_some(batch)
    }

    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }
}
