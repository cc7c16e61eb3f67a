//! Taking up a suspended upload, whoever else may still hold it.
//!
//! ```text
//!   open the token's file ──> lock ──> still its name? ──> rename to our epoch ──> cut to the token's offset
//!         │ gone                │ held by a live writer
//!         ▼                     ▼
//!   look for what later       copy the token's bytes to a file of our epoch, make it durable, remove the name of the old one:
//!   epochs made of it         whatever the live writer still writes goes to a file that has no name any more
//! ```
//!
//! A file is cut only by who holds its lock *and* has just renamed it: had its writer committed it in the meantime, the name would be gone.

use std::fs::File;
use std::io;
use std::sync::Arc;

use registry_core::{Error, ErrorKind, Result, UploadToken};

use crate::layout::{self, Staged};
use crate::shared::{Shared, failed};
use crate::staging::{Staging, hash_file};
use crate::sys;

/// How often the file may be taken from under us before somebody else is to have it.
const ATTEMPTS: usize = 32;

/// Takes up the upload as `mine`.
pub(crate) fn take_up(shared: &Arc<Shared>, token: &UploadToken, from: &Staged, mine: &Staged) -> Result<Staging> {
    for _ in 0..ATTEMPTS {
        let path = match shared.sys.stat(&from.path()).map_err(|error| told(&error, from))? {
            Some(_) => from.path(),
            None => later_epoch(shared, token, from, mine)?.path(),
        };
        let file = match shared.sys.open_write(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| told(&error, from))?,
        };
        let Some(file) = claim(shared, &path, file, token.offset, mine)? else { continue };
        let hasher = match token.hasher() {
            Some(hasher) => hasher,
            None => hash_file(&file, token.algorithm, token.offset).map_err(|error| told(&error, from))?,
        };
        return Ok(Staging::taken_up(Arc::clone(shared), mine.path(), hasher, file, token.offset));
    }
    Err(Error::new(ErrorKind::Conflict, "others are taking up the same upload").with_key(from.name()))
}

/// The file is not under the token's name: it may have been taken up from this very token by somebody who then died or stalled.
fn later_epoch(shared: &Shared, token: &UploadToken, from: &Staged, mine: &Staged) -> Result<Staged> {
    let names = shared.sys.names(layout::UPLOADS).map_err(|error| told(&error, from))?;
    let files = names.iter().filter_map(|name| Staged::parse(name)).filter(|staged| staged.id == from.id);
    let mut best: Option<Staged> = None;
    for file in files {
        if file.epoch >= mine.epoch {
            return Err(Error::new(ErrorKind::Conflict, "the upload has a newer writer").with_key(file.name()));
        }
        if file.from == Some((from.epoch, token.offset)) && best.as_ref().is_none_or(|best| best.epoch < file.epoch) {
            best = Some(file);
        }
    }
    best.ok_or_else(|| unknown(from))
}

/// Makes the file at `path` ours, or a copy of its first `offset` bytes; `None` if the name went to another file meanwhile.
pub(crate) fn claim(shared: &Arc<Shared>, path: &str, file: File, offset: u64, mine: &Staged) -> Result<Option<File>> {
    let error = |error: io::Error| told(&error, mine);
    let locked = shared.lock_patiently(&file).map_err(error)?;
    if !shared.names(path, &file).map_err(error)? {
        return Ok(None);
    }
    let meta = sys::fstat(&file).map_err(error)?;
    if meta.size < offset {
        return Err(unknown(mine));
    }
    // A second name would be a blob's, left by a crash on a filesystem without a journal: such a file must not be cut.
    if locked && meta.links == 1 {
        match shared.sys.rename_new(path, &mine.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(taken(mine)),
            Err(other) => return Err(error(other)),
        }
        shared.sys.truncate(&file, &mine.path(), offset).map_err(error)?;
        return Ok(Some(file));
    }
    copy(shared, path, &file, offset, mine).map(Some)
}

fn copy(shared: &Arc<Shared>, path: &str, from: &File, offset: u64, mine: &Staged) -> Result<File> {
    let target = mine.path();
    tracing::debug!(from = path, to = target, bytes = offset, "an upload's older writer is alive: its bytes are copied");
    let file = shared.create_staged(&target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(mine),
        _ => told(&error, mine),
    })?;
    let sys = &shared.sys;
    // Durable before the old name goes: the token was acknowledged.
    let copied =
        sys.copy(from, &file, &target, offset).and_then(|()| sys.sync_data(&file, &target)).and_then(|()| sys.sync_dir(layout::UPLOADS));
    if let Err(error) = copied {
        drop(sys.unlink(&target));
        return Err(told(&error, mine));
    }
    sys.unlink(path).map_err(|error| told(&error, mine))?;
    Ok(file)
}

fn told(error: &io::Error, staged: &Staged) -> Error {
    failed(error, "taking up an upload").with_key(staged.name())
}

fn unknown(staged: &Staged) -> Error {
    Error::new(ErrorKind::UploadUnknown, "the upload's staged bytes are gone").with_key(staged.name())
}

fn taken(staged: &Staged) -> Error {
    Error::new(ErrorKind::Conflict, "the upload has a writer of this epoch").with_key(staged.name())
}
