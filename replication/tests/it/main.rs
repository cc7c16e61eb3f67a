//! Integration tests.

mod conformance;
mod reading;
mod support;
mod writing;
