//! [`Watch`]: what is known of a users file that others change.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::error::HtpasswdError;
use super::file::Contents;
use super::hash::{Bcrypt, COST};
use super::trace;
use crate::auth::Identity;

/// How often the file is looked at, at most.
const EVERY: Duration = Duration::from_secs(1);

/// Bytes of a users file, at most: some 700,000 users.
const LARGEST: u64 = 64 << 20;

/// The users of a file.
pub(super) struct Known {
    users: HashMap<String, KnownUser>,
    nobody: Bcrypt,
}

#[derive(Clone)]
pub(super) struct KnownUser {
    pub(super) identity: Identity,
    pub(super) hash: Bcrypt,
}

impl Known {
    fn new(contents: &Contents) -> Self {
        let mut costs = HashMap::<u32, usize>::new();
        let mut users = HashMap::new();
        for user in contents.users() {
            *costs.entry(user.hash.cost()).or_default() += 1;
            let identity = Identity::new(user.name.as_str(), user.groups.iter().cloned());
            users.insert(user.name.clone(), KnownUser { identity, hash: user.hash.clone() });
        }
        let usual = costs.into_iter().max_by_key(|(cost, users)| (*users, *cost)).map_or(COST, |(cost, _)| cost);
        Self { users, nobody: Bcrypt::nobody(usual) }
    }

    pub(super) fn get(&self, name: &str) -> Option<&KnownUser> {
        self.users.get(name)
    }

    /// A hash that is checked for who is not there, of the cost that most users' have: time must not tell who is.
    pub(super) fn nobody(&self) -> &Bcrypt {
        &self.nobody
    }
}

/// What became of the file.
#[derive(Clone)]
enum State {
    /// It has never been there.
    Never(Arc<Known>),
    /// It is there.
    There(Arc<Known>),
    /// It is there or was, and nobody can tell who its users are.
    Lost,
}

/// A file that is looked at again now and then. It is never taken for one that was never there once it was.
pub(super) struct Watch {
    path: PathBuf,
    now: Mutex<Now>,
    look: Arc<Mutex<Look>>,
}

struct Now {
    state: State,
    looked: Instant,
}

impl Watch {
    /// Reads the file, if it is there.
    pub(super) fn begin(path: PathBuf) -> Result<Self, HtpasswdError> {
        let mut look = Look::default();
        let state = match read(&path, None) {
            Ok(Seen::Bytes(stamp, bytes)) => {
                look.stamp = Some(stamp);
                let known = Known::new(&parse(&path, &bytes)?);
                trace::mark(&path);
                State::There(Arc::new(known))
            }
            Ok(Seen::Nothing | Seen::Same) if trace::is_there(&path) => {
                let trace = trace::path(&path);
                return Err(HtpasswdError::Gone { path, trace });
            }
            Ok(Seen::Nothing | Seen::Same) => State::Never(Arc::new(Known::new(&Contents::default()))),
            Err(source) => return Err(HtpasswdError::Io { action: "read", path, source }),
        };
        Ok(Self { path, now: Mutex::new(Now { state, looked: Instant::now() }), look: Arc::new(Mutex::new(look)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is or was there.
    pub(super) async fn exists(self: &Arc<Self>) -> bool {
        !matches!(self.state().await, State::Never(_))
    }

    /// The users, as they were a second ago or later. May be dropped at any point.
    pub(super) async fn users(self: &Arc<Self>) -> Result<Arc<Known>> {
        match self.state().await {
            State::Never(known) | State::There(known) => Ok(known),
            State::Lost => Err(Error::new(ErrorKind::Unavailable, "it is not known who the users are").with_key(self.path.display())),
        }
    }

    /// One of those who ask in a second looks; the others take what is known.
    async fn state(self: &Arc<Self>) -> State {
        if self.is_due() {
            let watch = Arc::clone(self);
            // What cannot be run any more has no need to know better: the runtime ends.
            let _ = tokio::task::spawn_blocking(move || watch.look()).await;
        }
        self.now().state.clone()
    }

    fn is_due(&self) -> bool {
        let mut now = self.now();
        let due = now.looked.elapsed() >= EVERY;
        if due {
            now.looked = Instant::now();
        }
        due
    }

    fn look(&self) {
        // One after the other: what an earlier look saw must not replace what a later one did. None waits for a disk that does not answer.
        let Ok(mut look) = self.look.try_lock() else { return };
        let before = self.now().state.clone();
        if let Some(state) = look.again(&self.path, &before) {
            self.now().state = state;
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the last look saw.
#[derive(Default)]
struct Look {
    stamp: Option<Stamp>,
    /// Whether the file was read twice with this stamp. Two writes within a tick of the file system's clock look like one, and the first may be what was read.
    settled: bool,
    /// What was said last, which is not said again.
    said: Option<String>,
}

impl Look {
    /// Looks again; the new state, if it is another.
    fn again(&mut self, path: &Path, before: &State) -> Option<State> {
        match read(path, self.stamp.filter(|_| self.settled)) {
            Ok(Seen::Same) => None,
            Ok(Seen::Nothing) if matches!(before, State::Never(_)) => None,
            Ok(Seen::Nothing) => {
                *self = Self { said: self.said.take(), ..Self::default() };
                self.say(path, "the users file is gone: nobody is let in until it is back".to_owned());
                Some(State::Lost)
            }
            Ok(Seen::Bytes(stamp, bytes)) => {
                self.settled = self.stamp.replace(stamp) == Some(stamp);
                match parse(path, &bytes) {
                    Ok(contents) => {
                        let news = match before {
                            State::Never(_) => {
                                trace::mark(path);
                                Some("there is a users file now: nobody is let in any more without logging in")
                            }
                            _ => self.said.take().map(|_| "the users file is in use again"),
                        };
                        if let Some(news) = news {
                            tracing::info!(file = %path.display(), "{news}");
                        }
                        Some(State::There(Arc::new(Known::new(&contents))))
                    }
                    Err(error) if matches!(before, State::There(_)) => {
                        self.say(path, format!("the users file was changed and cannot be used; the users stay who they were: {error}"));
                        None
                    }
                    Err(error) => {
                        self.say(path, format!("the users file cannot be used: nobody is let in until it can: {error}"));
                        Some(State::Lost)
                    }
                }
            }
            Err(error) => {
                *self = Self { said: self.said.take(), ..Self::default() };
                self.say(path, format!("the users file cannot be read: nobody is let in until it can: {error}"));
                Some(State::Lost)
            }
        }
    }

    fn say(&mut self, path: &Path, text: String) {
        if self.said.as_ref() != Some(&text) {
            tracing::error!(file = %path.display(), "{text}");
            self.said = Some(text);
        }
    }
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

pub(super) enum Seen {
    /// It has the stamp that it had.
    Same,
    /// There is no file.
    Nothing,
    Bytes(Stamp, Vec<u8>),
}

/// Reads a users file if it has another stamp than `known`.
pub(super) fn read(path: &Path, known: Option<Stamp>) -> io::Result<Seen> {
    let there = |result: io::Result<Metadata>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let Some(metadata) = there(fs::metadata(path))? else {
        // A link to a disk that is not mounted is no reason to let everybody in.
        return match there(fs::symlink_metadata(path))? {
            Some(metadata) if metadata.is_symlink() => Err(io::Error::new(io::ErrorKind::NotFound, "it is a link to nothing")),
            _ => Ok(Seen::Nothing),
        };
    };
    // Opening a pipe would wait for somebody to write to it.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if known == Some(Stamp::of(&metadata)) {
        return Ok(Seen::Same);
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
        other => other?,
    };
    // Before the bytes: what is written meanwhile has a later stamp.
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 64 MiB"));
    }
    Ok(Seen::Bytes(stamp, bytes))
}

/// The lines of a file, or which of them is wrong.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, HtpasswdError> {
    Contents::parse(bytes).map_err(|bad| HtpasswdError::Line { path: path.to_owned(), line: bad.line, problem: bad.problem })
}

#[cfg(test)]
mod tests {
    use super::super::hash::tests::{TWO_A, TWO_Y};
    use super::*;

    #[test]
    fn what_was_read_within_a_tick_of_being_written_is_read_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, format!("alice:{TWO_Y}\n")).unwrap();
        let before = State::Lost;
        let mut look = Look::default();
        for _ in 0..2 {
            assert!(matches!(look.again(&path, &before), Some(State::There(_))));
        }
        assert!(look.again(&path, &before).is_none(), "and then no more");
        fs::write(&path, "").unwrap();
        assert!(matches!(look.again(&path, &before), Some(State::There(known)) if known.users.is_empty()));
    }

    #[test]
    fn the_hash_of_nobody_costs_what_most_users_hashes_do() {
        let cost = |lines: &[(&str, &str)]| {
            let text: String = lines.iter().map(|(name, cost)| format!("{name}:{}\n", TWO_A.replacen("05", cost, 1))).collect();
            Known::new(&Contents::parse(text.as_bytes()).unwrap()).nobody().cost()
        };
        assert_eq!(cost(&[]), COST);
        assert_eq!(cost(&[("a", "10"), ("b", "14"), ("c", "10")]), 10);
        assert_eq!(cost(&[("a", "10"), ("b", "11")]), 11);
    }

    #[test]
    fn what_is_no_file_is_an_error_and_nobody_waits_for_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), None).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("away"), &link).unwrap();
        assert!(read(&link, None).is_err(), "a link to nothing is not nothing");
        assert!(matches!(read(&dir.path().join("away"), None), Ok(Seen::Nothing)));
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success() && read(&pipe, None).is_err());
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read(&large, None).is_err());
    }

    #[test]
    fn each_trouble_is_logged_once_and_without_what_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("users"), dir.path().join("log"));
        let writer = Arc::new(File::create(&log).unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (mut look, mut state) = (Look::default(), State::Never(Arc::new(Known::new(&Contents::default()))));
            let mut three_looks = || (0..3).for_each(|_| state = look.again(&path, &state).unwrap_or_else(|| state.clone()));
            three_looks();
            for text in [format!("alice:{TWO_Y}\n"), "alice:hunter22\n".to_owned(), format!("alice:{TWO_A}\n")] {
                fs::write(&path, text).unwrap();
                three_looks();
            }
            fs::remove_file(&path).unwrap();
            three_looks();
        });
        let log = fs::read_to_string(&log).unwrap();
        let wanted = ["there is a users file now", "cannot be used; the users stay who they were", "is in use again", "is gone"];
        assert_eq!(log.lines().count(), wanted.len(), "{log}");
        assert!(log.lines().zip(wanted).all(|(line, wanted)| line.contains(wanted)), "{log}");
        assert!(log.contains("users, line 1: ") && !log.contains("hunter22") && !log.contains("$2y$05"), "{log}");
    }
}
