//! [`Http`]: requests that may take as long as they move.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use object_store::client::{HttpRequest, HttpRequestBody};
use tokio::time::{Instant, Sleep};

use super::certificate;
use super::no_answer::NoAnswer;
use super::resume::Chunks;

/// Bytes handed to a connection at a time, so that a slow one is seen to move.
const STEP: usize = 64 << 10;

/// The most bytes of an answer that is taken in as a whole: a list of ten thousand keys of a kilobyte, each of whose bytes may be escaped.
const LONGEST: usize = 64 << 20;

/// Bytes of an error's text that are looked at.
const SHORT: usize = 16 << 10;

/// How often, and for how long in all, a request is sent again.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Patience {
    /// How often.
    pub retries: u32,
    /// For how long.
    pub budget: Duration,
}

impl Patience {
    /// So often, within so much time.
    pub fn new(retries: u32, budget: Duration) -> Self {
        Self { retries, budget }
    }

    /// How long to wait before the next try after so many failures, the service having asked for `asked`; `None` if there is to be no other.
    pub fn pause(&self, began: Instant, failed: u32, asked: Option<Duration>) -> Option<Duration> {
        let pause = asked.unwrap_or_else(|| jittered(Duration::from_millis(100) * 2_u32.saturating_pow(failed).min(64)));
        (failed < self.retries && began.elapsed() + pause <= self.budget).then_some(pause)
    }
}

impl Default for Patience {
    /// 5 times within 60 seconds.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(60))
    }
}

/// Give or take a half, so that many clients do not come back at once.
pub fn jittered(pause: Duration) -> Duration {
    let noise = u32::from_str_radix(&registry_core::random_id()[..8], 16).unwrap_or(0);
    pause.mul_f64(0.5 + f64::from(noise) / f64::from(u32::MAX))
}

/// Sends requests, and waits for their answers as long as anything moves. Made by [`HttpSettings`](super::HttpSettings). Cheap to clone: all clones share
/// connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    idle: Duration,
    /// The certificate of the service that answered last, in DER.
    certificate: Arc<Mutex<Option<Vec<u8>>>>,
}

/// When a body was last taken from.
#[derive(Debug)]
struct Movement {
    began: Instant,
    last: AtomicU64,
}

impl Movement {
    fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.last.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn idle_since(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// A request's body in small steps.
struct Steps {
    body: HttpRequestBody,
    chunk: Bytes,
    left: u64,
    movement: Arc<Movement>,
}

impl Body for Steps {
    type Data = Bytes;
    type Error = object_store::client::HttpError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        this.movement.note();
        while this.chunk.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => this.chunk = frame.into_data().unwrap_or_default(),
            }
        }
        let step = this.chunk.split_to(STEP.min(this.chunk.len()));
        this.left = this.left.saturating_sub(step.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(step))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer's body. Ends with [`NoAnswer`] if nothing comes for too long while somebody waits for it: who takes his time is not hurried.
pub struct HttpBody {
    body: reqwest::Body,
    idle: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| NoAnswer::of(&error))));
        }
        let idle = this.idle;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Some(Err(NoAnswer::idle(idle))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl HttpBody {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, NoAnswer> {
        loop {
            match self.frame().await.transpose()? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Piece by piece; `told` says what a failure is.
    pub fn chunks(self, told: impl FnMut(NoAnswer) -> registry_core::Error + Send + 'static) -> Chunks {
        self.into_data_stream().map_err(told).boxed()
    }

    /// All of it: for short ones. More than 64 MiB are no answer that makes sense, and an error.
    pub async fn bytes(mut self) -> Result<Bytes, NoAnswer> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > LONGEST {
                return Err(NoAnswer::broken("more came than such an answer has"));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }
}

impl std::fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpBody").finish_non_exhaustive()
    }
}

/// What there is of an error's text.
pub async fn short_body(mut body: HttpBody) -> Bytes {
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = body.chunk().await {
        text.extend_from_slice(&chunk);
        if text.len() > SHORT {
            break;
        }
    }
    text.into()
}

impl Http {
    pub(crate) fn new(client: reqwest::Client, idle: Duration) -> Self {
        Self { client, idle, certificate: Arc::default() }
    }

    /// The same, but nothing may move for longer: of what a service takes its time for.
    #[must_use]
    pub fn with_idle_timeout_of_at_least(&self, idle: Duration) -> Self {
        Self { idle: self.idle.max(idle), ..self.clone() }
    }

    /// Whether the certificate of the service that answered last is valid for another week at least:
    /// [`ErrorKind::InvalidInput`](registry_core::ErrorKind::InvalidInput), and until when it is, if not. `None` if no service has shown one.
    pub fn try_certificate(&self) -> Option<registry_core::Result<()>> {
        let certificate = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        certificate.as_ref().map(|der| certificate::check(der, chrono::Utc::now()))
    }

    /// Sends a request, once. The answer's body is yet to be read. Dropping the future, or the answer, closes the connection if it is not at its end; what the service
    /// has received of the request it may do all the same.
    pub async fn send(&self, request: HttpRequest) -> Result<http::Response<HttpBody>, NoAnswer> {
        let movement = Arc::new(Movement::new());
        let request = request.map(|body| {
            let left = body.content_length() as u64;
            // What has no body has no header that says how long it is, unless the request has one.
            let body = Steps { body, chunk: Bytes::new(), left, movement: Arc::clone(&movement) };
            if left == 0 { reqwest::Body::from(Bytes::new()) } else { reqwest::Body::wrap(body) }
        });
        let (head, body) = request.into_parts();
        // By the builder, which knows what to do with a user and a password in an address.
        let request = self.client.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
        let mut sent = std::pin::pin!(request.send());
        let answer = loop {
            let left = self.idle.saturating_sub(movement.idle_since());
            if left.is_zero() {
                return Err(NoAnswer::idle(self.idle));
            }
            if let Ok(answer) = tokio::time::timeout(left, sent.as_mut()).await {
                break answer.map_err(|error| NoAnswer::of(&error))?;
            }
        };
        let answer: http::Response<reqwest::Body> = answer.into();
        if let Some(shown) = answer.extensions().get::<reqwest::tls::TlsInfo>().and_then(|tls| tls.peer_certificate()) {
            let mut certificate = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
            if certificate.as_deref() != Some(shown) {
                *certificate = Some(shown.to_owned());
            }
        }
        Ok(answer.map(|body| HttpBody { body, idle: self.idle, waiting: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_payload_is_sent_in_small_steps_and_whole() {
        let chunks = [Bytes::from(vec![1; 3 * STEP + 5]), Bytes::new(), Bytes::from(vec![2; 10])];
        let payload: object_store::PutPayload = chunks.iter().cloned().collect();
        let body = HttpRequestBody::from(payload);
        let left = body.content_length() as u64;
        let mut body = Steps { body, chunk: Bytes::new(), left, movement: Arc::new(Movement::new()) };
        assert_eq!(body.size_hint().exact(), Some(chunks.concat().len() as u64));
        let mut steps = Vec::new();
        while let Some(frame) = body.frame().await {
            steps.push(frame.unwrap().into_data().unwrap());
        }
        assert!(steps.iter().all(|step| step.len() <= STEP));
        assert_eq!(steps.concat(), chunks.concat());
        assert!(body.is_end_stream());
    }

    /// The head of the one request that is sent to this address, where HOST is.
    async fn head_of(address: &str, headers: http::HeaderMap) -> String {
        use std::io::{BufRead as _, BufReader, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = address.replace("HOST", &listener.local_addr().unwrap().to_string());
        let service = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let lines = BufReader::new(client.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            client.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            head.join("\n")
        });
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = address.parse().unwrap();
        *request.headers_mut() = headers;
        let http = crate::http::HttpSettings::default().client().unwrap();
        assert_eq!(http.send(request).await.unwrap().status(), 204);
        service.join().unwrap()
    }

    #[tokio::test]
    async fn a_user_in_an_address_becomes_a_header_unless_there_is_one() {
        let head = head_of("http://user:p%40ss@HOST/v1", http::HeaderMap::new()).await;
        assert!(head.starts_with("GET /v1 HTTP/1.1\n") && head.contains("authorization: Basic dXNlcjpwQHNz"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        let signed = [(http::header::AUTHORIZATION, http::HeaderValue::from_static("Signed"))];
        let head = head_of("http://user:p%40ss@HOST/v1", signed.into_iter().collect()).await;
        assert!(head.contains("authorization: Signed") && !head.contains("Basic"), "{head}");
    }
}
