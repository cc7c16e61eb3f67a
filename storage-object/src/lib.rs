//! A [`BlobStore`](registry_core::BlobStore) over any [`object_store::ObjectStore`]: what is the same for all object stores, written once.
//!
//! # Keys
//!
//! ```text
//! <storage path>/blobs/<algorithm>/<2 hex>/<hex>   a blob, by its digest; the two digits are the first of it
//!                _uploads/<id>/<epoch>-<n>         a piece of an upload, by the epoch of its writer
//!                _uploads/<id>/_writer             the epoch of who took the upload up last
//!                _segments/<id>/…                  the same where blobs are manifests: the pieces stay
//!                _segments/<id>/_commit-<digest>   which blob they become, or are
//!                _meta/<name>                      a named object
//! ```
//!
//! # Why it is done this way
//!
//! **A digest that is known is a key.** [`put`](registry_core::BlobStore::put) writes straight to the blob's key: one request for what fits into a part, a
//! multipart upload for the rest, completed only when all of it was hashed and is right. Nothing is staged, nothing is copied. (Where blobs are manifests, the
//! rest goes up as pieces, and its manifest is written when all was hashed.)
//!
//! **Otherwise bytes are staged, and promoted on the service's side** ([`Promote`]): by a copy, by copies of parts, or by a manifest. A blob that still
//! fits into memory at its commit is written to its key from there.
//!
//! **A piece belongs to one writer.** Each time an upload is put aside, what came since is completed as a piece of its own, named by the epoch of its writer.
//! A later writer adds pieces; whatever an older one still sends is under other names. (Rejected: going on with one multipart upload. A part's
//! number is all the name it has there, so a late request of an older writer replaces what a newer one has hashed; and the list of part ids grows beyond what a token
//! may hold.) The last piece is taken back into memory if it is shorter than a part, so that short requests do not make many pieces.
//!
//! **A late writer may commit, and does no harm.** Who is overtaken finds that out before its commit by `_writer`. If it is between that look and its commit
//! for too long, its blob is right, and at worst the newer writer's upload is lost. Where pieces stay, markers say of all blobs that may be made
//! of them, and nothing is deleted that one of them may still be made of.
//!
//! **Memory is bounded for a process**, not for an upload: parts are taken from a [`Budget`] that all zones share.
//!
//! Rejected: conditional writes as locks (services that are widely used ignore the condition, or let two writers win); checksums of the service instead of our
//! own hash (some ignore them, and a multipart object's is never the blob's digest).
//!
//! # What it needs
//!
//! A service where a write is seen by reads as soon as it was answered. Lists may lag ([`with_list_is_hint`](ObjectBlobStoreBuilder::with_list_is_hint)). A tokio
//! runtime. Multipart uploads that a killed process leaves are not seen by `list`: a client that can find them says so
//! ([`with_multiparts`](ObjectBlobStoreBuilder::with_multiparts)); otherwise let the service expire them.
//!
//! # An example
//!
//! ```
//! use std::sync::Arc;
//!
//! use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, blob};
//! use storage_object::ObjectBlobStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> registry_core::Result<()> {
//! let store = ObjectBlobStore::builder(Arc::new(object_store::memory::InMemory::new())).with_storage_path("registry").build();
//! let content = bytes::Bytes::from_static(b"a layer");
//! let digest = Digest::sha256(&content);
//! store.put(&digest, Default::default(), blob::once(content.clone())).await?;
//! assert_eq!(store.read_all(&digest).await?, content);
//! # Ok(())
//! # }
//! ```

mod budget;
mod builder;
mod config_error;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod layout;
mod list;
mod multiparts;
mod named;
mod parts;
mod pending;
mod promote;
mod put;
mod read;
mod secret;
pub mod settings;
mod shared;
mod store;
mod token;
mod upload;

pub use self::budget::Budget;
pub use self::builder::ObjectBlobStoreBuilder;
pub use self::config_error::ConfigError;
pub use self::multiparts::{ListMultiparts, OpenMultipart, StoredParts};
pub use self::promote::{CopyParts, Manifests, Promote, Segment};
pub use self::secret::Secret;
pub use self::store::{MoreProbes, ObjectBlobStore};
