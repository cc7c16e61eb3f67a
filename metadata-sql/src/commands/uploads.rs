//! Upload sessions and their writer epochs.

use std::time::Duration;

use bytes::Bytes;
use registry_core::metadata::{NewUpload, OpenUpload, UploadKey, UploadSession};
use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};

use crate::driver::{Command, Query, Reader, Transaction, params};

/// A session's row.
struct Session {
    epoch: u64,
    session: UploadSession,
}

fn unknown(key: &UploadKey) -> Error {
    Error::new(ErrorKind::UploadUnknown, "there is no such upload").with_key(&key.id)
}

fn overtaken(key: &UploadKey) -> Error {
    Error::new(ErrorKind::Conflict, "the upload has a newer writer").with_key(&key.id)
}

fn finished(key: &UploadKey) -> Error {
    Error::new(ErrorKind::Conflict, "the upload has ended").with_key(&key.id)
}

impl Session {
    async fn find<R: Reader>(reader: &mut R, key: &UploadKey) -> Result<Self> {
        let sql = "SELECT epoch, algorithm, position, token, digest, size FROM uploads WHERE id = ?1 AND repository = ?2 AND owner = ?3";
        let mut row = reader.query(sql, params![&key.id, &key.repository, &key.owner]).await?.pop().ok_or_else(|| unknown(key))?;
        let finished = match row.opt_parsed(4)? {
            Some(digest) => Some((digest, row.unsigned(5)?)),
            None => None,
        };
        let session = UploadSession::new(row.parsed(1)?, row.unsigned(2)?, row.opt_bytes(3)?, finished);
        Ok(Self { epoch: row.unsigned(0)?, session })
    }

    /// The session, if it is open and this is its writer.
    async fn of_writer<R: Reader>(reader: &mut R, key: &UploadKey, epoch: u64) -> Result<Self> {
        let found = Self::find(reader, key).await?;
        if found.epoch != epoch {
            return Err(overtaken(key));
        }
        if found.session.finished.is_some() {
            return Err(finished(key));
        }
        Ok(found)
    }
}

/// Whether this writer may end the session as this blob. Saying so again is no harm: the answer may have been lost.
pub(super) async fn check_finish<R: Reader>(reader: &mut R, key: &UploadKey, epoch: u64, digest: &Digest) -> Result<()> {
    let found = Session::find(reader, key).await?;
    if found.epoch != epoch {
        return Err(overtaken(key));
    }
    match found.session.finished {
        Some((other, _)) if other != *digest => Err(finished(key)),
        _ => Ok(()),
    }
}

/// Ends a session well.
pub(super) async fn finish<T: Transaction>(transaction: &mut T, key: &UploadKey, digest: &Digest, size: u64, now: Timestamp) -> Result<()> {
    let sql = "UPDATE uploads SET state = 1, digest = ?2, size = ?3, position = ?3, token = NULL, touched_at = ?4 WHERE id = ?1";
    transaction.execute(sql, params![&key.id, digest, size, now]).await.map(drop)
}

/// [`create_upload`](registry_core::MetadataStore::create_upload).
pub(crate) struct CreateUpload(pub(crate) NewUpload);

impl Command for CreateUpload {
    type Output = ();
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let NewUpload { key, algorithm } = &self.0;
        let now = transaction.now().await?;
        let sql = "INSERT INTO uploads (id, repository, owner, algorithm, epoch, position, touched_at) VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)
            ON CONFLICT (id) DO NOTHING";
        let values = params![&key.id, &key.repository, &key.owner, algorithm.as_str(), now];
        if transaction.execute(sql, values).await? == 0 {
            return Err(Error::new(ErrorKind::Conflict, "there is an upload of this id").with_key(&key.id));
        }
        Ok(())
    }
}

/// [`open_upload`](registry_core::MetadataStore::open_upload).
pub(crate) struct OpenForWriting {
    pub(crate) key: UploadKey,
    pub(crate) offset: Option<u64>,
}

impl Command for OpenForWriting {
    type Output = OpenUpload;
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<OpenUpload> {
        let Session { epoch, session } = Session::find(transaction, &self.key).await?;
        if session.finished.is_some() {
            return Ok(OpenUpload::new(epoch, session));
        }
        if self.offset.is_some_and(|offset| offset != session.offset) {
            return Err(Error::range_invalid(session.offset, "the upload stands elsewhere").with_key(&self.key.id));
        }
        let epoch = epoch + 1;
        let now = transaction.now().await?;
        transaction.execute("UPDATE uploads SET epoch = ?2, touched_at = ?3 WHERE id = ?1", params![&self.key.id, epoch, now]).await?;
        Ok(OpenUpload::new(epoch, session))
    }
}

/// [`save_upload`](registry_core::MetadataStore::save_upload).
pub(crate) struct SaveUpload {
    pub(crate) key: UploadKey,
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
    pub(crate) token: Bytes,
}

impl Command for SaveUpload {
    type Output = ();
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        Session::of_writer(transaction, &self.key, self.epoch).await?;
        let token = (!self.token.is_empty()).then_some(&self.token);
        let now = transaction.now().await?;
        let sql = "UPDATE uploads SET position = ?2, token = ?3, touched_at = ?4 WHERE id = ?1";
        transaction.execute(sql, params![&self.key.id, self.offset, token, now]).await.map(drop)
    }
}

/// [`upload`](registry_core::MetadataStore::upload).
pub(crate) struct Upload(pub(crate) UploadKey);

impl Query for Upload {
    type Output = UploadSession;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<UploadSession> {
        Ok(Session::find(reader, &self.0).await?.session)
    }
}

/// [`cancel_upload`](registry_core::MetadataStore::cancel_upload).
pub(crate) struct CancelUpload(pub(crate) UploadKey);

impl Command for CancelUpload {
    type Output = OpenUpload;
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<OpenUpload> {
        let Session { epoch, session } = Session::find(transaction, &self.0).await?;
        if session.finished.is_some() {
            return Err(unknown(&self.0));
        }
        transaction.execute("DELETE FROM uploads WHERE id = ?1", params![&self.0.id]).await?;
        Ok(OpenUpload::new(epoch + 1, session))
    }
}

/// [`expire_uploads`](registry_core::MetadataStore::expire_uploads).
pub(crate) struct ExpireUploads {
    pub(crate) idle: Duration,
    pub(crate) keep_finished: Duration,
    pub(crate) limit: u32,
}

impl Command for ExpireUploads {
    type Output = u32;
    const DURABLE: bool = false;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<u32> {
        let now = transaction.now().await?;
        let mut dropped = 0;
        for (state, keep) in [(0_i64, self.idle), (1, self.keep_finished)] {
            let left = u64::from(self.limit).saturating_sub(dropped);
            let sql = "DELETE FROM uploads WHERE id IN (
                SELECT id FROM uploads WHERE state = ?1 AND touched_at <= ?2 ORDER BY touched_at LIMIT ?3)";
            dropped += transaction.execute(sql, params![state, now - keep, left]).await?;
        }
        Ok(u32::try_from(dropped).unwrap_or(self.limit))
    }
}
