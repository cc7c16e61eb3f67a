//! What is passed to a [`PlacementLedger`](super::PlacementLedger) and comes back from it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use registry_core::{Digest, Timestamp};

/// The identity of a zone: what [`StoreIdentity::id`](registry_core::blob::StoreIdentity) says, not its name: another bucket under the same name
/// is another zone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(std::sync::Arc<str>);

impl ZoneId {
    /// The zone of this id.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(id.as_ref().into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A zone that the ledger knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZoneRecord {
    /// Who it is.
    pub id: ZoneId,
    /// What it is called.
    pub name: String,
    /// What it is used for.
    pub state: ZoneState,
}

impl ZoneRecord {
    /// A zone that is used for everything.
    pub fn new(id: ZoneId, name: impl Into<String>) -> Self {
        Self { id, name: name.into(), state: ZoneState::Active }
    }

    /// The same in another state.
    #[must_use]
    pub fn with_state(mut self, state: ZoneState) -> Self {
        self.state = state;
        self
    }
}

/// What a zone is used for, as its operators have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ZoneState {
    /// Everything.
    #[default]
    Active,
    /// Nothing new is written to it: pushes go elsewhere, and copies that it is owed wait. What is there is read, verified and deleted as ever.
    Cordoned,
    /// The same, and it is owed nothing any more: what is there goes once the other zones have it.
    Draining,
    /// It is none of the registry's zones any more. Its id is remembered, so that nobody takes its old bytes for good ones.
    Removed,
}

impl ZoneState {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }

    /// Whether pushes and copies are written to it.
    pub const fn takes_writes(self) -> bool {
        matches!(self, Self::Active)
    }

    /// Whether copies of what its policy wants there are owed to it.
    pub const fn is_target(self) -> bool {
        matches!(self, Self::Active | Self::Cordoned)
    }
}

/// What is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Desired {
    /// The copy is to be there.
    Present,
    /// It is not to be there.
    Absent,
}

/// What was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Observed {
    /// Nobody has looked: something may be there, or on its way.
    Unknown,
    /// The right bytes are there.
    Present,
    /// Somebody has reason to doubt that. Not read from until it was verified.
    Suspect,
    /// It was read alone and is wrong, and there is no other copy to replace it with: kept, reported, and not served. Read again now and then.
    Damaged,
    /// It was read alone and is wrong, and there is another good copy to replace it with.
    Quarantined,
    /// Somebody is deleting it, or was when they died.
    Deleting,
    /// It is not there.
    Absent,
}

impl Observed {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Present => "present",
            Self::Suspect => "suspect",
            Self::Damaged => "damaged",
            Self::Quarantined => "quarantined",
            Self::Deleting => "deleting",
            Self::Absent => "absent",
        }
    }
}

/// One blob in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The blob.
    pub digest: Digest,
    /// The zone.
    pub zone: ZoneId,
    /// The blob's length in bytes; `None` until somebody knew it.
    pub size: Option<u64>,
    /// What is to be.
    pub desired: Desired,
    /// Raised whenever that changes; never repeats.
    pub generation: u64,
    /// What is.
    pub observed: Observed,
    /// When somebody last meant to write the blob or to refer to it. The same for all placements of a blob; each touch is later than the one before.
    pub touched_at: Timestamp,
    /// When the bytes were last hashed and found right; `None` once somebody doubted that, or they are gone.
    pub verified_at: Option<Timestamp>,
    /// Since when what is differs from what is to be; `None` when it does not.
    pub since: Option<Timestamp>,
    /// When there is something to do next; `None` when there is nothing.
    pub due_at: Option<Timestamp>,
    /// Whether a worker has it now.
    pub leased: bool,
    /// How often that failed, in a row.
    pub attempts: u32,
    /// Why it failed the last time.
    pub last_error: Option<String>,
}

impl Placement {
    /// A placement as a ledger makes one: nobody has looked.
    pub fn new(digest: Digest, zone: ZoneId, desired: Desired, generation: u64) -> Self {
        Self {
            digest,
            zone,
            size: None,
            desired,
            generation,
            observed: Observed::Unknown,
            touched_at: Timestamp::default(),
            verified_at: None,
            since: None,
            due_at: None,
            leased: false,
            attempts: 0,
            last_error: None,
        }
    }

    /// Whether the copy may be read, and copied from: its bytes were verified, and nobody is deleting them. A copy that is merely no longer wanted still
    /// counts.
    pub fn is_source(&self) -> bool {
        self.observed == Observed::Present
    }

    /// Whether what is and what is to be agree.
    pub fn is_converged(&self) -> bool {
        matches!((self.desired, self.observed), (Desired::Present, Observed::Present) | (Desired::Absent, Observed::Absent))
    }

    /// Whether the copy was read alone and found wrong.
    pub fn is_proven_bad(&self) -> bool {
        matches!(self.observed, Observed::Damaged | Observed::Quarantined)
    }
}

/// Leave to write a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intent {
    /// One for each target, in the order in which they were given.
    pub targets: Vec<IntendedTarget>,
}

/// Leave to write a blob to one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntendedTarget {
    /// The zone.
    pub zone: ZoneId,
    /// What to [commit](super::PlacementLedger::committed) under.
    pub generation: u64,
    /// `Some` while a delete may be on its way there: nothing may be written there before another [`intend`](super::PlacementLedger::intend) says
    /// `None`. It does after so long, unless the deleter is done before or has [renewed](super::PlacementLedger::renew) its claim.
    pub fenced_for: Option<Duration>,
}

impl Intent {
    /// An intent as a ledger tells it.
    pub fn new(targets: Vec<IntendedTarget>) -> Self {
        Self { targets }
    }

    /// The target in this zone.
    pub fn target(&self, zone: &ZoneId) -> Option<&IntendedTarget> {
        self.targets.iter().find(|target| target.zone == *zone)
    }
}

impl IntendedTarget {
    /// A target as a ledger tells it.
    pub fn new(zone: ZoneId, generation: u64, fenced_for: Option<Duration>) -> Self {
        Self { zone, generation, fenced_for }
    }
}

/// A blob that a writer has put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it is.
    pub zone: ZoneId,
    /// From [`IntendedTarget::generation`].
    pub generation: u64,
}

/// Where a blob is to be from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retarget {
    /// The zones.
    pub targets: Vec<ZoneId>,
    /// Copies elsewhere are only condemned if nobody has touched the blob for so long: who did may be about to refer to it.
    pub untouched_for: Duration,
    /// How long a copy that is not wanted any more is kept.
    pub trash_delay: Duration,
}

/// What somebody saw of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sighting {
    /// It may be wrong or missing, and why.
    Suspect(String),
    /// All of it was read and hashed, and it is right.
    Good,
    /// Something of this length is there that the ledger had not heard of.
    Found(u64),
}

/// What a worker can do, and for how long it means to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The zone in which it works.
    pub zone: ZoneId,
    /// The zones that it can read from. Without any, no copy is made.
    pub sources: Vec<ZoneId>,
    /// At most so many tasks.
    pub limit: u32,
    /// How long they are the claimer's, unless [renewed](super::PlacementLedger::renew).
    pub lease: Duration,
    /// When to look again at what cannot be done for want of a source, or because other copies are not verified yet. What has been waiting for long is
    /// looked at less often: after an eighth of that, or thirty times this at the latest.
    pub look_again: Duration,
}

impl Claim {
    /// How many placements a ledger looks at, at most, to find that many tasks.
    pub fn looks_at(&self) -> usize {
        (self.limit as usize).saturating_mul(4).max(1000)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TaskKind {
    /// Make a copy from another zone's.
    Copy,
    /// Read the copy alone, and see whether it is right.
    Verify,
    /// Delete the copy.
    Delete,
}

impl TaskKind {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Delete => "delete",
        }
    }
}

/// A claimed piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// The blob.
    pub digest: Digest,
    /// The zone.
    pub zone: ZoneId,
    /// What to do.
    pub kind: TaskKind,
    /// The blob's length in bytes, if known.
    pub size: Option<u64>,
    /// The placement's generation when it was claimed.
    pub generation: u64,
    /// The claim: random, and never used twice.
    pub lease_id: String,
    /// How often the placement was claimed until now, this time included: the epoch under which a resumed upload is written.
    pub epoch: u64,
    /// How often it failed, in a row.
    pub attempts: u32,
    /// Where the last claimer stood.
    pub progress: Option<Bytes>,
    /// Whether a copy is made in place of one that was found wrong or gone.
    pub repairs: bool,
    /// Whether what is to be verified is to be there, and was not found wrong before: then it is news if it is wrong or gone.
    pub is_trusted: bool,
}

impl Task {
    /// A task as a ledger gives it out.
    pub fn new(digest: Digest, zone: ZoneId, kind: TaskKind, generation: u64, lease_id: impl Into<String>) -> Self {
        Self {
            digest,
            zone,
            kind,
            size: None,
            generation,
            lease_id: lease_id.into(),
            epoch: 1,
            attempts: 0,
            progress: None,
            repairs: false,
            is_trusted: false,
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The copy was made, and verified on its way: `Present`. With its length in bytes.
    Copied(u64),
    /// All of the copy was read and is right: `Present`. With its length in bytes.
    Verified(u64),
    /// All of it was read and is wrong. `Quarantined` and due at once if the blob has another source anywhere; otherwise `Damaged`, which counts as a
    /// failure, and looked at again after `look_again`.
    Wrong {
        /// What is wrong.
        reason: String,
        /// When to look again if there is no other copy.
        look_again: Duration,
    },
    /// It is not there: `Absent`, and due at once.
    Missing,
    /// The copy was deleted: `Absent`.
    Deleted,
    /// Nothing was sent: the copy was not deleted, since no other could be seen in its place. What was known of it before is true again, so that the others
    /// can be made from it, and the deletion is tried again after `look_again`, as a failure.
    Spared {
        /// Why.
        reason: String,
        /// When to look again.
        look_again: Duration,
    },
}

/// What is still to be done in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// The zone.
    pub zone: ZoneId,
    /// Copies to be made of blobs that have a source somewhere.
    pub copies: u64,
    /// Their bytes.
    pub copy_bytes: u64,
    /// How many of `copies` nobody is at, or is to be at before later: no zone that has them could be read, they failed, or nothing was to be copied there.
    pub put_off: u64,
    /// Their bytes.
    pub put_off_bytes: u64,
    /// Copies to be verified.
    pub suspects: u64,
    /// Copies to be deleted.
    pub deletes: u64,
    /// Copies to be made of blobs of which no good copy is known anywhere: being pushed, given up half-way, or lost.
    pub sourceless: u64,
    /// How many of all of these failed at least once.
    pub failing: u64,
    /// Since when the oldest of `copies`, `suspects` and `deletes` waits. A copy that is to be deleted waits from the end of its trash delay.
    pub oldest: Option<Timestamp>,
    /// How long that is, by the ledger's clock.
    pub lag: Duration,
    /// The same of `copies` alone.
    pub copy_lag: Duration,
    /// Why something failed the last time, and which blob it was.
    pub last_error: Option<(Digest, String)>,
}

impl Backlog {
    /// An empty one.
    pub fn new(zone: ZoneId) -> Self {
        Self {
            zone,
            copies: 0,
            copy_bytes: 0,
            put_off: 0,
            put_off_bytes: 0,
            suspects: 0,
            deletes: 0,
            sourceless: 0,
            failing: 0,
            oldest: None,
            lag: Duration::ZERO,
            copy_lag: Duration::ZERO,
            last_error: None,
        }
    }
}

/// What a zone has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The zone.
    pub zone: ZoneId,
    /// Verified copies that are desired.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Totals {
    /// Totals as a ledger tells them.
    pub fn new(zone: ZoneId, blobs: u64, bytes: u64) -> Self {
        Self { zone, blobs, bytes }
    }
}

/// Which placements to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListPlacements {
    /// Only blobs whose digest begins with this byte; all by default.
    pub shard: Option<u8>,
    /// Only behind this one, in the order of (shard, digest, zone).
    pub after: Option<(Digest, ZoneId)>,
    /// Only this zone.
    pub zone: Option<ZoneId>,
    /// Only those whose work failed at least once.
    pub failing: bool,
    /// At most so many; nothing by default.
    pub limit: u32,
}

impl ListPlacements {
    /// Up to `limit` placements.
    pub fn new(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Only this shard.
    #[must_use]
    pub fn with_shard(mut self, shard: Option<u8>) -> Self {
        self.shard = shard;
        self
    }

    /// Only what comes behind.
    #[must_use]
    pub fn with_after(mut self, after: Option<(Digest, ZoneId)>) -> Self {
        self.after = after;
        self
    }

    /// Only this zone.
    #[must_use]
    pub fn with_zone(mut self, zone: Option<ZoneId>) -> Self {
        self.zone = zone;
        self
    }

    /// Only what failed.
    #[must_use]
    pub fn with_failing(mut self, yes: bool) -> Self {
        self.failing = yes;
        self
    }
}
