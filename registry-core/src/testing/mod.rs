//! For everybody's tests: a conformance suite for each contract, a store that fails on purpose, and a clock that is set by hand.
//!
//! A backend author writes one line (see [`blob_store`] and [`metadata_store`]).

pub mod blob_store;
mod clock;
mod delay;
mod fault;
pub mod metadata_store;
mod report;
mod rng;

pub use self::clock::{ManualClock, TokioClock};
pub use self::delay::Delayed;
pub use self::fault::{Damage, Fault, FaultCounts, FaultPlan, FaultStore, Injected, Op};
pub use self::report::Report;
pub use self::rng::Rng;
