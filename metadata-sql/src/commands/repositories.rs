//! Repositories and their numbers.

use registry_core::{Error, ErrorKind, RepositoryName, Result};

use crate::driver::{Reader, Transaction, params};

/// The number of a repository.
pub(super) async fn find<R: Reader>(reader: &mut R, name: &RepositoryName) -> Result<Option<i64>> {
    let row = reader.query("SELECT id FROM repositories WHERE name = ?1", params![name]).await?.pop();
    row.map(|mut row| row.int(0)).transpose()
}

/// The number of a repository, which exists from now on.
pub(super) async fn ensure<T: Transaction>(transaction: &mut T, name: &RepositoryName) -> Result<i64> {
    if let Some(id) = find(transaction, name).await? {
        return Ok(id);
    }
    let row = transaction.returning("INSERT INTO repositories (name) VALUES (?1) RETURNING id", params![name]).await?.pop();
    row.ok_or_else(|| Error::new(ErrorKind::Internal, "the database numbered no new repository"))?.int(0)
}
