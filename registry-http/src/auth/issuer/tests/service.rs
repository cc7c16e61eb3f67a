//! [`Service`]: publishes keys, or does not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// 200 with this.
    Json(String),
    /// The same after a while.
    Late(Duration, String),
    /// These bytes, whatever they are.
    Raw(String),
    /// Nothing, ever.
    Nothing,
    /// 200 without an end.
    Endless,
}

/// Answers every request the same way, or by its path.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) origin: String,
    requests: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

impl Service {
    pub(super) async fn start(answer: Answer) -> Self {
        Self::with("http", answer, None).await
    }

    pub(super) async fn start_tls(answer: Answer, tls: TlsAcceptor) -> Self {
        Self::with("https", answer, Some(tls)).await
    }

    async fn with(scheme: &str, answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("{scheme}://{}", listener.local_addr().unwrap());
        let service = Self { origin, requests: Arc::default(), answer: Arc::new(Mutex::new(answer)) };
        let this = service.clone();
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (this, tls) = (this.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => this.serve(connection).await,
                        Some(tls) => match tls.accept(connection).await {
                            Ok(connection) => this.serve(connection).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        service
    }

    pub(super) fn url(&self) -> String {
        format!("{}/keys", self.origin)
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How many requests came.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// `None` when the other side is gone.
    async fn serve(&self, mut connection: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.ok()?);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer.lock().unwrap().clone();
        let text = match answer {
            Answer::Json(json) => ok(&json),
            Answer::Late(pause, json) => {
                tokio::time::sleep(pause).await;
                ok(&json)
            }
            Answer::Raw(text) => text,
            Answer::Nothing => std::future::pending().await,
            Answer::Endless => {
                connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.ok()?;
                loop {
                    connection.write_all(&[b' '; 64 << 10]).await.ok()?;
                }
            }
        };
        connection.write_all(text.as_bytes()).await.ok()?;
        connection.shutdown().await.ok()
    }
}

fn ok(json: &str) -> String {
    // Not what it is, since nobody minds.
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}", json.len())
}
