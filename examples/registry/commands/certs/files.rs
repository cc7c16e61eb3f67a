//! The directory of certificates and keys: how files come into it, and which of those in it are believed.
//!
//! Everything goes through the directory that was opened first, not through its path: who renames it meanwhile, or has a symlink lead elsewhere, cannot make
//! half of a pair land in another place.

use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;

/// The CA's certificate.
pub(super) const CA: &str = "ca.pem";
/// The CA's key.
pub(super) const CA_KEY: &str = "ca-key.pem";
/// The server's certificate.
pub(super) const SERVER: &str = "server.pem";
/// The server's key.
pub(super) const SERVER_KEY: &str = "server-key.pem";

/// Longer files are none of ours, in bytes.
const LONGEST: u64 = 1 << 20;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner.
    Owner,
    /// Its owner, and a group that somebody let read it.
    Group,
    /// Everybody.
    All,
}

/// What a file has and who owns it.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    owner: (u32, u32),
}

/// An opened directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    file: File,
    /// Whether strangers can put files into it, though not replace those of others.
    shared: bool,
}

/// Held while a directory is changed, by one process at a time.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Directory {
    /// Opens the directory if it is there. One that everybody can replace files in is refused.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Failure> {
        let shown = path.display();
        let file = match rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Failure::because(format!("cannot open the directory {shown}"), &std::io::Error::from(error))),
        };
        let mode = file.metadata().map_err(|error| Failure::because(format!("cannot open the directory {shown}"), &error))?.mode();
        if mode & 0o1002 == 0o0002 {
            return Err(Failure::new(format!("everybody may write to the directory {shown}, and so replace the CA or the server's key"))
                .hint(format!("choose another with --dir DIR, or chmod o-w {shown}")));
        }
        Ok(Some(Self { path: path.to_owned(), file, shared: mode & 0o002 != 0 }))
    }

    /// Opens the directory, and makes it if it is not there.
    pub(super) fn make(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| {
            Failure::because(format!("cannot make the directory {}", path.display()), error).hint("choose another with --dir DIR")
        };
        make(path).map_err(|error| failed(&error))?;
        Self::open(path)?.ok_or_else(|| failed(&std::io::ErrorKind::NotFound.into()))
    }

    /// Waits until no other command changes the directory, and removes what killed ones have left.
    pub(super) fn lock(&self) -> Result<Lock, Failure> {
        // A file, though directories can be locked as well: not on NFS.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.file, ".lock", flags, Mode::RUSR | Mode::WUSR).map_err(std::io::Error::from);
        let locked = file.map(File::from).and_then(|file| {
            // A umask that takes writing from the owner would keep the next command out. Somebody else's needs no change to be opened.
            let _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR);
            file.lock()?;
            Ok(file)
        });
        let file = locked.map_err(|error| {
            Failure::because(format!("the directory {} is not writable", self.path.display()), &error).hint("choose another with --dir DIR")
        })?;
        self.sweep();
        Ok(Lock { _file: file })
    }

    /// A key that nobody knows of should not lie about for ever. One that cannot be removed does no harm: no other file is ever made under its name.
    fn sweep(&self) {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.file) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_ok_and(is_temporary) {
                let _ = rustix::fs::unlinkat(&self.file, entry.file_name(), AtFlags::empty());
            }
        }
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether there is anything of this name, be it only a symlink that leads nowhere.
    pub(super) fn has(&self, name: &str) -> Result<bool, Failure> {
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Failure::because(format!("cannot read {}", self.path(name).display()), &std::io::Error::from(error))),
        }
    }

    /// Reads a file if it is there. One is not believed that more than these could have read, or that a stranger could have put there.
    pub(super) fn read(&self, name: &str, readers: Readers) -> Result<Option<Content>, Failure> {
        let shown = self.path(name).display().to_string();
        let failed = |error: std::io::Error| Failure::because(format!("cannot read {shown}"), &error);
        // Without NONBLOCK, a pipe of that name would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.file, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Failure::new(format!("cannot read {shown}: it is no file")));
        }
        if self.shared && metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(Failure::new(format!("{shown} is somebody else's, in a directory that everybody may write to"))
                .hint("choose another directory with --dir DIR"));
        }
        let (forbidden, repair) = match readers {
            Readers::Owner => (0o077, "chmod 600"),
            Readers::Group => (0o027, "chmod o=,g-w"),
            Readers::All => (0o002, "chmod o-w"),
        };
        if metadata.mode() & forbidden != 0 {
            let what = if readers == Readers::All { "may be written by everybody" } else { "is a private key that others may use" };
            let hint = format!("{repair} {shown}, if nobody has; otherwise remove it and what was made with it");
            return Err(Failure::new(format!("{shown} {what}: its mode is {:03o}", metadata.mode() & 0o777)).hint(hint));
        }
        let mut bytes = Vec::new();
        let owner = (metadata.uid(), metadata.gid());
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LONGEST {
            return Err(Failure::new(format!("cannot read {shown}: it is longer than {LONGEST} bytes")));
        }
        Ok(Some(Content { bytes, owner }))
    }

    /// Writes a file durably under a name that nobody reads; [`Prepared::publish`] gives it its own. At no moment more than these may read it. It belongs to
    /// who owns what it is to replace, so that a server that could read that can read this.
    pub(super) fn prepare(
        &self,
        name: &'static str,
        bytes: &[u8],
        readers: Readers,
        replaced: Option<&Content>,
    ) -> Result<Prepared<'_>, Failure> {
        let failed = |error| Failure::because(format!("cannot write {}", self.path(name).display()), &error);
        let mode = if readers == Readers::All { Mode::from_raw_mode(0o644) } else { Mode::RUSR | Mode::WUSR };
        let temporary = format!(".{name}.{}.new", registry_core::random_id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.file, &temporary, flags, mode).map_err(|error| failed(error.into()))?;
        // From here on it is removed if anything fails.
        let prepared = Prepared { directory: self, name, temporary, published: false };
        let mut file = File::from(file);
        let owner = file.metadata().map_err(failed)?.uid();
        if let Some((uid, gid)) = replaced.map(|content| content.owner).filter(|(uid, _)| *uid != owner) {
            fchown(&file, Some(uid), Some(gid)).map_err(|error| {
                failed(error).hint(format!("the file there belongs to user {uid}: be that user or root, as a server reads it as that user"))
            })?;
        }
        // The umask may have taken away what readers need.
        rustix::fs::fchmod(&file, mode).map_err(|error| failed(error.into()))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(prepared)
    }
}

/// Makes a directory and those above it, each of them durably in its own.
fn make(path: &Path) -> std::io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    make(parent)?;
    match DirBuilder::new().mode(0o755).create(path) {
        // Another process made it.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?.sync_all()
}

/// Whether it is the name of a file that was not published.
fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
    inner.and_then(|inner| inner.rsplit_once('.')).is_some_and(|(name, id)| {
        [CA, CA_KEY, SERVER, SERVER_KEY].contains(&name) && id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A file that is complete and on disk, but has not its name yet. It is removed when dropped.
#[derive(Debug)]
pub(super) struct Prepared<'d> {
    directory: &'d Directory,
    name: &'static str,
    temporary: String,
    published: bool,
}

impl Prepared<'_> {
    /// Gives it its name, in one step and durably, in place of what had it.
    pub(super) fn publish(mut self) -> Result<(), Failure> {
        let directory = &self.directory.file;
        let renamed = rustix::fs::renameat(directory, &self.temporary, directory, self.name).map_err(std::io::Error::from);
        self.published = renamed.is_ok();
        renamed
            .and_then(|()| directory.sync_all())
            .map_err(|error| Failure::because(format!("cannot write {}", self.directory.path(self.name).display()), &error))
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = rustix::fs::unlinkat(&self.directory.file, &self.temporary, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn opened(path: &Path) -> Directory {
        Directory::open(path).unwrap().unwrap()
    }

    fn names(path: &Path) -> Vec<String> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_directory_is_made_with_those_above_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Directory::open(&dir.path().join("a/b")).unwrap().is_none());
        Directory::make(&dir.path().join("a/b")).unwrap();
        assert_eq!(mode(&dir.path().join("a/b")) & 0o022, 0);
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(Directory::make(&dir.path().join("file")).is_err());
        assert!(Directory::make(&dir.path().join("file/a")).is_err());
    }

    #[test]
    fn a_directory_that_everybody_can_replace_files_in_is_refused_also_behind_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        for (mode, refused) in [(0o777, true), (0o707, true), (0o1777, false), (0o775, false), (0o700, false)] {
            fs::set_permissions(&real, Permissions::from_mode(mode)).unwrap();
            for path in [&real, &link] {
                let told = Directory::open(path).map(drop).map_err(|failure| failure.to_string());
                assert_eq!(told.is_err(), refused, "{mode:o}: {told:?}");
                assert!(told.is_ok() || told.unwrap_err().contains("chmod o-w"));
            }
        }
    }

    #[test]
    fn what_is_prepared_appears_whole_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let directory = opened(dir.path());
        fs::write(dir.path().join(SERVER_KEY), "old").unwrap();
        let prepared = directory.prepare(SERVER_KEY, b"new", Readers::Owner, None).unwrap();
        assert_eq!(fs::read(dir.path().join(SERVER_KEY)).unwrap(), b"old");
        prepared.publish().unwrap();
        assert_eq!(fs::read(dir.path().join(SERVER_KEY)).unwrap(), b"new");
        assert_eq!(mode(&dir.path().join(SERVER_KEY)), 0o600);
        directory.prepare(SERVER, b"certificate", Readers::All, None).unwrap().publish().unwrap();
        assert_eq!(mode(&dir.path().join(SERVER)), 0o644);
    }

    #[test]
    fn what_is_not_published_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let directory = opened(dir.path());
        drop(directory.prepare(CA_KEY, b"key", Readers::Owner, None).unwrap());
        assert_eq!(names(dir.path()), [""; 0]);
        fs::create_dir(dir.path().join(CA)).unwrap();
        assert!(directory.prepare(CA, b"certificate", Readers::All, None).unwrap().publish().is_err());
        assert_eq!(names(dir.path()), [CA]);
    }

    #[test]
    fn what_killed_commands_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let directory = opened(dir.path());
        let left = directory.prepare(CA_KEY, b"key", Readers::Owner, None).unwrap();
        let others = [".ca-key.pem.new", ".other.pem.0123456789abcdef0123456789abcdef.new", "ca-key.pem"];
        others.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        let _lock = directory.lock().unwrap();
        assert!(!dir.path().join(&left.temporary).exists());
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }

    #[test]
    fn a_directory_is_changed_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let directory = opened(dir.path());
        let lock = directory.lock().unwrap();
        let other = opened(dir.path());
        let (send, receive) = std::sync::mpsc::channel();
        let waits = std::thread::spawn(move || other.lock().map(|_lock| send.send(()).unwrap()).unwrap());
        assert!(receive.recv_timeout(std::time::Duration::from_millis(200)).is_err());
        drop(lock);
        waits.join().unwrap();
    }

    #[test]
    fn files_land_in_the_directory_that_was_opened_whatever_its_path_leads_to_by_then() {
        let dir = tempfile::tempdir().unwrap();
        let (certs, moved) = (dir.path().join("certs"), dir.path().join("moved"));
        let directory = Directory::make(&certs).unwrap();
        fs::rename(&certs, &moved).unwrap();
        fs::create_dir(&certs).unwrap();
        directory.prepare(CA_KEY, b"key", Readers::Owner, None).unwrap().publish().unwrap();
        assert!(moved.join(CA_KEY).exists() && !certs.join(CA_KEY).exists());
    }

    #[test]
    fn keys_that_others_may_use_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, key) = (opened(dir.path()), dir.path().join(CA_KEY));
        fs::write(&key, "key").unwrap();
        for (mode, readers, refused) in [
            (0o600, Readers::Owner, false),
            (0o640, Readers::Owner, true),
            (0o604, Readers::Owner, true),
            (0o640, Readers::Group, false),
            (0o660, Readers::Group, true),
            (0o644, Readers::Group, true),
            (0o644, Readers::All, false),
            (0o666, Readers::All, true),
        ] {
            fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let told = directory.read(CA_KEY, readers).map(drop).map_err(|failure| failure.to_string());
            assert_eq!(told.is_err(), refused, "{mode:o} for {readers:?}: {told:?}");
            assert!(told.is_ok() || told.unwrap_err().contains("chmod"));
        }
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let directory = opened(dir.path());
        assert!(directory.read(CA, Readers::All).unwrap().is_none());
        fs::create_dir(dir.path().join(CA)).unwrap();
        rustix::fs::mkfifoat(&directory.file, CA_KEY, Mode::RUSR | Mode::WUSR).unwrap();
        fs::write(dir.path().join(SERVER), vec![0; (LONGEST + 1) as usize]).unwrap();
        for (name, wanted) in [(CA, "no file"), (CA_KEY, "no file"), (SERVER, "longer")] {
            let told = directory.read(name, Readers::All).unwrap_err().to_string();
            assert!(told.contains(name) && told.contains(wanted), "{told}");
        }
        symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(directory.has("link").unwrap() && !directory.has("other").unwrap());
    }

    /// Only root can make a file somebody else's.
    #[test]
    fn in_a_directory_for_everybody_only_own_files_are_believed_and_a_new_key_stays_its_owners() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join(SERVER_KEY);
        fs::write(&key, "key").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&key, Some(12345), Some(54321)).unwrap();
        let directory = opened(dir.path());
        let before = directory.read(SERVER_KEY, Readers::Owner).unwrap();
        directory.prepare(SERVER_KEY, b"new", Readers::Owner, before.as_ref()).unwrap().publish().unwrap();
        let metadata = fs::metadata(&key).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), mode(&key)), (12345, 54321, 0o600));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let told = opened(dir.path()).read(SERVER_KEY, Readers::Owner).unwrap_err().to_string();
        assert!(told.contains("somebody else's"), "{told}");
    }
}
