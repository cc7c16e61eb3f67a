//! [`BlobBody`]: a blob on its way to a client; [`NoBody`]: none.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use registry_core::blob::{BlobReader, ByteStream};
use registry_core::{Error, ErrorKind};

use crate::telemetry::Report;

/// Passes a store's chunks on as they are.
///
/// Its length is exact, so that `Content-Length` is sent; a stream that fails or ends early therefore ends the connection (or the HTTP/2 stream), and no
/// client takes what it got for the whole.
pub(crate) struct BlobBody {
    stream: Option<ByteStream>,
    remaining: u64,
    /// Written when the last byte was handed over, or the client went away.
    report: Report,
}

impl BlobBody {
    pub(crate) fn new(reader: BlobReader, report: Report) -> Self {
        let remaining = reader.len();
        Self { stream: (remaining > 0).then_some(reader.stream), remaining, report }
    }
}

impl http_body::Body for BlobBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
        let result = match stream.as_mut().poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => match this.remaining.checked_sub(chunk.len() as u64) {
                Some(remaining) => {
                    this.remaining = remaining;
                    this.report.sent += chunk.len() as u64;
                    if remaining == 0 {
                        this.stream = None;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                None => Error::new(ErrorKind::Internal, "a store sent more of a blob than it said"),
            },
            Poll::Ready(Some(Err(error))) => error,
            Poll::Ready(None) => Error::new(ErrorKind::Internal, "a store sent less of a blob than it said"),
        };
        this.stream = None;
        this.report.broken(&result);
        Poll::Ready(Some(Err(result)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// The body of answers that have none by their nature (204, 304). It does not say that its length is zero: these answers must not carry a
/// `Content-Length`, or not another than that of the content they are about.
pub(crate) struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
