//! [`Client`]: requests to one container, authenticated, watched, and tried again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use object_store::PutPayload;
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::ErrorKind;
use storage_object::http::{Http, HttpBody, Patience, short_body};
use tokio::time::Instant;
use url::Url;

use crate::auth::{Auth, Session};
use crate::failure::{Failure, told_of};

/// All but what needs no escape in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A body of more than this is worth a token that lasts.
const LARGE: usize = 1 << 20;

/// Speaks to one container.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) http: Http,
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

    /// Whether it deletes objects: by itself, or many at once. Such a request is not sent again: one whose answer was lost may yet be on its way, and what is written
    /// after a second one was answered would be deleted by the first.
    fn is_delete(&self) -> bool {
        self.method == Method::DELETE || self.query.iter().any(|(name, _)| *name == "bulk-delete")
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

/// An address as a request has it; in words why it is none.
pub(crate) fn address(url: &str) -> Result<Uri, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    url.as_str().parse().map_err(|error: http::uri::InvalidUri| error.to_string())
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
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Response<HttpBody>, Failure> {
        let mut tries = Tries::new();
        loop {
            match self.try_once(call, &mut tries).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.pause(call, failure, &mut tries).await?,
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
                    body(answer, &what).await.map(|body| (body, what))
                }
                Err(failure) => Err(failure),
            };
            match fetched {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => self.pause(call, failure, &mut tries).await?,
            }
        }
    }

    async fn try_once(&self, call: &Call<'_>, tries: &mut Tries) -> Result<Response<HttpBody>, Failure> {
        let is_large = call.body.as_ref().is_some_and(|body| body.content_length() > LARGE);
        let session = tries.session.insert(self.auth.session(is_large).await?);
        self.attempt(session, call).await
    }

    /// Waits until it may be tried again; the failure, if that is no use.
    async fn pause(&self, call: &Call<'_>, mut failure: Failure, tries: &mut Tries) -> Result<(), Failure> {
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
        let may_help = failure.is_passing() && !call.is_delete();
        let pause = self.patience.pause(tries.began, tries.failed, failure.error.retry_after()).filter(|_| may_help);
        let Some(pause) = pause else { return Err(failure) };
        tries.failed += 1;
        tracing::debug!(error = %failure.error, ?pause, "a request to Swift is sent again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn request(&self, session: &Session, call: &Call<'_>) -> Result<HttpRequest, String> {
        let mut request = HttpRequest::new(call.body.clone().map_or_else(HttpRequestBody::empty, HttpRequestBody::from));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = address(&self.url(session, call))?;
        let headers = request.headers_mut();
        headers.clone_from(&call.headers);
        if !matches!(call.target, Target::Info) {
            headers.insert("X-Auth-Token", session.token.clone());
        }
        let has_body = call.method == Method::PUT || call.method == Method::POST;
        let length = call.body.as_ref().map(PutPayload::content_length).or(has_body.then_some(0));
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        Ok(request)
    }

    async fn attempt(&self, session: &Session, call: &Call<'_>) -> Result<Response<HttpBody>, Failure> {
        let what = self.what(call);
        let no_url = |why| Failure::new(ErrorKind::Internal, format!("{what}: the account's address is no URL: {why}"));
        let request = self.request(session, call).map_err(no_url)?;
        let answer = self.http.send(request).await.map_err(|why| Failure::transport(&what, &why))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let trans_id = transaction(answer.headers());
        let retry_after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
        let detail = if call.method == Method::HEAD { Bytes::new() } else { short_body(answer.into_body()).await };
        Err(Failure::answered(&what, status, trans_id.as_deref(), &String::from_utf8_lossy(&detail), retry_after))
    }
}

/// All of an answer's body: for short ones.
pub(crate) async fn body(answer: Response<HttpBody>, what: &str) -> Result<Bytes, Failure> {
    answer.into_body().bytes().await.map_err(|why| Failure::transport(what, &why))
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

    #[test]
    fn an_address_is_sent_as_it_is_escaped() {
        let same = "http://user:p%40ss@[::1]:8080/swift/v1/AUTH_x/box/a/b%20c/%C3%BC%2520?format=json&prefix=a%2Fb";
        assert_eq!(address(same).unwrap().to_string(), same);
        assert_eq!(address("http://swift.example/v1/AUTH_ü x").unwrap(), "http://swift.example/v1/AUTH_%C3%BC%20x");
        assert!(address("http://").is_err() && address("/v1/AUTH_x").is_err());
    }
}
