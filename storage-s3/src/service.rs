//! [`Service`]: how requests are signed, sent, and sent again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService};
use storage_object::http::{Http, HttpBody, NoAnswer, Patience, short_body};
use tokio::time::Instant;

use crate::dialect::Dialect;
use crate::hashes::{self, Hashes};
use crate::refusal::{Asked, Failure, Refusal};

/// How long a service may be silent while it copies or puts together an object: what takes its time is done on its side.
const PATIENCE_WITH_WORK: Duration = Duration::from_secs(300);

/// Says who makes a request.
#[async_trait]
pub trait Authorize: fmt::Debug + Send + Sync {
    /// Whether it needs to know the body's SHA-256.
    fn signs_bodies(&self) -> bool {
        false
    }

    /// Adds what the service wants to see. Called anew each time that the request is sent.
    ///
    /// The error is told to people: why it cannot be done, and which setting to look at.
    async fn authorize(&self, request: &mut HttpRequest, sha256: Option<[u8; 32]>) -> Result<(), String>;
}

/// Sends what `object_store`'s client asks for, and what it has no way to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) http: Http,
    authorize: Arc<dyn Authorize>,
    patience: Patience,
    dialect: Dialect,
    /// The path in the bucket's URL.
    bucket: String,
}

impl Service {
    pub(crate) fn new(http: Http, authorize: Arc<dyn Authorize>, patience: Patience, dialect: Dialect, bucket_url: &str) -> Self {
        let bucket = bucket_url.splitn(4, '/').nth(3).map_or_else(String::new, |path| format!("/{}", path.trim_end_matches('/')));
        Self { http, authorize, patience, dialect, bucket }
    }

    /// What an answer says that is no success.
    pub(crate) fn refusal(&self, asked: &Asked, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        Refusal::new(self.dialect, asked, status, headers, body)
    }

    /// What it is, in what is told of it.
    pub(crate) fn asked(&self, request: &HttpRequest) -> Asked {
        Asked::new(request.method(), request.uri(), &self.bucket)
    }

    /// Sends a request, again if that may help.
    pub(crate) async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, Failure> {
        let asked = self.asked(&request);
        let may_have_a_body = [Method::PUT, Method::POST].contains(request.method());
        if may_have_a_body && request.body().content_length() == 0 {
            // RadosGW and Google want to be told that there is none.
            request.headers_mut().insert(CONTENT_LENGTH, 0.into());
        }
        let md5 = self.dialect.content_md5 && request.method() == Method::PUT && request.body().content_length() > 0;
        let hashes = hashes::of(request.body().clone(), md5, self.authorize.signs_bodies()).await;
        if let Some(md5) = hashes.md5.and_then(|md5| BASE64_STANDARD.encode(md5).parse().ok()) {
            request.headers_mut().insert("Content-MD5", md5);
        }
        let (began, mut failed) = (Instant::now(), 0);
        loop {
            let failure = match self.try_once(request.clone(), &asked, &hashes).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let retry_after = match &failure {
                Failure::Refused(refusal) => refusal.retry_after(),
                _ => None,
            };
            match self.patience.pause(began, failed, retry_after).filter(|_| failure.is_passing()) {
                None => return Err(failure),
                Some(pause) => {
                    tracing::debug!(%failure, ?pause, "a request is sent again");
                    failed += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn try_once(&self, mut request: HttpRequest, asked: &Asked, hashes: &Hashes) -> Result<HttpResponse, Failure> {
        let lost = |why| Failure::Lost { what: asked.what().to_owned(), why };
        let is_work = is_work(&request);
        let is_head = request.method() == Method::HEAD;
        self.authorize.authorize(&mut request, hashes.sha256).await.map_err(Failure::Unsigned)?;
        let http = if is_work { self.http.with_idle_timeout_of_at_least(PATIENCE_WITH_WORK) } else { self.http.clone() };
        let (head, body) = http.send(request).await.map_err(lost)?.into_parts();
        match head.status {
            // The rest of a short answer that breaks off is not asked for: all of it is. Nothing but an object's bytes are handed on as they come.
            status if status.is_success() && !asked.is_read() => {
                let body = body.bytes().await.map_err(lost)?;
                match Refusal::in_success(self.dialect, asked, head.status, &head.headers, &body).filter(|_| is_work) {
                    Some(refusal) => Err(Failure::Refused(Box::new(refusal))),
                    None => Ok(HttpResponse::from_parts(head, body.into())),
                }
            }
            status if status.is_success() => Ok(HttpResponse::from_parts(head, passed_on(body))),
            StatusCode::NOT_MODIFIED => Ok(HttpResponse::from_parts(head, Bytes::new().into())),
            _ => {
                let body = if is_head { Bytes::new() } else { short_body(body).await };
                Err(Failure::Refused(Box::new(self.refusal(asked, head.status, &head.headers, &body))))
            }
        }
    }
}

/// Whether the service may begin to answer before it knows how it ends: of copies, and of what puts parts together or deletes much.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
fn is_work(request: &HttpRequest) -> bool {
    let is_copy = ["x-amz-copy-source", "x-goog-copy-source"].iter().any(|name| request.headers().contains_key(*name));
    is_copy || (request.method() == Method::POST && request.uri().query().is_some_and(|query| !query.starts_with("uploads")))
}

fn passed_on(body: HttpBody) -> HttpResponseBody {
    let error = |why: NoAnswer| HttpError::new(HttpErrorKind::Interrupted, why);
    HttpResponseBody::new(body.map_err(error))
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // It was sent again as often as that helps.
        self.send(request).await.map_err(|failure| HttpError::new(HttpErrorKind::Unknown, failure))
    }
}

impl HttpConnector for Service {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
