//! [`Writer`]: the async side of an upload. While one batch is hashed and written on a blocking thread, the next one is received.

use std::sync::Arc;

use bytes::Bytes;
use registry_core::blob::BlobInfo;
use registry_core::{Digest, Error, ErrorKind, Hasher, Result};
use tokio::task::JoinHandle;

use crate::pending::Pending;
use crate::shared::{Shared, interrupted};
use crate::staging::{Loss, Outcome, Staging};

/// Bytes that are received before they go to the disk together. A blob below this is written in one go at its end. One batch on its way and one being
/// filled make about twice this the memory of an upload.
pub(crate) const BATCH: usize = 512 << 10;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    pending: Pending,
    offset: u64,
    state: State,
}

enum State {
    Idle(Box<Staging>),
    /// Somewhere on a blocking thread. Kept here, so that a caller that was dropped while waiting does not lose the outcome.
    Busy(JoinHandle<Done>),
    Suspended,
    Committed(BlobInfo),
    Aborted,
    Lost(Loss),
}

struct Done {
    staging: Box<Staging>,
    pending: Pending,
    outcome: Outcome,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, staging: Staging, offset: u64) -> Self {
        Self { shared, pending: Pending::default(), offset, state: State::Idle(Box::new(staging)) }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<()> {
        match &self.state {
            State::Idle(_) | State::Busy(_) => {}
            _ => return Err(self.refusal()),
        }
        self.offset += chunk.len() as u64;
        self.pending.push(chunk);
        if self.pending.len() < BATCH {
            return Ok(());
        }
        self.settle().await?;
        self.start(|staging, pending| staging.append(pending).into()).await
    }

    /// Makes everything durable and gives up the file. The hash over it all is handed back.
    pub(crate) async fn suspend(&mut self) -> Result<Hasher> {
        self.settle().await?;
        match &self.state {
            // Nothing was ever written: nothing has to be.
            State::Idle(staging) if staging.is_empty() && self.pending.is_empty() => {}
            State::Idle(_) => self.start(|staging, pending| staging.suspend(pending).into()).await?,
            _ => return Err(self.refusal()),
        }
        let hasher = self.finish().await?;
        if let State::Idle(staging) = &self.state {
            let hasher = staging.hasher().clone();
            self.state = State::Suspended;
            return Ok(hasher);
        }
        hasher.ok_or_else(|| self.refusal())
    }

    pub(crate) async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo> {
        self.settle().await?;
        match &self.state {
            State::Committed(info) if info.digest == *digest => return Ok(info.clone()),
            State::Idle(_) => {}
            _ => return Err(self.refusal()),
        }
        let digest = *digest;
        self.start(move |staging, pending| staging.commit(pending, &digest).into()).await?;
        self.finish().await?;
        match &self.state {
            State::Committed(info) => Ok(info.clone()),
            _ => Err(self.refusal()),
        }
    }

    /// Drops the staged bytes; false if they were given up before, by a suspend.
    pub(crate) async fn abort(&mut self) -> Result<bool> {
        // What became of the last write is of no interest.
        drop(self.settle().await);
        match &self.state {
            State::Idle(staging) if staging.is_empty() => Ok(true),
            State::Idle(_) => {
                self.start(|staging, _| staging.abort().into()).await?;
                self.finish().await?;
                Ok(true)
            }
            State::Suspended => Ok(false),
            _ => Ok(true),
        }
    }

    /// Hands the staging and all pending bytes to a blocking thread. To be called when idle.
    async fn start(&mut self, job: impl FnOnce(&mut Staging, &mut Pending) -> Outcome + Send + 'static) -> Result<()> {
        let permit = self.shared.permit().await;
        // From here to the assignment of the handle nothing waits: no dropped future can lose the staging.
        match std::mem::replace(&mut self.state, State::Lost(Loss::Failed)) {
            State::Idle(mut staging) => {
                let mut pending = std::mem::take(&mut self.pending);
                self.state = State::Busy(tokio::task::spawn_blocking(move || {
                    let outcome = job(&mut staging, &mut pending);
                    drop(permit);
                    Done { staging, pending, outcome }
                }));
                Ok(())
            }
            other => {
                self.state = other;
                Err(self.refusal())
            }
        }
    }

    /// Waits for what was started earlier. That it was *refused* concerned an earlier caller, who is gone.
    async fn settle(&mut self) -> Result<()> {
        match self.finish().await {
            Err(error) if !matches!(self.state, State::Idle(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits for what was started and takes its outcome; after a suspend that is the hash.
    async fn finish(&mut self) -> Result<Option<Hasher>> {
        let State::Busy(handle) = &mut self.state else { return Ok(None) };
        let done = match handle.await {
            Ok(done) => done,
            Err(error) => {
                self.state = State::Lost(Loss::Failed);
                return Err(interrupted(error));
            }
        };
        self.pending.restore(done.pending);
        let (state, result) = match done.outcome {
            Outcome::Appended => (State::Idle(done.staging), Ok(None)),
            Outcome::Suspended => (State::Suspended, Ok(Some(done.staging.hasher().clone()))),
            Outcome::Committed(info) => (State::Committed(info), Ok(None)),
            Outcome::Aborted => (State::Aborted, Ok(None)),
            Outcome::Refused(error) => (State::Idle(done.staging), Err(error)),
            Outcome::Lost(loss, error) => (State::Lost(loss), Err(error)),
        };
        self.state = state;
        if !matches!(self.state, State::Idle(_)) {
            self.pending.clear();
        }
        result
    }

    /// Why nothing more can be done with this handle.
    fn refusal(&self) -> Error {
        match &self.state {
            State::Idle(_) | State::Busy(_) => Error::new(ErrorKind::Conflict, "the upload is busy"),
            State::Suspended => Error::new(ErrorKind::Conflict, "the upload was suspended: it can be resumed from its token"),
            State::Committed(_) => Error::new(ErrorKind::Conflict, "the upload was committed"),
            State::Aborted => Error::new(ErrorKind::Conflict, "the upload was dropped"),
            State::Lost(loss) => loss.error(),
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Idle(_) => "idle",
            State::Busy(_) => "busy",
            State::Suspended => "suspended",
            State::Committed(_) => "committed",
            State::Aborted => "aborted",
            State::Lost(_) => "lost",
        };
        f.debug_struct("Writer")
            .field("offset", &self.offset)
            .field("pending", &self.pending.len())
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
