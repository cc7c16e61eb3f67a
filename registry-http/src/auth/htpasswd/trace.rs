//! What stays beside a users file: its lock, which also tells that users have been there.
//!
//! A users file that was deleted, or is on a disk that is not mounted, would otherwise open the registry to everybody at its next start.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const TEXT: &str = "Users have been added to the file beside this one: without it nobody is let in. Remove both to let everybody in.\n";

/// The lock of the users file at `path`.
pub(super) fn path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// A file beside another, with more to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether users have been added to the file at `path`.
pub(super) fn is_there(users: &Path) -> bool {
    path(users).metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Waits for the lock of the users file at `path`; it is free when the file is closed.
pub(super) fn lock(users: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path(users))?;
    file.lock()?;
    Ok(file)
}

/// Whoever serves with the file says so, too: it may have been made by other means. Where nothing can be written, as beside a mounted secret, there is no trace.
pub(super) fn mark(users: &Path) {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path(users));
    let _ = file.and_then(|file| leave(&file));
}

/// Users are there from now on.
pub(super) fn leave(mut lock: &File) -> io::Result<()> {
    if lock.metadata()?.len() == 0 {
        lock.write_all(TEXT.as_bytes())?;
        lock.sync_all()?;
    }
    Ok(())
}
