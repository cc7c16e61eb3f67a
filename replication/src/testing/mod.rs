//! The suite that every ledger has to pass.

pub mod ledger;
