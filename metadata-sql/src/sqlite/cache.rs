//! What is served most, in this process's memory, and never stale.
//!
//! Other processes may write to the file, so a cache has to ask it before each answer whether anything changed. SQLite tells that for about a microsecond
//! and without touching the disk: `PRAGMA data_version` on a connection that never writes, the *sentinel*, gives another number once any other connection
//! of any process has committed; it looks at the shared memory beside the log (<https://sqlite.org/pragma.html#pragma_data_version>).
//!
//! - **A hit** is an entry found while the sentinel's number is the one that the cache was last known to be right at. All commits that had been
//!   acknowledged before the question are covered by that number.
//! - **A fill** takes the sentinel's number, reads the entry and the row `served` from the database, and takes the number again. If it did not move,
//!   what was read is the state at that number. If it did, the answer is right for the one who asked and is not kept.
//! - Most commits change nothing that is served: sessions, intentions, new blobs. Commands that do change it raise `served` in the same transaction. So
//!   a fill that finds `served` as it was vouches for all the other entries too, at the new number; else they are dropped.
//!
//! Only what is there is cached; so things that appear are seen at once without anybody being told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_core::Result;
use rusqlite::Connection;

use super::connection::connect_reader;
use crate::commands::{Hot, Served};

/// The sentinel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(i64);

/// The state of the row `served`.
pub(super) type ServedVersion = i64;

/// What the cache says.
pub(super) enum Lookup {
    Hit(Served),
    /// Not there. With the number at which a fill may begin, unless the file could not be asked.
    Miss(Option<Version>),
}

pub(super) struct Cache(Mutex<State>);

struct State {
    sentinel: Connection,
    /// When the entries were last known to be right.
    right_at: Option<(Version, ServedVersion)>,
    entries: Entries,
    hits: u64,
    misses: u64,
}

impl Cache {
    pub(super) fn open(path: &Path, capacity: usize) -> Result<Self> {
        // It is asked on async workers, so it never waits: whatever is in its way makes a miss.
        let sentinel = connect_reader(path, Duration::ZERO)?;
        Ok(Self(Mutex::new(State { sentinel, right_at: None, entries: Entries::new(capacity), hits: 0, misses: 0 })))
    }

    pub(super) fn get(&self, key: &Hot) -> Lookup {
        let mut state = self.lock();
        let version = state.version();
        if version.is_some()
            && version == state.right_at.map(|(right_at, _)| right_at)
            && let Some(found) = state.entries.get(key)
        {
            state.hits += 1;
            return Lookup::Hit(found);
        }
        state.misses += 1;
        Lookup::Miss(version)
    }

    /// Hits and misses so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.hits, state.misses)
    }

    /// Offers what was read from the database after `begun`.
    pub(super) fn fill(&self, begun: Version, served: ServedVersion, key: Hot, found: Option<&Served>) {
        let mut state = self.lock();
        if state.version() != Some(begun) {
            return;
        }
        if state.right_at.is_some_and(|(_, known)| known != served) {
            state.entries.clear();
        }
        state.right_at = Some((begun, served));
        if let Some(found) = found {
            state.entries.insert(key, found.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut state = PoisonError::into_inner(poisoned);
            self.0.clear_poison();
            state.right_at = None;
            state.entries.clear();
            state
        })
    }
}

impl State {
    fn version(&self) -> Option<Version> {
        let mut statement = self.sentinel.prepare_cached("PRAGMA data_version").ok()?;
        statement.query_row([], |row| row.get(0)).ok().map(Version)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Cache").field("entries", &state.entries.slots.len()).field("bytes", &state.entries.bytes).finish()
    }
}

/// A bounded map that gives up what was not asked for lately (second chance).
struct Entries {
    slots: HashMap<Hot, Slot>,
    /// The keys of `slots`, the next to be looked at first.
    order: VecDeque<Hot>,
    bytes: usize,
    capacity: usize,
}

struct Slot {
    value: Served,
    bytes: usize,
    asked_for: bool,
}

impl Entries {
    fn new(capacity: usize) -> Self {
        Self { slots: HashMap::new(), order: VecDeque::new(), bytes: 0, capacity }
    }

    fn get(&mut self, key: &Hot) -> Option<Served> {
        let slot = self.slots.get_mut(key)?;
        slot.asked_for = true;
        Some(slot.value.clone())
    }

    fn insert(&mut self, key: Hot, value: Served) {
        let bytes = key.weight() + value.weight();
        if bytes > self.capacity / 8 {
            return;
        }
        if let Some(old) = self.slots.insert(key.clone(), Slot { value, bytes, asked_for: false }) {
            self.bytes -= old.bytes;
        } else {
            self.order.push_back(key);
        }
        self.bytes += bytes;
        while self.bytes > self.capacity
            && let Some(key) = self.order.pop_front()
        {
            match self.slots.get_mut(&key) {
                Some(slot) if slot.asked_for => {
                    slot.asked_for = false;
                    self.order.push_back(key);
                }
                _ => self.bytes -= self.slots.remove(&key).map_or(0, |slot| slot.bytes),
            }
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.order.clear();
        self.bytes = 0;
    }
}
