//! One blob store over many storage zones: writes to the closest, reads that fall over in mid-stream, copies that are verified, and nothing lost when a zone
//! goes dark.
//!
//! # Why it is cut this way
//!
//! [`ReplicatedStore`] is a [`BlobStore`](registry_core::BlobStore), so that the registry above never hears of zones. Beneath it are the zones, any blob
//! stores at all, and a [`PlacementLedger`], which says for each blob and zone what is to be, and what is. Four decisions carry the rest:
//!
//! - **One mechanism.** Replicating, filling a new zone, moving out of one, deleting, repairing rot: each is a placement whose *observed* differs from its
//!   *desired*, and a worker that makes them agree. There is no queue beside the ledger that could lose an entry, hold it twice, or go stale: the backlog *is*
//!   the difference.
//! - **The ledger hears first.** A blob is [intended](PlacementLedger::intend) before its bytes become visible anywhere, so that no crash leaves bytes that
//!   nobody knows of, and none loses a copy that is owed.
//! - **Trust is earned by hashing.** A copy is a source once all its bytes were hashed on their way in; whoever reads it hashes again. The first wrong
//!   digest, missing blob or wrong length makes it *suspect*: it is not read from until a worker has read it alone, and then it is cleared, or replaced from
//!   another zone. The last copy of a blob is never deleted, however bad it is.
//! - **Fences, not hopes.** No lease recalls a DELETE that is on its way. A zone from which a blob is being deleted is not written that blob until the delete
//!   has ended or its lease and half of it again are over; meanwhile a new push goes to another zone.
//!
//! Rejected: an event per push in a queue (a crash between commit and enqueue is a copy that is never made; deletes, drains and repairs need other
//! queues); asking each zone what it has (slow, and an empty bucket under a mistyped name looks like a zone that lost everything); quorum writes (a push
//! would be as slow as the second-slowest zone; who wants that says [`min_copies`](PolicyRule::with_min_copies)); electing a leader among processes (leases per
//! piece of work need none).
//!
//! # What is deterministic, and what is not hidden
//!
//! All waiting goes by tokio's clock, all times in the ledger by the ledger's own, jitter comes from [`Options::seed`]: the tests simulate several processes
//! through crashes, partitions and rot on paused time, and a seed gives the same run twice. Every failure keeps its reason
//! ([`ReplicatedStore::failures`]) and is tried again by itself, with pauses that grow, or [at once](ReplicatedStore::replay).
//!
//! The crate needs a tokio runtime. It logs through `tracing` and counts through the `metrics` facade ([`describe_metrics`]).
//!
//! # An example
//!
//! ```
//! use std::sync::Arc;
//! use registry_core::memory::MemoryBlobStore;
//! use registry_core::{BlobStoreExt as _, Digest};
//! use replication::{Closest, MemoryLedger, ReplicatedStore, Zone};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (boston, frankfurt) = (MemoryBlobStore::default(), MemoryBlobStore::default());
//! // A ledger in memory is gone with the process: metadata-sql has those that are not.
//! let store = ReplicatedStore::builder(Arc::new(MemoryLedger::default()))
//!     .zone(Zone::new("boston", Arc::new(boston)))
//!     .zone(Zone::new("frankfurt", Arc::new(frankfurt.clone())))
//!     .closest(Closest::Preference(vec!["boston".to_owned()]))
//!     .build()
//!     .await?;
//! let workers = store.start();
//!
//! let digest = Digest::sha256(b"a layer");
//! store.put_bytes(&digest, "a layer".into()).await?;
//! # let mut patience = 200;
//! while !frankfurt.contains(&digest).await? {
//! #     patience -= 1;
//! #     assert!(patience > 0);
//!     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
//! }
//! workers.stop().await;
//! # Ok(())
//! # }
//! ```

mod bandwidth;
mod builder;
mod cluster;
mod events;
mod health;
mod jobs;
pub mod ledger;
mod member;
mod metrics;
mod options;
mod policy;
mod read;
mod reconcile;
mod replay;
mod status;
mod store;
pub mod testing;
mod upload;
mod workers;
mod write;
mod zone;

pub use self::bandwidth::{Bandwidth, Hours};
pub use self::builder::{BuildError, ReplicatedStoreBuilder};
pub use self::events::{Event, EventSink};
pub use self::jobs::JobStatus;
pub use self::ledger::{MemoryLedger, PlacementLedger, ZoneId, ZoneState};
pub use self::metrics::describe_metrics;
pub use self::options::{Closest, Options};
pub use self::policy::{PlacementPolicy, PolicyRule, TooFewCopies, ZoneSet};
pub use self::reconcile::ReconcileReport;
pub use self::status::{FailedWork, ImageZone, ZoneStatus};
pub use self::store::ReplicatedStore;
pub use self::workers::Workers;
pub use self::zone::Zone;
