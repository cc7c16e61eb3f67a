//! One file per resource.

pub(crate) mod blobs;
pub(crate) mod lists;
pub(crate) mod manifests;
pub(crate) mod referrers;
pub(crate) mod uploads;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::body::NoBody;
use crate::error::{Code, Failure};
use crate::query::Query;
use crate::request::Call;

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(crate) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub(crate) const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let never = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = Response::new(if never { Body::new(NoBody) } else { Body::empty() });
    *response.status_mut() = status;
    if !never {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// A JSON answer.
pub(crate) fn json(content_type: &'static str, content: &impl serde::Serialize) -> Response {
    // Maps with text keys and derived structs always serialize.
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A text as a header. What cannot be one (there is nothing of the kind in names, digests and ids) becomes an empty one.
pub(crate) fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `n` and `last`.
pub(crate) struct Paging {
    /// How many the client gets at most; zero if it asked for none.
    pub(crate) n: u32,
    pub(crate) last: Option<String>,
}

impl Paging {
    pub(crate) fn of(call: &Call<'_>, query: &Query<'_>) -> Result<Self, Failure> {
        let options = &call.app.options;
        let n = match query.one("n", Code::Unsupported)? {
            None => options.default_page,
            Some(text) if text.bytes().all(|c| c.is_ascii_digit()) => text.parse().unwrap_or(u32::MAX).min(options.max_page),
            Some(_) => return Err(Failure::bad_parameter("n is not a number")),
        };
        Ok(Self { n, last: query.one("last", Code::Unsupported)?.map(str::to_owned) })
    }

    /// What to ask for: one more, to know whether the list goes on.
    pub(crate) fn page(&self) -> registry_core::metadata::Page {
        registry_core::metadata::Page { after: self.last.clone(), limit: self.n.saturating_add(1) }
    }

    /// Cuts off the one more; whether there was one.
    pub(crate) fn cut<T>(&self, items: &mut Vec<T>) -> bool {
        let n = usize::try_from(self.n).unwrap_or(usize::MAX);
        let more = items.len() > n && n > 0;
        items.truncate(n);
        more
    }
}

/// Adds the `Link` to the next page. `path` is that behind the base, with its query.
pub(crate) fn link_next(response: &mut Response, call: &Call<'_>, path: &str) {
    response.headers_mut().insert(LINK, header(format!("<{}{path}>; rel=\"next\"", call.base())));
}
