//! [`serve`]: the accept loop.

mod io;
mod slots;
#[cfg(feature = "tls")]
mod tls;

use std::future::Future;
use std::net::SocketAddr;
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service as _;

use self::io::{Connection, Socket};
use self::slots::{Activity, Slots};
#[cfg(feature = "tls")]
pub use self::tls::{Certificate, Tls, TlsError};

/// How connections are served.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServeOptions {
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    prefer_http2: bool,
    allow_plain_http: bool,
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
            #[cfg(feature = "tls")]
            tls: None,
            prefer_http2: false,
            allow_plain_http: false,
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
    /// Speaks TLS with this certificate; its files are looked at while it is served with. Nobody is served without TLS then.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Which of the two a client gets over TLS that speaks both HTTP/1.1 and HTTP/2. HTTP/1.1 by default: large bodies cost a third less CPU time that way,
    /// and do not wait for each other on one connection.
    pub fn with_prefer_http2(mut self, prefer: bool) -> Self {
        self.prefer_http2 = prefer;
        self
    }

    /// Serves without TLS on an address that other machines can reach, too: for where a proxy in front, or the network, keeps what is said to itself.
    /// Passwords and images can be read and changed on the way otherwise. Off by default: [`serve`] refuses then.
    pub fn with_allow_plain_http(mut self, allow: bool) -> Self {
        self.allow_plain_http = allow;
        self
    }

    fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }

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

    /// How many connections are open at a time: 4,096 by default. For one more, one is closed that has no request, whichever has moved nothing for the longest
    /// time, or else one whose client has taken nothing of an answer in for half a minute; if there is none, it waits. Together with
    /// [`with_max_head_size`](Self::with_max_head_size) it bounds what clients can make the server keep that never finish a request.
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long requests may take to end once the server is told to stop: 30 seconds by default.
    pub fn with_shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }
}

/// What is known of the connection that a request came on: an extension of each request that [`serve`] serves. A host with an accept loop of its own that
/// inserts one is told who asks in the log, and where tokens are to be had with the right scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The other side's address: a proxy's, if there is one in between.
    pub peer: SocketAddr,
    /// Whether it is spoken to by TLS.
    pub is_tls: bool,
}

impl ConnectionInfo {
    /// This.
    pub fn new(peer: SocketAddr, is_tls: bool) -> Self {
        Self { peer, is_tls }
    }
}

/// Serves until `shutdown` is ready; then takes no more connections, lets the requests that are being answered end, and closes what is left at the
/// deadline. HTTP/1 and, by prior knowledge or as agreed on by TLS, HTTP/2.
///
/// Needs a tokio runtime with time and network. Dropping the future closes all connections at once.
///
/// # Errors
///
/// [`InvalidInput`](std::io::ErrorKind::InvalidInput) at once if other machines can reach the listener and there is neither
#[cfg_attr(feature = "tls", doc = "[a certificate](ServeOptions::with_tls)")]
#[cfg_attr(not(feature = "tls"), doc = "a certificate (feature `tls`)")]
/// nor [leave to do without](ServeOptions::with_allow_plain_http).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    options: ServeOptions,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    if !options.is_tls() && !options.allow_plain_http && !address.ip().is_loopback() {
        let problem = format!("{address} can be reached from other machines, and there is no certificate");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, problem));
    }
    let deadline = options.shutdown_deadline;
    let serving = accept_all(listener, router, shutdown, &options);
    #[cfg(feature = "tls")]
    let mut connections = match options.tls.clone() {
        Some(tls) => tokio::select! {
            connections = serving => connections,
            () = tls.watch() => unreachable!("it never returns"),
        },
        None => serving.await,
    };
    #[cfg(not(feature = "tls"))]
    let mut connections = serving.await;
    tracing::info!(connections = connections.len(), "stopping");
    let ended = tokio::time::timeout(deadline, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
        connections.shutdown().await;
    }
    Ok(())
}

/// Takes connections until `shutdown`, and returns those that are still open; each has been told that it is to end.
async fn accept_all(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>, options: &ServeOptions) -> JoinSet<()> {
    let slots = Slots::new(options.max_connections);
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let server = Arc::new(Server::new(router, options));
    loop {
        let accepted = async {
            let (stream, peer) = accept(&listener, &slots).await;
            (slots.take().await, stream, peer)
        };
        let (slot, stream, peer) = tokio::select! {
            // Each connection sees that the sender is gone.
            () = &mut shutdown => {
                drop(stop);
                return connections;
            }
            accepted = accepted => accepted,
        };
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a connection's task failed");
            }
        }
        let (server, stopping) = (Arc::clone(&server), stopping.clone());
        connections.spawn(async move {
            tokio::select! {
                () = server.connection(stream, peer, &slot.activity, stopping) => {}
                () = slot.activity.evicted() => tracing::debug!(%peer, "an idle connection was closed for another"),
            }
        });
    }
}

/// The next connection. What one client does wrong, or a lack of file descriptors, does not end the server.
async fn accept(listener: &TcpListener, slots: &Slots) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                    tracing::error!(%error, "cannot accept connections");
                    // One less is one file less.
                    slots.evict();
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }
}

/// What all connections share.
///
/// Rejected for speaking HTTP: hyper-util's builder that does both versions, which has no limit for the size of a head other than that of the read buffer.
struct Server {
    router: Router,
    #[cfg(feature = "tls")]
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    header_timeout: Duration,
    write_idle_timeout: Duration,
}

impl Server {
    fn new(router: Router, options: &ServeOptions) -> Self {
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
        Self {
            router,
            #[cfg(feature = "tls")]
            acceptor: options.tls.as_ref().map(|tls| tls.acceptor(options.prefer_http2)),
            http1,
            http2,
            header_timeout: options.header_timeout,
            write_idle_timeout: options.write_idle_timeout,
        }
    }

    #[cfg_attr(not(feature = "tls"), allow(unused_mut, reason = "a handshake can be stopped"))]
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, activity: &Arc<Activity>, mut stopping: watch::Receiver<()>) {
        // An answer should not wait for an acknowledgement of its head.
        let _ = stream.set_nodelay(true);
        let first = tokio::time::Instant::now() + self.header_timeout;
        let socket = Socket::new(stream, self.write_idle_timeout, Arc::clone(activity));
        #[cfg(feature = "tls")]
        if let Some(acceptor) = &self.acceptor {
            let accepted = tokio::select! {
                accepted = tls::accept(acceptor, socket) => accepted,
                _ = stopping.changed() => return,
                () = tokio::time::sleep_until(first) => return,
            };
            match accepted {
                Ok(stream) => self.http(stream, ConnectionInfo::new(peer, true), activity, first, stopping).await,
                Err(tls::NoTls::Plain) => tracing::debug!(%peer, "a client speaks plain HTTP where TLS is spoken"),
                Err(tls::NoTls::Failed(error)) => tracing::debug!(%peer, %error, "no TLS with a client"),
            }
            return;
        }
        self.http(socket, ConnectionInfo::new(peer, false), activity, first, stopping).await;
    }

    async fn http<S>(
        &self,
        stream: S,
        info: ConnectionInfo,
        activity: &Arc<Activity>,
        first: tokio::time::Instant,
        mut stopping: watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stream = Connection::new(stream);
        let http2 = tokio::select! {
            http2 = stream.is_http2() => http2,
            _ = stopping.changed() => return,
            () = tokio::time::sleep_until(first) => return,
        };
        let begun = Arc::new(AtomicBool::new(false));
        let service = {
            let (begun, router, activity) = (Arc::clone(&begun), self.router.clone(), Arc::clone(activity));
            hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                begun.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(info);
                let (working, answer) = (activity.work(), router.clone().call(request.map(Body::new)));
                async move { answer.await.map(|answer| answer.map(|body| working.sends(body))) }
            })
        };
        match http2 {
            Ok(false) => drive(self.http1.serve_connection(stream, service), stopping, first, &begun).await,
            Ok(true) => drive(self.http2.serve_connection(stream, service), stopping, first, &begun).await,
            Err(error) => tracing::debug!(%error, "a connection ended"),
        }
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
