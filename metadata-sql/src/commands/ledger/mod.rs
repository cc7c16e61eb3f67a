//! The placement ledger: how a blob's placements lie in the tables, are found, and written back. What is done to them is in `replication::ledger::rules`.
//!
//! Nearly every command is a rule about one blob ([`Apply`]). The others are about what is due, failed or gone, of which there may be any amount: they
//! find it in an index of that alone, a page at a time.

mod apply;
mod claim;
mod failing;
mod jobs;
mod onlookers;
mod rows;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod tidy;
mod zones;

pub(crate) use self::apply::{Apply, Touch};
pub(crate) use self::claim::{IsDue, Take};
pub(crate) use self::failing::{Failing, Replay};
pub(crate) use self::jobs::{BeginJob, CancelJob, Jobs, NoteJob, TakeJob};
pub(crate) use self::onlookers::{BacklogOf, List, Placements, TotalsOf};
pub(crate) use self::tidy::{HasGone, Tidy};
pub(crate) use self::zones::{Forget, RegisterZone, RemoveZone, SetZoneState, Zones};

/// How a statement says which blob.
fn shard(digest: &registry_core::Digest) -> String {
    format!("{:02x}", digest.shard())
}
