//! What the store does over an object store in memory.

mod conformance;
mod failing;
mod faults;
mod memory;
