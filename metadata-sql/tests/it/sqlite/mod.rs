//! SQLite.

mod conformance;

use std::path::{Path, PathBuf};

use metadata_sql::{SqlMetadataStore, SqliteOptions};
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
