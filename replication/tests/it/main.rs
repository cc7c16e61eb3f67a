//! Integration tests.

mod conformance;
mod ledger;
mod ledger_mutants;
mod reading;
mod support;
mod working;
mod writing;
