//! [`HtpasswdEditor`]: changes a users file, beside servers that read it and others who change it.
//!
//! A change is made under a lock, to what the file has then, and is there at once and for good: a new file is written, synced and renamed over the old one.
//! A crash leaves the old file or the new one; what else it leaves (`….new`) the next change takes away.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::error::HtpasswdError;
use super::file::{Contents, User, is_group, is_name};
use super::hash::{Bcrypt, COST, COSTS, LONGEST};
use super::trace;
use super::watch::{Seen, parse, read};
use crate::auth::{Identity, Password};

/// Bytes that a new password has at least.
const SHORTEST: usize = 8;

/// Changes a users file. All calls block, for milliseconds; those that take a password, for as long as bcrypt takes.
#[derive(Clone, Debug)]
#[must_use]
pub struct HtpasswdEditor {
    path: PathBuf,
    cost: u32,
}

impl HtpasswdEditor {
    /// Of the file at `path`, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), cost: COST }
    }

    /// What new hashes cost, from 4 to 16: 12 by default, about a quarter of a second of a processor. One more doubles it.
    pub fn with_cost(mut self, cost: u32) -> Self {
        self.cost = cost.clamp(*COSTS.start(), *COSTS.end());
        self
    }

    /// The users in the order of the file; `None` if there has never been a file.
    pub fn list(&self) -> Result<Option<Vec<Identity>>, HtpasswdError> {
        let path = self.real_path()?;
        let contents = self.read(&path)?;
        if contents.is_none() {
            self.never_was(&path)?;
        }
        let identity = |user: &User| Identity::new(user.name.as_str(), user.groups.iter().cloned());
        Ok(contents.map(|contents| contents.users().map(identity).collect()))
    }

    /// Adds a user, and makes the file if it is not there; whether it was made. From then on a registry lets nobody in without a password.
    pub fn add(&self, name: &str, password: &Password, groups: &[String]) -> Result<bool, HtpasswdError> {
        check_name(name)?;
        check_groups(groups)?;
        let user = User::new(name.to_owned(), self.hash(password)?, groups.to_vec());
        self.change(true, |contents| contents.add(user))
    }

    /// Gives a user another password.
    pub fn set_password(&self, name: &str, password: &Password) -> Result<(), HtpasswdError> {
        let hash = self.hash(password)?;
        self.change(false, |contents| contents.change(name, |user| user.hash = hash)).map(drop)
    }

    /// Puts a user into these groups and no others.
    pub fn set_groups(&self, name: &str, groups: &[String]) -> Result<(), HtpasswdError> {
        check_groups(groups)?;
        self.change(false, |contents| contents.change(name, |user| user.groups = groups.to_vec())).map(drop)
    }

    /// Takes a user out. When the last has gone, nobody can log in: the file stays.
    pub fn remove(&self, name: &str) -> Result<(), HtpasswdError> {
        self.change(false, |contents| contents.remove(name)).map(drop)
    }

    /// Whether a user can have this name, these groups and, if it is given, this password: what [`add`](Self::add) would say of them.
    pub fn check(name: &str, groups: &[String], password: Option<&Password>) -> Result<(), HtpasswdError> {
        check_name(name)?;
        check_groups(groups)?;
        password.map_or(Ok(()), check_password)
    }

    fn hash(&self, password: &Password) -> Result<Bcrypt, HtpasswdError> {
        check_password(password)?;
        Bcrypt::of(password.expose(), self.cost).ok_or_else(|| {
            let source = io::Error::other("the operating system gives no random bytes");
            HtpasswdError::Io { action: "hash a password for", path: self.path.clone(), source }
        })
    }

    /// Where the file itself is, if the path is a link: that is what is replaced.
    fn real_path(&self) -> Result<PathBuf, HtpasswdError> {
        match fs::canonicalize(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.path.clone()),
            other => other.map_err(failed("find", &self.path)),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Contents>, HtpasswdError> {
        match read(path, None).map_err(failed("read", &self.path))? {
            Seen::Bytes(_, bytes) => parse(&self.path, &bytes).map(Some),
            Seen::Nothing | Seen::Same => Ok(None),
        }
    }

    /// A file that has gone is not one without users.
    fn never_was(&self, path: &Path) -> Result<(), HtpasswdError> {
        if trace::is_there(path) {
            return Err(HtpasswdError::Gone { path: self.path.clone(), trace: trace::path(path) });
        }
        Ok(())
    }

    /// Whether the file was made.
    fn change(&self, may_make: bool, change: impl FnOnce(&mut Contents) -> Result<(), HtpasswdError>) -> Result<bool, HtpasswdError> {
        let path = self.real_path()?;
        if !may_make && self.read(&path)?.is_none() {
            self.never_was(&path)?;
            // Without a lock left behind where there are no users.
            return change(&mut Contents::default()).map(|()| false);
        }
        let trace = trace::path(&path);
        let lock = trace::lock(&path).map_err(failed("lock", &trace))?;
        let before = self.read(&path)?;
        let is_new = before.is_none();
        let mut contents = before.unwrap_or_default();
        change(&mut contents)?;
        replace(&path, contents.write().as_bytes()).map_err(failed("write", &self.path))?;
        give(&lock, &path).and_then(|()| trace::leave(&lock)).map_err(failed("write", &trace))?;
        Ok(is_new)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HtpasswdError {
    move |source| HtpasswdError::Io { action, path: path.to_owned(), source }
}

fn check_name(name: &str) -> Result<(), HtpasswdError> {
    if is_name(name) { Ok(()) } else { Err(HtpasswdError::Name) }
}

fn check_groups(groups: &[String]) -> Result<(), HtpasswdError> {
    if groups.iter().all(|group| is_group(group)) { Ok(()) } else { Err(HtpasswdError::Group) }
}

/// Control characters cannot be sent (RFC 7617, section 2), and what is longer bcrypt would cut.
fn check_password(password: &Password) -> Result<(), HtpasswdError> {
    let problem = match password.expose() {
        text if text.len() < SHORTEST => "has fewer than 8 bytes",
        text if text.len() > LONGEST => "has more than 72 bytes",
        text if text.contains(char::is_control) => "has control characters, or more than one line",
        _ => return Ok(()),
    };
    Err(HtpasswdError::Password(problem))
}

/// In one step and durably. To be called under the lock, so that a file in the way is a crash's.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = trace::beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = (|| {
        file.set_permissions(Permissions::from_mode(0o600))?;
        give(&file, path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(directory(path))?.sync_all()
}

/// Gives a file to whom the file at `path` belongs, or its directory if there is none: root may give this command, and the server must still be able to read
/// what comes of it. Nobody but root can do that; others who need not are not kept from anything.
fn give(file: &File, path: &Path) -> io::Result<()> {
    let (wanted, is_there) = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (fs::metadata(directory(path))?, false),
        other => (other?, true),
    };
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (wanted.uid(), wanted.gid()) {
        return Ok(());
    }
    match fchown(file, Some(wanted.uid()), Some(wanted.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && (!is_there || now.uid() == wanted.uid()) => Ok(()),
        other => other,
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn place() -> (TempDir, PathBuf, HtpasswdEditor) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let editor = HtpasswdEditor::new(&path).with_cost(4);
        (dir, path, editor)
    }

    fn password() -> Password {
        Password::new("a good password")
    }

    fn groups(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn names(editor: &HtpasswdEditor) -> String {
        let users = editor.list().unwrap().unwrap();
        users.iter().map(|user| format!("{}[{}]", user.name(), user.groups().join(","))).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn users_are_added_changed_and_removed() {
        let (_dir, path, editor) = place();
        assert!(editor.list().unwrap().is_none());
        assert!(editor.add("alice", &password(), &groups(&["writers"])).unwrap());
        assert!(!editor.add("bob", &password(), &[]).unwrap(), "the file was there");
        assert_eq!(names(&editor), "alice[writers]bob[]");
        let before = fs::read_to_string(&path).unwrap();
        editor.set_groups("bob", &groups(&["a", "b"])).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            before.replace("\nbob:", "\nBOB:").trim_end().to_owned().replace("BOB:", "bob:") + ":a,b\n"
        );
        editor.set_password("alice", &Password::new("another password")).unwrap();
        let after = fs::read_to_string(&path).unwrap();
        assert_ne!(after.lines().next(), before.lines().next());
        assert!(after.starts_with("alice:$2y$04$") && after.lines().next().unwrap().ends_with(":writers"));
        editor.remove("alice").unwrap();
        editor.remove("bob").unwrap();
        assert_eq!(names(&editor), "");
        assert!(path.is_file(), "nobody is not everybody");
    }

    #[test]
    fn who_cannot_be_is_refused_and_nothing_is_made() {
        let (dir, _, editor) = place();
        for name in ["", "a:b", "a b", "#a", "a\n", "a\u{a0}b", &"a".repeat(256)] {
            assert!(matches!(editor.add(name, &password(), &[]), Err(HtpasswdError::Name)), "{name:?}");
        }
        for group in ["", "a,b", "a b", "ä", "a:b"] {
            assert!(matches!(editor.add("a", &password(), &groups(&[group])), Err(HtpasswdError::Group)), "{group:?}");
            assert!(matches!(editor.set_groups("a", &groups(&[group])), Err(HtpasswdError::Group)), "{group:?}");
        }
        for text in ["", "1234567", "12345678\0", "12345678\n", &"a".repeat(73)] {
            assert!(matches!(editor.add("a", &Password::new(text), &[]), Err(HtpasswdError::Password(_))), "{text:?}");
            assert!(matches!(editor.set_password("a", &Password::new(text)), Err(HtpasswdError::Password(_))), "{text:?}");
        }
        assert!(matches!(editor.set_password("a", &password()), Err(HtpasswdError::Unknown(_))));
        assert!(matches!(editor.set_groups("a", &[]), Err(HtpasswdError::Unknown(_))));
        assert!(matches!(editor.remove("a"), Err(HtpasswdError::Unknown(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        editor.add(&"é".repeat(127), &Password::new("a".repeat(72)), &[]).unwrap();
        assert!(matches!(editor.add(&"é".repeat(127), &password(), &[]), Err(HtpasswdError::Taken(_))));
    }

    #[test]
    fn changes_at_once_lose_nothing() {
        let (_dir, path, editor) = place();
        fs::write(&path, "# kept\n").unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let editor = &editor;
                scope.spawn(move || {
                    for m in 0..4 {
                        editor.add(&format!("user-{n}-{m}"), &password(), &[]).unwrap();
                    }
                    editor.remove(&format!("user-{n}-0")).unwrap();
                });
            }
        });
        assert_eq!(editor.list().unwrap().unwrap().len(), 24);
        assert!(fs::read_to_string(&path).unwrap().starts_with("# kept\n"));
    }

    #[test]
    fn the_file_is_its_owner_s_alone_whatever_it_was() {
        let (dir, path, editor) = place();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        editor.add("alice", &password(), &[]).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("users.lock"))), (0o600, 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    /// Only root can give files away; for others there is nothing to be seen here.
    #[test]
    fn what_root_changes_still_belongs_to_whom_it_belonged() {
        let (dir, path, editor) = place();
        if std::os::unix::fs::chown(dir.path(), Some(4711), Some(4712)).is_err() {
            return;
        }
        let owner = |path: &Path| fs::metadata(path).map(|metadata| (metadata.uid(), metadata.gid())).unwrap();
        editor.add("alice", &password(), &[]).unwrap();
        assert_eq!((owner(&path), owner(&dir.path().join("users.lock"))), ((4711, 4712), (4711, 4712)));
        std::os::unix::fs::chown(&path, Some(4713), Some(4714)).unwrap();
        editor.set_groups("alice", &[]).unwrap();
        assert_eq!(owner(&path), (4713, 4714));
    }

    #[test]
    fn what_a_crash_left_is_in_nobody_s_way() {
        let (dir, path, editor) = place();
        // Before the rename of the first change: nobody was there yet.
        fs::write(dir.path().join("users.new"), "half a li").unwrap();
        fs::write(dir.path().join("users.lock"), "").unwrap();
        assert!(editor.list().unwrap().is_none());
        assert!(editor.add("alice", &password(), &[]).unwrap());
        // And of a later one.
        let other = dir.path().join("other");
        fs::write(&other, "untouched").unwrap();
        symlink(&other, dir.path().join("users.new")).unwrap();
        editor.add("bob", &password(), &[]).unwrap();
        assert_eq!((names(&editor).as_str(), fs::read_to_string(&other).unwrap().as_str()), ("alice[]bob[]", "untouched"));
        assert!(!dir.path().join("users.new").exists() && path.is_file());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_written() {
        let (_dir, path, editor) = place();
        fs::write(&path, "alice:plain\n").unwrap();
        assert!(matches!(editor.add("bob", &password(), &[]), Err(HtpasswdError::Line { line: 1, .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "alice:plain\n");
    }

    #[test]
    fn behind_a_link_the_file_itself_is_changed() {
        let (dir, path, editor) = place();
        let real = dir.path().join("real");
        symlink(&real, &path).unwrap();
        assert!(editor.add("alice", &password(), &[]).is_err(), "a link to nothing is not replaced");
        fs::write(&real, "").unwrap();
        editor.add("alice", &password(), &[]).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().starts_with("alice:"));
    }

    #[test]
    fn a_file_that_is_gone_is_not_one_without_users() {
        let (_dir, path, editor) = place();
        editor.add("alice", &password(), &[]).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(editor.list(), Err(HtpasswdError::Gone { .. })));
        assert!(matches!(editor.remove("alice"), Err(HtpasswdError::Gone { .. })));
        assert!(editor.add("bob", &password(), &[]).unwrap(), "whoever adds a user knows that there are users");
    }
}
