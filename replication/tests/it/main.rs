//! Integration tests.

mod conformance;
mod support;
