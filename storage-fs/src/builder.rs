//! [`FsBlobStoreBuilder`]: opening a store.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use registry_core::{Algorithm, Error, ErrorKind, Result};

use crate::layout;
use crate::shared::{Shared, failed, interrupted};
use crate::store::FsBlobStore;
use crate::sys::{self, Sys};

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A power cut: the bytes, and every directory entry on the way to them, are synced before a write is answered.
    #[default]
    PowerLoss,
    /// The end of the process, by whatever signal, but not of the machine: nothing is synced. For data that can be fetched again, and for tests. After a
    /// power cut a blob may be there with wrong bytes; only what verifies blobs on reading notices.
    ProcessCrash,
}

/// How to open an [`FsBlobStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FsBlobStoreBuilder {
    root: PathBuf,
    durability: Durability,
    max_blocking: usize,
}

const DEFAULT_MAX_BLOCKING: usize = 64;

impl FsBlobStoreBuilder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, durability: Durability::default(), max_blocking: DEFAULT_MAX_BLOCKING }
    }

    /// What an acknowledged write is to survive; a power cut by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many disk operations of this store may run at once, each on a thread of tokio's blocking pool: 64 by default. Further ones wait.
    pub fn max_blocking(mut self, operations: usize) -> Self {
        self.max_blocking = operations.max(1);
        self
    }

    /// Opens the store, and makes what is missing of its directories (mode 0750, files 0640, less the process's umask).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the root is something else than a directory, [`ErrorKind::Unsupported`] if a newer release laid it out,
    /// [`ErrorKind::Corrupt`] if its `format` file cannot be read; otherwise what the operating system says.
    pub async fn build(self) -> Result<FsBlobStore> {
        let open = move || self.open();
        let shared = tokio::task::spawn_blocking(open).await.map_err(interrupted)??;
        Ok(FsBlobStore::over(shared))
    }

    fn open(self) -> Result<Shared> {
        let told = |error: io::Error| failed(&error, "opening a store").with_key(self.root.display());
        // Relative to where the process is now, wherever it goes later.
        let path = std::path::absolute(&self.root).map_err(told)?;
        let root = match make_root(&path, self.durability == Durability::PowerLoss) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists) => {
                let message = "a store's root has to be a directory";
                return Err(Error::new(ErrorKind::InvalidInput, message).with_key(path.display()).with_source(error));
            }
            other => other.map_err(told)?,
        };
        let sys = Sys::new(root.into(), self.durability == Durability::PowerLoss);
        self.over(sys, &path)
    }

    pub(crate) fn over(&self, sys: Sys, path: &Path) -> Result<Shared> {
        let shared = Shared::new(sys, path.display().to_string(), self.max_blocking);
        let key = |error: Error| if error.key().is_none() { error.with_key(path.display()) } else { error };
        prepare(&shared).map_err(key)?;
        Ok(shared)
    }
}

/// Opens the root, making it and its parents if need be.
fn make_root(path: &Path, durable: bool) -> io::Result<File> {
    let directory = || OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::DIRECTORY.bits().cast_signed()).open(path);
    match directory() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
    drop(make_root(parent, durable)?);
    match DirBuilder::new().mode(0o750).create(path) {
        // Another process makes the same root.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    if durable {
        File::open(parent)?.sync_all()?;
    }
    directory()
}

/// Makes and checks what is below the root. Any number of processes may do so at once.
fn prepare(shared: &Shared) -> Result<()> {
    let told = |error: io::Error| failed(&error, "preparing a store");
    let dir = |path: &str, parent: &str| {
        shared.ensure_dir(path, parent).map_err(told)?;
        match shared.sys.stat(path).map_err(told)? {
            Some(meta) if meta.is_dir => Ok(()),
            _ => Err(Error::new(ErrorKind::InvalidInput, format!("{path} has to be a directory"))),
        }
    };
    // Before anything is made: the directory may be a newer release's.
    let known = check_format(shared)?;
    dir(layout::UPLOADS, ".")?;
    if !known {
        write_format(shared).map_err(told)?;
        if !check_format(shared)? {
            return Err(Error::new(ErrorKind::Unavailable, "the format file went away as soon as it was written"));
        }
    }
    dir(layout::META, ".")?;
    dir(layout::BLOBS, ".")?;
    for algorithm in Algorithm::ALL {
        dir(&layout::algorithm(algorithm), layout::BLOBS)?;
        shared.note_shards(algorithm).map_err(told)?;
    }
    Ok(())
}

/// Whether the format file is there; an error if it is not to our liking.
fn check_format(shared: &Shared) -> Result<bool> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = match shared.sys.open_read(layout::FORMAT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut text = vec![0; 64];
        let n = sys::read_full(&file, &mut text, 0)?;
        text.truncate(n);
        Ok(Some(text))
    };
    let Some(text) = read().map_err(|error| failed(&error, "reading the format file"))? else { return Ok(false) };
    let version = str::from_utf8(&text).ok().and_then(|text| text.strip_prefix(FORMAT_PREFIX)?.trim_end().parse::<u32>().ok());
    match version {
        Some(version) if version > layout::VERSION => {
            let known = layout::VERSION;
            let message = format!("the directory was laid out by a newer release (layout {version}; this one knows {known})");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
        Some(1..) => Ok(true),
        _ => Err(Error::new(ErrorKind::Corrupt, "the format file of the store cannot be read")),
    }
}

const FORMAT_PREFIX: &str = "storage-fs layout ";

/// Writes the format file, unless another has done so: it appears whole, and the first stays.
fn write_format(shared: &Shared) -> io::Result<()> {
    let sys = &shared.sys;
    let path = layout::upload(&layout::temporary("format"));
    let text = Bytes::from(format!("{FORMAT_PREFIX}{}\n", layout::VERSION));
    let file = shared.create_staged(&path)?;
    let written = sys.write_at(&file, &path, &[text], 0).and_then(|()| sys.sync_data(&file, &path));
    if let Err(error) = written.and_then(|()| sys.rename_new(&path, layout::FORMAT)) {
        drop(sys.unlink(&path));
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
    }
    // Also if another wrote it: it may not have come to the sync.
    sys.sync_dir(".")
}
