//! What is between a TCP stream and HTTP: it does not wait forever, sees what is spoken, and does not cut off its last words.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::slots::Activity;

/// A TCP stream that gives a client up which takes nothing in. Below TLS, whose own buffer would hide it.
pub(crate) struct Socket {
    inner: TcpStream,
    write_idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when a write waits for the client to take something in.
    waiting: Option<Instant>,
    activity: Arc<Activity>,
}

impl Socket {
    pub(crate) fn new(inner: TcpStream, write_idle: Duration, activity: Arc<Activity>) -> Self {
        Self { inner, write_idle, timer: None, waiting: None, activity }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        &mut self.inner
    }

    /// After a write: a client that takes nothing in for too long is given up.
    fn watch(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.waiting = None;
            self.activity.moved();
            return result;
        }
        let deadline = *self.waiting.get_or_insert_with(Instant::now) + self.write_idle;
        // One timer for the whole connection, moved only when it fires.
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                break;
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing in")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.activity.moved();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How long, and how much, is read of what a client still sends after it was answered for the last time.
///
/// A connection that is closed while bytes are unread is reset, and the reset can overtake the answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 16 << 20;

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream as HTTP is spoken on it.
pub(crate) struct Connection<S> {
    inner: TokioIo<S>,
    closing: Closing,
    early: Early,
}

/// The first bytes, which were read to see what is spoken, and are to be read again.
#[derive(Default)]
struct Early {
    bytes: [u8; PREFACE.len()],
    len: usize,
    /// How many were read again.
    read: usize,
}

enum Closing {
    Not,
    /// Our side is closed; reading off what the other side sends until its side is.
    Lingering(Pin<Box<Sleep>>, u64),
    Done,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { inner: TokioIo::new(stream), closing: Closing::Not, early: Early::default() }
    }

    /// Whether HTTP/2 is spoken: known as soon as a byte differs from its preface, or the other side has ended.
    pub(crate) async fn is_http2(&mut self) -> io::Result<bool> {
        loop {
            let early = &mut self.early;
            if early.len == PREFACE.len() || early.bytes[..early.len] != PREFACE[..early.len] {
                return Ok(early.bytes == *PREFACE);
            }
            let n = self.inner.inner_mut().read(&mut early.bytes[early.len..]).await?;
            if n == 0 {
                return Ok(false);
            }
            early.len += n;
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let early = &mut self.early;
        if early.read < early.len {
            let end = early.len.min(early.read + buf.remaining());
            buf.put_slice(&early.bytes[early.read..end]);
            early.read = end;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.closing {
                Closing::Not => {
                    ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                    this.closing = Closing::Lingering(Box::pin(tokio::time::sleep(LINGER_TIME)), 0);
                }
                Closing::Lingering(timer, seen) => {
                    if timer.as_mut().poll(cx).is_ready() {
                        this.closing = Closing::Done;
                        continue;
                    }
                    let mut space = [0; 16 << 10];
                    let mut buf = ReadBuf::new(&mut space);
                    match ready!(Pin::new(this.inner.inner_mut()).poll_read(cx, &mut buf)) {
                        Ok(()) if !buf.filled().is_empty() && *seen < LINGER_BYTES => *seen += buf.filled().len() as u64,
                        _ => this.closing = Closing::Done,
                    }
                }
                Closing::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
