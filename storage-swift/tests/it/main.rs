//! Swift, as it really is: every test here runs against a real service, and is skipped where there is none.

mod blobs;
mod faults;
mod kill;
mod logging_in;
mod objects;
mod proxy;
mod refusals;
mod service;
mod small_region;
mod stalls;
mod tls;
mod whole;
