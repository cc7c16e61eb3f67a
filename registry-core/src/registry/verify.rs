//! Hashing what is read, on its way out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::future::BoxFuture;

use super::Inner;
use crate::blob::ByteStream;
use crate::metadata::Observation;
use crate::{Digest, Error, ErrorKind, Hasher, Result};

/// A whole blob's stream that holds back its last chunk until the digest is known to be right.
pub(super) struct Verified {
    inner: ByteStream,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    seen: u64,
    held: Option<Bytes>,
    registry: Arc<Inner>,
    /// Whether it is news that the bytes are right.
    note_good: bool,
    state: State,
}

enum State {
    Reading,
    /// Writing down what was found; then yields this.
    Noting(BoxFuture<'static, ()>, Option<Result<Bytes>>),
    Done,
}

impl Verified {
    pub(super) fn stream(inner: ByteStream, digest: Digest, size: u64, registry: Arc<Inner>, note_good: bool) -> ByteStream {
        let hasher = Some(Hasher::new(digest.algorithm()));
        Box::pin(Self { inner, hasher, digest, size, seen: 0, held: None, registry, note_good, state: State::Reading })
    }

    /// All bytes are here: compares, and says what to note and what to yield.
    fn conclude(&mut self) -> State {
        let found = self.hasher.take().map(Hasher::finalize);
        let (registry, digest) = (Arc::clone(&self.registry), self.digest);
        if found == Some(digest) && self.seen == self.size {
            if self.note_good {
                // The client need not wait for this to be written down.
                drop(tokio::spawn(async move {
                    if let Err(error) = registry.metadata.observe_blob(&digest, Observation::Verified).await {
                        tracing::warn!(%digest, %error, "could not note a verified blob");
                    }
                }));
            }
            return State::Noting(Box::pin(std::future::ready(())), self.held.take().map(Ok));
        }
        let note = Box::pin(async move { registry.found_bad(&digest, "its stored bytes have another digest").await });
        let error = Error::new(ErrorKind::Corrupt, "the stored bytes have another digest").with_key(digest);
        State::Noting(note, Some(Err(error)))
    }
}

impl Stream for Verified {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Done => return Poll::Ready(None),
                State::Noting(note, item) => {
                    ready!(note.as_mut().poll(cx));
                    let item = item.take();
                    this.state = State::Done;
                    return Poll::Ready(item);
                }
                State::Reading => match ready!(this.inner.as_mut().poll_next(cx)) {
                    Some(Ok(chunk)) => {
                        // A chunk is at most some hundred KiB, 0.1 ms of hashing: short enough for a worker.
                        if let Some(hasher) = &mut this.hasher {
                            hasher.update(&chunk);
                        }
                        this.seen += chunk.len() as u64;
                        if let Some(ready) = this.held.replace(chunk) {
                            return Poll::Ready(Some(Ok(ready)));
                        }
                    }
                    Some(Err(error)) => {
                        this.state = State::Done;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => this.state = this.conclude(),
                },
            }
        }
    }
}
