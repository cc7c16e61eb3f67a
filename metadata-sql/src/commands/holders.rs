//! Who holds a blob, and all blobs that somebody holds.

use std::collections::BTreeSet;

use registry_core::metadata::HeldBlob;
use registry_core::{Digest, Error, ErrorKind, RepositoryName, Result};

use super::many;
use crate::driver::{Query, Reader, Row, params};

/// [`holders`](registry_core::MetadataStore::holders).
pub(crate) struct Holders(pub(crate) Digest);

impl Query for Holders {
    type Output = Vec<RepositoryName>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<RepositoryName>> {
        let sql = "SELECT r.name FROM links l JOIN repositories r ON r.id = l.repository WHERE l.digest = ?1
            UNION SELECT r.name FROM manifests m JOIN repositories r ON r.id = m.repository WHERE m.digest = ?1 ORDER BY 1";
        let rows = reader.query(sql, params![&self.0]).await?;
        rows.into_iter().map(|mut row| row.parsed(0)).collect()
    }
}

/// [`held_blobs`](registry_core::MetadataStore::held_blobs).
pub(crate) struct HeldBlobs {
    pub(crate) after: Option<Digest>,
    pub(crate) limit: u32,
}

impl Query for HeldBlobs {
    type Output = Vec<HeldBlob>;

    /// A walk along the blobs' digests, with a look into an index or two for each: one statement, so that a blob and its holders are of one moment.
    ///
    /// All the looks are single values, which no planner turns into a join: however it guesses what an unknown limit may be, a page never reads all
    /// links. No name has a space in it.
    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<HeldBlob>> {
        let sql = "SELECT digest, size,
                (SELECT string_agg(r.name, ' ') FROM links l JOIN repositories r ON r.id = l.repository WHERE l.digest = blobs.digest),
                (SELECT string_agg(r.name, ' ') FROM manifests m JOIN repositories r ON r.id = m.repository WHERE m.digest = blobs.digest)
            FROM blobs WHERE digest > ?1 AND COALESCE(
                (SELECT 1 FROM links l WHERE l.digest = blobs.digest LIMIT 1),
                (SELECT 1 FROM manifests m WHERE m.digest = blobs.digest LIMIT 1)) IS NOT NULL
            ORDER BY digest LIMIT ?2";
        let after = self.after.map_or_else(String::new, |digest| digest.to_string());
        reader.query(sql, params![after, self.limit]).await?.into_iter().map(held).collect()
    }
}

fn held(mut row: Row) -> Result<HeldBlob> {
    let (links, manifests) = (row.opt_text(2)?.unwrap_or_default(), row.opt_text(3)?.unwrap_or_default());
    let names = links.split_whitespace().chain(manifests.split_whitespace()).map(|name| {
        name.parse().map_err(|error| Error::new(ErrorKind::Corrupt, "a repository in the database has no valid name").with_source(error))
    });
    let mut repositories = names.collect::<Result<Vec<RepositoryName>>>()?;
    repositories.sort_unstable();
    repositories.dedup();
    Ok(HeldBlob::new(row.parsed(0)?, row.unsigned(1)?, repositories))
}

/// [`unknown_blobs`](registry_core::MetadataStore::unknown_blobs).
pub(crate) struct UnknownBlobs(pub(crate) Vec<Digest>);

impl Query for UnknownBlobs {
    type Output = Vec<Digest>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Digest>> {
        let known = many::query(reader, "SELECT digest FROM blobs WHERE digest IN (SELECT value FROM {list})", &[], &self.0).await?;
        let known: BTreeSet<Digest> = known.into_iter().map(|mut row| row.parsed(0)).collect::<Result<_>>()?;
        Ok(self.0.iter().filter(|digest| !known.contains(digest)).copied().collect())
    }
}
