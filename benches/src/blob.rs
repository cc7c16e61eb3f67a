//! [`Blob`]: the same bytes, sent to a store and read from it in each way that there is.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::blob::{ByteStream, ReadOptions, WriteOptions};
use registry_core::testing::Rng;
use registry_core::{Algorithm, BlobStore, Digest, Error, ErrorKind, Hasher};

use crate::measure::Result;

/// Bytes that a store is given at a time, of what is at hand.
const CHUNK: usize = 256 << 10;

/// Bytes that a server reads from a connection at a time.
const FROM_CONNECTION: usize = 64 << 10;

/// No more of this is made: longer files repeat it.
const BASE: usize = 64 << 20;

/// A blob.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The bytes themselves.
    Memory(Bytes),
    /// A file that has them.
    File(PathBuf),
    /// This, over and over.
    Made(Arc<[u8]>),
}

impl Blob {
    /// So many bytes, all of them in memory; another seed, other bytes.
    pub fn in_memory(seed: u64, size: usize) -> Self {
        let content = Bytes::from(Rng::new(seed).bytes(size));
        Self { digest: Digest::sha256(&content), size: size as u64, source: Source::Memory(content) }
    }

    /// So many bytes, in a new file.
    pub fn in_file(path: &Path, seed: u64, size: u64) -> Result<Self> {
        let base = Rng::new(seed).bytes(usize::try_from(size).unwrap_or(BASE).min(BASE));
        let (mut file, mut hasher, mut left) = (File::create(path)?, Hasher::new(Algorithm::Sha256), size);
        while left > 0 {
            let piece = &base[..usize::try_from(left).unwrap_or(BASE).min(base.len())];
            file.write_all(piece)?;
            hasher.update(piece);
            left -= piece.len() as u64;
        }
        Ok(Self { digest: hasher.finalize(), size, source: Source::File(path.to_owned()) })
    }

    /// So many MiB that are made while they are sent, and are nowhere before.
    pub fn made(mib: u64) -> Self {
        let chunk = Rng::new(mib).bytes(FROM_CONNECTION);
        let (size, mut hasher) = (mib << 20, Hasher::new(Algorithm::Sha256));
        (0..size / FROM_CONNECTION as u64).for_each(|_| hasher.update(&chunk));
        Self { digest: hasher.finalize(), size, source: Source::Made(chunk.into()) }
    }

    /// The file that has it, if one has.
    pub fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            _ => None,
        }
    }

    /// All of it.
    pub fn stream(&self) -> Result<ByteStream> {
        Ok(match &self.source {
            Source::Memory(content) => {
                let content = content.clone();
                let cut = move |at: usize| Ok(content.slice(at..content.len().min(at + CHUNK)));
                stream::iter((0..usize::try_from(self.size)?).step_by(CHUNK).map(cut)).boxed()
            }
            Source::File(path) => stream::iter(Chunks { file: File::open(path)?, left: self.size }).boxed(),
            // Each chunk is a new one, as those from a connection are: a store that keeps them has to have room for them.
            Source::Made(chunk) => {
                let chunk = Arc::clone(chunk);
                stream::iter((0..self.size / FROM_CONNECTION as u64).map(move |_| Ok(Bytes::copy_from_slice(&chunk)))).boxed()
            }
        })
    }

    /// Sends it, its digest and its size being known.
    pub async fn put(&self, store: &dyn BlobStore) -> Result<Duration> {
        let start = Instant::now();
        store.put(&self.digest, WriteOptions::default().with_size(self.size), self.stream()?).await?;
        Ok(start.elapsed())
    }

    /// Sends it, neither being known before its end.
    pub async fn upload(&self, store: &dyn BlobStore) -> Result<Duration> {
        let start = Instant::now();
        let mut upload = store.begin(WriteOptions::default()).await?;
        let mut chunks = self.stream()?;
        while let Some(chunk) = chunks.try_next().await? {
            upload.write(chunk).await?;
        }
        upload.commit(&self.digest).await?;
        Ok(start.elapsed())
    }

    /// Reads all of it, and compares the digest, as a registry does that verifies what it reads.
    pub async fn get(&self, store: &dyn BlobStore) -> Result<Duration> {
        let start = Instant::now();
        let mut chunks = store.read(&self.digest, ReadOptions::default()).await?.stream;
        let mut hasher = Hasher::new(self.digest.algorithm());
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
        }
        if hasher.finalize() != self.digest {
            return Err("what was read is not what was sent".into());
        }
        Ok(start.elapsed())
    }
}

/// A file in memory, each piece in new memory. It is read where it is asked for: that takes no longer than copying it.
struct Chunks {
    file: File,
    left: u64,
}

impl Iterator for Chunks {
    type Item = registry_core::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let len = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        self.left -= len as u64;
        let mut chunk = Vec::with_capacity(len);
        Some(match (&mut self.file).take(len as u64).read_to_end(&mut chunk) {
            Ok(read) if read == len => Ok(chunk.into()),
            Ok(_) => Err(Error::new(ErrorKind::Interrupted, "the file is shorter than it was")),
            Err(error) => Err(Error::new(ErrorKind::Interrupted, "cannot read the file").with_source(error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_has_its_size_and_its_digest_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = Blob::in_file(&folder.path().join("blob"), 1, (1 << 20) + 5).unwrap();
        for blob in [Blob::in_memory(1, (1 << 20) + 5), file, Blob::made(1)] {
            let all: Vec<_> = blob.stream().unwrap().try_collect().await.unwrap();
            let all = all.concat();
            assert_eq!((all.len() as u64, Digest::sha256(&all)), (blob.size, blob.digest));
        }
    }
}
