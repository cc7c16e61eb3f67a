//! A disk that fails when a test says so.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Arc, Mutex};

use rusqlite::ffi;

/// Which statements that may flush fail, and how often each was run.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<HashMap<&'static str, (u32, Option<c_int>)>>>);

impl Faults {
    /// From now on the statement fails with this code; `None`: it works again.
    pub(super) fn plant(&self, sql: &'static str, code: Option<c_int>) {
        self.0.lock().unwrap().entry(sql).or_default().1 = code;
    }

    /// How often the statement was run, or failed instead.
    pub(super) fn count(&self, sql: &'static str) -> u32 {
        self.0.lock().unwrap().get(sql).map_or(0, |(count, _)| *count)
    }

    pub(super) fn meet(&self, sql: &'static str) -> rusqlite::Result<()> {
        let mut statements = self.0.lock().unwrap();
        let (count, code) = statements.entry(sql).or_default();
        *count += 1;
        match code {
            Some(code) => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(*code), None)),
            None => Ok(()),
        }
    }
}
