//! What the store does over an object store: in memory, and on a real service where there is one.

mod conformance;
mod failing;
mod faults;
mod memory;
mod slo;
mod two_writers;
