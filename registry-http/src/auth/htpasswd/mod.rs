//! [`Htpasswd`]: users in a file.
//!
//! One line a user, `name:hash` or `name:hash:group,group`, as Apache's `htpasswd -B` writes it and nginx reads it; blank lines, and those that begin with #,
//! say nothing. Hashes are bcrypt's alone: all others that such files can have are guessed a million times faster.
//!
//! Rejected: names and hashes in the configuration (a new password would need a restart, and people show configurations to each other); rows in the database
//! (whoever has lost the only password must be able to get in, and an editor does for that).

mod checks;
mod edit;
mod error;
mod file;
mod hash;
mod trace;
mod verified;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use registry_core::Result;

use self::checks::Checks;
use self::verified::Verified;
use self::watch::Watch;
use super::{Identity, Password, Users};

pub use self::edit::HtpasswdEditor;
pub use self::error::{HtpasswdError, Problem as HtpasswdProblem};

/// Users in a file that others change: [`HtpasswdEditor`], `htpasswd -B`, people.
///
/// The file is looked at again when somebody asks, at most once a second; a change that cannot be read is logged, and the users stay who they were. If the file
/// is gone, or cannot be read at all, each call fails until it is back: that it is away lets nobody in.
///
/// A password that was right is not hashed again for 5 minutes, as long as its hash is in the file.
pub struct Htpasswd {
    watch: Arc<Watch>,
    verified: Verified,
    checks: Checks,
}

impl Htpasswd {
    /// Reads the file at `path`, if there is one. Blocks for that.
    ///
    /// Fails if it cannot be read, if a line of it is wrong, or if it is not there and [`HtpasswdEditor`] has added users to it.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let watch = Arc::new(Watch::begin(path.into())?);
        Ok(Self { watch, verified: Verified::new(), checks: Checks::new(processors) })
    }

    /// Whether there is a file, or was: if not, nobody has been asked to log in, and whoever comes may be let in. A file without users lets nobody in.
    ///
    /// Once it has answered yes it does so for good. May be dropped at any point.
    pub async fn exists(&self) -> bool {
        self.watch.exists().await
    }
}

#[async_trait]
impl Users for Htpasswd {
    async fn log_in(&self, name: &str, password: &Password) -> Result<Option<Identity>> {
        let known = self.watch.users().await?;
        let user = known.get(name);
        let credentials = self.verified.credentials(name, password.expose());
        if let Some(user) = user.filter(|user| self.verified.has(&credentials, &user.hash)) {
            return Ok(Some(user.identity.clone()));
        }
        // Whoever is not there, or sends what no password can be, waits as long as the others: what is found out for them is not looked at.
        let can_be = user.is_some() && hash::takes(password.expose());
        let hash = user.map_or(known.nobody(), |user| &user.hash).clone();
        let work = {
            let (hash, password) = (hash.clone(), password.clone());
            move || hash.is_of(password.expose())
        };
        if !self.checks.answer((credentials, hash.clone()), work).await? || !can_be {
            return Ok(None);
        }
        // Many may have waited for their turn, and the user was removed meanwhile or got another password.
        let known = self.watch.users().await?;
        let Some(user) = known.get(name).filter(|user| user.hash == hash) else { return Ok(None) };
        self.verified.insert(credentials, hash);
        Ok(Some(user.identity.clone()))
    }

    async fn is_in_use(&self) -> Result<bool> {
        Ok(self.exists().await)
    }

    async fn find(&self, name: &str) -> Result<Option<Identity>> {
        Ok(self.watch.users().await?.get(name).map(|user| user.identity.clone()))
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.watch.path()).finish_non_exhaustive()
    }
}

/// Whatever a users' file can be: what can be read is written as it was.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(contents) = file::Contents::parse(bytes) {
        assert_eq!(contents.write().as_bytes(), bytes);
    }
}
