//! The few operations of the filesystem that the store is made of, all relative to the open root directory.
//!
//! Every one that changes something passes [`Sys::gated`], where a test can record it, make it fail, or make it fail *after* it was done. There is no
//! other way to the disk in this crate, so a recorded order is the order.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use registry_core::Timestamp;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// What was, or is about to be, done. Only tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) enum Op {
    Create(String),
    Write(String),
    Truncate(String),
    SyncData(String),
    SyncDir(String),
    Rename(String, String),
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
}

/// What a test wants to become of an operation.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Fail(Errno),
    /// Done, and reported as failed.
    DoneButFail(Errno),
}

#[cfg(test)]
pub(crate) type Hook = std::sync::Arc<dyn Fn(&Op) -> Verdict + Send + Sync>;

/// What `stat` says of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) size: u64,
    /// The later of content change and inode change. The latter moves when a file is renamed into place, which is when the blob came to be:
    /// the content of an upload may be days older.
    pub(crate) modified: Timestamp,
    /// Device and inode: what a name stands for.
    pub(crate) inode: (u64, u64),
    pub(crate) links: u64,
    pub(crate) is_file: bool,
    pub(crate) is_dir: bool,
}

impl Meta {
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
    fn new(stat: &Stat) -> Self {
        let millis = |seconds: i64, nanos: i64| Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000));
        let written = millis(stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        let changed = millis(stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode as _);
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: written.max(changed),
            inode: (stat.st_dev as u64, stat.st_ino as u64),
            links: stat.st_nlink as u64,
            is_file: kind.is_file(),
            is_dir: kind.is_dir(),
        }
    }
}

const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// The most pieces that Linux takes in one vectored write (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// The filesystem below one root.
pub(crate) struct Sys {
    root: OwnedFd,
    /// Whether syncs are done at all.
    durable: bool,
    #[cfg(test)]
    pub(crate) hook: Option<Hook>,
}

impl Sys {
    /// Over this directory; with `durable`, [`sync_data`](Self::sync_data) and [`sync_dir`](Self::sync_dir) do what they say.
    pub(crate) fn new(root: OwnedFd, durable: bool) -> Self {
        Self {
            root,
            durable,
            #[cfg(test)]
            hook: None,
        }
    }

    #[allow(clippy::needless_pass_by_value)] // One signature for both builds.
    fn gated<T>(&self, op: impl FnOnce() -> Op, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            match hook(&op()) {
                Verdict::Go => {}
                Verdict::Fail(errno) => return Err(errno.into()),
                Verdict::DoneButFail(errno) => return run().and(Err(errno.into())),
            }
        }
        #[cfg(not(test))]
        let _ = op;
        run()
    }

    /// Creates a file that must not exist, open for reading and writing.
    pub(crate) fn create(&self, path: &str) -> io::Result<File> {
        self.gated(
            || Op::Create(path.to_owned()),
            || {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                Ok(rustix::fs::openat(&self.root, path, flags, Mode::from_raw_mode(FILE_MODE))?.into())
            },
        )
    }

    /// Opens a file for reading; symbolic links are not followed.
    pub(crate) fn open_read(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.root, path, flags, Mode::empty())?.into())
    }

    /// The same, without waiting for a disk: `WouldBlock` if the name is not in the kernel's cache, `Unsupported` where that cannot be asked
    /// (openat2 with `RESOLVE_CACHED`, Linux 5.12).
    pub(crate) fn open_read_cached(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), rustix::fs::ResolveFlags::CACHED) {
            Ok(file) => Ok(file.into()),
            // Old kernels know neither the call nor the flag; sandboxes forbid the call.
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a staged file for reading and writing.
    pub(crate) fn open_write(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.root, path, flags, Mode::empty())?.into())
    }

    /// Writes all of it at this offset.
    pub(crate) fn write_at(&self, file: &File, path: &str, frames: &[Bytes], offset: u64) -> io::Result<()> {
        self.gated(
            || Op::Write(path.to_owned()),
            || {
                let mut offset = offset;
                for frames in frames.chunks(MAX_SLICES) {
                    let mut slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                    let mut rest = &mut slices[..];
                    // Skips empty ones, too.
                    IoSlice::advance_slices(&mut rest, 0);
                    while !rest.is_empty() {
                        match rustix::io::pwritev(file, rest, offset) {
                            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                            Ok(n) => {
                                offset += n as u64;
                                IoSlice::advance_slices(&mut rest, n);
                            }
                            Err(Errno::INTR) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                Ok(())
            },
        )
    }

    /// Copies the first `len` bytes: by reference where the filesystem can, in the kernel where it cannot, by hand where that is not possible either.
    pub(crate) fn copy(&self, from: &File, to: &File, path: &str, len: u64) -> io::Result<()> {
        self.gated(
            || Op::Write(path.to_owned()),
            || {
                let (mut read, mut written) = (0_u64, 0_u64);
                while written < len {
                    let want = usize::try_from(len - written).unwrap_or(usize::MAX).min(1 << 30);
                    match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), want) {
                        Ok(0) => return copy_by_hand(from, to, written, len),
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                            return copy_by_hand(from, to, written, len);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            },
        )
    }

    /// Cuts the file to this length.
    pub(crate) fn truncate(&self, file: &File, path: &str, len: u64) -> io::Result<()> {
        self.gated(|| Op::Truncate(path.to_owned()), || Ok(rustix::fs::ftruncate(file, len)?))
    }

    /// Puts the file's bytes and its length on the disk.
    ///
    /// `fdatasync`, not `fsync`: times and owners may be lost, and a file that is written in place of preallocated blocks needs no journal commit. A
    /// failure is final: the kernel may have dropped the pages that it could not write, and would report the next sync as good.
    pub(crate) fn sync_data(&self, file: &File, path: &str) -> io::Result<()> {
        if !self.durable {
            return Ok(());
        }
        self.gated(|| Op::SyncData(path.to_owned()), || file.sync_data())
    }

    /// Puts the directory's entries on the disk. `.` is the root.
    pub(crate) fn sync_dir(&self, path: &str) -> io::Result<()> {
        if !self.durable {
            return Ok(());
        }
        self.gated(|| Op::SyncDir(path.to_owned()), || self.open_dir(path)?.sync_all())
    }

    fn open_dir(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root, path, flags, Mode::empty())?.into())
    }

    /// Gives the file another name, in place of what has that name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.gated(|| Op::Rename(from.to_owned(), to.to_owned()), || Ok(rustix::fs::renameat(&self.root, from, &self.root, to)?))
    }

    /// Gives the file another name that must be free.
    pub(crate) fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.gated(
            || Op::Rename(from.to_owned(), to.to_owned()),
            || match rustix::fs::renameat_with(&self.root, from, &self.root, to, RenameFlags::NOREPLACE) {
                // Network filesystems cannot; there the check is only nearly atomic.
                Err(Errno::INVAL | Errno::NOSYS) if self.stat(to)?.is_some() => Err(io::ErrorKind::AlreadyExists.into()),
                Err(Errno::INVAL | Errno::NOSYS) => Ok(rustix::fs::renameat(&self.root, from, &self.root, to)?),
                other => Ok(other?),
            },
        )
    }

    /// Makes a directory; false if it was there.
    pub(crate) fn mkdir(&self, path: &str) -> io::Result<bool> {
        self.gated(
            || Op::Mkdir(path.to_owned()),
            || match rustix::fs::mkdirat(&self.root, path, Mode::from_raw_mode(DIR_MODE)) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(error) => Err(error.into()),
            },
        )
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(&self, path: &str) -> io::Result<()> {
        self.gated(|| Op::Rmdir(path.to_owned()), || Ok(rustix::fs::unlinkat(&self.root, path, AtFlags::REMOVEDIR)?))
    }

    /// Removes a name; false if it was not there.
    pub(crate) fn unlink(&self, path: &str) -> io::Result<bool> {
        self.gated(
            || Op::Unlink(path.to_owned()),
            || match rustix::fs::unlinkat(&self.root, path, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            },
        )
    }

    /// What this name stands for; `None` if nothing.
    pub(crate) fn stat(&self, path: &str) -> io::Result<Option<Meta>> {
        match rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Meta::new(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in a directory, in no order; none if it is not there.
    pub(crate) fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.root, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            // Whatever is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Whether the filesystem lives in memory, so that reading never waits for a disk (but for swap).
    pub(crate) fn is_in_memory(&self) -> bool {
        const TMPFS: i128 = 0x0102_1994;
        const RAMFS: i128 = 0x8584_58f6;
        rustix::fs::fstatfs(&self.root).is_ok_and(|stat| matches!(i128::from(stat.f_type), TMPFS | RAMFS))
    }
}

/// What an open file is.
pub(crate) fn fstat(file: &File) -> io::Result<Meta> {
    Ok(Meta::new(&rustix::fs::fstat(file)?))
}

/// Takes the file's lock without waiting; false if another open file has it. It is given up when the last handle of this opening is closed, however
/// the process ends.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Says that the file will be read from front to back, so that the kernel reads further ahead.
pub(crate) fn will_read_through(file: &File) {
    // A hint: if it is not taken there is nothing to do.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}

/// Reads what the kernel has in memory: `WouldBlock` if nothing of it, `Unsupported` where the filesystem cannot tell.
pub(crate) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, rustix::io::ReadWriteFlags::NOWAIT) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Err(io::ErrorKind::Unsupported.into()),
            other => return Ok(other?),
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn copy_by_hand(from: &File, to: &File, mut offset: u64, len: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; 256 << 10];
    while offset < len {
        let want = usize::try_from(len - offset).unwrap_or(usize::MAX).min(buffer.len());
        let n = read_full(from, &mut buffer[..want], offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(&buffer[..n], offset)?;
        offset += n as u64;
    }
    Ok(())
}
