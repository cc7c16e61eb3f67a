//! Google Cloud Storage, as far as a stand-in shows it: none can be had for tests.

mod accounts;
mod blobs;
#[path = "../../../storage-object/tests/support/blobs.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod blobs_support;
mod faults;
#[path = "../../../storage-object/tests/support/proxy.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod proxy;
mod refusals;
mod stand_in;
mod stand_in_tests;
mod uploads;
