//! [`serve`]: the accept loop.

mod io;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use self::io::Connection;

/// How connections are served.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ServeOptions {
    max_buf_size: usize,
    max_head_size: usize,
    header_timeout: Duration,
    keep_alive: Duration,
    write_idle_timeout: Duration,
    max_connections: usize,
    shutdown_deadline: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_buf_size: 512 << 10,
            max_head_size: 64 << 10,
            header_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(120),
            write_idle_timeout: Duration::from_secs(300),
            max_connections: 4096,
            shutdown_deadline: Duration::from_secs(30),
        }
    }
}

impl ServeOptions {
    /// The largest read buffer of an HTTP/1 connection in bytes, which a connection grows to only while it is pushed to: 512 KiB by
    /// default. With 1 MiB sixteen pushes at a time need 20 MiB more, and one alone a tenth less CPU time.
    pub fn with_max_buf_size(mut self, bytes: usize) -> Self {
        self.max_buf_size = bytes.max(16 << 10);
        self
    }

    /// The largest head of a request in bytes; a larger one is answered 431 and its connection closed. 64 KiB by default;
    /// 16 KiB with HTTP/2, always.
    pub fn with_max_head_size(mut self, bytes: usize) -> Self {
        self.max_head_size = bytes.max(8 << 10);
        self
    }

    /// How long a new connection may take to send its first request's head: 30 seconds by default.
    pub fn with_header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// How long a connection may idle until the next request's head is there: two minutes by default, longer than clients keep theirs, so that it is the
    /// client that closes and no request meets a connection that is just being closed.
    pub fn with_keep_alive(mut self, timeout: Duration) -> Self {
        self.keep_alive = timeout;
        self
    }

    /// How long a client may take in nothing of what is sent to it, before its connection is closed: five minutes by default.
    pub fn with_write_idle_timeout(mut self, timeout: Duration) -> Self {
        self.write_idle_timeout = timeout;
        self
    }

    /// How many connections are open at a time; more wait in the kernel's queue. 4,096 by default. Together with
    /// [`with_max_head_size`](Self::with_max_head_size) it bounds what clients can make the server keep that never finish a request.
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long requests may take to end once the server is told to stop: 30 seconds by default.
    pub fn with_shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }
}

/// Serves until `shutdown` is ready; then takes no more connections, lets the requests that are being answered end, and closes what is left at the
/// deadline. HTTP/1 and, by prior knowledge, HTTP/2.
///
/// Needs a tokio runtime with time and network. Dropping the future closes all connections at once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    options: ServeOptions,
) -> std::io::Result<()> {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let builders = Arc::new(Builders::new(options));
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, accept(&listener).await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (slot, stream) = accepted => {
                let connection = connection(stream, router.clone(), Arc::clone(&builders), stopping.clone(), options);
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
        }
    }
    drop(listener);
    tracing::info!(connections = connections.len(), "stopping");
    // Each connection sees that the sender is gone.
    drop(stop);
    let ended = tokio::time::timeout(options.shutdown_deadline, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
        connections.shutdown().await;
    }
    Ok(())
}

/// The next connection. What one client does wrong, or a lack of file descriptors, does not end the server.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
}

/// How each version of HTTP is spoken.
///
/// Rejected: hyper-util's builder that does both, which has no limit for the size of a head other than that of the read buffer.
struct Builders {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Builders {
    fn new(options: ServeOptions) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .max_header_size(options.max_head_size)
            .max_buf_size(options.max_buf_size.max(options.max_head_size))
            .header_read_timeout(options.keep_alive);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(2 << 20)
            .max_concurrent_streams(64)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(30));
        Self { http1, http2 }
    }
}

async fn connection(stream: TcpStream, router: Router, builders: Arc<Builders>, mut stopping: watch::Receiver<()>, options: ServeOptions) {
    // An answer should not wait for an acknowledgement of its head.
    let _ = stream.set_nodelay(true);
    let first = tokio::time::Instant::now() + options.header_timeout;
    let mut stream = Connection::new(stream, options.write_idle_timeout);
    let http2 = tokio::select! {
        http2 = stream.is_http2() => http2,
        _ = stopping.changed() => return,
        () = tokio::time::sleep_until(first) => return,
    };
    let begun = Arc::new(AtomicBool::new(false));
    let service = {
        let begun = Arc::clone(&begun);
        hyper::service::service_fn(move |request: http::Request<Incoming>| {
            begun.store(true, Ordering::Relaxed);
            router.clone().call(request.map(Body::new))
        })
    };
    match http2 {
        Ok(false) => drive(builders.http1.serve_connection(stream, service), stopping, first, &begun).await,
        Ok(true) => drive(builders.http2.serve_connection(stream, service), stopping, first, &begun).await,
        Err(error) => tracing::debug!(%error, "a connection ended"),
    }
}

/// Serves a connection to its end: until one side has had enough, or no request has `begun` when the `first` should.
async fn drive(
    served: impl GracefulConnection<Error = hyper::Error>,
    mut stopping: watch::Receiver<()>,
    first: tokio::time::Instant,
    begun: &AtomicBool,
) {
    let mut served = pin!(served);
    // hyper's own time-out is that of later requests, and HTTP/2 has none.
    let mut first = pin!(tokio::time::sleep_until(first));
    let (mut watching, mut stopped) = (true, false);
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            _ = stopping.changed(), if !stopped => {
                stopped = true;
                served.as_mut().graceful_shutdown();
            }
            () = first.as_mut(), if watching => {
                if !begun.load(Ordering::Relaxed) {
                    return;
                }
                watching = false;
            }
        }
    }
}
