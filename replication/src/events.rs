//! [`Event`]: what operators want to hear of, and [`EventSink`]: where it is told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use registry_core::Digest;

use crate::metrics;

/// Something that operators want to hear of. Zones are told by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A zone has the verified copy that it was owed.
    Replicated {
        /// The zone.
        zone: String,
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// How long the zone was owed it, since it could first be made.
        waited: Duration,
    },
    /// The same of a copy that was there before, and was found to be wrong or gone.
    Repaired {
        /// The zone.
        zone: String,
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// All of a copy was read, and it is wrong.
    Corrupt {
        /// The zone.
        zone: String,
        /// The blob.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// A copy that should be in a zone is not.
    Missing {
        /// The zone.
        zone: String,
        /// The blob.
        digest: Digest,
    },
    /// The oldest copy that a zone is owed has been waiting for longer than [`lag_alert`](crate::Options::lag_alert).
    Late {
        /// The zone.
        zone: String,
        /// For how long.
        lag: Duration,
        /// How many copies the zone is owed.
        copies: u64,
    },
    /// That is over.
    InTime {
        /// The zone.
        zone: String,
    },
    /// A zone fails, and is passed over.
    ZoneDown {
        /// The zone.
        zone: String,
        /// How it fails.
        reason: String,
    },
    /// It works again.
    ZoneUp {
        /// The zone.
        zone: String,
    },
    /// A zone that was to be emptied is empty.
    Drained {
        /// The zone.
        zone: String,
    },
    /// A new zone has all that is to be there.
    Filled {
        /// The zone.
        zone: String,
    },
    /// A zone is none of the registry's any more.
    Removed {
        /// The zone.
        zone: String,
    },
    /// A job has failed, and does not go on by itself.
    JobFailed {
        /// What it was about: `drain`, `remove`, `reconcile`, `scrub`, `fill`.
        job: &'static str,
        /// The zone.
        zone: String,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// What it is, in a word: `replicated`, `repaired`, `corrupt`, `missing`, `late`, `in_time`, `zone_down`, `zone_up`, `filled`, `drained`, `removed`,
    /// `job_failed`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Repaired { .. } => "repaired",
            Self::Corrupt { .. } => "corrupt",
            Self::Missing { .. } => "missing",
            Self::Late { .. } => "late",
            Self::InTime { .. } => "in_time",
            Self::ZoneDown { .. } => "zone_down",
            Self::ZoneUp { .. } => "zone_up",
            Self::Filled { .. } => "filled",
            Self::Drained { .. } => "drained",
            Self::Removed { .. } => "removed",
            Self::JobFailed { .. } => "job_failed",
        }
    }

    /// The zone that it is about.
    pub fn zone(&self) -> &str {
        match self {
            Self::Replicated { zone, .. }
            | Self::Repaired { zone, .. }
            | Self::Corrupt { zone, .. }
            | Self::Missing { zone, .. }
            | Self::Late { zone, .. }
            | Self::InTime { zone }
            | Self::ZoneDown { zone, .. }
            | Self::ZoneUp { zone }
            | Self::Filled { zone }
            | Self::Drained { zone }
            | Self::Removed { zone }
            | Self::JobFailed { zone, .. } => zone,
        }
    }
}

/// Is told of [events](Event).
///
/// What is done to a copy, and a job's end, is told once, by the process that did it, and after the ledger knows. How a zone is (`zone_down`, `late`) is told
/// by each process that notices, for itself. Nothing is kept: a process that dies between the deed and the telling tells nobody, and what counts is in
/// the ledger.
pub trait EventSink: fmt::Debug + Send + Sync + 'static {
    /// Is told of one. Called on the way of reads and writes: to be quick, and not to block or panic.
    fn tell(&self, event: &Event);
}

/// Where events go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Option<Arc<dyn EventSink>>);

impl Events {
    pub(crate) fn new(sink: Option<Arc<dyn EventSink>>) -> Self {
        Self(sink)
    }

    pub(crate) fn tell(&self, event: &Event) {
        metrics::event(event);
        if let Some(sink) = &self.0 {
            sink.tell(event);
        }
    }
}
