//! Reading blobs.
//!
//! A blob that the kernel has in memory is read on the async worker that asks: the copy takes tens of microseconds, the way to a blocking thread and
//! back as long again. Whether it is in memory the kernel tells (`RESOLVE_CACHED` for the name, `RWF_NOWAIT` for the bytes); tmpfs cannot say the
//! latter, and does not need to. Everything else goes to a blocking thread.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream;
use registry_core::blob::{BlobInfo, BlobReader, ByteStream, ReadOptions};
use registry_core::{Digest, Error, ErrorKind, Result};

use crate::layout;
use crate::pool;
use crate::shared::{Shared, failed};
use crate::sys;

/// From this size on the kernel is told that a blob will be read through.
const LARGE: u64 = 1 << 20;

/// Opens a blob: on the spot if that cannot wait for a disk.
pub(crate) async fn open(shared: &Arc<Shared>, digest: &Digest) -> Result<(File, BlobInfo)> {
    let path = layout::blob(digest);
    if shared.in_memory {
        return Shared::check_blob(digest, shared.sys.open_read(&path));
    }
    if shared.cached_opens.load(Ordering::Relaxed) {
        match shared.sys.open_read_cached(&path) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => shared.cached_opens.store(false, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            opened => return Shared::check_blob(digest, opened),
        }
    }
    let digest = *digest;
    shared.hop(move |shared| Shared::check_blob(&digest, shared.sys.open_read(&path))).await
}

pub(crate) async fn read(shared: &Arc<Shared>, digest: &Digest, options: &ReadOptions) -> Result<BlobReader> {
    let (file, info) = open(shared, digest).await?;
    let range = options.resolve(digest, info.size)?;
    if !shared.in_memory && range.end - range.start >= LARGE {
        sys::will_read_through(&file);
    }
    let stream = content(Arc::clone(shared), file, *digest, range.clone());
    Ok(BlobReader::new(info, range, stream))
}

struct Source {
    shared: Arc<Shared>,
    file: Arc<File>,
    digest: Digest,
    rest: Range<u64>,
}

fn content(shared: Arc<Shared>, file: File, digest: Digest, range: Range<u64>) -> ByteStream {
    let source = Source { shared, file: Arc::new(file), digest, rest: range };
    Box::pin(stream::try_unfold(source, |mut source| async move {
        if source.rest.is_empty() {
            return Ok(None);
        }
        let chunk = source.next().await?;
        source.rest.start += chunk.len() as u64;
        Ok(Some((chunk, source)))
    }))
}

impl Source {
    async fn next(&self) -> Result<Bytes> {
        if self.shared.in_memory {
            return self.taken(read_into(&pool::INLINE, self.want(pool::INLINE.size()), |space| {
                sys::read_full(&self.file, space, self.rest.start)
            }));
        }
        if self.shared.cached_reads.load(Ordering::Relaxed) {
            let cached =
                read_into(&pool::INLINE, self.want(pool::INLINE.size()), |space| sys::read_cached(&self.file, space, self.rest.start));
            match cached {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => self.shared.cached_reads.store(false, Ordering::Relaxed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Nothing, where the file should go on: a blocking read will tell what is the matter.
                Ok(chunk) if chunk.is_empty() => {}
                other => return self.taken(other),
            }
        }
        let (file, start, want) = (Arc::clone(&self.file), self.rest.start, self.want(pool::BLOCKING.size()));
        let read = self.shared.hop(move |_| Ok(read_into(&pool::BLOCKING, want, |space| sys::read_full(&file, space, start))));
        self.taken(read.await?)
    }

    /// How many bytes to ask for.
    fn want(&self, most: usize) -> usize {
        usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX).min(most)
    }

    fn taken(&self, read: io::Result<Bytes>) -> Result<Bytes> {
        match read {
            Ok(chunk) if chunk.is_empty() => {
                let message =
                    format!("the blob ends at {} bytes, {} behind where it should", self.rest.start, self.rest.end - self.rest.start);
                Err(Error::new(ErrorKind::Corrupt, message).with_key(self.digest))
            }
            Ok(chunk) => Ok(chunk),
            // The medium cannot give back what is on it: of no use however often it is asked.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Err(failed(&error, "reading a blob").with_key(self.digest).with_kind(ErrorKind::Corrupt))
            }
            Err(error) => Err(failed(&error, "reading a blob").with_key(self.digest)),
        }
    }
}

fn read_into(pool: &'static pool::Pool, want: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
    let mut buffer = pool.take(want);
    let n = read(buffer.space(want))?;
    Ok(buffer.filled(n))
}
