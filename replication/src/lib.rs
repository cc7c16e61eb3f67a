//! One blob store over many storage zones.

mod builder;
mod cluster;
mod health;
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

pub use self::builder::{BuildError, ReplicatedStoreBuilder};
pub use self::ledger::{MemoryLedger, PlacementLedger, ZoneId};
pub use self::metrics::describe_metrics;
pub use self::options::{Closest, Options};
pub use self::policy::{PatternError, PlacementPolicy, PolicyRule, RepositoryPattern, TooFewCopies, ZoneSet};
pub use self::reconcile::ReconcileReport;
pub use self::status::{FailedWork, ImageZone, ZoneStatus};
pub use self::store::ReplicatedStore;
pub use self::workers::Workers;
pub use self::zone::Zone;
