//! [`Users`]: who logs in with a password.

use std::fmt;

use async_trait::async_trait;
use registry_core::Result;

use super::Identity;

/// A password or a token as a client sent it: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// This one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Knows users by name and password: a file, a directory service, a host's own table.
///
/// Its errors are answered 503, and nobody is let in meanwhile. All calls may be dropped at any point.
#[async_trait]
pub trait Users: fmt::Debug + Send + Sync {
    /// Who logs in with these; `None` if the password is not that user's, or there is no such user: which of the two must not be told, by time either.
    async fn log_in(&self, name: &str, password: &Password) -> Result<Option<Identity>>;

    /// Whether anybody has to log in. While nobody has ever been asked to, everybody may do everything; once it has answered yes it must not answer no again. Asked
    /// for each request.
    async fn is_in_use(&self) -> Result<bool> {
        Ok(true)
    }

    /// The user of this name with the groups that it has now; `None` if there is none (any more). Asked for each request with a token, so it has to be quick.
    async fn find(&self, name: &str) -> Result<Option<Identity>>;
}
