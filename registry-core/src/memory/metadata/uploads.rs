//! Upload sessions.

use std::time::Duration;

use bytes::Bytes;

use super::state::{State, UploadRow};
use crate::metadata::{NewUpload, OpenUpload, UploadKey, UploadSession};
use crate::{Digest, Error, ErrorKind, Result, Timestamp};

fn unknown(key: &UploadKey) -> Error {
    Error::new(ErrorKind::UploadUnknown, "there is no such upload").with_key(&key.id)
}

fn newer_writer(key: &UploadKey) -> Error {
    Error::new(ErrorKind::Conflict, "the upload has a newer writer, or has ended").with_key(&key.id)
}

impl State {
    /// The session, for whom it belongs to.
    fn session(&self, key: &UploadKey) -> Result<&UploadRow> {
        self.uploads.get(&key.id).filter(|row| row.key == *key).ok_or_else(|| unknown(key))
    }

    fn session_mut(&mut self, key: &UploadKey) -> Result<&mut UploadRow> {
        self.uploads.get_mut(&key.id).filter(|row| row.key == *key).ok_or_else(|| unknown(key))
    }

    pub(super) fn create_upload(&mut self, upload: NewUpload, now: Timestamp) -> Result<()> {
        let NewUpload { key, algorithm } = upload;
        if self.uploads.contains_key(&key.id) {
            return Err(Error::new(ErrorKind::Conflict, "an upload has this id already").with_key(&key.id));
        }
        let row = UploadRow { key, epoch: 0, session: UploadSession::new(algorithm, 0, None, None), touched_at: now };
        self.uploads.insert(row.key.id.clone(), row);
        Ok(())
    }

    pub(super) fn open_upload(&mut self, key: &UploadKey, offset: Option<u64>, now: Timestamp) -> Result<OpenUpload> {
        let row = self.session_mut(key)?;
        if row.session.finished.is_none() {
            let stands = row.session.offset;
            if offset.is_some_and(|offset| offset != stands) {
                return Err(Error::range_invalid(stands, format!("the upload stands at {stands}")).with_key(&key.id));
            }
            row.epoch += 1;
            row.touched_at = now;
        }
        Ok(OpenUpload::new(row.epoch, row.session.clone()))
    }

    pub(super) fn save_upload(&mut self, key: &UploadKey, epoch: u64, offset: u64, token: Bytes, now: Timestamp) -> Result<()> {
        let row = self.session_mut(key)?;
        if row.epoch != epoch || row.session.finished.is_some() {
            return Err(newer_writer(key));
        }
        row.session.offset = offset;
        row.session.token = (!token.is_empty()).then_some(token);
        row.touched_at = now;
        Ok(())
    }

    pub(super) fn upload(&self, key: &UploadKey) -> Result<UploadSession> {
        Ok(self.session(key)?.session.clone())
    }

    pub(super) fn cancel_upload(&mut self, key: &UploadKey) -> Result<OpenUpload> {
        // A finished one stays: its client may yet ask how it ended.
        if self.session(key)?.session.finished.is_some() {
            return Err(unknown(key));
        }
        let row = self.uploads.remove(&key.id).ok_or_else(|| unknown(key))?;
        Ok(OpenUpload::new(row.epoch + 1, row.session))
    }

    /// Whether the writer of this epoch may end the session with this blob. To end it again as before is fine: the answer may have got lost.
    pub(super) fn may_finish(&self, key: &UploadKey, epoch: u64, digest: &Digest) -> Result<()> {
        let row = self.session(key)?;
        let ended_otherwise = row.session.finished.is_some_and(|(finished, _)| finished != *digest);
        if row.epoch != epoch || ended_otherwise { Err(newer_writer(key)) } else { Ok(()) }
    }

    pub(super) fn finish_upload(&mut self, key: &UploadKey, digest: Digest, size: u64, now: Timestamp) {
        if let Some(row) = self.uploads.get_mut(&key.id) {
            row.session.finished = Some((digest, size));
            row.session.token = None;
            row.touched_at = now;
        }
    }

    pub(super) fn expire_uploads(&mut self, idle: Duration, keep_finished: Duration, limit: u32, now: Timestamp) -> u32 {
        let is_over = |row: &UploadRow| {
            let keep = if row.session.finished.is_some() { keep_finished } else { idle };
            row.touched_at <= now - keep
        };
        let ids: Vec<_> = self.uploads.iter().filter(|(_, row)| is_over(row)).map(|(id, _)| id.clone()).take(limit as usize).collect();
        let mut expired = 0;
        for id in ids {
            self.uploads.remove(&id);
            expired += 1;
        }
        expired
    }
}
