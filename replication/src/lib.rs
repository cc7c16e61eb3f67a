//! One blob store over many storage zones.

pub mod ledger;
pub mod testing;
