//! Long pieces of work that outlive the process that does them: [`Job`].

use std::collections::BTreeMap;

use bytes::Bytes;
use registry_core::Timestamp;

use super::ZoneId;

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum JobKind {
    /// Moving everything out of a zone.
    Drain,
    /// Taking a zone out of the registry.
    Remove,
    /// Comparing what is in a zone with what is known of it.
    Reconcile,
    /// Reading all that is in a zone.
    Scrub,
    /// Copying into a zone what is to be there.
    Fill,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Drain, Self::Remove, Self::Reconcile, Self::Scrub, Self::Fill];

    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Remove => "remove",
            Self::Reconcile => "reconcile",
            Self::Scrub => "scrub",
            Self::Fill => "fill",
        }
    }

    /// What is counted in [`Job::done`].
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Drain | Self::Remove | Self::Fill => "blobs",
            Self::Reconcile | Self::Scrub => "shards",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// It has not ended. Somebody is at it, or will be.
    Open,
    /// It has ended well.
    Done,
    /// It cannot be done: see [`Job::error`].
    Failed,
    /// Somebody has called it off.
    Cancelled,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Done, Self::Failed, Self::Cancelled];

    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A long piece of work, seen by all processes: whoever does it notes how far it is, and if they vanish another goes on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// Which: random, and never used twice.
    pub id: String,
    /// What it is about.
    pub kind: JobKind,
    /// The zone that it is about, if it is about one.
    pub zone: Option<ZoneId>,
    /// How it is.
    pub state: JobState,
    /// How much is done, in the units of its kind.
    pub done: u64,
    /// Of how much; `None` until that is known.
    pub total: Option<u64>,
    /// What it waits for, for people.
    pub note: String,
    /// What it has found so far, by name.
    pub counts: BTreeMap<String, u64>,
    /// Where whoever takes it up goes on: its kind's own.
    pub marker: Bytes,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When somebody last noted how far it is.
    pub updated_at: Timestamp,
    /// The claim of whoever has it now: random, and never used twice.
    pub lease_id: Option<String>,
}

impl Job {
    /// A job as a ledger makes one.
    pub fn new(kind: JobKind, zone: Option<ZoneId>, now: Timestamp) -> Self {
        Self {
            id: registry_core::random_id(),
            kind,
            zone,
            state: JobState::Open,
            done: 0,
            total: None,
            note: String::new(),
            counts: BTreeMap::new(),
            marker: Bytes::new(),
            error: None,
            begun_at: now,
            updated_at: now,
            lease_id: None,
        }
    }

    /// Notes that so many more were found of this name.
    pub fn count(&mut self, name: &str, more: u64) {
        if more > 0 {
            *self.counts.entry(name.to_owned()).or_default() += more;
        }
    }

    /// Whether somebody is at it, or will be.
    pub fn is_open(&self) -> bool {
        self.state == JobState::Open
    }
}
