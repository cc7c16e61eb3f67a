//! Swift, as it really is: every test here runs against a real service, and is skipped where there is none.

mod blobs;
#[path = "../../../storage-object/tests/support/blobs.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod blobs_support;
mod faults;
mod kill;
#[path = "../../../storage-object/tests/support/killing.rs"]
mod killing;
mod logging_in;
mod objects;
#[path = "../../../storage-object/tests/support/proxy.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod proxy;
mod refusals;
mod service;
mod small_region;
#[path = "../../../storage-object/tests/support/stalls.rs"]
mod stalls;
mod tls;
#[path = "../../../storage-object/tests/support/tls_front.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod tls_front;
mod whole;
