//! What happens to every request: an id, a span, counting, routing, and the headers that every answer has.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{RETRY_AFTER, WARNING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use http_body::Body as _;
use tracing::Instrument as _;

use crate::App;
use crate::access::{Caller, admit, token};
use crate::body::RequestBody;
use crate::error::{Code, Failure};
use crate::handlers::{blobs, header, json, lists, manifests, referrers, uploads};
use crate::query::Query;
use crate::route::{Kind, Split, Target, split};
use crate::serve::ConnectionInfo;
use crate::telemetry::Report;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Makes request ids: random enough to tell processes apart, counted within one.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { process: registry_core::random_id()[..12].to_owned(), next: AtomicU64::new(1) }
    }

    /// The client's or proxy's own id if it is a harmless word, else a new one.
    fn of(&self, parts: &Parts) -> HeaderValue {
        let word = |value: &&HeaderValue| {
            (1..=128).contains(&value.len()) && value.as_bytes().iter().all(|c| c.is_ascii_alphanumeric() || b"-_.:/+=".contains(c))
        };
        if let Some(value) = parts.headers.get(REQUEST_ID).filter(word) {
            return value.clone();
        }
        let mut id = String::with_capacity(32);
        // Writing to memory cannot fail.
        let _ = write!(id, "{}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed));
        header(id)
    }
}

/// A request while it is answered.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a Arc<App>,
    pub(crate) parts: &'a Parts,
    kind: Kind,
    /// Who asks. Nobody in particular until the gate has been passed.
    pub(crate) caller: Caller,
    body: Option<Body>,
    /// Taken by whoever answers with a stream, to be written when that ends.
    pub(crate) report: Option<Report>,
}

impl Call<'_> {
    /// The body. Asked for once.
    pub(crate) fn body(&mut self) -> Result<RequestBody, Failure> {
        let received = self.app.telemetry.received(self.kind, &self.parts.method);
        let body = self.body.take().unwrap_or_default();
        RequestBody::new(self.parts, body, self.app.options.body_idle_timeout, received)
    }

    /// What the paths in `Location` and `Link` begin with.
    pub(crate) fn base(&self) -> String {
        let options = &self.app.options;
        if options.trust_forwarded_headers { crate::forwarded::base(self.parts, &options.path_prefix) } else { options.path_prefix.clone() }
    }
}

/// Answers a request.
pub(crate) async fn answer(app: Arc<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let split = split(parts.uri.path());
    let id = app.request_ids.of(&parts);
    let text = id.to_str().unwrap_or_default();
    let span = tracing::info_span!(
        "request",
        request_id = text,
        method = parts.method.as_str(),
        route = split.kind.as_str(),
        repository = split.name_to_log(),
        peer = parts.extensions.get::<ConnectionInfo>().map(|info| tracing::field::display(info.peer.ip())),
        user = tracing::field::Empty,
    );
    let report = Report::begin(Arc::clone(&app), split.kind, &parts.method, span.clone());
    let overload = report.running > app.options.max_in_flight;
    let mut call = Call { app: &app, parts: &parts, kind: split.kind, caller: Caller::default(), body: Some(body), report: Some(report) };
    let mut response = route(&mut call, split, overload, text).instrument(span).await;
    if call.body.as_ref().is_some_and(|body| !body.is_end_stream()) {
        // Nobody looked at the body: it is still to be drained, so that the client can read its answer.
        drop(call.body());
    }
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    for warning in &app.options.warnings {
        headers.append(WARNING, warning.clone());
    }
    if let Some(mut report) = call.report.take() {
        report.status = Some(response.status());
        let sent = if parts.method == Method::HEAD { None } else { response.body().size_hint().exact() };
        report.sent = sent.unwrap_or(0);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn route(call: &mut Call<'_>, split: Split<'_>, overload: bool, request_id: &str) -> Response {
    let target = if overload {
        let failure = Failure::new(Code::TooManyRequests, "too many requests at a time; try again");
        Err(failure.with_header(RETRY_AFTER, HeaderValue::from_static("1")))
    } else {
        check(call, split)
    };
    let target = match target {
        Ok(target) => target,
        Err(failure) => return failure.into_response(split.kind, None, request_id),
    };
    match admit(call.app, call.parts, &target, request_id).await {
        Ok(caller) => call.caller = caller,
        Err(failure) => return failure.into_response(split.kind, Some(&target), request_id),
    }
    let mut response = match dispatch(call, &target, request_id).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(split.kind, Some(&target), request_id),
    };
    if !call.app.options.namespaces.is_empty() {
        namespace(call, &mut response);
    }
    response
}

fn check(call: &Call<'_>, split: Split<'_>) -> Result<Target, Failure> {
    if split.kind == Kind::Unknown {
        return Err(Failure::unknown_route());
    }
    let (method, read_only) = (&call.parts.method, call.app.registry.is_read_only());
    if !split.kind.allows(method, read_only) {
        // What would be allowed if it could be written to is refused for that reason.
        let read_only = read_only && split.kind.allows(method, false);
        return Err(Failure::method_not_allowed(split.kind, read_only));
    }
    split.target(method)
}

/// Each handler is boxed but the one that is called most: the futures of all of them side by side would be copied for every request.
async fn dispatch(call: &mut Call<'_>, target: &Target, request_id: &str) -> Result<Response, Failure> {
    let method = call.parts.method.as_str();
    match (target, method) {
        (Target::Base, _) => Ok(json("application/json", &serde_json::Map::new())),
        (Target::Catalog, _) => Box::pin(lists::catalog(call)).await,
        (Target::Token, _) => Box::pin(token(call, request_id)).await,
        (Target::Tags(name), _) => Box::pin(lists::tags(call, name)).await,
        (Target::Referrers(name, digest), _) => Box::pin(referrers::list(call, name, digest)).await,
        (Target::Manifest(name, reference), "GET" | "HEAD") => manifests::get(call, name, reference).await,
        (Target::Manifest(name, reference), "PUT") => Box::pin(manifests::put(call, name, reference)).await,
        (Target::Manifest(name, reference), _) => Box::pin(manifests::delete(call, name, reference)).await,
        (Target::Blob(name, digest), "GET" | "HEAD") => Box::pin(blobs::get(call, name, digest)).await,
        (Target::Blob(name, digest), _) => Box::pin(blobs::delete(call, name, digest)).await,
        (Target::UploadStart(name), _) => Box::pin(uploads::start(call, name)).await,
        (Target::Upload(name, id), "GET" | "HEAD") => Box::pin(uploads::status(call, name, id)).await,
        (Target::Upload(name, id), "PATCH") => Box::pin(uploads::append(call, name, id)).await,
        (Target::Upload(name, id), "PUT") => Box::pin(uploads::finish(call, name, id)).await,
        (Target::Upload(name, id), _) => Box::pin(uploads::cancel(call, name, id)).await,
    }
}

/// Says that a pull was answered on behalf of the upstream registry it was meant for.
fn namespace(call: &Call<'_>, response: &mut Response) {
    let Ok(query) = Query::parse(call.parts.uri.query()) else { return };
    let Ok(Some(ns)) = query.one("ns", Code::Unsupported) else { return };
    let pull = matches!(call.parts.method, Method::GET | Method::HEAD);
    if pull && call.app.options.namespaces.iter().any(|known| known == ns) {
        response.headers_mut().insert(OCI_NAMESPACE, header(ns.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::empty;

    fn id(value: Option<&[u8]>) -> String {
        let mut request = http::Request::builder();
        if let Some(value) = value {
            request = request.header("x-request-id", HeaderValue::from_bytes(value).unwrap());
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        RequestIds::new().of(&parts).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(id(Some(b"abc-1.2:3/4+5=_")), "abc-1.2:3/4+5=_");
        for bad in [&b""[..], b"a b", b"a\"b", b"<script>", b"\xff", &[b'a'; 129]] {
            let made = id(Some(bad));
            assert!(made.len() > 12 && made.contains('-'), "{made}");
        }
    }

    #[test]
    fn no_two_made_ids_are_the_same() {
        let ids = RequestIds::new();
        let (parts, ()) = http::Request::new(()).into_parts();
        assert_ne!(ids.of(&parts), ids.of(&parts));
        assert_ne!(id(None), id(None));
    }

    #[test]
    fn a_response_without_content_says_so() {
        assert_eq!(empty(http::StatusCode::ACCEPTED).headers()["content-length"], "0");
        assert!(empty(http::StatusCode::NO_CONTENT).headers().is_empty());
    }
}
