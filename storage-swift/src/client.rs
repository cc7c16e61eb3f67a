//! [`Client`]: requests to one container, authenticated, watched, and tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, ETAG, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use object_store::PutPayload;
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::ErrorKind;
use tokio::time::Instant;

use crate::auth::{Auth, Session};
use crate::failure::{Failure, told_of};

/// All but what needs no escape in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes handed to a connection at a time, so that a slow one is seen to move.
const STEP: usize = 64 << 10;

/// A body of more than this is worth a token that lasts.
const LARGE: usize = 1 << 20;

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// How often a request is sent again.
    pub(crate) retries: u32,
    /// For how long.
    pub(crate) budget: Duration,
}

/// Speaks to one container.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) auth: Auth,
    pub(crate) container: String,
    pub(crate) patience: Patience,
}

/// What a request is about.
#[derive(Clone, Debug)]
pub(crate) enum Target<'a> {
    /// The account.
    Account,
    /// The container.
    Container,
    /// An object in it.
    Object(&'a str),
    /// Outside of the account, from the service's root: `/info`.
    Info,
}

/// A request, which can be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target<'a>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<PutPayload>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, target: Target<'a>) -> Self {
        Self { method, target, query: Vec::new(), headers: HeaderMap::new(), body: None }
    }

    pub(crate) fn object(method: Method, path: &'a Path) -> Self {
        Self::new(method, Target::Object(path.as_ref()))
    }

    #[must_use]
    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// A header; one that cannot be sent is left out, which only the caller's own constants could be.
    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    #[must_use]
    pub(crate) fn body(mut self, body: PutPayload) -> Self {
        self.body = Some(body);
        self
    }
}

/// The encoded path of a container, or of an object in it.
pub(crate) fn encoded(container: &str, object: Option<&str>) -> String {
    let container = utf8_percent_encode(container, IN_QUERY);
    match object {
        None => container.to_string(),
        Some(object) => format!("{container}/{}", utf8_percent_encode(object, IN_PATH)),
    }
}

/// What has been tried for one request.
#[derive(Debug)]
struct Tries {
    began: Instant,
    failed: u32,
    /// Whom the last one was made as.
    session: Option<Arc<Session>>,
    was_refused: bool,
}

impl Tries {
    fn new() -> Self {
        Self { began: Instant::now(), failed: 0, session: None, was_refused: false }
    }
}

/// When a body, or an answer, moved last.
#[derive(Debug)]
struct Movement {
    began: Instant,
    last: AtomicU64,
}

impl Movement {
    fn note(&self) {
        self.last.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn idle_since(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// The payload in small steps.
fn steps(payload: &PutPayload, movement: Arc<Movement>) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + use<> {
    let mut chunks: Vec<Bytes> = payload.iter().cloned().collect();
    chunks.reverse();
    stream::iter(std::iter::from_fn(move || {
        movement.note();
        let mut chunk = chunks.pop()?;
        if chunk.len() > STEP {
            let rest = chunk.split_off(STEP);
            chunks.push(rest);
        }
        Some(Ok(chunk))
    }))
}

impl Client {
    fn url(&self, session: &Session, call: &Call<'_>) -> String {
        let base = &session.storage_url;
        let mut url = match call.target {
            Target::Account => base.clone(),
            Target::Container => format!("{base}/{}", encoded(&self.container, None)),
            Target::Object(object) => format!("{base}/{}", encoded(&self.container, Some(object))),
            // https://host/v1/AUTH_x, and of RadosGW https://host/swift/v1/AUTH_x
            Target::Info => format!("{}/info", base.find("/v1").map_or(base.as_str(), |end| &base[..end])),
        };
        for (n, (name, value)) in call.query.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(name);
            if !value.is_empty() {
                url.push('=');
                url.extend(utf8_percent_encode(value, IN_QUERY));
            }
        }
        url
    }

    fn what(&self, call: &Call<'_>) -> String {
        match call.target {
            Target::Account => format!("{} of the account", call.method),
            Target::Container => format!("{} container {}", call.method, self.container),
            Target::Object(object) => format!("{} {}/{object}", call.method, self.container),
            Target::Info => "GET /info".to_owned(),
        }
    }

    /// Sends the request, again if that may help, until it succeeds. The answer's body is yet to be read.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<reqwest::Response, Failure> {
        let mut tries = Tries::new();
        loop {
            match self.try_once(call, &mut tries).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.pause(failure, &mut tries).await?,
            }
        }
    }

    /// The same with all of the answer's body, which is a short one: if that breaks off, the request is sent again too. With it comes what to call the
    /// request, if what it says is no good.
    pub(crate) async fn fetch(&self, call: &Call<'_>, what: &str) -> Result<(Bytes, String), Failure> {
        let mut tries = Tries::new();
        loop {
            let fetched = match self.try_once(call, &mut tries).await {
                Ok(answer) => {
                    let what = told_of(what, transaction(answer.headers()).as_deref());
                    self.body(answer, &what).await.map(|body| (body, what))
                }
                Err(failure) => Err(failure),
            };
            match fetched {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => self.pause(failure, &mut tries).await?,
            }
        }
    }

    async fn try_once(&self, call: &Call<'_>, tries: &mut Tries) -> Result<reqwest::Response, Failure> {
        let is_large = call.body.as_ref().is_some_and(|body| body.content_length() > LARGE);
        let session = tries.session.insert(self.auth.session(is_large).await?);
        self.attempt(session, call).await
    }

    /// Waits until it may be tried again; the failure, if that is no use.
    async fn pause(&self, mut failure: Failure, tries: &mut Tries) -> Result<(), Failure> {
        // A token may have been revoked. If a new one is refused too, it is no use.
        if failure.status == Some(StatusCode::UNAUTHORIZED)
            && !tries.was_refused
            && let Some(session) = &tries.session
        {
            match self.auth.instead_of(session).await {
                Ok(_) => {
                    tries.was_refused = true;
                    return Ok(());
                }
                Err(no_token) => failure = no_token,
            }
        }
        let asked = failure.error.retry_after();
        let pause = asked.unwrap_or_else(|| jittered(Duration::from_millis(100) * 2_u32.saturating_pow(tries.failed).min(64)));
        if !failure.is_passing() || tries.failed >= self.patience.retries || tries.began.elapsed() + pause > self.patience.budget {
            return Err(failure);
        }
        tries.failed += 1;
        tracing::debug!(error = %failure.error, ?pause, "a request to Swift is sent again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn attempt(&self, session: &Session, call: &Call<'_>) -> Result<reqwest::Response, Failure> {
        let what = self.what(call);
        let movement = Arc::new(Movement { began: Instant::now(), last: AtomicU64::new(0) });
        let mut request = self.http.request(call.method.clone(), self.url(session, call)).headers(call.headers.clone());
        if !matches!(call.target, Target::Info) {
            request = request.header("X-Auth-Token", session.token.clone());
        }
        match &call.body {
            Some(body) => {
                request = request.header(CONTENT_LENGTH, body.content_length());
                if body.content_length() > 0 {
                    request = request.body(reqwest::Body::wrap_stream(steps(body, Arc::clone(&movement))));
                }
            }
            None if call.method == Method::PUT || call.method == Method::POST => request = request.header(CONTENT_LENGTH, 0),
            None => {}
        }
        let mut sent = std::pin::pin!(request.send());
        let answer = loop {
            let left = self.patience.idle.saturating_sub(movement.idle_since());
            if left.is_zero() {
                let message = format!("{what}: nothing moved for {} s", self.patience.idle.as_secs());
                return Err(Failure::new(ErrorKind::TimedOut, message));
            }
            if let Ok(answer) = tokio::time::timeout(left, sent.as_mut()).await {
                break answer.map_err(|error| Failure::transport(&what, error))?;
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let trans_id = transaction(answer.headers());
        let retry_after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
        let detail = if call.method == Method::HEAD { Bytes::new() } else { self.short_body(answer).await };
        Err(Failure::answered(&what, status, trans_id.as_deref(), &String::from_utf8_lossy(&detail), retry_after))
    }

    /// What there is of an error's text.
    async fn short_body(&self, mut answer: reqwest::Response) -> Bytes {
        let mut body = Vec::new();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(self.patience.idle, answer.chunk()).await {
            body.extend_from_slice(&chunk);
            if body.len() > 8 << 10 {
                break;
            }
        }
        body.into()
    }

    /// All of an answer's body: for short ones.
    pub(crate) async fn body(&self, mut answer: reqwest::Response, what: &str) -> Result<Bytes, Failure> {
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(self.patience.idle, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(body.into()),
                Ok(Err(error)) => return Err(Failure::transport(what, error)),
                Err(_) => {
                    let message = format!("{what}: nothing moved for {} s", self.patience.idle.as_secs());
                    return Err(Failure::new(ErrorKind::TimedOut, message));
                }
            }
        }
    }
}

/// Give or take a half, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let noise = u32::from_str_radix(&registry_core::random_id()[..8], 16).unwrap_or(0);
    pause.mul_f64(0.5 + f64::from(noise) / f64::from(u32::MAX))
}

/// What the service's own log calls a request.
pub(crate) fn transaction(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("X-Trans-Id").or_else(|| headers.get("X-Openstack-Request-Id"))?;
    id.to_str().ok().map(ToOwned::to_owned)
}

/// An ETag without quotes: Swift quotes some and not others.
pub(crate) fn e_tag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(ETAG)?.to_str().ok()?.trim_matches('"');
    (!tag.is_empty()).then(|| tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_but_for_their_slashes() {
        assert_eq!(encoded("a b/c", None), "a%20b%2Fc");
        assert_eq!(encoded("box", Some("a/b c/ü%20")), "box/a/b%20c/%C3%BC%2520");
    }

    #[tokio::test]
    async fn a_payload_is_sent_in_small_steps_and_whole() {
        use futures_util::TryStreamExt as _;
        let chunks = [Bytes::from(vec![1; 3 * STEP + 5]), Bytes::new(), Bytes::from(vec![2; 10])];
        let payload: PutPayload = chunks.iter().cloned().collect();
        let movement = Arc::new(Movement { began: Instant::now(), last: AtomicU64::new(0) });
        let steps: Vec<_> = steps(&payload, movement).try_collect().await.unwrap();
        assert!(steps.iter().all(|step| step.len() <= STEP));
        assert_eq!(steps.concat(), chunks.concat());
    }
}
