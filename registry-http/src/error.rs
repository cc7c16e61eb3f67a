//! What clients are told when something fails: one table from [`ErrorKind`] to status and code.
//!
//! The body is the distribution-spec's ("Error Codes"). Messages about the client's own input are passed on; about everything that fails inside, clients get
//! a fixed sentence and the request id, and the log gets the whole chain of causes: paths, hosts and SQL are nobody else's business.
//!
//! A read-only registry answers pushes with 405 `UNSUPPORTED`, not 403 `DENIED`: clients take the latter for missing credentials, and send people to log in
//! or ask for another token and try again.

use std::borrow::Cow;
use std::error::Error as _;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use registry_core::ErrorKind;
use serde::Serialize;
use serde_json::{Value, json};

use crate::body::BodyError;
use crate::route::{Kind, Target};

/// The codes of the distribution-spec that can occur here, and two of our own.
///
/// What the client did wrong has to have one of the spec's ("Error Codes"); it knows none for what fails inside, which comes with statuses from 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    #[cfg(feature = "auth")]
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    // Not in the spec's table: never with a status below 500.
    Unavailable,
    Unknown,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            #[cfg(feature = "auth")]
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status that goes with a code, unless said otherwise.
    const fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown | Self::ManifestUnknown | Self::NameUnknown => StatusCode::NOT_FOUND,
            #[cfg(feature = "auth")]
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct Failure(Box<Inner>);

#[derive(Debug)]
enum Inner {
    /// Found out here: all is said.
    Here { status: StatusCode, code: Code, message: Cow<'static, str>, headers: Vec<(HeaderName, HeaderValue)> },
    /// Came from below: what to say depends on the route too.
    Core { error: registry_core::Error, headers: Vec<(HeaderName, HeaderValue)> },
}

impl From<registry_core::Error> for Failure {
    fn from(error: registry_core::Error) -> Self {
        Self(Box::new(Inner::Core { error, headers: Vec::new() }))
    }
}

impl Failure {
    /// A failure with the status that belongs to the code.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner::Here { status: code.status(), code, message: message.into(), headers: Vec::new() }))
    }

    pub(crate) fn unknown_route() -> Self {
        Self::new(Code::Unsupported, "there is no such resource in the OCI distribution API").with_status(StatusCode::NOT_FOUND)
    }

    pub(crate) fn method_not_allowed(kind: Kind, read_only: bool) -> Self {
        let message = if read_only { "the registry is read-only" } else { "the resource does not have this method" };
        Self::new(Code::Unsupported, message).with_header(ALLOW, HeaderValue::from_static(kind.allow(read_only)))
    }

    pub(crate) fn with_status(mut self, new: StatusCode) -> Self {
        if let Inner::Here { status, .. } = &mut *self.0 {
            *status = new;
        }
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        match &mut *self.0 {
            Inner::Here { headers, .. } | Inner::Core { headers, .. } => headers.push((name, value)),
        }
        self
    }

    /// A parameter that cannot be read as what it should be; the spec has no code for it.
    pub(crate) fn bad_parameter(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unsupported, message).with_status(StatusCode::BAD_REQUEST)
    }

    /// The server is short of something for the moment.
    pub(crate) fn busy(message: &'static str) -> Self {
        Self::new(Code::Unavailable, message).with_header(RETRY_AFTER, HeaderValue::from_static("5"))
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        match &*self.0 {
            Inner::Here { code, .. } => *code,
            Inner::Core { error, .. } => answer(error, Kind::Unknown).code,
        }
    }

    /// The answer. Failures inside are logged here, once.
    pub(crate) fn into_response(self, kind: Kind, target: Option<&Target>, request_id: &str) -> Response {
        let (status, body, headers, retry_after) = match *self.0 {
            Inner::Here { status, code, message, headers } => (status, body(&[item(code, &message, detail(code, target))]), headers, None),
            Inner::Core { error, headers } => {
                let answer = answer(&error, kind);
                if answer.status.is_server_error() {
                    log(&error, answer.status);
                }
                let message = answer.message.unwrap_or_else(|| error.message());
                let items: Vec<Item<'_>> = if answer.code == Code::ManifestBlobUnknown && !error.digests().is_empty() {
                    let one = |digest| item(answer.code, "the repository does not hold it", Some(json!({ "digest": digest })));
                    error.digests().iter().map(|digest| one(digest.to_string())).collect()
                } else if answer.status.is_server_error() {
                    vec![item(answer.code, message, Some(json!({ "requestId": request_id })))]
                } else {
                    vec![item(answer.code, message, detail(answer.code, target))]
                };
                let retry_after = answer.retry.then(|| error.retry_after().unwrap_or(Duration::from_secs(1)));
                (answer.status, body(&items), headers, retry_after)
            }
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let map = response.headers_mut();
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            map.insert(name, value);
        }
        if let Some(after) = retry_after {
            map.insert(RETRY_AFTER, HeaderValue::from(ceil_seconds(after)));
        }
        response
    }
}

/// `Retry-After` has whole seconds; none would be a hot loop.
fn ceil_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

struct Answer {
    status: StatusCode,
    code: Code,
    /// A fixed sentence; `None`: the error's own message is fit for clients.
    message: Option<&'static str>,
    retry: bool,
}

/// The table.
fn answer(error: &registry_core::Error, kind: Kind) -> Answer {
    let by_route = |manifest, upload, other| match kind {
        Kind::Manifest => manifest,
        Kind::Upload | Kind::UploadStart => upload,
        _ => other,
    };
    let told = |code: Code| Answer { status: code.status(), code, message: None, retry: false };
    let fixed = |status, code, message| Answer { status, code, message: Some(message), retry: false };
    let later = |status, message| Answer { status, code: Code::Unavailable, message: Some(message), retry: true };
    let internal =
        || fixed(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, "an internal error: the registry's log has more under the request id");
    match error.kind() {
        ErrorKind::RepositoryUnknown => told(Code::NameUnknown),
        ErrorKind::BlobUnknown => told(Code::BlobUnknown),
        ErrorKind::ManifestUnknown => told(Code::ManifestUnknown),
        ErrorKind::UploadUnknown => told(Code::BlobUploadUnknown),
        ErrorKind::NameInvalid => told(Code::NameInvalid),
        // The spec has no code for tags; the tag is where a manifest goes.
        ErrorKind::TagInvalid => told(Code::ManifestInvalid),
        ErrorKind::DigestInvalid => told(Code::DigestInvalid),
        ErrorKind::SizeInvalid => told(Code::SizeInvalid),
        ErrorKind::ManifestInvalid => told(Code::ManifestInvalid),
        ErrorKind::ManifestBlobUnknown => told(Code::ManifestBlobUnknown),
        ErrorKind::RangeInvalid => {
            let code = by_route(Code::SizeInvalid, Code::BlobUploadInvalid, Code::SizeInvalid);
            Answer { status: StatusCode::RANGE_NOT_SATISFIABLE, ..told(code) }
        }
        ErrorKind::TooLarge => {
            let code = by_route(Code::ManifestInvalid, Code::BlobUploadInvalid, Code::SizeInvalid);
            Answer { status: StatusCode::PAYLOAD_TOO_LARGE, ..told(code) }
        }
        ErrorKind::InvalidInput => {
            let code = by_route(Code::ManifestInvalid, Code::BlobUploadInvalid, Code::Unsupported);
            Answer { status: StatusCode::BAD_REQUEST, ..told(code) }
        }
        ErrorKind::Unsupported => told(Code::Unsupported),
        // The medium's refusal is the operator's to fix, not the client's; a store says of what it is.
        ErrorKind::Denied | ErrorKind::NotFound if is_io(error) => internal(),
        ErrorKind::Denied if error.key().is_some() || error.zone().is_some() => internal(),
        ErrorKind::Denied => fixed(StatusCode::FORBIDDEN, Code::Denied, "not allowed"),
        ErrorKind::NotFound => {
            let code = by_route(Code::ManifestUnknown, Code::BlobUploadUnknown, Code::BlobUnknown);
            fixed(StatusCode::NOT_FOUND, code, "not found")
        }
        ErrorKind::Interrupted => match body_error(error) {
            Some(BodyError::Stalled) => {
                let code = by_route(Code::ManifestInvalid, Code::BlobUploadInvalid, Code::Unsupported);
                fixed(StatusCode::REQUEST_TIMEOUT, code, "the body stalled")
            }
            Some(_) => {
                let code = by_route(Code::ManifestInvalid, Code::BlobUploadInvalid, Code::Unsupported);
                fixed(StatusCode::BAD_REQUEST, code, "the body ended early")
            }
            None => later(StatusCode::SERVICE_UNAVAILABLE, "the storage broke off; try again"),
        },
        ErrorKind::Conflict | ErrorKind::LeaseLost => later(StatusCode::SERVICE_UNAVAILABLE, "another request was faster; try again"),
        ErrorKind::Unavailable => later(StatusCode::SERVICE_UNAVAILABLE, "the registry cannot do this now; try again"),
        ErrorKind::TimedOut => later(StatusCode::GATEWAY_TIMEOUT, "the storage did not answer in time; try again"),
        ErrorKind::StorageFull => fixed(StatusCode::INSUFFICIENT_STORAGE, Code::Unavailable, "the registry's storage is full"),
        _ => internal(),
    }
}

fn chain(error: &registry_core::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |error| (*error).source())
}

fn is_io(error: &registry_core::Error) -> bool {
    chain(error).any(<dyn std::error::Error>::is::<std::io::Error>)
}

fn body_error(error: &registry_core::Error) -> Option<BodyError> {
    chain(error).find_map(|source| source.downcast_ref::<BodyError>().copied())
}

/// Whether it failed because the client sent nothing for too long.
pub(crate) fn stalled(error: &registry_core::Error) -> bool {
    body_error(error) == Some(BodyError::Stalled)
}

fn log(error: &registry_core::Error, status: StatusCode) {
    let causes: Vec<String> = chain(error).map(ToString::to_string).collect();
    let (kind, causes, status) = (error.kind(), causes.join(": "), status.as_u16());
    match kind {
        ErrorKind::Internal | ErrorKind::Corrupt => tracing::error!(%error, ?kind, causes, status, "a request failed"),
        _ => tracing::warn!(%error, ?kind, causes, status, "a request failed"),
    }
}

/// What the failure is about, as the client wrote it.
fn detail(code: Code, target: Option<&Target>) -> Option<Value> {
    let target = target?;
    match (code, target) {
        (Code::NameUnknown, _) => target.repository().map(|name| json!({ "name": name.as_str() })),
        (Code::BlobUnknown, Target::Blob(_, digest)) => Some(json!({ "digest": digest.to_string() })),
        (Code::ManifestUnknown, Target::Manifest(_, reference)) => Some(json!({ "reference": reference.to_string() })),
        (Code::BlobUploadUnknown, Target::Upload(_, id)) => Some(json!({ "upload": id })),
        _ => None,
    }
}

/// One error of the body.
#[derive(Serialize)]
struct Item<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

fn item(code: Code, message: &str, detail: Option<Value>) -> Item<'_> {
    Item { code: code.as_str(), message, detail }
}

fn body(items: &[Item<'_>]) -> String {
    #[derive(Serialize)]
    struct Errors<'a> {
        errors: &'a [Item<'a>],
    }
    // Texts and JSON values always serialize.
    serde_json::to_string(&Errors { errors: items }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use registry_core::{Digest, Error};

    use super::*;

    const KINDS: [(ErrorKind, u16, &str); 24] = [
        (ErrorKind::NotFound, 404, "BLOB_UPLOAD_UNKNOWN"),
        (ErrorKind::RepositoryUnknown, 404, "NAME_UNKNOWN"),
        (ErrorKind::BlobUnknown, 404, "BLOB_UNKNOWN"),
        (ErrorKind::ManifestUnknown, 404, "MANIFEST_UNKNOWN"),
        (ErrorKind::UploadUnknown, 404, "BLOB_UPLOAD_UNKNOWN"),
        (ErrorKind::NameInvalid, 400, "NAME_INVALID"),
        (ErrorKind::TagInvalid, 400, "MANIFEST_INVALID"),
        (ErrorKind::DigestInvalid, 400, "DIGEST_INVALID"),
        (ErrorKind::SizeInvalid, 400, "SIZE_INVALID"),
        (ErrorKind::RangeInvalid, 416, "BLOB_UPLOAD_INVALID"),
        (ErrorKind::ManifestInvalid, 400, "MANIFEST_INVALID"),
        (ErrorKind::ManifestBlobUnknown, 400, "MANIFEST_BLOB_UNKNOWN"),
        (ErrorKind::TooLarge, 413, "BLOB_UPLOAD_INVALID"),
        (ErrorKind::InvalidInput, 400, "BLOB_UPLOAD_INVALID"),
        (ErrorKind::Unsupported, 405, "UNSUPPORTED"),
        (ErrorKind::Denied, 403, "DENIED"),
        (ErrorKind::Conflict, 503, "UNAVAILABLE"),
        (ErrorKind::LeaseLost, 503, "UNAVAILABLE"),
        (ErrorKind::Unavailable, 503, "UNAVAILABLE"),
        (ErrorKind::TimedOut, 504, "UNAVAILABLE"),
        (ErrorKind::StorageFull, 507, "UNAVAILABLE"),
        (ErrorKind::Corrupt, 500, "UNKNOWN"),
        (ErrorKind::Interrupted, 503, "UNAVAILABLE"),
        (ErrorKind::Internal, 500, "UNKNOWN"),
    ];

    async fn answer_to(error: Error, kind: Kind) -> (http::response::Parts, String) {
        let (parts, body) = Failure::from(error).into_response(kind, None, "id-1").into_parts();
        let body = body.collect().await.expect("a body in memory").to_bytes();
        (parts, String::from_utf8(body.to_vec()).expect("JSON is UTF-8"))
    }

    #[tokio::test]
    async fn every_kind_has_its_status_and_code() {
        for (kind, status, code) in KINDS {
            let (parts, body) = answer_to(Error::new(kind, "it"), Kind::Upload).await;
            assert_eq!(parts.status.as_u16(), status, "{kind:?}");
            assert!(body.contains(&format!("\"code\":\"{code}\"")), "{kind:?}: {body}");
            assert_eq!(parts.headers.get(CONTENT_TYPE).map(|v| v.as_bytes()), Some(&b"application/json"[..]));
        }
    }

    /// All codes that the distribution-spec has.
    const SPEC: [&str; 14] = [
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
    ];

    #[tokio::test]
    async fn whatever_the_client_did_wrong_has_a_code_of_the_spec() {
        let routes = [
            Kind::Base,
            Kind::Catalog,
            Kind::Tags,
            Kind::Referrers,
            Kind::Manifest,
            Kind::Blob,
            Kind::UploadStart,
            Kind::Upload,
            Kind::Token,
            Kind::Unknown,
        ];
        assert_eq!(routes.len(), Kind::COUNT);
        for route in routes {
            for (kind, _, _) in KINDS {
                for source in [None, Some(BodyError::Stalled), Some(BodyError::Cut), Some(BodyError::Malformed)] {
                    let mut error = Error::new(kind, "it");
                    if let Some(source) = source {
                        error = error.with_source(source);
                    }
                    let (parts, body) = answer_to(error, route).await;
                    let body: Value = serde_json::from_str(&body).expect("JSON");
                    let code = body["errors"][0]["code"].as_str().expect("a code");
                    let client = parts.status.is_client_error();
                    assert_eq!(client, SPEC.contains(&code), "{kind:?} {route:?} {source:?}: {} {code}", parts.status);
                }
            }
        }
    }

    #[test]
    fn codes_that_are_not_the_spec_s_have_statuses_from_500() {
        use Code::{
            BlobUnknown, BlobUploadInvalid, BlobUploadUnknown, Denied, DigestInvalid, ManifestBlobUnknown, ManifestInvalid,
            ManifestUnknown, NameInvalid, NameUnknown, SizeInvalid, TooManyRequests, Unavailable, Unknown, Unsupported,
        };
        for code in [
            BlobUnknown,
            BlobUploadInvalid,
            BlobUploadUnknown,
            Denied,
            DigestInvalid,
            ManifestBlobUnknown,
            ManifestInvalid,
            ManifestUnknown,
            NameInvalid,
            NameUnknown,
            SizeInvalid,
            TooManyRequests,
            Unavailable,
            Unknown,
            Unsupported,
        ] {
            assert_eq!(code.status().is_client_error(), SPEC.contains(&code.as_str()), "{code:?}");
        }
    }

    #[tokio::test]
    async fn no_failure_inside_tells_clients_where_things_are() {
        for (kind, _, _) in KINDS {
            let source = std::io::Error::other("/var/lib/registry/secret: SELECT * FROM blobs");
            let error = Error::new(kind, "of the client").with_key("/var/lib/registry/secret").with_zone("boston-7").with_source(source);
            let (_, body) = answer_to(error, Kind::Upload).await;
            for secret in ["/var", "SELECT", "boston-7"] {
                assert!(!body.contains(secret), "{kind:?}: {body}");
            }
        }
        for kind in [
            ErrorKind::Internal,
            ErrorKind::Corrupt,
            ErrorKind::Unavailable,
            ErrorKind::TimedOut,
            ErrorKind::StorageFull,
            ErrorKind::Denied,
            ErrorKind::NotFound,
        ] {
            let (_, body) = answer_to(Error::new(kind, "/var/lib/registry: no"), Kind::Blob).await;
            assert!(!body.contains("/var"), "{kind:?}: {body}");
        }
    }

    #[tokio::test]
    async fn a_medium_that_refuses_is_no_fault_of_the_client() {
        for io in [std::io::ErrorKind::PermissionDenied, std::io::ErrorKind::NotFound] {
            let (parts, _) = answer_to(std::io::Error::from(io).into(), Kind::Upload).await;
            assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
        }
        let (parts, _) = answer_to(std::io::Error::from(std::io::ErrorKind::StorageFull).into(), Kind::Upload).await;
        assert_eq!(parts.status, StatusCode::INSUFFICIENT_STORAGE);
    }

    #[tokio::test]
    async fn what_may_succeed_later_says_when_rounded_up() {
        for (after, header) in [(None, "1"), (Some(0), "1"), (Some(1000), "1"), (Some(1001), "2"), (Some(59_500), "60")] {
            let mut error = Error::new(ErrorKind::Unavailable, "later");
            if let Some(millis) = after {
                error = error.with_retry_after(Duration::from_millis(millis));
            }
            let (parts, _) = answer_to(error, Kind::Blob).await;
            assert_eq!(parts.headers[RETRY_AFTER], header);
        }
        let (parts, _) = answer_to(Error::new(ErrorKind::StorageFull, "full"), Kind::Blob).await;
        assert!(!parts.headers.contains_key(RETRY_AFTER));
    }

    #[tokio::test]
    async fn each_missing_blob_is_an_error_of_its_own() {
        let error = Error::new(ErrorKind::ManifestBlobUnknown, "missing").with_digests(vec![Digest::sha256(b"a"), Digest::sha256(b"b")]);
        let (_, body) = answer_to(error, Kind::Manifest).await;
        insta::assert_snapshot!(body, @r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"the repository does not hold it","detail":{"digest":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}},{"code":"MANIFEST_BLOB_UNKNOWN","message":"the repository does not hold it","detail":{"digest":"sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"}}]}"#);
    }

    #[tokio::test]
    async fn a_body_that_stalled_is_408_and_one_that_broke_off_400() {
        for (source, status) in [(BodyError::Stalled, 408), (BodyError::Cut, 400)] {
            let (parts, _) = answer_to(Error::new(ErrorKind::Interrupted, "no").with_source(source), Kind::Upload).await;
            assert_eq!(parts.status.as_u16(), status);
        }
    }
}
