//! Integration tests.

mod bandwidth;
mod conformance;
mod events;
mod filling;
mod ledger;
mod ledger_mutants;
mod reading;
mod reconciling;
mod simulation;
mod support;
mod working;
mod writing;
mod zones;
