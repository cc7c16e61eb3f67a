//! [`HtpasswdError`]: why a users file cannot be read or changed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::hash::COSTS;

/// Why a users file cannot be read or changed. It names lines, never what is in them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HtpasswdError {
    /// The file system did not do it.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{}, line {line}: {problem}", path.display())]
    #[non_exhaustive]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, the first being 1.
        line: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Users have been added to this file, and it is not there any more.
    #[error("{} has held this registry's users and is gone; to let everybody in again, remove {} too", path.display(), trace.display())]
    Gone {
        /// The file.
        path: PathBuf,
        /// What tells that it was there.
        trace: PathBuf,
    },
    /// There is a user of this name already.
    #[error("there is a user {0} already")]
    Taken(String),
    /// There is no user of this name.
    #[error("there is no user {0}")]
    Unknown(String),
    /// Not a name that a user can have.
    #[error("a user's name has 1 to 255 bytes, no colon, no spaces or control characters, and does not begin with #")]
    Name,
    /// Not a name that a group can have.
    #[error("a group's name has 1 to 255 letters, digits, dots, underscores and hyphens")]
    Group,
    /// Not a password that a user can have; the text says why.
    #[error("the password {0}")]
    Password(&'static str),
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is not UTF-8.
    Encoding,
    /// It has no colon.
    Fields,
    /// The name is none.
    Name,
    /// The name was there before, in this line.
    Twice(usize),
    /// The hash is none of bcrypt's.
    Hash,
    /// The hash costs too little to be safe, or so much that checking it would hold up everybody.
    Cost,
    /// The groups are none.
    Groups,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => f.write_str("it is not UTF-8"),
            Self::Fields => f.write_str("it is not name:hash or name:hash:group,group"),
            Self::Name => write!(f, "{}", HtpasswdError::Name),
            Self::Twice(line) => write!(f, "the user of line {line} is there again"),
            Self::Hash => f.write_str("the password is not hashed by bcrypt ($2a$, $2b$ or $2y$): `htpasswd -B` does that"),
            Self::Cost => write!(f, "the cost of its hash is not from {} to {}", COSTS.start(), COSTS.end()),
            Self::Groups => write!(f, "{}; they are separated by commas alone", HtpasswdError::Group),
        }
    }
}
