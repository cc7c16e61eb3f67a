//! Manifests, tags, and what follows from them.

use std::collections::{BTreeSet, HashSet};

use registry_core::metadata::{EventKind, PutManifest};
use registry_core::{Digest, Error, ErrorKind, RepositoryName, Result, Tag, Timestamp};

use super::blobs::{BlobRow, verified};
use super::{events, many, repositories, rows};
use crate::driver::{Command, Transaction, params};

/// [`put_manifest`](registry_core::MetadataStore::put_manifest).
pub(crate) struct Put(pub(crate) PutManifest);

const LINKED: &str = "SELECT digest FROM links WHERE repository = ?1 AND digest IN (SELECT value FROM {list})";
const MANIFESTS: &str = "SELECT digest FROM manifests WHERE repository = ?1 AND digest IN (SELECT value FROM {list})";

async fn found<T: Transaction>(transaction: &mut T, template: &str, repository: i64, digests: &[Digest]) -> Result<HashSet<Digest>> {
    let rows = many::query(transaction, template, params![repository], digests).await?;
    rows.into_iter().map(|mut row| row.parsed(0)).collect()
}

/// Each once, in the order of its first appearance.
fn unique<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Vec<Digest> {
    let mut seen = HashSet::new();
    digests.into_iter().copied().filter(|digest| seen.insert(*digest)).collect()
}

impl Put {
    /// What the repository lacks of what the manifest requires. A required blob may also be a manifest of the repository.
    async fn missing<T: Transaction>(&self, transaction: &mut T, repository: Option<i64>) -> Result<Vec<Digest>> {
        let PutManifest { blobs, manifests, .. } = &self.0;
        let required = unique(blobs.iter().chain(manifests));
        let Some(repository) = repository else { return Ok(required) };
        let linked = found(transaction, LINKED, repository, &unique(blobs)).await?;
        let children: HashSet<_> = manifests.iter().collect();
        let others: Vec<_> = required.iter().copied().filter(|digest| !linked.contains(digest) || children.contains(digest)).collect();
        let stored = found(transaction, MANIFESTS, repository, &others).await?;
        let holds = |digest: &Digest| stored.contains(digest) || linked.contains(digest) && !children.contains(digest);
        Ok(required.into_iter().filter(|digest| !holds(digest)).collect())
    }

    async fn store<T: Transaction>(&self, transaction: &mut T, repository: i64, now: Timestamp) -> Result<()> {
        let PutManifest { digest, media_type, bytes, blobs, manifests, optional, subject, artifact_type, annotations, .. } = &self.0;
        let annotations = if annotations.is_empty() {
            None
        } else {
            let json = serde_json::to_string(annotations);
            Some(json.map_err(|error| Error::new(ErrorKind::Internal, "annotations cannot be written").with_source(error))?)
        };
        let sql = "INSERT INTO manifests (repository, digest, media_type, size, subject, artifact_type, annotations, pushed_at, bytes)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            ON CONFLICT (repository, digest) DO UPDATE SET media_type = excluded.media_type, size = excluded.size, subject = excluded.subject,
                artifact_type = excluded.artifact_type, annotations = excluded.annotations, pushed_at = excluded.pushed_at, bytes = excluded.bytes";
        let size = bytes.len() as u64;
        let values = params![repository, digest, media_type, size, subject.as_ref(), artifact_type.as_ref(), annotations, now, bytes];
        transaction.execute(sql, values).await?;

        // The same bytes pushed as another type may refer to other things.
        transaction.execute("DELETE FROM edges WHERE repository = ?1 AND manifest = ?2", params![repository, digest]).await?;
        let targets = unique(blobs.iter().chain(manifests).chain(optional));
        let edges = "INSERT INTO edges (repository, manifest, target) SELECT CAST(?1 AS BIGINT), CAST(?2 AS TEXT), value FROM {list}";
        many::execute(transaction, edges, params![repository, digest], &targets).await?;
        let rely = "UPDATE links SET relied_at = ?2 WHERE repository = ?1 AND digest IN (SELECT value FROM {list})";
        many::execute(transaction, rely, params![repository, now], &unique(blobs.iter().chain(optional))).await?;
        verified(transaction, digest, size, now).await
    }
}

impl Command for Put {
    type Output = ();

    fn weight(&self) -> usize {
        let PutManifest { bytes, blobs, manifests, optional, tags, .. } = &self.0;
        // A tag is a row, its history, and an event.
        bytes.len() + rows(blobs.len() + manifests.len() + optional.len() + 3 * tags.len())
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let PutManifest { repository, digest, generation, tags, .. } = &self.0;
        BlobRow::under(transaction, digest, *generation).await?;
        let id = repositories::find(transaction, repository).await?;
        let missing = self.missing(transaction, id).await?;
        if !missing.is_empty() {
            let error = Error::new(ErrorKind::ManifestBlobUnknown, "the repository does not hold everything that the manifest requires");
            return Err(error.with_key(digest).with_digests(missing));
        }

        let now = transaction.now().await?;
        transaction.served_changes().await?;
        let id = match id {
            Some(id) => id,
            None => repositories::ensure(transaction, repository).await?,
        };
        self.store(transaction, id, now).await?;
        events::record(transaction, now, EventKind::ManifestPushed, repository, digest, None).await?;
        let mut pointed = BTreeSet::new();
        for tag in tags.iter().filter(|tag| pointed.insert(*tag)) {
            point(transaction, id, repository, tag, digest, now).await?;
        }
        Ok(())
    }
}

/// Points a tag to a manifest.
async fn point<T: Transaction>(
    transaction: &mut T,
    id: i64,
    repository: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
    now: Timestamp,
) -> Result<()> {
    let old = transaction.query("SELECT digest FROM tags WHERE repository = ?1 AND name = ?2", params![id, tag]).await?.pop();
    let old: Option<Digest> = old.map(|mut row| row.parsed(0)).transpose()?;
    if old == Some(*digest) {
        return Ok(());
    }
    let sql = "INSERT INTO tags (repository, name, digest, moved_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest, moved_at = excluded.moved_at";
    transaction.execute(sql, params![id, tag, digest, now]).await?;
    remember(transaction, id, tag, Some(digest), now).await?;
    events::record(transaction, now, EventKind::TagMoved, repository, digest, Some(tag)).await
}

/// Writes a tag's history; no digest: it was deleted.
async fn remember<T: Transaction>(transaction: &mut T, repository: i64, tag: &Tag, digest: Option<&Digest>, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO tag_history (repository, name, digest, at) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![repository, tag, digest, now]).await.map(drop)
}

/// [`note_uses`](registry_core::MetadataStore::note_uses).
pub(crate) struct NoteUses(pub(crate) Vec<(RepositoryName, Digest)>);

impl Command for NoteUses {
    type Output = ();

    const DURABLE: bool = false;

    fn weight(&self) -> usize {
        rows(self.0.len())
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let now = transaction.now().await?;
        let sql = "UPDATE manifests SET used_at = ?3
            WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND digest = ?2 AND used_at < ?3";
        for (repository, digest) in &self.0 {
            transaction.execute(sql, params![repository, digest, now]).await?;
        }
        Ok(())
    }
}

/// [`delete_manifest`](registry_core::MetadataStore::delete_manifest).
pub(crate) struct DeleteManifest {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
}

impl Command for DeleteManifest {
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<bool> {
        let Self { repository, digest } = self;
        let Some(id) = repositories::find(transaction, repository).await? else { return Ok(false) };
        let sql = "DELETE FROM manifests WHERE repository = ?1 AND digest = ?2";
        if transaction.execute(sql, params![id, digest]).await? == 0 {
            return Ok(false);
        }
        let now = transaction.now().await?;
        transaction.served_changes().await?;
        transaction.execute("DELETE FROM edges WHERE repository = ?1 AND manifest = ?2", params![id, digest]).await?;
        events::record(transaction, now, EventKind::ManifestDeleted, repository, digest, None).await?;
        let tags =
            transaction.returning("DELETE FROM tags WHERE repository = ?1 AND digest = ?2 RETURNING name", params![id, digest]).await?;
        let tags: BTreeSet<Tag> = tags.into_iter().map(|mut row| row.parsed(0)).collect::<Result<_>>()?;
        for tag in &tags {
            remember(transaction, id, tag, None, now).await?;
            events::record(transaction, now, EventKind::TagDeleted, repository, digest, Some(tag)).await?;
        }
        Ok(true)
    }
}

/// [`delete_tag`](registry_core::MetadataStore::delete_tag).
pub(crate) struct DeleteTag {
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Tag,
}

impl Command for DeleteTag {
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<bool> {
        let Self { repository, tag } = self;
        let Some(id) = repositories::find(transaction, repository).await? else { return Ok(false) };
        let row =
            transaction.returning("DELETE FROM tags WHERE repository = ?1 AND name = ?2 RETURNING digest", params![id, tag]).await?.pop();
        let Some(mut row) = row else { return Ok(false) };
        let now = transaction.now().await?;
        transaction.served_changes().await?;
        remember(transaction, id, tag, None, now).await?;
        events::record(transaction, now, EventKind::TagDeleted, repository, &row.parsed(0)?, Some(tag)).await?;
        Ok(true)
    }
}
