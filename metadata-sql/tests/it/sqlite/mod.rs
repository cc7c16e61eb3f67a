//! SQLite.

mod conformance;
mod figures;
mod freshness;
mod killing;
#[cfg(feature = "ledger")]
mod ledger;
mod opening;
mod tidying;
mod writing;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use metadata_sql::{SqlMetadataStore, SqliteOptions};
use rusqlite::Connection;
use tempfile::TempDir;

/// A folder for a database, and where that is.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("registry.db");
    (folder, path)
}

async fn open(path: &Path) -> SqlMetadataStore {
    SqlMetadataStore::sqlite(path, SqliteOptions::default()).await.expect("a database")
}

/// Another program that has the file open.
fn outsider(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a time-out");
    connection
}

/// Where a child finds its database.
const CHILD: &str = "METADATA_SQL_TEST_CHILD";

/// Starts this very program once more as another process that runs one ignored test on a database.
fn child(test: &str, path: &Path) -> Child {
    let program = std::env::current_exe().expect("this program");
    let arguments = ["--ignored", "--exact", "--nocapture", "--test-threads=1", test];
    Command::new(program).args(arguments).env(CHILD, path).stdout(Stdio::piped()).spawn().expect("a child")
}

/// In such a process: its database. In any other: nothing, since somebody ran all ignored tests.
fn as_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}
