//! The questions that are asked most: they go through the cache, where there is one.

use registry_core::metadata::{BlobLink, StoredManifest};
use registry_core::{Digest, Reference, RepositoryName, Result, Tag, Timestamp};

use crate::driver::{Query, Reader, Row, params};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hot {
    Tagged(RepositoryName, Tag),
    Manifest(RepositoryName, Digest),
    Link(RepositoryName, Digest),
}

/// The answer.
#[derive(Clone, Debug)]
pub(crate) enum Served {
    Manifest(StoredManifest),
    Link(HeldLink),
}

/// A repository's hold on a blob, and since when it is relied on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldLink {
    pub(crate) link: BlobLink,
    pub(crate) relied_at: Timestamp,
}

impl Hot {
    pub(crate) fn manifest(repository: &RepositoryName, reference: &Reference) -> Self {
        match reference {
            Reference::Tag(tag) => Self::Tagged(repository.clone(), tag.clone()),
            Reference::Digest(digest) => Self::Manifest(repository.clone(), *digest),
        }
    }

    /// About how many bytes of memory it takes up in a cache, twice: in the map and in the order.
    #[cfg(feature = "sqlite")]
    pub(crate) fn weight(&self) -> usize {
        2 * size_of::<Self>()
            + match self {
                Self::Tagged(repository, tag) => repository.as_str().len() + tag.as_str().len(),
                Self::Manifest(repository, _) | Self::Link(repository, _) => repository.as_str().len(),
            }
    }
}

impl Served {
    /// About how many bytes of memory it takes up.
    #[cfg(feature = "sqlite")]
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + 64
            + match self {
                Self::Manifest(manifest) => manifest.bytes.len() + manifest.media_type.len(),
                Self::Link(_) => 0,
            }
    }

    pub(crate) fn into_manifest(self) -> Option<StoredManifest> {
        if let Self::Manifest(manifest) = self { Some(manifest) } else { None }
    }

    pub(crate) fn into_link(self) -> Option<HeldLink> {
        if let Self::Link(link) = self { Some(link) } else { None }
    }
}

impl Query for Hot {
    type Output = Option<Served>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Option<Served>> {
        let rows = match self {
            Self::Tagged(repository, tag) => {
                let sql = "SELECT m.digest, m.media_type, m.bytes FROM tags t
                    JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest
                    WHERE t.repository = (SELECT id FROM repositories WHERE name = ?1) AND t.name = ?2";
                reader.query(sql, params![repository, tag]).await?
            }
            Self::Manifest(repository, digest) => {
                let sql = "SELECT digest, media_type, bytes FROM manifests
                    WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND digest = ?2";
                reader.query(sql, params![repository, digest]).await?
            }
            Self::Link(repository, digest) => return Ok(link(reader, repository, digest).await?.map(Served::Link)),
        };
        rows.into_iter().next().map(stored).transpose()
    }
}

fn stored(mut row: Row) -> Result<Served> {
    Ok(Served::Manifest(StoredManifest::new(row.parsed(0)?, row.text(1)?, row.bytes(2)?)))
}

const LINK: &str = "SELECT b.size, b.verified_at, b.suspect, l.relied_at FROM links l JOIN blobs b ON b.digest = l.digest
    WHERE l.repository = (SELECT id FROM repositories WHERE name = ?1) AND l.digest = ?2";

fn held(rows: Vec<Row>) -> Result<Option<HeldLink>> {
    let held = |mut row: Row| {
        let link = BlobLink::new(row.unsigned(0)?, row.time(1)?, row.flag(2)?);
        Ok(HeldLink { link, relied_at: row.time(3)? })
    };
    rows.into_iter().next().map(held).transpose()
}

/// A repository's hold on a blob.
pub(super) async fn link<R: Reader>(reader: &mut R, repository: &RepositoryName, digest: &Digest) -> Result<Option<HeldLink>> {
    held(reader.query(LINK, params![repository, digest]).await?)
}

/// The same, and the time.
pub(super) async fn link_now<R: Reader>(
    reader: &mut R,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<(Option<HeldLink>, Timestamp)> {
    let (rows, now) = reader.query_now(LINK, params![repository, digest]).await?;
    Ok((held(rows)?, now))
}
