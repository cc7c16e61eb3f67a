//! [`Error`]: what every contract of this crate fails with.

use std::fmt;
use std::time::Duration;

use crate::digest::DigestError;
use crate::name::NameError;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is: the part that code branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A store does not have what was asked for.
    NotFound,
    /// The repository is not known.
    RepositoryUnknown,
    /// The repository holds no such blob.
    BlobUnknown,
    /// The repository holds no such manifest or tag.
    ManifestUnknown,
    /// There is no such upload: never begun, ended, expired, or its zone is gone. Begin again.
    UploadUnknown,
    /// Not a repository name.
    NameInvalid,
    /// Not a tag.
    TagInvalid,
    /// Not a digest, an unsupported algorithm, or content that does not have the digest it was given.
    DigestInvalid,
    /// Content is longer or shorter than declared.
    SizeInvalid,
    /// Bytes that do not begin where the upload stands, or a range that the blob does not have. See [`Error::offset`].
    RangeInvalid,
    /// Not a manifest that can be accepted.
    ManifestInvalid,
    /// A manifest refers to content that its repository does not hold. See [`Error::digests`].
    ManifestBlobUnknown,
    /// More than the limit.
    TooLarge,
    /// Any other request that makes no sense.
    InvalidInput,
    /// The operation is understood and never done here.
    Unsupported,
    /// Not allowed: missing permission, or the registry only reads.
    Denied,
    /// Somebody else got there first: the upload has a newer writer, a row a newer generation. Nothing was changed by the loser.
    Conflict,
    /// A worker's claim on a piece of work is no longer its own: the work was changed, or given to another. Trying the same again is no use; claiming anew is.
    LeaseLost,
    /// The service cannot answer now; the same call may succeed later.
    Unavailable,
    /// No answer in time; the effect is unknown. The same call may succeed later.
    TimedOut,
    /// No space left.
    StorageFull,
    /// Stored bytes are not those that were stored.
    Corrupt,
    /// The peer went away in the middle of a stream.
    Interrupted,
    /// Any other failure: a bug, or a store that answers nonsense.
    Internal,
}

/// A failure: its [kind](Self::kind), what it was about, and the chain of its sources.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    key: Option<String>,
    zone: Option<String>,
    offset: Option<u64>,
    digests: Vec<crate::Digest>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of this kind, with a message for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            key: None,
            zone: None,
            offset: None,
            digests: Vec::new(),
            retry_after: None,
            source: None,
        }))
    }

    /// [`ErrorKind::NotFound`] for `key`.
    pub fn not_found(key: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, "not found").with_key(key)
    }

    /// [`ErrorKind::RangeInvalid`]: the upload, or the blob, ends at `offset` bytes.
    pub fn range_invalid(offset: u64, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::RangeInvalid, message);
        error.0.offset = Some(offset);
        error
    }

    /// [`ErrorKind::DigestInvalid`] because the content's digest is `found`.
    pub fn digest_mismatch(expected: &crate::Digest, found: &crate::Digest) -> Self {
        Self::new(ErrorKind::DigestInvalid, format!("the content's digest is {found}")).with_key(expected)
    }

    /// Adds the failure that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names what the failure is about: a digest, an upload, a path.
    #[must_use]
    pub fn with_key(mut self, key: impl fmt::Display) -> Self {
        self.0.key = Some(key.to_string());
        self
    }

    /// Names the zone it happened in.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.0.zone = Some(zone.into());
        self
    }

    /// Names the content that is missing.
    #[must_use]
    pub fn with_digests(mut self, digests: Vec<crate::Digest>) -> Self {
        self.0.digests = digests;
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    /// The same failure as another kind: a store's `NotFound` becomes the registry's `BlobUnknown`.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the very same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Interrupted)
    }

    /// How long to wait before trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The message, without key, zone and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What it is about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The zone it happened in.
    pub fn zone(&self) -> Option<&str> {
        self.0.zone.as_deref()
    }

    /// With [`ErrorKind::RangeInvalid`]: how many bytes there are.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// With [`ErrorKind::ManifestBlobUnknown`]: what is missing.
    pub fn digests(&self) -> &[crate::Digest] {
        &self.0.digests
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(zone) = &self.0.zone {
            write!(f, "zone {zone}: ")?;
        }
        if let Some(key) = &self.0.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<DigestError> for Error {
    fn from(error: DigestError) -> Self {
        Self::new(ErrorKind::DigestInvalid, error.to_string())
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        let kind = match error {
            NameError::Repository => ErrorKind::NameInvalid,
            NameError::Tag => ErrorKind::TagInvalid,
        };
        Self::new(kind, error.to_string())
    }
}

/// Kinds of the operating system's errors that callers can act on; everything else is [`ErrorKind::Unavailable`], since disks come back.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::StorageFull,
            Io::TimedOut => ErrorKind::TimedOut,
            Io::UnexpectedEof => ErrorKind::Corrupt,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}
