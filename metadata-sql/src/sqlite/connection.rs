//! Connections to the file, and running statements on them.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Duration;

use registry_core::{Error, ErrorKind, Result};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};

use super::error::wrap;
use crate::driver::{Row, Value};

/// Creates the file, and the folders above it, for their owner alone, since it tells who pushed what.
///
/// An existing file is not so much as opened: closing it would drop every POSIX lock that this process holds on it, SQLite's among them.
pub(crate) fn create_file(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let describe = |error: io::Error| Error::from(error).with_key(path.display());
    create_folders(folder).map_err(describe)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync_folder(folder).map_err(describe),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(describe(error)),
    }
}

/// Each new folder's own entry is made durable too.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folders(parent)?;
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Ok(()) => sync_folder(parent),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A connection, with what all of them have in common.
pub(super) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    // Each connection is used by one thread at a time, so SQLite need not lock; and a path is a path, never a URI.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| wrap(error).with_key(path.display()))?;
    connection.busy_timeout(busy_timeout).map_err(wrap)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// A connection that never writes, nor empties the log into the database if it is the last to be closed: that is the writer's, who knows whether it may.
pub(super) fn connect_reader(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    let connection = connect(path, busy_timeout)?;
    connection.pragma_update(None, "query_only", true).map_err(wrap)?;
    leave_log_on_close(&connection).map_err(wrap)?;
    Ok(connection)
}

/// Closing the connection will not empty the log into the database.
pub(super) fn leave_log_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Puts the file into write-ahead mode, where readers and the writer do not wait for each other. It stays in it.
///
/// The change needs the file alone for a moment, and SQLite does not wait for that: another process that starts at the same time is waited for here.
pub(super) fn use_wal(connection: &Connection, patience: Duration) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let outcome = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).map_err(wrap);
        match outcome {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let message = format!("the file system cannot hold a shared database: journal mode {mode} instead of wal");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            Err(error) if !error.is_retryable() || start.elapsed() >= patience => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::List(items) => {
                let json = serde_json::to_string(items).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                return Ok(ToSqlOutput::Owned(rusqlite::types::Value::Text(json)));
            }
        }))
    }
}

fn cell(value: ValueRef<'_>) -> Result<Value<'static>> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(value) => match String::from_utf8(value.to_vec()) {
            Ok(text) => Value::Text(Cow::Owned(text)),
            Err(error) => return Err(Error::new(ErrorKind::Corrupt, "text in the database is not UTF-8").with_source(error)),
        },
        ValueRef::Blob(value) => Value::Bytes(Cow::Owned(value.to_vec())),
        ValueRef::Real(_) => return Err(Error::new(ErrorKind::Corrupt, "a fraction in the database")),
    })
}

pub(super) fn query(connection: &Connection, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(sql).map_err(wrap)?;
    let columns = statement.column_count();
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(wrap)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(wrap)? {
        let cells = (0..columns).map(|column| cell(row.get_ref(column).map_err(wrap)?)).collect::<Result<_>>()?;
        found.push(Row::new(cells));
    }
    Ok(found)
}

pub(super) fn execute(connection: &Connection, sql: &str, params: &[Value<'_>]) -> Result<u64> {
    let mut statement = connection.prepare_cached(sql).map_err(wrap)?;
    Ok(statement.execute(rusqlite::params_from_iter(params)).map_err(wrap)? as u64)
}
