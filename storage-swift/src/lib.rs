//! OpenStack Swift: a native client that is an [`object_store::ObjectStore`], and a blob store over it.
//!
//! Works with Swift behind Keystone (version 3), with Swift's own TempAuth, and with the Swift interface of Ceph's RadosGW.
//!
//! # Why it is done this way
//!
//! **Every transfer is checked.** A `PUT` carries the MD5 of what is sent, which Swift compares with what arrived. A `GET` is compared with the length that
//! was announced: Swift can answer 200 and then break off. Bulk deletes and the deletes of large objects always answer 200; their verdict is read
//! from the body.
//!
//! **Large objects are static ones** (SLO): a manifest names its segments, with lengths and MD5s, and Swift looks at each before it takes the manifest. Never
//! dynamic ones, whose content is whatever a list shows at the moment. A manifest is put in one step, and never shares segments with another.
//!
//! **One log-in serves all.** A token is renewed before it expires, earlier before a large upload, and once after a 401; everybody who waits for a renewal
//! waits for the same one. A 403 is an answer, and is not tried again. How long a token lives is Keystone's own difference of two times; no clock of this
//! machine but the monotonic one counts.
//!
//! **Time-outs are for what does not move**, never for a whole body.
//!
//! Rejected: conditional writes as locks (real Swift lets two of ten racing writers win, and RadosGW ignores the condition); a copy as the way to move a large
//! object (it becomes a plain one, up to the service's limit); the C and Python clients' habit of a second container for segments (it needs the right to make
//! one, and a policy of its own).
//!
//! # What it needs
//!
//! A user who may write in the container: a role like `member`, or a place in the container's lists. In Swift the middleware `slo`; `bulk` makes deletes of large
//! blobs quicker, and `tempurl` is needed for [`download_url`](registry_core::BlobStore::download_url), with a key that the account has been told
//! ([`set_temp_url_key`](SwiftBlobStore::set_temp_url_key)) or the container. A [`SwiftStore`] keeps segments under `_multipart/`: a process that is killed during an
//! `object_store` multipart upload leaves them there; a [`SwiftBlobStore`] has none of these, and finds its own. A tokio runtime.
//!
//! # An example
//!
//! ```no_run
//! use storage_swift::SwiftBuilder;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // OS_AUTH_URL, OS_USERNAME, …
//! let blobs = SwiftBuilder::from_env()?.with_container("registry").build_blob_store().await?;
//! # drop(blobs);
//! # Ok(())
//! # }
//! ```

mod auth;
mod blobs;
mod builder;
mod client;
mod config;
mod failure;
mod info;
mod large;
mod listing;
mod objects;
mod probe;
mod store;
mod tempurl;

pub use storage_object::{ConfigError, Secret};

pub use self::blobs::SwiftBlobStore;
pub use self::builder::SwiftBuilder;
pub use self::config::{Interface, SwiftConfig};
pub use self::store::SwiftStore;
