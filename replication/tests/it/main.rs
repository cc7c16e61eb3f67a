//! Integration tests.

mod conformance;
mod reading;
mod support;
mod working;
mod writing;
