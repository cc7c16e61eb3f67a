//! Stores that keep everything in memory: for tests, for trying things out, and as the shortest implementation of the contracts.

mod blobs;
mod metadata;

pub use self::blobs::MemoryBlobStore;
pub use self::metadata::MemoryMetadataStore;
