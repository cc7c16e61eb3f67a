//! [`Failure`]: what went wrong with a request.

use std::time::Duration;

use http::StatusCode;
use registry_core::{Error, ErrorKind};
use storage_object::http::NoAnswer;

/// A request that did not do what it was to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the service answered, if it did.
    pub(crate) status: Option<StatusCode>,
    /// What is to be said of it.
    pub(crate) error: Error,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status: None, error: Error::new(kind, message) }
    }

    /// The service said no.
    pub(crate) fn answered(what: &str, status: StatusCode, trans_id: Option<&str>, detail: &str, retry_after: Option<Duration>) -> Self {
        let kind = match status.as_u16() {
            404 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::Denied,
            409 | 412 => ErrorKind::Conflict,
            // Of an account or a container, by Swift's middleware and by RadosGW.
            413 if detail.to_ascii_lowercase().contains("quota") => ErrorKind::StorageFull,
            413 => ErrorKind::TooLarge,
            416 => ErrorKind::RangeInvalid,
            // What arrived is not what was sent; sending it again may do.
            422 | 499 => ErrorKind::Unavailable,
            507 => ErrorKind::StorageFull,
            400..=428 => ErrorKind::Internal,
            _ => ErrorKind::Unavailable,
        };
        let mut message = format!("{what}: {status}");
        let detail = detail.trim();
        // Error pages in HTML say what the status has said.
        if !detail.is_empty() && !detail.starts_with('<') {
            message.push_str(": ");
            message.extend(detail.chars().take(300));
        }
        if status == StatusCode::FORBIDDEN {
            message.push_str(
                ": this user may not; to write it needs a role like member in the project, or a place in the container's write list",
            );
        }
        let message = told_of(message, trans_id);
        let mut error = Error::new(kind, message);
        if let Some(retry_after) = retry_after {
            error = error.with_retry_after(retry_after);
        }
        Self { status: Some(status), error }
    }

    /// No answer came, or not all of it.
    pub(crate) fn transport(what: &str, why: &NoAnswer) -> Self {
        Self { status: None, error: why.told(what, "storage_url") }
    }

    /// What a read failed with in the middle.
    pub(crate) fn in_a_read(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => Some(StatusCode::NOT_FOUND),
            ErrorKind::Conflict => Some(StatusCode::PRECONDITION_FAILED),
            _ => None,
        };
        Self { status, error }
    }

    /// Whether trying the same once more may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self.status {
            // 498 is some proxies' "token expired", or "rate limited".
            Some(status) => matches!(status.as_u16(), 408 | 422 | 429 | 498 | 499 | 500 | 502..=504),
            None => self.error.is_retryable(),
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.status == Some(StatusCode::NOT_FOUND)
    }

    /// As `object_store` has it; the error with all it knows is the source.
    pub(crate) fn told(self, path: &str) -> object_store::Error {
        use object_store::Error as Told;
        let path = path.to_owned();
        let (status, source) = (self.status.map(|status| status.as_u16()), Box::new(self.error));
        match (status, source.kind()) {
            (Some(304), _) => Told::NotModified { path, source },
            (Some(404), _) => Told::NotFound { path, source },
            (Some(412), _) => Told::Precondition { path, source },
            (Some(401), _) => Told::Unauthenticated { path, source },
            (_, ErrorKind::Denied) => Told::PermissionDenied { path, source },
            _ => Told::Generic { store: "Swift", source },
        }
    }
}

/// With what the service's own log calls the request.
pub(crate) fn told_of(message: impl Into<String>, transaction: Option<&str>) -> String {
    let mut message = message.into();
    if let Some(id) = transaction {
        message.push_str(&format!(" (transaction {id})"));
    }
    message
}
