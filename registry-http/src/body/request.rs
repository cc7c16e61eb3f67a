//! [`RequestBody`]: the bytes that a client sends, as the registry's stream.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http_body::Body as _;
use registry_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, Sleep};

use super::memory::{BodyMemory, Room};
use crate::error::{Code, Failure};

/// What went wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Nothing came for too long.
    Stalled,
    /// The connection ended first.
    Cut,
    /// The framing is broken, or the length is not what was declared.
    Malformed,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stalled => "nothing came for too long",
            Self::Cut => "the connection ended before the body did",
            Self::Malformed => "the body is not as declared",
        })
    }
}

impl std::error::Error for BodyError {}

/// How much of a body that nobody wants is read, so that the client, still sending, gets to read its answer. A connection that is closed with bytes
/// unread is reset, and a reset can overtake the answer.
const DRAIN_BYTES: u64 = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long a body that is collected may take in all, however steadily it comes.
const COLLECT_TIME: Duration = Duration::from_secs(300);

/// A request's body: checked against its declared length, bounded in how long it may stall, counted.
///
/// - A client that stalls or is cut off makes it end in [`ErrorKind::Interrupted`], after which an upload keeps what arrived.
/// - A body that is longer or shorter than a `Content-Range` said, or whose framing is broken, ends in an error that keeps nothing.
///
/// It reads only when it is polled, so `Expect: 100-continue` is answered when the bytes are really wanted.
pub(crate) struct RequestBody {
    body: Option<Body>,
    declared: Option<u64>,
    exact: bool,
    seen: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when the client is waited for. The time that the registry takes over a chunk is not the client's.
    waiting: Option<Instant>,
    may_drain: bool,
    received: metrics::Counter,
}

impl RequestBody {
    pub(crate) fn new(parts: &Parts, body: Body, idle: Duration, received: metrics::Counter) -> std::result::Result<Self, Failure> {
        let header = match parts.headers.get(CONTENT_LENGTH) {
            None => None,
            Some(value) => {
                let length = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
                Some(length.ok_or_else(|| Failure::new(Code::SizeInvalid, "the Content-Length is not a number"))?)
            }
        };
        let declared = header.or_else(|| body.size_hint().exact());
        // HTTP/2 ends a stream without ending the connection. A client that waits for 100 has sent nothing and need not.
        let may_drain = parts.version < http::Version::HTTP_2 && !parts.headers.contains_key(EXPECT);
        Ok(Self {
            body: (!body.is_end_stream()).then_some(body),
            declared,
            exact: false,
            seen: 0,
            idle,
            timer: None,
            waiting: None,
            may_drain,
            received,
        })
    }

    /// How long it is, where that is known beforehand.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// Whether it has no bytes for sure.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_none() && self.declared.is_none_or(|length| length == 0)
    }

    /// It has to be exactly so long; anything else keeps nothing.
    pub(crate) fn exactly(mut self, length: u64) -> Self {
        self.declared = Some(length);
        self.exact = true;
        self
    }

    /// All of it in memory, or 413 as soon as it is known to be longer than `limit`, or 503 if other requests leave no room. The room is to be kept as
    /// long as the bytes.
    pub(crate) async fn collect(self, limit: u64, memory: &BodyMemory) -> std::result::Result<(Bytes, Room), Failure> {
        // A client that sends a byte now and then would keep its room for ever.
        match tokio::time::timeout(COLLECT_TIME, self.collect_all(limit, memory)).await {
            Ok(collected) => collected,
            Err(_) => Err(interrupted(BodyError::Stalled).into()),
        }
    }

    async fn collect_all(mut self, limit: u64, memory: &BodyMemory) -> std::result::Result<(Bytes, Room), Failure> {
        let too_large = || Error::new(ErrorKind::TooLarge, format!("the limit is {limit} bytes"));
        if self.declared.is_some_and(|length| length > limit) {
            return Err(too_large().into());
        }
        let mut all = BytesMut::new();
        let mut room = Room::default();
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            let chunk = chunk?;
            if self.seen > limit {
                return Err(too_large().into());
            }
            if let Err(busy) = memory.grow(&mut room, usize::try_from(self.seen).unwrap_or(usize::MAX), limit).await {
                // Reading the rest only to throw it away would need memory too: the connection ends behind the answer.
                return Err(if std::mem::take(&mut self.may_drain) {
                    busy.with_header(CONNECTION, HeaderValue::from_static("close"))
                } else {
                    busy
                });
            }
            if all.is_empty() {
                let declared = self.declared.and_then(|length| usize::try_from(length).ok());
                all.reserve(declared.unwrap_or(0).min(room.taken()));
            }
            // Copied: a chunk of a few bytes may hold on to a read buffer of any size.
            all.extend_from_slice(&chunk);
        }
        Ok((all.freeze(), room))
    }

    /// The end of the body, or what it breaks off with.
    fn end(&mut self) -> Option<Result<Bytes>> {
        self.body = None;
        match self.declared {
            Some(length) if self.seen < length && self.exact => {
                let message = format!("the body has {} bytes, and {length} were declared", self.seen);
                Some(Err(Error::new(ErrorKind::SizeInvalid, message).with_source(BodyError::Malformed)))
            }
            Some(length) if self.seen < length => Some(Err(interrupted(BodyError::Cut))),
            _ => None,
        }
    }
}

fn interrupted(cause: BodyError) -> Error {
    Error::new(ErrorKind::Interrupted, cause.to_string()).with_source(cause)
}

/// A connection that ends is an interruption; chunks that cannot be told apart are nonsense, and so may be what was read before them.
fn broken(error: axum::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
        {
            return Error::new(ErrorKind::InvalidInput, "the framing of the body is broken").with_source(BodyError::Malformed);
        }
        cause = error.source();
    }
    tracing::debug!(%error, "a request's body broke off");
    interrupted(BodyError::Cut)
}

impl Stream for RequestBody {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        loop {
            let Some(body) = &mut this.body else {
                let end = this.end();
                this.declared = None;
                return Poll::Ready(end);
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.waiting = None;
                    let Ok(chunk) = frame.into_data() else { continue };
                    if chunk.is_empty() {
                        continue;
                    }
                    this.seen += chunk.len() as u64;
                    if let Some(length) = this.declared
                        && this.seen > length
                    {
                        let message = format!("the body is longer than the {length} bytes that were declared");
                        this.declared = None;
                        return Poll::Ready(Some(Err(Error::new(ErrorKind::SizeInvalid, message).with_source(BodyError::Malformed))));
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Poll::Ready(Some(Err(error))) => {
                    this.body = None;
                    this.declared = None;
                    return Poll::Ready(Some(Err(broken(error))));
                }
                Poll::Ready(None) => {
                    let end = this.end();
                    this.declared = None;
                    return Poll::Ready(end);
                }
                Poll::Pending => {
                    // One timer for the whole body, moved only when it fires: not a system call or a lock per frame.
                    let deadline = *this.waiting.get_or_insert_with(Instant::now) + this.idle;
                    let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if Instant::now() < deadline {
                        timer.as_mut().reset(deadline);
                        continue;
                    }
                    // Nothing more is read of it: the connection is closed behind the answer.
                    this.body = None;
                    this.declared = None;
                    return Poll::Ready(Some(Err(interrupted(BodyError::Stalled))));
                }
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.received.increment(self.seen);
        let Some(body) = self.body.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && self.may_drain
            && !body.is_end_stream()
        {
            runtime.spawn(async move { drop(tokio::time::timeout(DRAIN_TIME, drain(body)).await) });
        }
    }
}

async fn drain(mut body: Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        seen += frame.data_ref().map_or(0, |data| data.len() as u64);
        if seen > DRAIN_BYTES {
            return;
        }
    }
}
