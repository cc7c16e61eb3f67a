//! [`KeyDirectory`]: the keys that tokens are signed with, as files.
//!
//! Several processes that use one directory accept each other's tokens. Each file is one Ed25519 key (PKCS #8 in PEM form); `openssl genpkey -algorithm ed25519`
//! makes one, too. All of them verify; the newest signs that others have had the time to see. Which is the newest, the file's name says, or else its time.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use registry_core::{Clock, Timestamp};
use tokio::time::Instant;

/// How often the directory is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// How long a key is there before it signs, where there is an older one: by then every process has seen it.
const SETTLE: Duration = Duration::from_secs(60);

/// The most that is read of a file; a key is 119 bytes.
const LONGEST: u64 = 16 << 10;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Why there are no keys to sign with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// The directory or a file in it cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is something else in a file.
    #[error("{} is no Ed25519 key: PKCS #8 in PEM form, as `openssl genpkey -algorithm ed25519` prints it", path.display())]
    NotAKey {
        /// Which.
        path: PathBuf,
    },
    /// The operating system made no key.
    #[error("no key can be made")]
    NotMade,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TokenKeyError {
    move |source| TokenKeyError::Io { path: path.to_owned(), source }
}

/// A key.
struct Key {
    id: String,
    since: Timestamp,
    /// Whether a registry made it: others are not removed.
    is_ours: bool,
    pair: Ed25519KeyPair,
    path: PathBuf,
}

impl Key {
    fn read(path: PathBuf) -> Result<Self, TokenKeyError> {
        let (mut text, mut since) = (String::new(), Timestamp::default());
        let file = std::fs::File::open(&path).map_err(io(&path))?;
        if let Ok(time) = file.metadata().and_then(|meta| meta.modified()) {
            since = timestamp(time);
        }
        file.take(LONGEST).read_to_string(&mut text).map_err(io(&path))?;
        // Ours say in their names when they were made: copies have other times.
        let made = made(&path);
        since = made.unwrap_or(since);
        let pair = pair(&text).ok_or_else(|| TokenKeyError::NotAKey { path: path.clone() })?;
        let id = URL_SAFE_NO_PAD.encode(&digest(&SHA256, pair.public_key().as_ref()).as_ref()[..16]);
        Ok(Self { id, since, is_ours: made.is_some(), pair, path })
    }
}

/// When one of ours was made, by its name: `1800000000000-0123abcd.pem`.
fn made(path: &Path) -> Option<Timestamp> {
    let (millis, word) = path.file_stem()?.to_str()?.split_once('-')?;
    let is_ours = millis.len() == 13 && word.len() == 8 && word.bytes().all(|c| c.is_ascii_hexdigit());
    is_ours.then(|| millis.parse().ok()).flatten().map(Timestamp::from_millis)
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn pair(pem: &str) -> Option<Ed25519KeyPair> {
    let (_, rest) = pem.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let body: String = body.split_ascii_whitespace().collect();
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).ok()?).ok()
}

/// The keys of a directory.
pub(super) struct KeyDirectory {
    path: PathBuf,
    /// After how long another key is made; never, if none.
    rotate: Option<Duration>,
    /// How long a key verifies after a newer one signs.
    keep: Duration,
    clock: Arc<dyn Clock>,
    /// Newest first.
    keys: RwLock<Arc<Vec<Key>>>,
    looked: Mutex<Option<Instant>>,
}

impl KeyDirectory {
    /// Opens it, and makes it and a key if there is none. Blocks.
    pub(super) fn open(path: PathBuf, rotate: Option<Duration>, keep: Duration, clock: Arc<dyn Clock>) -> Result<Self, TokenKeyError> {
        let this = Self { path, rotate, keep, clock, keys: RwLock::default(), looked: Mutex::default() };
        if !this.path.is_dir() {
            make_directory(&this.path).map_err(io(&this.path))?;
        }
        if this.read()?.is_empty() {
            this.make()?;
        }
        this.load()?;
        Ok(this)
    }

    /// Signs, and says with which key.
    pub(super) fn sign(&self, message: impl FnOnce(&str) -> String) -> (String, Vec<u8>) {
        let keys = self.current();
        let settled = |key: &&Key| key.since + SETTLE <= self.clock.now();
        // The oldest, if all are new: it is the one that others are most likely to know. There is always one.
        let Some(key) = keys.iter().find(settled).or(keys.last()) else { return (message(""), Vec::new()) };
        let message = message(&key.id);
        let signature = key.pair.sign(message.as_bytes()).as_ref().to_vec();
        (message, signature)
    }

    /// Whether the key of this id signed this; `None` if there is no such key.
    pub(super) fn verify(&self, id: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        let keys = self.current();
        let key = keys.iter().find(|key| key.id == id)?;
        Some(UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref()).verify(message, signature).is_ok())
    }

    fn current(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether somebody has looked within the last second; if not, the caller has to.
    pub(super) fn is_fresh(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = looked.is_some_and(|then| then.elapsed() < LOOK);
        if !fresh {
            *looked = Some(Instant::now());
        }
        fresh
    }

    /// Reads the directory again, makes a new key when it is time, and drops those that nobody needs. Blocks.
    pub(super) fn look(&self) {
        if let Err(error) = self.load() {
            tracing::error!(%error, directory = %self.path.display(), "cannot read the keys of tokens; those that are known are kept");
            return;
        }
        let Some(rotate) = self.rotate else { return };
        let (keys, now) = (self.current(), self.clock.now());
        if keys.first().is_some_and(|newest| newest.since + rotate <= now) {
            match self.make().and_then(|()| self.load()) {
                Ok(()) => tracing::info!(directory = %self.path.display(), "made a new key for tokens"),
                // As where all replicas have one secret, mounted to be read: then it is whoever made that who changes keys.
                Err(error) => tracing::debug!(%error, "could not make a new key for tokens"),
            }
        }
        // From when its successor signs, tokens of the old one have only so long to live.
        for pair in keys.windows(2) {
            if pair[1].is_ours && pair[0].since + SETTLE + self.keep <= now && std::fs::remove_file(&pair[1].path).is_ok() {
                tracing::info!(key = pair[1].id, "removed an old key of tokens");
            }
        }
    }

    /// The files, newest key first. One that is gone meanwhile is passed over.
    fn read(&self) -> Result<Vec<Key>, TokenKeyError> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(io(&self.path))? {
            let path = entry.map_err(io(&self.path))?.path();
            if path.extension().is_none_or(|extension| extension != "pem") {
                continue;
            }
            match Key::read(path) {
                Err(TokenKeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                key => keys.push(key?),
            }
        }
        keys.sort_by(|one, other| other.since.cmp(&one.since).then_with(|| one.id.cmp(&other.id)));
        Ok(keys)
    }

    fn load(&self) -> Result<(), TokenKeyError> {
        let keys = self.read()?;
        // Tokens that were given out would be refused, and none could be signed.
        if keys.is_empty() {
            return Err(TokenKeyError::Io { path: self.path.clone(), source: std::io::ErrorKind::NotFound.into() });
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    /// Makes a key: nobody else can ever read its file, and nobody sees half of it.
    fn make(&self) -> Result<(), TokenKeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| TokenKeyError::NotMade)?;
        let der = pair.to_pkcs8v1().map_err(|_| TokenKeyError::NotMade)?;
        let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der.as_ref()));
        let name = format!("{}-{}", self.clock.now().as_millis(), &registry_core::random_id()[..8]);
        let (new, path) = (self.path.join(format!(".{name}.new")), self.path.join(format!("{name}.pem")));
        let written = (|| {
            let mut file = private_file(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            std::fs::File::open(&self.path)?.sync_all()
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written.map_err(io(&path))
    }
}

#[cfg(unix)]
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn make_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}
