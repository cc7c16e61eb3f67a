//! What an object store's errors are to a registry.

use std::error::Error as _;

use object_store::Error as ObjectError;
use registry_core::{Error, ErrorKind};

/// The error of a request about `key`.
///
/// A client that knows better what went wrong (no space, too large, not now) has a [`registry_core::Error`] as the source of its own: that is it. All else
/// that is no clear answer is [`ErrorKind::Unavailable`]: services come back.
pub(crate) fn told(error: ObjectError, key: impl std::fmt::Display) -> Error {
    match known(error) {
        Ok(known) => known.with_key(key),
        Err(error) => Error::new(kind(&error), error.to_string()).with_key(key).with_source(error),
    }
}

/// The error that the client had.
fn known(error: ObjectError) -> Result<Error, ObjectError> {
    if !error.source().is_some_and(|source| source.is::<Error>()) {
        return Err(error);
    }
    match error {
        ObjectError::Generic { source, .. }
        | ObjectError::NotFound { source, .. }
        | ObjectError::AlreadyExists { source, .. }
        | ObjectError::Precondition { source, .. }
        | ObjectError::NotModified { source, .. }
        | ObjectError::PermissionDenied { source, .. }
        | ObjectError::Unauthenticated { source, .. } => {
            source.downcast().map(|known| *known).map_err(|source| ObjectError::Generic { store: "unknown", source })
        }
        other => Err(other),
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
