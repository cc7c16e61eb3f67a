//! Pages of tags, repositories and referrers. Each is read off an index from where the last page ended, so a page costs the same wherever it begins.

use std::collections::BTreeMap;

use registry_core::metadata::{ManifestUse, Page, Referrer, ReferrersQuery, UsedManifest};
use registry_core::{Error, ErrorKind, RepositoryName, Result, Tag, Timestamp};

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

/// [`manifests_by_use`](registry_core::MetadataStore::manifests_by_use).
pub(crate) struct ManifestsByUse {
    pub(crate) after: Option<ManifestUse>,
    pub(crate) limit: u32,
}

impl Query for ManifestsByUse {
    type Output = Vec<UsedManifest>;

    /// Backwards along an index on just this expression, from where its first column says. No digest has a space in it.
    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<UsedManifest>> {
        const USED: &str = "CASE WHEN m.used_at > m.pushed_at THEN m.used_at ELSE m.pushed_at END";
        let sql = format!("SELECT {USED}, r.name, m.digest, (SELECT string_agg(e.target, ' ') FROM edges e WHERE e.repository = m.repository AND e.manifest = m.digest)
            FROM manifests m JOIN repositories r ON r.id = m.repository
            WHERE {USED} <= ?1 AND ({USED}, m.repository, m.digest) < (?1, COALESCE((SELECT id FROM repositories WHERE name = ?2), ?5), ?3)
            ORDER BY {USED} DESC, m.repository DESC, m.digest DESC LIMIT ?4");
        let (used_at, repository, digest) = match &self.after {
            Some(after) => (after.used_at, after.repository.to_string(), after.digest.to_string()),
            None => (Timestamp::from_millis(i64::MAX), String::new(), String::new()),
        };
        reader.query(&sql, params![used_at, repository, digest, self.limit, i64::MAX]).await?.into_iter().map(used).collect()
    }
}

fn used(mut row: Row) -> Result<UsedManifest> {
    let last_use = ManifestUse { used_at: row.time(0)?, repository: row.parsed(1)?, digest: row.parsed(2)? };
    let unreadable = |error| Error::new(ErrorKind::Corrupt, "a digest in the database is none").with_source(error);
    let needs = row.opt_text(3)?.unwrap_or_default();
    let mut needs = needs.split_whitespace().map(|digest| digest.parse().map_err(unreadable)).collect::<Result<Vec<_>>>()?;
    needs.sort_unstable();
    Ok(UsedManifest::new(last_use, needs))
}

fn referrer(mut row: Row) -> Result<Referrer> {
    let annotations = match row.opt_text(4)? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(&json)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "annotations in the database cannot be read").with_source(error))?,
    };
    Ok(Referrer::new(row.parsed(0)?, row.text(1)?, row.unsigned(2)?, row.opt_text(3)?, annotations))
}
