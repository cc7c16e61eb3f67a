//! Garbage collection: expiring links, condemning blobs, claiming deletions, and tidying up behind it all.
//!
//! A sweep looks at a page of rows with a query, beside the writers, and sends a command only for what seems to go. That checks again: what is true there
//! is what counts.

use std::time::Duration;

use registry_core::metadata::{Deletion, GcPreview, Sweep};
use registry_core::{Digest, Error, ErrorKind, RepositoryName, Result};

use super::{before_grace, many, repositories, rows, state};
use crate::driver::{Command, Query, Reader, Row, Transaction, params};

/// What a look at a page found.
pub(crate) struct Look<T> {
    /// What seems to go.
    pub(crate) candidates: Vec<T>,
    /// Where to go on.
    pub(crate) next: Option<String>,
}

/// Links that nobody seems to need, in the order of (repository, digest).
pub(crate) struct ExpirableLinks(pub(crate) Sweep);

/// Name, digest, and whether it seems to go (1).
const LINK: &str = "SELECT r.name, l.digest, CASE WHEN l.relied_at <= ?1
        AND NOT EXISTS (SELECT 1 FROM edges e WHERE e.repository = l.repository AND e.target = l.digest) THEN 1 ELSE 0 END
    FROM repositories r JOIN links l ON l.repository = r.id";

impl Query for ExpirableLinks {
    type Output = Look<(RepositoryName, Digest)>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Self::Output> {
        let limit = self.0.limit.max(1) as usize;
        let bound = before_grace(reader.now().await?, self.0.grace);
        let (name, digest) = match &self.0.cursor {
            Some(cursor) => cursor.split_once(' ').ok_or_else(|| bad_cursor(cursor))?,
            None => ("", ""),
        };
        // First the rest of the repository in which the last page ended, then those behind it: so each part is a walk along one index.
        let sql = format!("{LINK} WHERE r.name = ?2 AND l.digest > ?3 ORDER BY l.digest LIMIT ?4");
        let mut rows = reader.query(&sql, params![bound, name, digest, limit as u64]).await?;
        if rows.len() < limit {
            let sql = format!("{LINK} WHERE r.name > ?2 ORDER BY r.name, l.digest LIMIT ?3");
            rows.extend(reader.query(&sql, params![bound, name, (limit - rows.len()) as u64]).await?);
        }
        let is_full = rows.len() == limit;
        let mut look = Look { candidates: Vec::new(), next: None };
        let mut last = None;
        for mut row in rows {
            let (name, digest) = (row.parsed(0)?, row.parsed(1)?);
            if row.flag(2)? {
                look.candidates.push((name, digest));
                last = look.candidates.last().cloned();
            } else {
                last = Some((name, digest));
            }
        }
        look.next = last.filter(|_| is_full).map(|(name, digest): (RepositoryName, Digest)| format!("{name} {digest}"));
        Ok(look)
    }
}

fn bad_cursor(cursor: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "not a place where a sweep can go on").with_key(cursor)
}

/// Removes links that nobody needs; returns those removed.
pub(crate) struct ExpireLinks {
    /// In order, so that those of a repository stand together.
    pub(crate) candidates: Vec<(RepositoryName, Digest)>,
    pub(crate) grace: Duration,
}

impl Command for ExpireLinks {
    type Output = Vec<(RepositoryName, Digest)>;

    fn weight(&self) -> usize {
        rows(self.candidates.len())
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Self::Output> {
        let bound = before_grace(transaction.now().await?, self.grace);
        let sql = "DELETE FROM links WHERE repository = ?1 AND relied_at <= ?2 AND digest IN (SELECT value FROM {list})
            AND NOT EXISTS (SELECT 1 FROM edges e WHERE e.repository = links.repository AND e.target = links.digest) RETURNING digest";
        let mut removed = Vec::new();
        for of_one in self.candidates.chunk_by(|one, next| one.0 == next.0) {
            let name = &of_one[0].0;
            let Some(repository) = repositories::find(transaction, name).await? else { continue };
            let digests: Vec<_> = of_one.iter().map(|(_, digest)| *digest).collect();
            for digest in sorted(many::returning(transaction, sql, params![repository, bound], &digests).await?)? {
                removed.push((name.clone(), digest));
            }
        }
        if !removed.is_empty() {
            transaction.served_changes().await?;
        }
        Ok(removed)
    }
}

fn sorted(rows: Vec<Row>) -> Result<Vec<Digest>> {
    let mut digests = rows.into_iter().map(|mut row| row.parsed(0)).collect::<Result<Vec<Digest>>>()?;
    digests.sort_unstable();
    Ok(digests)
}

/// Nobody holds the blob `blobs` is at.
macro_rules! unheld {
    () => {
        "NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = blobs.digest) AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = blobs.digest)"
    };
}

/// The generation of the row `blobs` is at, raised; `?1` is now.
macro_rules! raise {
    () => {
        "generation = CASE WHEN generation >= ?1 THEN generation + 1 ELSE ?1 END"
    };
}

/// Blobs that nobody seems to hold, in order.
pub(crate) struct CondemnableBlobs(pub(crate) Sweep);

impl Query for CondemnableBlobs {
    type Output = Look<Digest>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Look<Digest>> {
        let limit = self.0.limit.max(1);
        let bound = before_grace(reader.now().await?, self.0.grace);
        let after = self.0.cursor.as_deref().unwrap_or_default();
        let sql = concat!(
            "SELECT digest, CASE WHEN state = 0 AND touched_at <= ?1 AND ",
            unheld!(),
            " THEN 1 ELSE 0 END FROM blobs WHERE digest > ?2 ORDER BY digest LIMIT ?3"
        );
        let rows = reader.query(sql, params![bound, after, limit]).await?;
        let is_full = rows.len() == limit as usize;
        let mut look = Look { candidates: Vec::new(), next: None };
        let mut last = None;
        for mut row in rows {
            let digest: Digest = row.parsed(0)?;
            if row.flag(1)? {
                look.candidates.push(digest);
            }
            last = Some(digest);
        }
        look.next = last.filter(|_| is_full).map(|digest| digest.to_string());
        Ok(look)
    }
}

/// [`condemn`](registry_core::MetadataStore::condemn).
pub(crate) struct Condemn {
    pub(crate) digests: Vec<Digest>,
    pub(crate) grace: Duration,
}

impl Command for Condemn {
    type Output = Vec<Digest>;

    fn weight(&self) -> usize {
        rows(self.digests.len())
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Vec<Digest>> {
        let now = transaction.now().await?;
        let sql = concat!(
            "UPDATE blobs SET state = 1, condemned_at = ?1, ",
            raise!(),
            " WHERE digest IN (SELECT value FROM {list}) AND state = 0 AND touched_at <= ?2 AND ",
            unheld!(),
            " RETURNING digest"
        );
        sorted(many::returning(transaction, sql, params![now, before_grace(now, self.grace)], &self.digests).await?)
    }
}

/// [`claim_deletions`](registry_core::MetadataStore::claim_deletions).
pub(crate) struct ClaimDeletions {
    pub(crate) trash_delay: Duration,
    pub(crate) lease: Duration,
    pub(crate) limit: u32,
}

impl Command for ClaimDeletions {
    type Output = Vec<Deletion>;

    fn weight(&self) -> usize {
        rows(self.limit as usize)
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Vec<Deletion>> {
        let now = transaction.now().await?;
        let sql = "SELECT digest FROM blobs WHERE state = 1 AND condemned_at <= ?1 ORDER BY condemned_at LIMIT ?2";
        let mut rows = transaction.query(sql, params![now - self.trash_delay, self.limit]).await?;
        let left = u64::from(self.limit).saturating_sub(rows.len() as u64);
        let sql = "SELECT digest FROM blobs WHERE state = 2 AND deleting_until <= ?1 ORDER BY deleting_until LIMIT ?2";
        rows.extend(transaction.query(sql, params![now, left]).await?);
        let candidates = sorted(rows)?;

        // No command leaves a held blob condemned. If one ever did, this is where it would cost the last copy, so it is looked at once more.
        let sql = concat!(
            "UPDATE blobs SET state = 0, touched_at = ?1, ",
            raise!(),
            " WHERE digest IN (SELECT value FROM {list}) AND NOT (",
            unheld!(),
            ")"
        );
        let held = many::execute(transaction, sql, params![now], &candidates).await?;
        if held > 0 {
            tracing::error!(blobs = held, "condemned blobs are in use after all and were taken back: please report this");
        }
        let sql = concat!(
            "UPDATE blobs SET state = 2, deleting_until = ?2, ",
            raise!(),
            " WHERE digest IN (SELECT value FROM {list}) AND state <> 0 RETURNING digest, size, generation"
        );
        // Half a lease more than the caller was told: its last request may be on its way until then.
        let until = now + self.lease + self.lease / 2;
        let rows = many::returning(transaction, sql, params![now, until], &candidates).await?;
        let claim = |mut row: Row| Ok(Deletion { digest: row.parsed(0)?, size: row.unsigned(1)?, generation: row.unsigned(2)? });
        let mut claims = rows.into_iter().map(claim).collect::<Result<Vec<_>>>()?;
        claims.sort_unstable_by_key(|claim| claim.digest);
        Ok(claims)
    }
}

/// [`renew_deletion`](registry_core::MetadataStore::renew_deletion).
pub(crate) struct RenewDeletion {
    pub(crate) deletion: Deletion,
    pub(crate) lease: Duration,
}

impl Command for RenewDeletion {
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let Deletion { digest, generation, .. } = &self.deletion;
        let until = transaction.now().await? + self.lease + self.lease / 2;
        let sql = "UPDATE blobs SET deleting_until = ?4 WHERE digest = ?1 AND state = ?2 AND generation = ?3";
        if transaction.execute(sql, params![digest, state::DELETING, *generation, until]).await? == 0 {
            return Err(not_ours(digest));
        }
        Ok(())
    }
}

fn not_ours(digest: &Digest) -> Error {
    Error::new(ErrorKind::Conflict, "the deletion is no longer this process's").with_key(digest)
}

/// [`complete_deletion`](registry_core::MetadataStore::complete_deletion).
pub(crate) struct CompleteDeletion(pub(crate) Deletion);

impl Command for CompleteDeletion {
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let Deletion { digest, generation, .. } = &self.0;
        let sql = "SELECT 1 FROM blobs WHERE digest = ?1 AND state = ?2 AND generation = ?3";
        if transaction.query(sql, params![digest, state::DELETING, *generation]).await?.is_empty() {
            return Err(not_ours(digest));
        }
        transaction.execute("DELETE FROM blobs WHERE digest = ?1", params![digest]).await?;
        // See `IntendBlob`.
        let sql = "UPDATE meta SET value = ?1 WHERE name = 'generation_floor' AND value < ?1";
        transaction.execute(sql, params![*generation]).await.map(drop)
    }
}

/// [`preview_collection`](registry_core::MetadataStore::preview_collection).
pub(crate) struct Preview {
    pub(crate) grace: Duration,
}

impl Query for Preview {
    type Output = GcPreview;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<GcPreview> {
        let bound = before_grace(reader.now().await?, self.grace);
        let sql = "SELECT COUNT(*) FROM links l WHERE l.relied_at <= ?1
            AND NOT EXISTS (SELECT 1 FROM edges e WHERE e.repository = l.repository AND e.target = l.digest)";
        let links = reader.query(sql, params![bound]).await?.pop();
        let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM blobs b WHERE (b.state <> 0 OR b.touched_at <= ?1)
            AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = b.digest)
            AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest AND (l.relied_at > ?1
                OR EXISTS (SELECT 1 FROM edges e WHERE e.repository = l.repository AND e.target = l.digest)))";
        let blobs = reader.query(sql, params![bound]).await?.pop();
        let none = || Error::new(ErrorKind::Internal, "the database did not count");
        let (mut links, mut blobs) = (links.ok_or_else(none)?, blobs.ok_or_else(none)?);
        Ok(GcPreview { links: links.unsigned(0)?, blobs: blobs.unsigned(0)?, bytes: blobs.unsigned(1)? })
    }
}

/// Forgets up to `limit` old events; returns how many.
pub(crate) struct TidyEvents {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

impl Command for TidyEvents {
    type Output = u64;
    const DURABLE: bool = false;

    fn weight(&self) -> usize {
        rows(self.limit as usize)
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<u64> {
        // Events stand in the order of their times, give or take a clock that was set back: no index of times is needed to find the oldest.
        let bound = transaction.now().await? - self.keep;
        let sql = "DELETE FROM events WHERE at < ?1 AND id IN (SELECT id FROM events ORDER BY id LIMIT ?2)";
        transaction.execute(sql, params![bound, self.limit]).await
    }
}

/// Forgets up to `limit` old entries of tags' histories; returns how many.
pub(crate) struct TidyHistory {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

impl Command for TidyHistory {
    type Output = u64;
    const DURABLE: bool = false;

    fn weight(&self) -> usize {
        rows(self.limit as usize)
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<u64> {
        // They stand in order, as events do.
        let bound = transaction.now().await? - self.keep;
        let sql = "DELETE FROM tag_history WHERE at < ?1 AND id IN (SELECT id FROM tag_history ORDER BY id LIMIT ?2)";
        transaction.execute(sql, params![bound, self.limit]).await
    }
}

/// What makes a repository empty.
macro_rules! empty {
    () => {
        "NOT EXISTS (SELECT 1 FROM links l WHERE l.repository = repositories.id)
            AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = repositories.id)
            AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = repositories.id)"
    };
}

/// Repositories that seem to hold nothing.
pub(crate) struct EmptyRepositories;

impl Query for EmptyRepositories {
    type Output = Vec<i64>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<i64>> {
        let rows = reader.query(concat!("SELECT id FROM repositories WHERE ", empty!()), &[]).await?;
        rows.into_iter().map(|mut row| row.int(0)).collect()
    }
}

/// Forgets these repositories, if they hold nothing, and before that the history of their tags, up to `limit` entries; whether that was all.
pub(crate) struct TidyRepositories {
    pub(crate) ids: Vec<i64>,
    pub(crate) limit: u32,
}

impl Command for TidyRepositories {
    type Output = bool;
    const DURABLE: bool = false;

    fn weight(&self) -> usize {
        rows(self.ids.len() + self.limit as usize)
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<bool> {
        // A repository that comes back between two pages has lost the older part of a history that was about to go.
        let sql = concat!(
            "DELETE FROM tag_history WHERE id IN (SELECT h.id FROM repositories JOIN tag_history h ON h.repository = repositories.id
            WHERE repositories.id IN (SELECT CAST(value AS BIGINT) FROM {list}) AND ",
            empty!(),
            " LIMIT ?1)"
        );
        if many::execute_ids(transaction, sql, params![self.limit], &self.ids).await? >= u64::from(self.limit) {
            return Ok(false);
        }
        let sql = concat!("DELETE FROM repositories WHERE id IN (SELECT CAST(value AS BIGINT) FROM {list}) AND ", empty!());
        many::execute_ids(transaction, sql, &[], &self.ids).await?;
        Ok(true)
    }
}
