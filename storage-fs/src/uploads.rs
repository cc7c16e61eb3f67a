//! Looking for abandoned uploads, and dropping them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use registry_core::blob::{ItemStream, PendingUpload};
use registry_core::{Error, ErrorKind, Result, Timestamp};

use crate::layout;
use crate::shared::{Shared, failed, pages};
use crate::sys;

/// Files looked at in one go.
const BATCH: usize = 256;

/// Everything in `uploads/` that was last touched before this and that nobody holds.
pub(crate) fn list(shared: &Arc<Shared>, older_than: Timestamp) -> ItemStream<'static, PendingUpload> {
    pages(shared, Search { older_than, names: None }, |shared, mut search| {
        let mut names = match search.names.take() {
            Some(names) => names,
            None => names(shared)?,
        };
        let mut found = Vec::new();
        while found.is_empty() && !names.is_empty() {
            let batch = names.split_off(names.len().saturating_sub(BATCH));
            found = examine(shared, batch, search.older_than)?;
        }
        search.names = Some(names);
        Ok((!found.is_empty()).then_some((found, search)))
    })
}

struct Search {
    older_than: Timestamp,
    /// What is yet to be looked at; `None` before the directory was read.
    names: Option<Vec<String>>,
}

fn names(shared: &Shared) -> Result<Vec<String>> {
    let mut names = shared.sys.names(layout::UPLOADS).map_err(|error| failed(&error, "listing uploads"))?;
    names.retain(|name| layout::is_upload_name(name));
    Ok(names)
}

fn examine(shared: &Shared, names: Vec<String>, older_than: Timestamp) -> Result<Vec<PendingUpload>> {
    let mut found = Vec::new();
    for name in names {
        let path = layout::upload(&name);
        let told = |error: io::Error| failed(&error, "looking at an upload").with_key(&name);
        let Some(meta) = shared.sys.stat(&path).map_err(told)? else { continue };
        if !meta.is_file || meta.modified >= older_than {
            continue;
        }
        // Who holds the lock is alive, however long its client has been silent.
        match open_to_lock(shared, &path).and_then(|file| file.map_or(Ok(false), |file| sys::lock(&file))) {
            Ok(true) => found.push(PendingUpload::new(name, meta.modified, Some(meta.size))),
            Ok(false) => {}
            // One file that somebody else made unreadable must not hide all the others.
            Err(error) => tracing::warn!(path, %error, "cannot tell whether an upload is abandoned"),
        }
    }
    Ok(found)
}

/// For writing, since NFS gives an exclusive lock on nothing else. `None` if it is gone.
fn open_to_lock(shared: &Shared, path: &str) -> io::Result<Option<File>> {
    match shared.sys.open_write(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Drops the staged file of this name unless a live writer holds it.
///
/// A name is one writer's: if the upload was taken up since it was listed, its file has another name, and this one is not there any more.
pub(crate) fn discard(shared: &Shared, name: &str) -> Result<()> {
    if !layout::is_upload_name(name) {
        // Not a name that anything of ours can have, so nothing of that name is there.
        return Ok(());
    }
    let path = layout::upload(name);
    let told = |error: io::Error| failed(&error, "discarding an upload").with_key(name);
    let Some(file) = open_to_lock(shared, &path).map_err(told)? else { return Ok(()) };
    if !shared.lock_patiently(&file).map_err(told)? {
        return Err(Error::new(ErrorKind::Conflict, "the upload has a live writer").with_key(name));
    }
    if shared.names(&path, &file).map_err(told)? {
        shared.sys.unlink(&path).map_err(told)?;
    }
    Ok(())
}
