//! What an object store's errors are to a registry.

use std::error::Error as _;

use object_store::Error as ObjectError;
use registry_core::{Error, ErrorKind};

/// The error of a request about `key`.
///
/// A client that knows better what went wrong (no space, too large, not now) wraps a [`registry_core::Error`] into [`object_store::Error::Generic`]; its
/// kind, and when to come back, are kept. All else that is no clear answer is [`ErrorKind::Unavailable`]: services come back.
pub(crate) fn told(error: ObjectError, key: impl std::fmt::Display) -> Error {
    let known = error.source().and_then(|source| source.downcast_ref::<Error>()).map(|known| (known.kind(), known.retry_after()));
    let (kind, retry_after) = known.unwrap_or_else(|| (kind(&error), None));
    let told = Error::new(kind, error.to_string()).with_key(key).with_source(error);
    match retry_after {
        Some(retry_after) => told.with_retry_after(retry_after),
        None => told,
    }
}

fn kind(error: &ObjectError) -> ErrorKind {
    match error {
        ObjectError::NotFound { .. } => ErrorKind::NotFound,
        ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. } => ErrorKind::Denied,
        ObjectError::NotSupported { .. } | ObjectError::NotImplemented { .. } => ErrorKind::Unsupported,
        ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. } => ErrorKind::Conflict,
        ObjectError::InvalidPath { .. } => ErrorKind::Internal,
        _ => ErrorKind::Unavailable,
    }
}

/// Whether the request found nothing.
pub(crate) fn is_missing(error: &ObjectError) -> bool {
    matches!(error, ObjectError::NotFound { .. })
}
