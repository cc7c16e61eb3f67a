//! Going on with a read whose connection broke.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use registry_core::{Error, ErrorKind, Result};

/// The bytes of an answer.
pub type Chunks = BoxStream<'static, Result<Bytes>>;

/// How often a read goes on after its connection broke, if less than [`PROGRESS`] came in between.
const RESUMES: u32 = 3;

/// Bytes for which it is worth going on as if nothing had happened.
const PROGRESS: u64 = 64 << 10;

type Reopen = Box<dyn Fn(Range<u64>) -> BoxFuture<'static, Result<Chunks>> + Send>;

struct Reading {
    chunks: Option<Chunks>,
    /// What to call it.
    what: String,
    /// Where the answer begins that is being read.
    begin: u64,
    next: u64,
    end: u64,
    failures: u32,
    reopen: Reopen,
}

/// The bytes in `range` of something that does not change: of the answer that is there, and, if its connection breaks or stalls, of others for the rest. Each of
/// these is a request of its own, as patient as the first was. Ends with an error if not all of the bytes come, or more.
pub fn resuming(
    what: String,
    first: Chunks,
    range: Range<u64>,
    reopen: impl Fn(Range<u64>) -> BoxFuture<'static, Result<Chunks>> + Send + 'static,
) -> Chunks {
    let Range { start, end } = range;
    let reading = Reading { chunks: Some(first), what, begin: start, next: start, end, failures: 0, reopen: Box::new(reopen) };
    let chunks = stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    chunks.fuse().boxed()
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.next >= self.end {
                return Ok(None);
            }
            let chunks = match &mut self.chunks {
                Some(chunks) => chunks,
                none => {
                    // If that fails, enough has been tried.
                    let chunks = (self.reopen)(self.next..self.end).await?;
                    self.begin = self.next;
                    none.insert(chunks)
                }
            };
            let error = match chunks.next().await {
                Some(Ok(chunk)) => {
                    self.next += chunk.len() as u64;
                    if self.next > self.end {
                        let message = format!("{}: more bytes came than were announced", self.what);
                        return Err(Error::new(ErrorKind::Corrupt, message));
                    }
                    return Ok(Some(chunk));
                }
                Some(Err(error)) => error,
                None => {
                    let message = format!("{}: the answer ended {} bytes early", self.what, self.end - self.next);
                    Error::new(ErrorKind::Interrupted, message)
                }
            };
            self.chunks = None;
            self.failures = if self.next - self.begin >= PROGRESS { 1 } else { self.failures + 1 };
            if self.failures > RESUMES || !error.is_retryable() {
                return Err(error);
            }
            tracing::debug!(what = self.what, at = self.next, %error, "goes on with a read whose connection broke");
        }
    }
}
