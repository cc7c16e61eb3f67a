//! Pages of tags, repositories and referrers. Each is read off an index from where the last page ended, so a page costs the same wherever it begins.

use std::collections::BTreeMap;

use registry_core::metadata::{Page, Referrer, ReferrersQuery};
use registry_core::{Error, ErrorKind, RepositoryName, Result, Tag};

use super::repositories;
use crate::driver::{Query, Reader, Row, params};

/// [`tags`](registry_core::MetadataStore::tags).
pub(crate) struct Tags {
    pub(crate) repository: RepositoryName,
    pub(crate) page: Page,
}

impl Query for Tags {
    type Output = Option<Vec<Tag>>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Option<Vec<Tag>>> {
        let sql =
            "SELECT name FROM tags WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND name > ?2 ORDER BY name LIMIT ?3";
        let after = self.page.after.as_deref().unwrap_or_default();
        let rows = reader.query(sql, params![&self.repository, after, self.page.limit]).await?;
        if rows.is_empty() && repositories::find(reader, &self.repository).await?.is_none() {
            return Ok(None);
        }
        rows.into_iter().map(|mut row| row.parsed(0)).collect::<Result<_>>().map(Some)
    }
}

/// [`repositories`](registry_core::MetadataStore::repositories).
pub(crate) struct Repositories(pub(crate) Page);

impl Query for Repositories {
    type Output = Vec<RepositoryName>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<RepositoryName>> {
        let sql = "SELECT name FROM repositories r WHERE name > ?1
            AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id) ORDER BY name LIMIT ?2";
        let after = self.0.after.as_deref().unwrap_or_default();
        let rows = reader.query(sql, params![after, self.0.limit]).await?;
        rows.into_iter().map(|mut row| row.parsed(0)).collect()
    }
}

/// [`referrers`](registry_core::MetadataStore::referrers).
pub(crate) struct ReferrersOf(pub(crate) ReferrersQuery);

impl Query for ReferrersOf {
    type Output = Vec<Referrer>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Referrer>> {
        let ReferrersQuery { repository, subject, artifact_type, after, limit } = &self.0;
        let (filter, artifact_type) = match artifact_type {
            Some(artifact_type) => ("AND artifact_type = ?5", Some(artifact_type)),
            None => ("", None),
        };
        let sql = format!(
            "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
            WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND subject = ?2 AND digest > ?3 {filter} ORDER BY digest LIMIT ?4"
        );
        let after = after.map_or_else(String::new, |digest| digest.to_string());
        let mut values = params![repository, subject, after, *limit].to_vec();
        values.extend(artifact_type.map(Into::into));
        reader.query(&sql, &values).await?.into_iter().map(referrer).collect()
    }
}

fn referrer(mut row: Row) -> Result<Referrer> {
    let annotations = match row.opt_text(4)? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(&json)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "annotations in the database cannot be read").with_source(error))?,
    };
    Ok(Referrer::new(row.parsed(0)?, row.text(1)?, row.unsigned(2)?, row.opt_text(3)?, annotations))
}
