//! A [`BlobStore`](registry_core::BlobStore) on a filesystem: the store that a registry has without any service beside it.
//!
//! # Layout
//!
//! ```text
//! <root>/format                          "storage-fs layout 1": a newer one is refused
//!        blobs/<algorithm>/<2 hex>/<hex> a blob, by its digest; the two digits are the first of it
//!        uploads/<id>.<epoch>            an upload's staged bytes
//!        uploads/<id>.<epoch>.<e>.<o>    the same, taken up from the token of epoch <e> at offset <o>
//!        uploads/<id>.put                a blob on its way (.meta, .format: other files on their way)
//!        _meta/<name>                    a named object, a `/` of its name as `+`
//! ```
//!
//! Anything else is ignored. The directory can be copied while nobody writes, with any tool; leave out `uploads/`.
//!
//! # Why it is done this way
//!
//! **A file is renamed into place or it is not there.** A blob is written to `uploads/`, `fdatasync`ed, renamed to its digest, and the directory
//! `fsync`ed, before it is acknowledged; directories made on the way are synced in theirs. There is no moment at which a kill or a power cut leaves
//! half a blob under a digest. A sync that failed is never tried again on the same file: the kernel may have dropped what it could not write and
//! call the next sync good. The write fails, and its bytes are gone. [`Durability::ProcessCrash`] leaves out all syncs.
//!
//! **Small blobs take one trip.** Up to half a MiB is kept in memory and hashed, written, synced and renamed in one visit to a blocking thread. More
//! goes there in batches of that size, one being written while the next is received: an upload has about 1 MiB in memory, however large it is.
//!
//! **A name belongs to one writer.** A staged file carries the epoch of its writer in its name, and is locked (`flock`) while it is open. Who resumes an
//! upload renames the file to its own epoch; if its older writer is still alive, it takes a copy of what the token covers instead, so that the other,
//! however late it writes, writes to a file that has no name any more. The lock goes with the process, so that nothing has to be cleaned
//! up after a kill. A file also names the token that it was taken up from: bytes that are not those a token's hash has seen are never joined to it.
//!
//! **Reads that need no disk are made where they are asked for**, all others on blocking threads; the kernel says which is which.
//!
//! Rejected: appending small blobs to segments (several times faster than a sync per file, but it needs compaction, recovery and an index, and the
//! rate here is above what clients reach over HTTP); anonymous files linked into place (a link cannot replace, and what replaces has to have had a name);
//! `mmap` (a disk error is a signal, and the memory of a process grows with what it serves); an index of blobs (the directory is one already).
//!
//! # What it needs
//!
//! Linux, and a filesystem with atomic `rename` and with `flock`: ext4, xfs, btrfs, zfs, tmpfs; NFS from version 4 on, where only processes that see
//! the same locks may share a directory. Times come from the filesystem. A tokio runtime.
//!
//! # An example
//!
//! ```
//! use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, blob};
//! use storage_fs::FsBlobStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> registry_core::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("blobs");
//! let store = FsBlobStore::open(path).await?;
//! let content = bytes::Bytes::from_static(b"a layer");
//! let digest = Digest::sha256(&content);
//! store.put(&digest, Default::default(), blob::once(content.clone())).await?;
//! assert_eq!(store.read_all(&digest).await?, content);
//! # Ok(())
//! # }
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("storage-fs relies on calls of Linux");

mod builder;
mod layout;
mod list;
mod named;
mod pending;
mod pool;
mod read;
mod resume;
mod shared;
mod staging;
mod store;
mod sys;
#[cfg(test)]
mod tests;
mod upload;
mod uploads;
mod writer;

pub use self::builder::{Durability, FsBlobStoreBuilder};
pub use self::store::FsBlobStore;
