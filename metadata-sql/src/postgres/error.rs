//! PostgreSQL's errors as ours.

use deadpool_postgres::PoolError;
use registry_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

use super::tls;

/// What callers can act on. Everything about the connection is [`ErrorKind::Unavailable`]: servers come back.
pub(super) fn wrap(error: tokio_postgres::Error) -> Error {
    if let Some(trouble) = tls::trouble(&error) {
        return trouble.with_source(error);
    }
    let (kind, message) = match error.as_db_error() {
        Some(answer) => (kind_of(answer.code()), format!("PostgreSQL: {}", answer.message())),
        None if is_connection(&error) => (ErrorKind::Unavailable, format!("PostgreSQL does not answer: {error}")),
        None => (ErrorKind::Internal, format!("PostgreSQL: {error}")),
    };
    Error::new(kind, message).with_source(error)
}

fn kind_of(code: &SqlState) -> ErrorKind {
    match code {
        &SqlState::DISK_FULL => ErrorKind::StorageFull,
        // The statement's time was up; it has no effect.
        &SqlState::QUERY_CANCELED => ErrorKind::TimedOut,
        // A server that was the primary when we connected; the next connection may find the new one.
        &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::LOCK_NOT_AVAILABLE | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
            ErrorKind::Unavailable
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::Denied,
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => ErrorKind::Corrupt,
        code => match &code.code()[..2] {
            // Connection; transaction rollback (deadlock, serialization); resources; shutdown, restart and the like; the server's disk.
            "08" | "40" | "53" | "57" | "58" => ErrorKind::Unavailable,
            "28" => ErrorKind::Denied,
            // The URL names a database or a role that is not there.
            "3D" => ErrorKind::InvalidInput,
            _ => ErrorKind::Internal,
        },
    }
}

/// Whether the connection is of no more use.
pub(super) fn is_fatal(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(answer) => {
            let code = answer.code();
            let is_ours = matches!(code, &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT);
            is_ours || matches!(&code.code()[..2], "08" | "57" if code != &SqlState::QUERY_CANCELED)
        }
        None => is_connection(error),
    }
}

fn is_connection(error: &tokio_postgres::Error) -> bool {
    let caused_by_io = || std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    error.is_closed() || caused_by_io()
}

/// A connection that could not be had.
pub(super) fn wrap_pool(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => wrap(error),
        PoolError::Closed => Error::new(ErrorKind::Unavailable, "the metadata store is closed"),
        error @ PoolError::Timeout(_) => Error::new(ErrorKind::Unavailable, "no connection to PostgreSQL in time").with_source(error),
        PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => wrap(error),
        error => Error::new(ErrorKind::Internal, "no connection to PostgreSQL").with_source(error),
    }
}
