//! Google Cloud Storage: a blob store over it.
//!
//! # Why it is done this way
//!
//! **By the XML API**, which is close to S3's protocol: it has multipart uploads, whose parts may go up at the same time and are put together at the end, and their
//! lists. (The JSON API's resumable uploads take one piece after the other.) So this crate is who one is, and the rest is [`storage_s3`]: how requests are sent and
//! sent again, how reads go on, what is said of errors.
//!
//! **Three ways to be somebody.** A service account's key; the credentials that Google's own tools find, down to those of the machine; and interoperability keys (`GOOG…` and
//! a secret), as S3's: with these the service understands S3's protocol itself, in a dialect of it ([`Dialect::google`](storage_s3::Dialect::google)).
//!
//! **Nothing is relied on that Google does not do with each of them**: no conditional writes, no part copies, no deletes of many objects at once. Objects of any size are
//! copied in one request, so that what was staged in one piece is moved on the service's side; what lies in several pieces is read and written once more.
//!
//! **What is sent has its MD5 with it**, which the service compares; parts of multipart uploads too.
//!
//! # What was tested
//!
//! No Google Cloud Storage could be asked. The tests run against a stand-in that is part of them (`tests/it/stand_in`): it is written from Google's documents and, where
//! these are silent, from reports of others, each named beside the line. It verifies signatures and tokens of each kind, and is as strict as what is known of the
//! service. What it cannot show is what nobody has written down.
//!
//! # What it needs
//!
//! A principal who may do what the role `roles/storage.objectAdmin` has, on the bucket. For signed URLs with default credentials of a machine also
//! `iam.serviceAccounts.signBlob` (in `roles/iam.serviceAccountTokenCreator`) on its own account: each URL is then signed by a request to Google. Workload identity federation
//! (`external_account`) is not supported. Abandoned multipart uploads are found and aborted with other abandoned uploads; the service itself keeps them for ever. A
//! tokio runtime.
//!
//! # An example
//!
//! ```no_run
//! use storage_gcs::GcsBuilder;
//!
//! # async fn example() -> registry_core::Result<()> {
//! // GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`, or the machine's own account.
//! let blobs = GcsBuilder::from_env().with_bucket("registry").build_blob_store().await?;
//! # drop(blobs);
//! # Ok(())
//! # }
//! ```

mod bearer;
mod builder;
mod config;

pub use storage_object::{ConfigError, Secret};

pub use self::builder::GcsBuilder;
pub use self::config::GcsConfig;
