//! Amazon S3, and what speaks its protocol, such as Ceph RadosGW: a blob store over it.
//!
//! # Why it is done this way
//!
//! **`object_store`'s client, signed and sent by this crate.** It knows the protocol, and where AWS keeps keys. What goes over the wire goes through one place here: each
//! attempt is signed anew, with keys that are good at that moment; a request is sent again while that may help; what moves is never cut off, neither a slow
//! upload nor a slow reader. Errors keep what the service said, and say which setting to change.
//!
//! **What `object_store` lacks is asked for in the same way**: part copies, by which a staged blob that is too large for one copy is moved, many parts at a time; and
//! the lists of open multipart uploads and of their parts, by which the clean-up finds what a killed process has left.
//!
//! **No dialect is assumed.** Services that speak S3's protocol differ in what they answer, and whichever way that is, it is right here:
//!
//! - A `CompleteMultipartUpload` may tell no ETag, or one without quotes (RadosGW): the object is looked at. Sent again after its answer was lost, it may be 200, or the
//!   upload may be said not to be there: then the ETag that those parts make tells whether it is the object by now.
//! - An answer may be 200 and an error all the same, where a service begins to answer before it is done.
//! - Conditions may be ignored, or let two writers win: none is used.
//! - Checksums, and hashes in signatures, may be taken and not looked at: what is sent has an MD5 with it, except to Amazon itself, and all bytes are hashed here on
//!   their way in and out.
//! - A list of parts may have one twice (SeaweedFS): the last one counts. One of an upload that is gone may be `NoSuchUpload` or `NoSuchKey`: it is gone.
//! - A part of no bytes may be refused (Garage): there is none, an empty blob is written in one request.
//! - Part copies may not be there: what they were to move is read and written once more.
//!
//! What is not the same for all, and matters before the first request, is a [`Dialect`].
//!
//! **Bodies are signed where there is no TLS**, so that what arrives is what was sent; where there is, that is TLS's business, and hashing them twice would halve the speed.
//!
//! Rejected: AWS's own SDK (it is many times the code, and its newer checksums and retries are not taken by other services); presigned requests for parts (each
//! would be signed before it is known when it is sent).
//!
//! # What it needs
//!
//! Keys that may do `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject`, `s3:AbortMultipartUpload`, `s3:ListMultipartUploadParts` on the objects, and `s3:ListBucket` and
//! `s3:ListBucketMultipartUploads` on the bucket. A tokio runtime. [`S3Builder::build_blob_store`] gives an [`ObjectBlobStore`](storage_object::ObjectBlobStore).
//!
//! # An example
//!
//! ```no_run
//! use storage_s3::S3Builder;
//!
//! # async fn example() -> registry_core::Result<()> {
//! // Keys and region as the `aws` command finds them.
//! let blobs = S3Builder::from_env().with_bucket("registry").build_blob_store().await?;
//! # drop(blobs);
//! # Ok(())
//! # }
//! ```

mod builder;
mod config;
mod credentials;
mod dialect;
mod hashes;
mod join;
mod probe;
mod profile;
mod refusal;
mod requests;
mod service;
mod sigv4;
mod store;

pub use storage_object::{ConfigError, Secret};

pub use self::builder::{Connector, S3Builder};
pub use self::config::{Encryption, S3Config};
pub use self::dialect::Dialect;
pub use self::service::Authorize;
pub use self::store::S3Store;
