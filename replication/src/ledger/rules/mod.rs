//! What each command of a [`PlacementLedger`](super::PlacementLedger) does to the rows of a blob: for those who write a ledger.
//!
//! Every rule is about the placements of one blob, so that a ledger has only to find them, apply the command to them, and store what came out, all in
//! one transaction: [`MemoryLedger`](super::MemoryLedger) does that under a lock, a database in its own way. Nothing here waits, or reads a clock.
//!
//! Rejected: a statement for each rule in each database's language. There would be three ledgers that are to agree in every corner of the fence, instead
//! of one set of rules and three ways to keep rows.

mod blob;
mod job;
mod row;
mod work;

use registry_core::{Error, ErrorKind};

use super::ZoneRecord;

pub use self::blob::Blob;
pub use self::job::{JobRow, lost};
pub use self::row::{Lease, Row};

/// What [`register_zone`](super::PlacementLedger::register_zone) says to a zone that was removed.
pub fn removed(zone: &ZoneRecord) -> Error {
    let message = "this zone was removed from the registry: remove it from the configuration, or delete the object _meta/zone in it to begin with it anew";
    Error::new(ErrorKind::Conflict, message).with_zone(&zone.name).with_key(&zone.id)
}
