//! What is passed to a [`BlobStore`](super::BlobStore) and comes back from it.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::{ByteStream, UploadToken};
use crate::{Algorithm, Digest, Error, ErrorKind, Result, Timestamp};

/// What is known of a stored blob.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobInfo {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When these bytes were put in place, by the store's own clock, where it tells.
    pub modified: Option<Timestamp>,
}

impl BlobInfo {
    /// A blob of this size.
    pub fn new(digest: Digest, size: u64) -> Self {
        Self { digest, size, modified: None }
    }

    /// Says when it was stored.
    #[must_use]
    pub fn with_modified(mut self, modified: Timestamp) -> Self {
        self.modified = Some(modified);
        self
    }
}

/// A range of bytes as a client may ask for it (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first to the last byte, both included; `None`: to the end.
    FromTo(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// The half-open range of a blob of `size` bytes, clamped at its end; `None` if it has no byte of it.
    pub fn resolve(self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::FromTo(first, last) => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                (first < end).then_some(first..end)
            }
            Self::Last(n) => (n > 0 && size > 0).then(|| size.saturating_sub(n)..size),
        }
    }
}

/// How to read.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Only this part; all of it by default.
    pub range: Option<ByteRange>,
}

impl ReadOptions {
    /// Only a part.
    #[must_use]
    pub fn with_range(mut self, range: ByteRange) -> Self {
        self.range = Some(range);
        self
    }

    /// The half-open range to read of a blob of `size` bytes, or [`ErrorKind::RangeInvalid`].
    pub fn resolve(&self, digest: &Digest, size: u64) -> Result<Range<u64>> {
        match self.range {
            None => Ok(0..size),
            Some(range) => range.resolve(size).ok_or_else(|| {
                Error::range_invalid(size, format!("the range is not satisfiable: the blob has {size} bytes")).with_key(digest)
            }),
        }
    }
}

/// An opened blob.
#[non_exhaustive]
pub struct BlobReader {
    /// The whole blob's name, size and time.
    pub info: BlobInfo,
    /// Which of its bytes the stream yields.
    pub range: Range<u64>,
    /// The bytes.
    pub stream: ByteStream,
}

impl BlobReader {
    /// A reader over `range` of the blob.
    pub fn new(info: BlobInfo, range: Range<u64>, stream: ByteStream) -> Self {
        Self { info, range, stream }
    }

    /// How many bytes the stream yields.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether the stream yields none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// All the bytes in memory: for small blobs. A stream of another length is [`ErrorKind::Corrupt`].
    pub async fn collect(mut self) -> Result<Bytes> {
        let want = self.len();
        let mut all = BytesMut::with_capacity(usize::try_from(want.min(1 << 20)).unwrap_or(0));
        while let Some(chunk) = self.stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        if all.len() as u64 != want {
            return Err(
                Error::new(ErrorKind::Corrupt, format!("{} bytes where {want} were announced", all.len())).with_key(self.info.digest)
            );
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader").field("info", &self.info).field("range", &self.range).finish_non_exhaustive()
    }
}

/// How to write. Everything is optional; what is known helps the store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WriteOptions {
    /// On whose behalf: an opaque string that decides where the bytes may be placed. The registry passes the repository's name.
    pub scope: Option<String>,
    /// The length in bytes that is to come.
    pub size: Option<u64>,
    /// What to hash with while bytes arrive. A commit that names another algorithm reads the staged bytes once more.
    pub algorithm: Algorithm,
    /// The writer epoch that pieces are named by, from [`MetadataStore::open_upload`](crate::MetadataStore::open_upload).
    pub epoch: u64,
}

impl WriteOptions {
    /// On behalf of this scope.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// So many bytes are to come.
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Hash with this.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Write as this epoch.
    #[must_use]
    pub fn with_epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }
}

/// What to resume.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResumeOptions {
    /// Where it was left.
    pub token: UploadToken,
    /// The new writer's epoch: higher than that of every writer before.
    pub epoch: u64,
}

impl ResumeOptions {
    /// Resume from this token as this epoch.
    pub fn new(token: UploadToken, epoch: u64) -> Self {
        Self { token, epoch }
    }
}

/// Which blobs to list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListOptions {
    /// Only digests whose first byte is this; all 256 shards in order by default.
    pub shard: Option<u8>,
    /// Only digests behind this one, in the order (shard, digest).
    pub after: Option<Digest>,
}

impl ListOptions {
    /// Only this shard.
    #[must_use]
    pub fn with_shard(mut self, shard: u8) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Only what comes behind.
    #[must_use]
    pub fn with_after(mut self, after: Digest) -> Self {
        self.after = Some(after);
        self
    }

    /// The shards to visit, in order.
    pub fn shards(&self) -> Vec<u8> {
        let first = self.after.map_or(0, |digest| digest.shard());
        (first..=u8::MAX).filter(|shard| self.shard.is_none_or(|only| only == *shard)).collect()
    }

    /// Whether this digest is asked for.
    pub fn selects(&self, digest: &Digest) -> bool {
        self.shard.is_none_or(|shard| shard == digest.shard())
            && self.after.is_none_or(|after| (after.shard(), after) < (digest.shard(), *digest))
    }
}

/// An upload that was begun and neither committed nor dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingUpload {
    /// The store's own name for it, to be [discarded](super::BlobStore::discard) by.
    pub id: String,
    /// When it was last written to, by the store's own clock.
    pub modified: Timestamp,
    /// Staged bytes, where known.
    pub size: Option<u64>,
}

impl PendingUpload {
    /// A pending upload.
    pub fn new(id: impl Into<String>, modified: Timestamp, size: Option<u64>) -> Self {
        Self { id: id.into(), modified, size }
    }
}

/// A named object's name, size and time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedObjectInfo {
    /// Its name, without the `_meta/` it is stored under.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, where the store tells.
    pub modified: Option<Timestamp>,
}

impl NamedObjectInfo {
    /// An object of this size.
    pub fn new(name: impl Into<String>, size: u64, modified: Option<Timestamp>) -> Self {
        Self { name: name.into(), size, modified }
    }
}

/// Refuses names that are not one or more parts of `a-z 0-9 . _ -` divided by `/`, no part empty or starting with a dot, at most 255 bytes.
pub fn check_object_name(name: &str) -> Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_' | b'-'))
    };
    if name.len() <= 255 && name.split('/').all(part) {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::InvalidInput, "not the name of an object").with_key(name))
    }
}

/// How safe blobs are, as far as [`await_copies`](super::BlobStore::await_copies) waited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Assurance {
    /// They have the copies that were asked for.
    Met,
    /// They have fewer, for now, and their scope does not insist: what a client is to be warned of.
    Fewer(String),
}

/// How a client is to receive the blob from a [`download_url`](super::BlobStore::download_url).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DownloadOptions {
    /// How long the URL is good for.
    pub ttl: std::time::Duration,
    /// The `Content-Type` the answer is to carry.
    pub content_type: Option<String>,
    /// The `Content-Disposition` the answer is to carry.
    pub content_disposition: Option<String>,
}

impl DownloadOptions {
    /// A URL that is good for `ttl`.
    pub fn new(ttl: std::time::Duration) -> Self {
        Self { ttl, content_type: None, content_disposition: None }
    }
}

/// What a store can do, as data: nobody has to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`list`](super::BlobStore::list) yields the digests of a shard in order. Where it does not, it yields them all the same.
    pub ordered_list: bool,
    /// [`list`](super::BlobStore::list) may miss what was just written and show what was just deleted: `stat` before acting on it.
    pub list_is_hint: bool,
    /// [`download_url`](super::BlobStore::download_url) gives URLs.
    pub presign: bool,
    /// Uploads can be suspended and resumed.
    pub resume: bool,
    /// [`named`](super::BlobStore::named) is there.
    pub named_objects: bool,
}

impl Default for Capabilities {
    /// An ordered, exact list; uploads that resume; named objects; no URLs.
    fn default() -> Self {
        Self { ordered_list: true, list_is_hint: false, presign: false, resume: true, named_objects: true }
    }
}

impl Capabilities {
    /// Says whether lists are ordered.
    #[must_use]
    pub fn with_ordered_list(mut self, yes: bool) -> Self {
        self.ordered_list = yes;
        self
    }

    /// Says whether lists are only hints.
    #[must_use]
    pub fn with_list_is_hint(mut self, yes: bool) -> Self {
        self.list_is_hint = yes;
        self
    }

    /// Says whether there are download URLs.
    #[must_use]
    pub fn with_presign(mut self, yes: bool) -> Self {
        self.presign = yes;
        self
    }

    /// Says whether uploads can be resumed.
    #[must_use]
    pub fn with_resume(mut self, yes: bool) -> Self {
        self.resume = yes;
        self
    }

    /// Says whether there are named objects.
    #[must_use]
    pub fn with_named_objects(mut self, yes: bool) -> Self {
        self.named_objects = yes;
        self
    }
}
