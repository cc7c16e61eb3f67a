//! A server on a port, and a client that writes its requests byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use registry_http::ServeOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Answer;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        Self::with(router, ServeOptions::default()).await
    }

    pub(crate) async fn with(router: Router, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(registry_http::serve(listener, router, async { drop(stopped.await) }, options));
        Self { address, stop: Some(stop), task }
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// Tells it to stop.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has stopped.
    pub(crate) async fn ended(self) {
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("the server stops").unwrap().unwrap();
    }
}

/// A connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Wire {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A head, with `Host`; lines are divided by `\n`.
    pub(crate) async fn head(&mut self, lines: &str) {
        let head = format!("{}\nhost: registry.test\n\n", lines.trim()).replace('\n', "\r\n");
        self.write(head).await;
    }

    /// A request with a body of known length, and its answer.
    pub(crate) async fn request(&mut self, lines: &str, body: &[u8]) -> Answer {
        self.head(&format!("{}\ncontent-length: {}", lines.trim(), body.len())).await;
        self.write(body).await;
        self.answer(lines.starts_with("HEAD ")).await
    }

    /// A request without a body, and its answer.
    pub(crate) async fn ask(&mut self, lines: &str) -> Answer {
        self.head(lines).await;
        self.answer(lines.starts_with("HEAD ")).await
    }

    /// A request with a chunked body, and its answer.
    pub(crate) async fn chunked(&mut self, lines: &str, pieces: &[&[u8]]) -> Answer {
        self.head(&format!("{}\ntransfer-encoding: chunked", lines.trim())).await;
        for piece in pieces {
            self.chunk(piece).await;
        }
        self.write("0\r\n\r\n").await;
        self.answer(false).await
    }

    pub(crate) async fn chunk(&mut self, piece: &[u8]) {
        self.write(format!("{:x}\r\n", piece.len())).await;
        self.write(piece).await;
        self.write("\r\n").await;
    }

    /// Reads more; whether there was any.
    async fn fill(&mut self) -> bool {
        let mut space = vec![0; 64 << 10];
        match tokio::time::timeout(PATIENCE, self.stream.read(&mut space)).await.expect("an answer in time") {
            Ok(n) => {
                self.read.extend_from_slice(&space[..n]);
                n > 0
            }
            Err(error) => panic!("the connection broke: {error}; read so far: {}", String::from_utf8_lossy(&self.read)),
        }
    }

    /// The head of the next answer.
    pub(crate) async fn answer_head(&mut self) -> (StatusCode, HeaderMap) {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            assert!(self.fill().await, "the connection ended before an answer: {}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), value.trim().parse().unwrap());
        }
        (status, headers)
    }

    /// The next answer. Bodies have a length, or none; nothing here is sent in chunks.
    pub(crate) async fn answer(&mut self, to_head: bool) -> Answer {
        let (status, headers) = self.answer_head().await;
        let length = headers.get("content-length").map(|value| value.to_str().unwrap().parse::<usize>().unwrap());
        let no_body = to_head || status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let length = if no_body { 0 } else { length.unwrap_or_else(|| panic!("no length: {headers:?}")) };
        let mut broken = false;
        while self.read.len() < length && !broken {
            broken = !self.fill().await;
        }
        let body: Bytes = self.read.drain(..length.min(self.read.len())).collect::<Vec<_>>().into();
        Answer { status, headers, body, broken }
    }

    /// Everything that comes until the server ends the connection, in whatever way.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        let end = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("the connection ends in time");
        drop(end);
        rest
    }

    /// Whether the server closes the connection, without a reset, and without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.fill().await
    }
}
