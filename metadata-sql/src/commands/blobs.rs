//! Blobs, links and the fence between writers and deletion.

use std::time::Duration;

use registry_core::metadata::{BlobLink, Intent, LinkBlob, MountBlob, Observation};
use registry_core::{Digest, Error, ErrorKind, RepositoryName, Result, Timestamp};

use super::hot::{self, HeldLink};
use super::{raised, repositories, state, uploads};
use crate::driver::{Command, Query, Reader, Transaction, params};

/// A blob's row, as far as commands decide by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlobRow {
    pub(super) state: i64,
    pub(super) generation: i64,
    pub(super) deleting_until: Timestamp,
    pub(super) size: u64,
    pub(super) verified_at: Timestamp,
    pub(super) suspect: bool,
}

impl BlobRow {
    pub(super) async fn find<R: Reader>(reader: &mut R, digest: &Digest) -> Result<Option<Self>> {
        let sql = "SELECT state, generation, deleting_until, size, verified_at, suspect FROM blobs WHERE digest = ?1";
        let row = reader.query(sql, params![digest]).await?.pop();
        row.map(|mut row| {
            Ok(Self {
                state: row.int(0)?,
                generation: row.int(1)?,
                deleting_until: row.time(2)?,
                size: row.unsigned(3)?,
                verified_at: row.time(4)?,
                suspect: row.flag(5)?,
            })
        })
        .transpose()
    }

    /// The row, if bytes that were written under `generation` are still what the store has.
    pub(super) async fn under<R: Reader>(reader: &mut R, digest: &Digest, generation: u64) -> Result<Self> {
        match Self::find(reader, digest).await? {
            Some(row) if row.state == state::LIVE && u64::try_from(row.generation) == Ok(generation) => Ok(row),
            _ => Err(Error::new(ErrorKind::Conflict, "the blob was collected while it was being written").with_key(digest)),
        }
    }

    /// Whether anybody may have read this row through a link or served it: only what was once verified has links.
    pub(super) fn is_served(&self) -> bool {
        self.verified_at != Timestamp::default()
    }
}

/// The bytes were just written and hashed.
pub(super) async fn verified<T: Transaction>(transaction: &mut T, digest: &Digest, size: u64, now: Timestamp) -> Result<()> {
    let sql = "UPDATE blobs SET size = ?2, touched_at = ?3, verified_at = ?3, suspect = 0 WHERE digest = ?1";
    transaction.execute(sql, params![digest, size, now]).await.map(drop)
}

/// Links a blob to a repository, or relies on the link that is there; whether it was.
async fn link<T: Transaction>(transaction: &mut T, repository: i64, digest: &Digest, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE links SET relied_at = ?3 WHERE repository = ?1 AND digest = ?2";
    let was_there = transaction.execute(sql, params![repository, digest, now]).await? > 0;
    if !was_there {
        let sql = "INSERT INTO links (repository, digest, relied_at) VALUES (?1, ?2, ?3)";
        transaction.execute(sql, params![repository, digest, now]).await?;
    }
    Ok(was_there)
}

/// [`intend_blob`](registry_core::MetadataStore::intend_blob).
///
/// Durable, since bytes follow that are: those of a row that was lost with the power, or was back to being condemned, nobody would find and delete again.
/// Only a row that is live anyhow could do without, and it is not worth another question.
pub(crate) struct IntendBlob(pub(crate) Digest);

impl Command for IntendBlob {
    type Output = Intent;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Intent> {
        let digest = &self.0;
        let (row, now) = (BlobRow::find(transaction, digest).await?, transaction.now().await?);
        let generation = match row {
            None => {
                // Never one that a row of this digest had before, whatever the clock says: a writer of those days may still come to link.
                let floor = transaction.query("SELECT value FROM meta WHERE name = 'generation_floor'", &[]).await?.pop();
                let generation = raised(floor.map_or(Ok(0), |mut row| row.int(0))?, now);
                let sql = "INSERT INTO blobs (digest, generation, touched_at) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![digest, generation, now]).await?;
                generation
            }
            Some(row) => {
                if row.state == state::DELETING && now < row.deleting_until {
                    let wait = row.deleting_until.since(now).max(Duration::from_millis(1));
                    let error = Error::new(ErrorKind::Unavailable, "the blob is being deleted; it can be pushed again after that");
                    return Err(error.with_key(digest).with_retry_after(wait));
                }
                let generation = if row.state == state::LIVE { row.generation } else { raised(row.generation, now) };
                let sql = "UPDATE blobs SET state = 0, generation = ?2, touched_at = ?3 WHERE digest = ?1";
                transaction.execute(sql, params![digest, generation, now]).await?;
                generation
            }
        };
        Ok(Intent { generation: u64::try_from(generation).unwrap_or(0) })
    }
}

/// [`link_blob`](registry_core::MetadataStore::link_blob).
pub(crate) struct Link(pub(crate) LinkBlob);

impl Command for Link {
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let LinkBlob { repository, digest, size, generation, upload } = &self.0;
        let row = BlobRow::under(transaction, digest, *generation).await?;
        if let Some((key, epoch)) = upload {
            uploads::check_finish(transaction, key, *epoch, digest).await?;
        }
        let now = transaction.now().await?;
        verified(transaction, digest, *size, now).await?;
        let repository = repositories::ensure(transaction, repository).await?;
        let was_linked = link(transaction, repository, digest, now).await?;
        if was_linked || row.is_served() {
            transaction.served_changes().await?;
        }
        if let Some((key, _)) = upload {
            uploads::finish(transaction, key, digest, *size, now).await?;
        }
        Ok(())
    }
}

/// [`mount_blob`](registry_core::MetadataStore::mount_blob).
pub(crate) struct Mount(pub(crate) MountBlob);

impl Command for Mount {
    type Output = Option<BlobLink>;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Option<BlobLink>> {
        let MountBlob { from, to, digest } = &self.0;
        let source = match from {
            Some(from) => {
                let sql = "SELECT 1 FROM links WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND digest = ?2";
                transaction.query(sql, params![from, digest]).await?
            }
            None => transaction.query("SELECT 1 FROM links WHERE digest = ?1 LIMIT 1", params![digest]).await?,
        };
        let row = BlobRow::find(transaction, digest).await?;
        let Some(row) = row.filter(|row| row.state == state::LIVE && !row.suspect && !source.is_empty()) else { return Ok(None) };
        let now = transaction.now().await?;
        transaction.execute("UPDATE blobs SET touched_at = ?2 WHERE digest = ?1", params![digest, now]).await?;
        let repository = repositories::ensure(transaction, to).await?;
        if link(transaction, repository, digest, now).await? {
            transaction.served_changes().await?;
        }
        Ok(Some(BlobLink::new(row.size, row.verified_at, row.suspect)))
    }
}

/// [`unlink_blob`](registry_core::MetadataStore::unlink_blob).
pub(crate) struct UnlinkBlob {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
}

impl Command for UnlinkBlob {
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<bool> {
        let Some(repository) = repositories::find(transaction, &self.repository).await? else { return Ok(false) };
        let sql = "DELETE FROM links WHERE repository = ?1 AND digest = ?2";
        let was_there = transaction.execute(sql, params![repository, &self.digest]).await? > 0;
        if was_there {
            transaction.served_changes().await?;
        }
        Ok(was_there)
    }
}

/// [`rely_on_blob`](registry_core::MetadataStore::rely_on_blob): as a query to begin with, since nearly always somebody has said so a little while ago.
#[derive(Clone, Debug)]
pub(crate) struct RelyOnBlob {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    pub(crate) at_most_every: Duration,
}

/// Whether there is something to write.
pub(crate) enum Reliance {
    /// No: this is the answer.
    Settled(Option<BlobLink>),
    /// It is time to say again that somebody relies on the link.
    Due,
}

impl RelyOnBlob {
    pub(crate) fn judge(&self, held: Option<HeldLink>, now: Timestamp) -> Reliance {
        match held {
            Some(held) if now.since(held.relied_at) >= self.at_most_every => Reliance::Due,
            held => Reliance::Settled(held.map(|held| held.link)),
        }
    }
}

impl Query for RelyOnBlob {
    type Output = Reliance;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Reliance> {
        let (held, now) = hot::link_now(reader, &self.repository, &self.digest).await?;
        Ok(self.judge(held, now))
    }
}

impl Command for RelyOnBlob {
    type Output = Option<BlobLink>;
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Option<BlobLink>> {
        let held = hot::link(transaction, &self.repository, &self.digest).await?;
        let now = transaction.now().await?;
        // Another caller may have come first.
        if let Reliance::Settled(answer) = self.judge(held, now) {
            return Ok(answer);
        }
        transaction.served_changes().await?;
        let sql = "UPDATE links SET relied_at = ?3 WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND digest = ?2";
        transaction.execute(sql, params![&self.repository, &self.digest, now]).await?;
        Ok(held.map(|held| held.link))
    }
}

/// [`observe_blob`](registry_core::MetadataStore::observe_blob).
pub(crate) struct ObserveBlob {
    pub(crate) digest: Digest,
    pub(crate) observation: Observation,
}

impl Command for ObserveBlob {
    type Output = ();
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let now = transaction.now().await?;
        let changed = match self.observation {
            Observation::Verified => {
                let sql = "UPDATE blobs SET verified_at = ?2, suspect = 0 WHERE digest = ?1";
                transaction.execute(sql, params![&self.digest, now]).await?
            }
            Observation::Suspect => transaction.execute("UPDATE blobs SET suspect = 1 WHERE digest = ?1", params![&self.digest]).await?,
        };
        if changed > 0 {
            transaction.served_changes().await?;
        }
        Ok(())
    }
}
