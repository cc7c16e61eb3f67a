//! Swift, as it really is: every test here runs against a real service, and is skipped where there is none.

mod blobs;
mod logging_in;
mod objects;
mod service;
mod small_region;
