//! [`Staging`]: the blocking side of an upload: its staged file and its running hash. Lives on a blocking thread while it works, and is handed back.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use registry_core::blob::BlobInfo;
use registry_core::{Algorithm, Digest, Error, ErrorKind, Hasher, Result};

use crate::layout;
use crate::pending::Pending;
use crate::shared::{PublishError, Shared, failed};
use crate::sys;

/// Bytes read at a time when staged bytes have to be hashed again.
const REHASH: usize = 256 << 10;

/// Why a handle is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A newer writer has the upload, or it was discarded.
    Superseded,
    /// A write failed. What the last token covers is there still.
    Failed,
    /// The disk did not take the bytes; nothing is left.
    Dropped,
}

impl Loss {
    /// What is answered to whoever uses the handle nevertheless.
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Superseded => Error::new(ErrorKind::Conflict, "the upload has a newer writer, or was discarded"),
            Self::Failed => Error::new(ErrorKind::Conflict, "an earlier write failed: the upload can be resumed from its last token"),
            Self::Dropped => Error::new(ErrorKind::UploadUnknown, "the disk failed to keep the upload's bytes: it has to begin again"),
        }
    }
}

/// How a piece of work ended.
pub(crate) enum Outcome {
    Appended,
    Suspended,
    Committed(BlobInfo),
    Aborted,
    /// Not done; the upload lives on as it was.
    Refused(Error),
    Lost(Loss, Error),
}

impl From<Result<Self, Self>> for Outcome {
    fn from(result: Result<Self, Self>) -> Self {
        result.unwrap_or_else(|outcome| outcome)
    }
}

pub(crate) struct Staging {
    shared: Arc<Shared>,
    /// The staged file's path, whether it is there yet or not.
    path: String,
    /// How many bytes the token covers that the upload was taken up from: these are durable.
    base: u64,
    /// Over the bytes in the file.
    hasher: Hasher,
    /// Open, and locked by us; `None` before the first byte and after the end.
    file: Option<File>,
    /// Bytes in the file.
    len: u64,
    /// Nobody can take it up: the file goes with us.
    ephemeral: bool,
}

impl Staging {
    /// An upload with nothing in it. Does nothing to the disk.
    pub(crate) fn empty(shared: Arc<Shared>, path: String, hasher: Hasher) -> Self {
        Self { shared, path, base: 0, hasher, file: None, len: 0, ephemeral: false }
    }

    /// The same for a `put`, which nobody can resume: the file is removed when this is dropped.
    pub(crate) fn ephemeral(shared: Arc<Shared>, path: String, algorithm: Algorithm) -> Self {
        let mut staging = Self::empty(shared, path, Hasher::new(algorithm));
        staging.ephemeral = true;
        staging
    }

    /// An upload of `len` durable bytes in a file that is locked by us.
    pub(crate) fn taken_up(shared: Arc<Shared>, path: String, hasher: Hasher, file: File, len: u64) -> Self {
        Self { shared, path, base: len, hasher, file: Some(file), len, ephemeral: false }
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Whether there is no file.
    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_none()
    }

    /// Hashes and writes.
    pub(crate) fn append(&mut self, pending: &mut Pending) -> Result<Outcome, Outcome> {
        if pending.is_empty() {
            return Ok(Outcome::Appended);
        }
        if self.file.is_none() {
            self.file =
                Some(self.create().map_err(|error| Outcome::Lost(loss_of_creation(&error), self.told(&error, "staging an upload")))?);
        }
        let (Some(file), frames) = (&self.file, pending.frames()) else { return Ok(Outcome::Appended) };
        for frame in frames {
            self.hasher.update(frame);
        }
        match self.shared.sys.write_at(file, &self.path, frames, self.len) {
            Ok(()) => {
                self.len += pending.len() as u64;
                pending.clear();
                Ok(Outcome::Appended)
            }
            Err(error) => Err(self.roll_back(&error, "writing to an upload")),
        }
    }

    /// Writes what is left, makes it durable, and gives up the file.
    pub(crate) fn suspend(&mut self, pending: &mut Pending) -> Result<Outcome, Outcome> {
        self.append(pending)?;
        if let Some(file) = &self.file {
            if let Err(error) = self.shared.sys.sync_data(file, &self.path) {
                return Err(self.drop_bytes(&error));
            }
            self.check_ours()?;
            if let Err(error) = self.shared.sys.sync_dir(layout::UPLOADS) {
                return Err(self.roll_back(&error, "putting an upload aside"));
            }
        }
        // Closes the file, and with it gives up the lock.
        self.file = None;
        Ok(Outcome::Suspended)
    }

    /// Verifies and makes the bytes the blob of this digest.
    pub(crate) fn commit(&mut self, pending: &mut Pending, digest: &Digest) -> Result<Outcome, Outcome> {
        if self.file.is_none() {
            return self.commit_from_memory(pending, digest);
        }
        self.append(pending)?;
        let Some(file) = &self.file else { return Err(Outcome::Lost(Loss::Failed, Loss::Failed.error())) };
        let found = if digest.algorithm() == self.hasher.algorithm() {
            self.hasher.clone().finalize()
        } else {
            let rehashed = hash_file(file, digest.algorithm(), self.len);
            rehashed.map_err(|error| Outcome::Refused(self.told(&error, "reading staged bytes again")))?.finalize()
        };
        if found != *digest {
            return Err(Outcome::Refused(Error::digest_mismatch(digest, &found)));
        }
        self.check_ours()?;
        if let Err(error) = self.shared.sys.sync_data(file, &self.path) {
            return Err(self.drop_bytes(&error));
        }
        match self.shared.publish(file, &self.path, digest) {
            Ok(info) => {
                self.file = None;
                Ok(Outcome::Committed(info))
            }
            // The bytes are durable under their old name: the same commit may be tried again.
            Err(PublishError::Before(error)) => Err(Outcome::Refused(self.told(&error, "putting a blob in place").with_key(digest))),
            Err(PublishError::Gone) => {
                self.file = None;
                Err(Outcome::Lost(Loss::Superseded, Loss::Superseded.error().with_key(&self.path)))
            }
            Err(PublishError::After(error)) => {
                self.file = None;
                Err(Outcome::Lost(Loss::Dropped, self.told(&error, "making a blob durable").with_key(digest)))
            }
        }
    }

    /// Everything in one go. The bytes stay in memory until it is done: whatever fails, the same commit may be tried again, with a new file.
    fn commit_from_memory(&mut self, pending: &mut Pending, digest: &Digest) -> Result<Outcome, Outcome> {
        let frames = pending.frames();
        let mut hasher = Hasher::new(digest.algorithm());
        for frame in frames {
            hasher.update(frame);
        }
        let found = hasher.finalize();
        if found != *digest {
            return Err(Outcome::Refused(Error::digest_mismatch(digest, &found)));
        }
        let file = self.create().map_err(|error| match loss_of_creation(&error) {
            loss @ Loss::Superseded => Outcome::Lost(loss, loss.error().with_key(&self.path)),
            _ => Outcome::Refused(self.told(&error, "creating a file for a blob")),
        })?;
        let written = self.write_synced(&file, frames).map_err(PublishError::Before);
        let info = written.and_then(|()| self.shared.publish(&file, &self.path, digest)).map_err(|error| {
            let error = match error {
                PublishError::Before(error) => {
                    self.unlink();
                    self.told(&error, "writing a blob")
                }
                PublishError::After(error) => self.told(&error, "making a blob durable"),
                PublishError::Gone => Error::new(ErrorKind::Unavailable, "the file was removed while a blob was written"),
            };
            Outcome::Refused(error.with_key(digest))
        })?;
        pending.clear();
        Ok(Outcome::Committed(info))
    }

    fn write_synced(&self, file: &File, frames: &[Bytes]) -> io::Result<()> {
        if !frames.is_empty() {
            self.shared.sys.write_at(file, &self.path, frames, 0)?;
        }
        self.shared.sys.sync_data(file, &self.path)
    }

    /// Drops the staged bytes.
    pub(crate) fn abort(&mut self) -> Result<Outcome, Outcome> {
        let Some(file) = self.file.take() else { return Ok(Outcome::Aborted) };
        let ours = self.shared.names(&self.path, &file);
        // A newer writer's file has another name; what has this name and is not ours cannot be.
        match ours.and_then(|ours| if ours { self.shared.sys.unlink(&self.path) } else { Ok(false) }) {
            Ok(_) => Ok(Outcome::Aborted),
            Err(error) => Err(Outcome::Lost(Loss::Failed, self.told(&error, "dropping an upload"))),
        }
    }

    fn create(&self) -> io::Result<File> {
        self.shared.create_staged(&self.path)
    }

    /// The staged file must have its name still. If a newer writer took it away, whatever this one wrote went to a file without a name.
    fn check_ours(&self) -> Result<(), Outcome> {
        let Some(file) = &self.file else { return Ok(()) };
        match self.shared.names(&self.path, file) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Outcome::Lost(Loss::Superseded, Loss::Superseded.error().with_key(&self.path))),
            Err(error) => Err(Outcome::Refused(self.told(&error, "looking at an upload"))),
        }
    }

    /// After a failed write: back to what the last token covers. Of a full disk this also gives back the room.
    fn roll_back(&mut self, error: &io::Error, doing: &str) -> Outcome {
        match self.file.take() {
            Some(file) if self.base > 0 => {
                if let Err(error) = self.shared.sys.truncate(&file, &self.path, self.base) {
                    tracing::warn!(path = self.path, %error, "could not cut a failed upload; it is cut when it is resumed");
                }
            }
            Some(_) => self.unlink(),
            None => {}
        }
        Outcome::Lost(Loss::Failed, self.told(error, doing))
    }

    /// After a failed sync: what the kernel holds of the file may no longer be what was written, and a later sync would not say so. None of it counts.
    fn drop_bytes(&mut self, error: &io::Error) -> Outcome {
        self.file = None;
        self.unlink();
        Outcome::Lost(Loss::Dropped, self.told(error, "making an upload durable"))
    }

    fn unlink(&self) {
        if let Err(error) = self.shared.sys.unlink(&self.path) {
            tracing::warn!(path = self.path, %error, "could not remove a staged file; it is left for the search for abandoned uploads");
        }
    }

    fn told(&self, error: &io::Error, doing: &str) -> Error {
        failed(error, doing).with_key(&self.path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let Some(file) = self.file.take().filter(|_| self.ephemeral) else { return };
        let (shared, path) = (Arc::clone(&self.shared), std::mem::take(&mut self.path));
        let remove = move || {
            if let Err(error) = shared.sys.unlink(&path) {
                tracing::warn!(path, %error, "could not remove the file of a write that was given up; it is left for the search for abandoned uploads");
            }
            drop(file);
        };
        // Removing a large file takes its time, and this may be an async task that was dropped.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// The name is made of a random id and an epoch that only one writer has: if it is taken, that epoch was used twice.
fn loss_of_creation(error: &io::Error) -> Loss {
    if error.kind() == io::ErrorKind::AlreadyExists { Loss::Superseded } else { Loss::Failed }
}

/// The hash over the first `len` bytes of a file.
pub(crate) fn hash_file(file: &File, algorithm: Algorithm, len: u64) -> io::Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; REHASH];
    let mut offset = 0;
    while offset < len {
        let want = usize::try_from(len - offset).unwrap_or(usize::MAX).min(REHASH);
        let n = sys::read_full(file, &mut buffer[..want], offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..n]);
        offset += n as u64;
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_a_file_that_is_too_short_fails_rather_than_giving_a_shorter_hash() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        assert_eq!(hash_file(&file, Algorithm::Sha256, 10).unwrap().finalize(), Digest::sha256(&[0; 10]));
        assert_eq!(hash_file(&file, Algorithm::Sha256, 11).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
