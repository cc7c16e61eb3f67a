//! The contract of a place that holds blobs: [`BlobStore`].
//!
//! A blob is immutable bytes named by their digest. A store knows nothing of repositories; all it hears of them is the opaque *scope* of a write,
//! which a plain store ignores.

mod identity;
mod options;
mod probe;
mod token;

use std::fmt;
use std::pin::Pin;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

pub use self::identity::{StoreIdentity, ZONE_OBJECT};
pub use self::options::{
    Assurance, BlobInfo, BlobReader, ByteRange, Capabilities, DownloadOptions, ListOptions, NamedObjectInfo, PendingUpload, ReadOptions,
    ResumeOptions, WriteOptions, check_object_name,
};
pub use self::probe::{ProbeReport, ProbeStep, probe};
pub use self::token::UploadToken;
use crate::{Digest, Error, ErrorKind, Result, Timestamp};

/// A stream of chunks. Nothing is read ahead of the consumer but what the store buffers for itself.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A stream of listed items. Ends at the first error.
pub type ItemStream<'a, T> = Pin<Box<dyn Stream<Item = Result<T>> + Send + 'a>>;

/// A place that holds blobs.
///
/// # What every store promises
///
/// - **Whole or not there.** A blob is visible under its digest only with all its bytes, whatever process is killed at whatever moment.
/// - **Only the right bytes go in.** [`put`](Self::put) and [`BlobUpload::commit`] compare the content's digest; on a mismatch
///   ([`ErrorKind::DigestInvalid`]) nothing becomes visible. What comes *out* is what the medium gives back: readers
///   that must be sure hash it again.
/// - **Durable when answered.** What was acknowledged survives what the store was configured to survive.
/// - **Writing again replaces.** A commit over a blob that is there puts the new bytes in place of the old in one step, so pushing again heals a
///   damaged copy; a reader sees one or the other.
/// - **Read your writes.** A blob is seen by [`stat`](Self::stat) and [`read`](Self::read) as soon as the write was answered, and no longer as soon
///   as [`delete`](Self::delete) was. [`list`](Self::list) may lag where [`Capabilities::list_is_hint`] says so.
///
/// # Cancellation
///
/// Every future may be dropped at any time. A dropped `put` or `commit` may or may not have taken effect; it never leaves a torn blob, and what it
/// leaves behind is found by [`uploads`](Self::uploads).
///
/// Implementations are checked by [`testing::blob_store`](crate::testing::blob_store).
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// Size and time of a blob. [`ErrorKind::NotFound`] if it is not there.
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo>;

    /// Opens a blob, or a range of it, for reading.
    ///
    /// The range is clamped to the blob's end; one that starts at or behind the end is
    /// [`ErrorKind::RangeInvalid`] with the blob's size as offset. The stream yields exactly
    /// [`BlobReader::range`]'s bytes or ends with an error: a short stream without an error is a bug of the store.
    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader>;

    /// Begins an upload whose digest may yet be unknown. It takes no room in the store before its first byte.
    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>>;

    /// Takes up an upload where [`BlobUpload::suspend`] left it, in this process or another.
    ///
    /// All bytes behind the token's offset are dropped, and an older writer that is still alive cannot change what this one commits, however late its
    /// writes arrive: pieces are kept apart by [`ResumeOptions::epoch`]. [`ErrorKind::Conflict`] if a newer epoch was
    /// here already; [`ErrorKind::UploadUnknown`] if the staged bytes are gone.
    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>>;

    /// Writes a blob whose digest is known, straight to its place; it becomes visible only once all of `content` was verified.
    ///
    /// A stream that yields an error ends the write with that error, and nothing is visible. If [`WriteOptions::size`] is given, other lengths are
    /// [`ErrorKind::SizeInvalid`].
    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo>;

    /// Deletes a blob; deleting one that is not there succeeds.
    async fn delete(&self, digest: &Digest) -> Result<()>;

    /// [Deletes](Self::delete) a blob unless `deadline` has passed: then it is [`ErrorKind::TimedOut`], and nothing is deleted.
    ///
    /// For garbage collection, whose leave to delete is only for a while. A store that hands the work to a thread or a queue looks at the clock there,
    /// as late as it can.
    async fn delete_before(&self, digest: &Digest, deadline: Instant) -> Result<()> {
        if tokio::time::Instant::now().into_std() >= deadline {
            return Err(Error::new(ErrorKind::TimedOut, "too late to delete").with_key(digest));
        }
        self.delete(digest).await
    }

    /// The blobs of one shard, or of all, in the order of their digests within a shard.
    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo>;

    /// Staged uploads of any process that nobody wrote to since `older_than`. A store may count among them what blobs that were replaced left behind.
    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload>;

    /// Drops the staged bytes of an upload by [`PendingUpload::id`]; one that is not there succeeds. Never touches a committed blob.
    async fn discard(&self, id: &str) -> Result<()>;

    /// A URL that a client can fetch the blob from by itself; `None` where the store has no such thing.
    async fn download_url(&self, method: &http::Method, digest: &Digest, options: DownloadOptions) -> Result<Option<http::Uri>> {
        let _ = (method, digest, options);
        Ok(None)
    }

    /// A hint: `scope` is about to refer to this blob. Called before the reference is made. A plain store has nothing to do.
    async fn retain(&self, digest: &Digest, scope: &str) -> Result<()> {
        let _ = (digest, scope);
        Ok(())
    }

    /// A hint: `scope` no longer refers to this blob. Called after the reference is gone. It is no order to delete.
    async fn release(&self, digest: &Digest, scope: &str) -> Result<()> {
        let _ = (digest, scope);
        Ok(())
    }

    /// Waits until these blobs have as many copies as `scope` demands. Called when everything that refers to them is written down, before a client is
    /// told that its image is safe. A plain store has one copy, which it acknowledged; of no blobs there are always enough.
    ///
    /// It is the store that bounds the wait, and dropping the future ends it. Waiting changes nothing: copies are under way since each blob's commit.
    ///
    /// [`ErrorKind::Unavailable`] if that takes too long and the scope insists: what is stored stays, and the same push may be tried again.
    async fn await_copies(&self, digests: &[Digest], scope: &str) -> Result<Assurance> {
        let _ = (digests, scope);
        Ok(Assurance::Met)
    }

    /// Small named objects beside the blobs; `None` where the store cannot hold any.
    fn named(&self) -> Option<&dyn NamedObjects> {
        None
    }

    /// Tries the store end to end with a small blob of its own: write, stat, read back, compare, range, list, delete. The report names the step that failed.
    async fn probe(&self) -> ProbeReport {
        probe(self).await
    }

    /// What the store can do.
    fn capabilities(&self) -> Capabilities;
}

/// An upload in progress. One writer has it at a time.
///
/// Dropping it keeps what was staged until [`BlobStore::discard`]; only what was [suspended](Self::suspend) can be resumed.
#[async_trait]
pub trait BlobUpload: fmt::Debug + Send {
    /// Appends bytes. They may be buffered; an error may concern earlier bytes, and after one the upload can only be dropped.
    ///
    /// Not cancel-safe: after a dropped call, drop the upload and resume from the last token.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;

    /// How many bytes were written, those of earlier writers included.
    fn offset(&self) -> u64;

    /// Makes all bytes so far durable and gives up the upload: the token lets any process [resume](BlobStore::resume) it.
    ///
    /// Afterwards only `offset` and `abort` may be called here; everything else is [`ErrorKind::Conflict`].
    async fn suspend(&mut self) -> Result<UploadToken>;

    /// Verifies the digest and makes the blob visible.
    ///
    /// After [`ErrorKind::DigestInvalid`] the upload lives on and may be suspended; after a
    /// [retryable](crate::Error::is_retryable) error the same commit may be tried again, and committing again what was committed succeeds.
    async fn commit(&mut self, digest: &Digest) -> Result<BlobInfo>;

    /// Drops the staged bytes.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Small named objects under a store's `_meta/`: its identity, markers, exported metadata. At most 4 MiB each.
///
/// Names are one or more parts of `a-z 0-9 . _ -`, divided by `/`, no part starting with a dot; see [`check_object_name`].
#[async_trait]
pub trait NamedObjects: Send + Sync {
    /// The object's bytes; `None` if it is not there.
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Writes the object in one step, durable when answered. [`ErrorKind::TooLarge`] above 4 MiB.
    async fn put(&self, name: &str, value: Bytes) -> Result<()>;

    /// Deletes the object; one that is not there succeeds.
    async fn delete(&self, name: &str) -> Result<()>;

    /// All objects whose name starts with `prefix`, in the order of their names.
    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo>;
}

/// Conveniences over any [`BlobStore`].
#[async_trait]
pub trait BlobStoreExt: BlobStore {
    /// Whether the blob is there.
    async fn contains(&self, digest: &Digest) -> Result<bool> {
        match self.stat(digest).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The whole blob in memory: for small ones.
    async fn read_all(&self, digest: &Digest) -> Result<Bytes> {
        self.read(digest, ReadOptions::default()).await?.collect().await
    }

    /// Writes bytes that are at hand.
    async fn put_bytes(&self, digest: &Digest, content: Bytes) -> Result<BlobInfo> {
        let options = WriteOptions::default().with_size(content.len() as u64);
        self.put(digest, options, once(content)).await
    }
}

impl<S: BlobStore + ?Sized> BlobStoreExt for S {}

/// A stream of one chunk, or of none when it is empty.
pub fn once(content: Bytes) -> ByteStream {
    Box::pin(futures_util::stream::iter((!content.is_empty()).then_some(Ok(content))))
}
