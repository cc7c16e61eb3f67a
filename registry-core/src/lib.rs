//! Vocabulary, contracts and use-cases of an OCI container registry.
//!
//! # Why it is cut this way
//!
//! A registry is three things that change for different reasons: *bytes* named by their digest, which may live in several places; *rows* that say
//! which repository holds which bytes; and *rules* that keep the two honest while processes are killed in between. Each is one trait or type here:
//!
//! - [`BlobStore`] holds bytes and knows nothing of repositories, so that a store over many zones is a `BlobStore` like any other.
//! - [`MetadataStore`] holds rows. Its writes are commands rather than open transactions, so that a database can commit many callers' as one.
//! - [`Registry`] has the rules: push, pull, mount, tag, refer, delete, collect garbage. It speaks no HTTP; the `registry-http` crate does.
//!
//! Rejected: one trait for blobs and manifests (backends would each invent their own crash order); transactions as objects (a caller that stalls would
//! hold up all others); a mark-and-sweep collection (it has to stop the world, or be wrong); finding dead blobs by listing the store (slow, and
//! listings lag).
//!
//! The crate has no HTTP client or server, no TLS, no SQL and no object-store client among its dependencies; its API names only types of `bytes`,
//! `http`, `futures-core` and std. Conversions to `oci-spec`'s types are behind the feature of that name. It needs a tokio runtime.
//!
//! # An example
//!
//! ```
//! use std::sync::Arc;
//! use registry_core::memory::{MemoryBlobStore, MemoryMetadataStore};
//! use registry_core::{Digest, Registry, blob};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> registry_core::Result<()> {
//! let registry = Registry::builder(Arc::new(MemoryBlobStore::default()), Arc::new(MemoryMetadataStore::default())).build();
//! let repository = "team/app".parse()?;
//! let layer = bytes::Bytes::from_static(b"a layer");
//! let digest = Digest::sha256(&layer);
//! registry.push_blob(&repository, &digest, Some(7), blob::once(layer.clone())).await?;
//! assert_eq!(registry.blob(&repository, &digest, None).await?.collect().await?, layer);
//! # Ok(())
//! # }
//! ```

pub mod blob;
mod clock;
mod digest;
mod error;
mod hasher;
pub mod manifest;
pub mod memory;
pub mod metadata;
mod name;
mod pattern;
mod registry;
pub mod testing;

pub use self::blob::{BlobStore, BlobStoreExt, BlobUpload, NamedObjects, UploadToken};
pub use self::clock::{Clock, SystemClock, Timestamp};
pub use self::digest::{Algorithm, Digest, DigestError};
pub use self::error::{Error, ErrorKind, Result};
pub use self::hasher::Hasher;
pub use self::metadata::MetadataStore;
pub use self::name::{NameError, Reference, RepositoryName, Tag};
pub use self::pattern::{PatternError, RepositoryPattern};
pub use self::registry::{GcOptions, GcReport, PushedManifest, Referrers, Registry, RegistryBuilder, UploadStatus, VerifyReads};

/// 128 random bits from the operating system as 32 hex digits.
///
/// # Panics
///
/// If the operating system gives no random bytes.
pub fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    format!("{:032x}", u128::from_be_bytes(bytes))
}
