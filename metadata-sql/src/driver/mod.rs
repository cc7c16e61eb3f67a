//! The driver layer: statements and commands above it are written once, the two databases below it are small.
//!
//! A [`Command`] or [`Query`] is an `async fn` over a [`Transaction`] or [`Reader`]. On PostgreSQL those wait for the network; on SQLite they are always
//! ready at once, and a plain thread drives them.

mod batch;
mod command;
mod queue;
mod schema;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod value;

pub(crate) use self::batch::{CommitError, Session, commit};
pub(crate) use self::command::{Command, Job, Pending, Query, Reader, Transaction};
pub use self::queue::Stats;
pub(crate) use self::queue::{Inbox, Queue, Tally, queue};
pub(crate) use self::schema::{Dialect, migrate};
pub(crate) use self::value::{Row, Value, params};
