//! [`Service`]: how requests are signed, sent, and sent again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
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

    /// Sends a request, again if that may help. Not so a delete of objects: one whose answer was lost may yet be on its way, and what is written after a second one was
    /// answered would be deleted by the first. Who asks for a delete has to know that it is not known how it ended.
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
            let may_help = failure.is_passing() && !asked.is_delete();
            match self.patience.pause(began, failed, retry_after).filter(|_| may_help) {
                None => return Err(failure),
                Some(pause) => {
                    tracing::debug!(%failure, ?pause, "a request is sent again");
                    failed += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Looks again at an object that is said not to be there by an answer that may be anybody's: one to a HEAD has no body, which would tell.
    async fn look_again(&self, request: HttpRequest, asked: &Asked, hashes: &Hashes) -> Result<HttpResponse, Failure> {
        let mut request = request;
        *request.method_mut() = Method::GET;
        request.headers_mut().insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        // Boxed, as it may be called from within.
        Box::pin(self.try_once(request, asked, hashes)).await?;
        let what = asked.what().to_owned();
        Err(Failure::Strange { what })
    }

    async fn try_once(&self, mut request: HttpRequest, asked: &Asked, hashes: &Hashes) -> Result<HttpResponse, Failure> {
        let original = (request.method() == Method::HEAD).then(|| request.clone());
        let lost = |why| Failure::Lost { what: asked.what().to_owned(), why };
        let (is_copy, is_work) = (is_copy(&request), is_work(&request));
        let is_head = request.method() == Method::HEAD;
        self.authorize.authorize(&mut request, hashes.sha256).await.map_err(Failure::Unsigned)?;
        let http = if is_work { self.http.with_idle_timeout_of_at_least(PATIENCE_WITH_WORK) } else { self.http.clone() };
        let (head, body) = http.send(request).await.map_err(lost)?.into_parts();
        match head.status {
            // The rest of a short answer that breaks off is not asked for: all of it is. Nothing but an object's bytes are handed on as they come.
            status if status.is_success() && !asked.is_read() => {
                let body = body.bytes().await.map_err(lost)?;
                let late = if is_work { Refusal::in_success(self.dialect, asked, head.status, &head.headers, &body) } else { None };
                match late {
                    Some(refusal) => Err(Failure::Refused(Box::new(refusal))),
                    // A copy that was not made would be the only copy of what is staged.
                    None if is_copy && !says_copied(&body) => Err(Failure::Strange { what: asked.what().to_owned() }),
                    None => Ok(HttpResponse::from_parts(head, body.into())),
                }
            }
            status if status.is_success() => Ok(HttpResponse::from_parts(head, passed_on(body))),
            StatusCode::NOT_MODIFIED => Ok(HttpResponse::from_parts(head, Bytes::new().into())),
            StatusCode::NOT_FOUND if is_head && !has_a_services_id(&head.headers) => match original {
                Some(request) => self.look_again(request, asked, hashes).await,
                None => Err(Failure::Strange { what: asked.what().to_owned() }),
            },
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
    is_copy(request) || (request.method() == Method::POST && request.uri().query().is_some_and(|query| !query.starts_with("uploads")))
}

fn is_copy(request: &HttpRequest) -> bool {
    ["x-amz-copy-source", "x-goog-copy-source"].iter().any(|name| request.headers().contains_key(*name))
}

/// Whether it is the answer to a copy: `CopyObjectResult`, or `CopyPartResult`.
fn says_copied(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    text.contains("<CopyObjectResult") || text.contains("<CopyPartResult")
}

/// Whether an answer has what services of this kind call a request by.
fn has_a_services_id(headers: &HeaderMap) -> bool {
    ["x-amz-request-id", "x-amz-id-2", "x-guploader-uploadid"].iter().any(|name| headers.contains_key(*name))
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
