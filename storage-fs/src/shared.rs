//! [`Shared`]: what all handles of one opened store have in common, and how anything gets from an async task to the disk.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{TryStreamExt as _, stream};
use registry_core::blob::{BlobInfo, ItemStream};
use registry_core::{Algorithm, Digest, Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::layout;
use crate::sys::{self, Meta, Sys};

pub(crate) struct Shared {
    pub(crate) sys: Sys,
    /// For messages only; the root is reached through its open directory.
    pub(crate) root: String,
    /// How many blocking operations of this store run at once: tokio's pool is the whole process's.
    blocking: Arc<Semaphore>,
    /// The shard directories of each algorithm whose entries this process knows to be durable.
    shards: [[AtomicU64; 4]; Algorithm::ALL.len()],
    /// Reads never wait for a disk.
    pub(crate) in_memory: bool,
    /// `preadv2(RWF_NOWAIT)` and `openat2(RESOLVE_CACHED)` have not failed as unknown yet.
    pub(crate) cached_reads: AtomicBool,
    pub(crate) cached_opens: AtomicBool,
}

/// How long another's lock is waited for before it is taken for a stalled writer's.
const LOCK_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 4 } else { 60 });

/// Why a staged file did not become a blob.
pub(crate) enum PublishError {
    /// It has its old name still, and the same can be tried again.
    Before(io::Error),
    /// It no longer has its old name: somebody took it or dropped it.
    Gone,
    /// The blob is in place, whole, but whether a power cut leaves it there is not known. Syncing once more would prove nothing.
    After(io::Error),
}

impl Shared {
    pub(crate) fn new(sys: Sys, root: String, max_blocking: usize) -> Self {
        let in_memory = sys.is_in_memory();
        Self {
            sys,
            root,
            blocking: Arc::new(Semaphore::new(max_blocking)),
            shards: Default::default(),
            in_memory,
            cached_reads: AtomicBool::new(true),
            cached_opens: AtomicBool::new(true),
        }
    }

    /// The right to run one blocking operation.
    pub(crate) async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.blocking).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Runs this on a thread that may wait for the disk. If the caller is dropped it runs to its end all the same.
    pub(crate) async fn hop<T: Send + 'static>(self: &Arc<Self>, job: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.permit().await;
        let shared = Arc::clone(self);
        let job = move || {
            let result = job(&shared);
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(job).await.unwrap_or_else(|error| Err(interrupted(error)))
    }

    /// Creates a file in `uploads/` and takes its lock.
    pub(crate) fn create_staged(&self, path: &str) -> io::Result<File> {
        for _ in 0..10 {
            let file = self.sys.create(path).inspect_err(|error| {
                // A create that failed may have created. The name is nobody else's, unless it was there before.
                if error.kind() != io::ErrorKind::AlreadyExists {
                    drop(self.sys.unlink(path));
                }
            })?;
            // Between the two, somebody who looks for abandoned uploads may have had the lock, and dropped what nobody held.
            match self.lock_patiently(&file).and_then(|locked| Ok(locked && sys::fstat(&file)?.links > 0)) {
                Ok(true) => return Ok(file),
                Ok(false) => drop(self.sys.unlink(path)?),
                Err(error) => {
                    drop(self.sys.unlink(path));
                    return Err(error);
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, "a new file is locked by others again and again"))
    }

    /// Takes the lock; false if somebody has it and keeps it.
    pub(crate) fn lock_patiently(&self, file: &File) -> io::Result<bool> {
        let mut waited = Duration::ZERO;
        let mut pause = Duration::from_millis(1);
        loop {
            if sys::lock(file)? {
                return Ok(true);
            }
            if waited >= LOCK_PATIENCE {
                return Ok(false);
            }
            std::thread::sleep(pause);
            waited += pause;
            pause *= 2;
        }
    }

    /// Whether this path still names this file.
    pub(crate) fn names(&self, path: &str, file: &File) -> io::Result<bool> {
        let inode = sys::fstat(file)?.inode;
        Ok(self.sys.stat(path)?.is_some_and(|meta| meta.inode == inode))
    }

    /// Makes the staged file, whose bytes are durable, the blob of this digest.
    pub(crate) fn publish(&self, file: &File, from: &str, digest: &Digest) -> Result<BlobInfo, PublishError> {
        let to = layout::blob(digest);
        let shard = layout::shard(digest.algorithm(), digest.shard());
        self.ensure_shard(digest).map_err(PublishError::Before)?;
        let renamed = self.sys.rename(from, &to).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // Somebody may have tidied away empty directories.
            self.forget_shard(digest);
            self.ensure_shard(digest)?;
            self.sys.rename(from, &to)
        });
        match renamed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PublishError::Gone),
            // It may have been done: an operation that fails is not always one that did nothing.
            Err(error) if self.names(&to, file).unwrap_or(true) => return Err(PublishError::After(error)),
            Err(error) => return Err(PublishError::Before(error)),
        }
        self.sys.sync_dir(&shard).map_err(PublishError::After)?;
        let meta = sys::fstat(file).map_err(PublishError::After)?;
        Ok(BlobInfo::new(*digest, meta.size).with_modified(meta.modified))
    }

    fn known(&self, digest: &Digest) -> (&AtomicU64, u64) {
        let (word, bit) = (usize::from(digest.shard() / 64), digest.shard() % 64);
        let algorithm = Algorithm::ALL.iter().position(|algorithm| *algorithm == digest.algorithm()).unwrap_or(0);
        (&self.shards[algorithm][word], 1 << bit)
    }

    fn forget_shard(&self, digest: &Digest) {
        let (word, bit) = self.known(digest);
        word.fetch_and(!bit, Ordering::Relaxed);
    }

    /// Makes sure that the blob's directory is there, durably.
    fn ensure_shard(&self, digest: &Digest) -> io::Result<()> {
        let (word, bit) = self.known(digest);
        if word.load(Ordering::Relaxed) & bit == 0 {
            let path = layout::shard(digest.algorithm(), digest.shard());
            self.ensure_dir(&path, &layout::algorithm(digest.algorithm()))?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes a directory and its entry in `parent` durable, also if it is there already: whoever made it may not have come to the sync.
    pub(crate) fn ensure_dir(&self, path: &str, parent: &str) -> io::Result<()> {
        let created = self.sys.mkdir(path)?;
        self.sys.sync_dir(parent).inspect_err(|_| {
            if created {
                // So that the next attempt makes the entry anew: syncing this one again would prove nothing. Fails if another is using it already.
                drop(self.sys.rmdir(path));
            }
        })
    }

    /// Notes the shard directories that are there; they are durable once the algorithm's directory has been synced after this.
    pub(crate) fn note_shards(&self, algorithm: Algorithm) -> io::Result<()> {
        let parent = layout::algorithm(algorithm);
        let names = self.sys.names(&parent)?;
        self.sys.sync_dir(&parent)?;
        for name in names {
            let Some(shard) = u8::from_str_radix(&name, 16).ok().filter(|shard| format!("{shard:02x}") == name) else { continue };
            let index = Algorithm::ALL.iter().position(|a| *a == algorithm).unwrap_or(0);
            self.shards[index][usize::from(shard / 64)].fetch_or(1 << (shard % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Opens a blob or fails as not found; whatever lies there must be a file.
    pub(crate) fn check_blob(digest: &Digest, opened: io::Result<File>) -> Result<(File, BlobInfo)> {
        let file = opened.map_err(|error| failed(&error, "opening a blob").with_key(digest))?;
        let meta = sys::fstat(&file).map_err(|error| failed(&error, "looking at a blob").with_key(digest))?;
        Ok((file, blob_info(digest, &meta)?))
    }
}

/// The blob that this file is.
pub(crate) fn blob_info(digest: &Digest, meta: &Meta) -> Result<BlobInfo> {
    if !meta.is_file {
        return Err(Error::new(ErrorKind::Corrupt, "in the place of a blob is something that is no file").with_key(digest));
    }
    Ok(BlobInfo::new(*digest, meta.size).with_modified(meta.modified))
}

/// A stream of what a blocking function yields page by page, given what it left for the next page; it ends without a page, or at the first error.
pub(crate) fn pages<S, T>(shared: &Arc<Shared>, start: S, next: fn(&Shared, S) -> Result<Option<(Vec<T>, S)>>) -> ItemStream<'static, T>
where
    S: Send + 'static,
    T: Send + 'static,
{
    let shared = Arc::clone(shared);
    let pages = stream::try_unfold(start, move |state| {
        let shared = Arc::clone(&shared);
        async move { shared.hop(move |shared| next(shared, state)).await }
    });
    Box::pin(pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten())
}

/// An error of the operating system, with what was being done.
pub(crate) fn failed(error: &io::Error, doing: &str) -> Error {
    // An io::Error cannot be cloned; those from the system are told wholly by their number.
    let source = error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error);
    let kind = match error.raw_os_error() {
        // O_NOFOLLOW met a symbolic link.
        Some(number) if number == rustix::io::Errno::LOOP.raw_os_error() => ErrorKind::Corrupt,
        _ => Error::from(io::Error::from(error.kind())).kind(),
    };
    Error::new(kind, format!("{doing}: {source}")).with_source(source)
}

/// A blocking operation panicked, or the runtime is going down.
pub(crate) fn interrupted(error: tokio::task::JoinError) -> Error {
    let kind = if error.is_panic() { ErrorKind::Internal } else { ErrorKind::Interrupted };
    Error::new(kind, "a disk operation did not come to its end").with_source(error)
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("root", &self.root).field("in_memory", &self.in_memory).finish_non_exhaustive()
    }
}
