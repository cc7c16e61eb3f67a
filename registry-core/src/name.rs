//! Names: [`RepositoryName`], [`Tag`] and [`Reference`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::Digest;

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Not a repository name.
    Repository,
    /// Not a tag.
    Tag,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => {
                "a repository name is lower-case letters, digits and single separators (. _ __ -), in parts divided by /, at most 255 characters"
            }
            Self::Tag => "a tag is letters, digits, _ . and -, at most 128 characters, not starting with . or -",
        })
    }
}

impl std::error::Error for NameError {}

/// The name of a repository, of any depth (distribution-spec, "Pulling manifests": `<name>`). Cheap to clone.
///
/// At most 255 bytes, as the spec advises, so that names fit the column and path limits of every backend.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One part of a name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(part: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|c| alphanumeric(*c))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|c| *c == b'-'))
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.len() <= Self::MAX_LEN && s.split('/').all(is_component) { Ok(Self(s.into())) } else { Err(NameError::Repository) }
    }
}

/// A tag (distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The longest tag, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let bytes = s.as_bytes();
        let good = bytes.len() <= Self::MAX_LEN
            && bytes.first().is_some_and(|c| word(*c))
            && bytes.iter().all(|c| word(*c) || matches!(c, b'.' | b'-'));
        if good { Ok(Self(s.into())) } else { Err(NameError::Tag) }
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    )*};
}
text!(RepositoryName, Tag);

/// What a manifest is asked for by: its digest, or a tag that points to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By digest.
    Digest(Digest),
    /// By tag.
    Tag(Tag),
}

impl FromStr for Reference {
    type Err = crate::Error;

    /// Reads a digest where the text has a colon (a tag cannot have one), else a tag.
    fn from_str(s: &str) -> Result<Self, crate::Error> {
        Ok(if s.contains(':') { Self::Digest(s.parse::<Digest>()?) } else { Self::Tag(s.parse::<Tag>()?) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}
