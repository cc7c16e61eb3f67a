//! SQLite's errors as ours.

use registry_core::{Error, ErrorKind};
use rusqlite::{ErrorCode, ffi};

/// Whether the system could not read or write. A full disk is something else.
pub(super) fn is_io(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

/// Whether the system could not flush.
pub(super) fn is_flush(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(<dyn std::error::Error>::downcast_ref::<rusqlite::Error>);
    let code = cause.and_then(rusqlite::Error::sqlite_error).map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// What callers can act on; a full disk and another process's lock are told apart from damage.
pub(super) fn wrap(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::StorageFull,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied) => ErrorKind::Denied,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        Some(ErrorCode::TooBig) => ErrorKind::TooLarge,
        // Busy and locked: others hold it longer than the busy timeout. The rest: disks, memory and file handles come back.
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("SQLite: {error}")).with_source(error)
}
