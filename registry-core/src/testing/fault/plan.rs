//! What is to go wrong: [`FaultPlan`], and how it is decided for each call.

use std::time::Duration;

use crate::ErrorKind;
use crate::testing::Rng;

/// What can be asked of a store, as far as a fault tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// [`BlobStore::stat`](crate::BlobStore::stat).
    Stat,
    /// [`BlobStore::read`](crate::BlobStore::read) and its stream.
    Read,
    /// [`BlobStore::begin`](crate::BlobStore::begin).
    Begin,
    /// [`BlobStore::resume`](crate::BlobStore::resume).
    Resume,
    /// [`BlobStore::put`](crate::BlobStore::put) and the stream it is given.
    Put,
    /// [`BlobStore::delete`](crate::BlobStore::delete).
    Delete,
    /// [`BlobStore::list`](crate::BlobStore::list).
    List,
    /// [`BlobStore::uploads`](crate::BlobStore::uploads).
    Uploads,
    /// [`BlobStore::discard`](crate::BlobStore::discard).
    Discard,
    /// [`BlobStore::download_url`](crate::BlobStore::download_url).
    DownloadUrl,
    /// [`BlobStore::retain`](crate::BlobStore::retain).
    Retain,
    /// [`BlobStore::release`](crate::BlobStore::release).
    Release,
    /// [`BlobUpload::write`](crate::BlobUpload::write).
    Write,
    /// [`BlobUpload::suspend`](crate::BlobUpload::suspend).
    Suspend,
    /// [`BlobUpload::commit`](crate::BlobUpload::commit).
    Commit,
    /// [`BlobUpload::abort`](crate::BlobUpload::abort).
    Abort,
    /// [`NamedObjects::get`](crate::NamedObjects::get).
    NamedGet,
    /// [`NamedObjects::put`](crate::NamedObjects::put).
    NamedPut,
    /// [`NamedObjects::delete`](crate::NamedObjects::delete).
    NamedDelete,
    /// [`NamedObjects::list`](crate::NamedObjects::list).
    NamedList,
}

impl Op {
    /// Whether a stream goes with the call that can break in the middle.
    fn streams(self) -> bool {
        matches!(self, Self::Read | Self::Put | Self::List | Self::Uploads | Self::NamedList)
    }
}

/// One thing that goes wrong in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails as this kind, and nothing was done.
    Before(ErrorKind),
    /// The call is done, and fails as this kind all the same: the acknowledgement was lost.
    After(ErrorKind),
    /// The call is never answered, and nothing was done.
    HangBefore,
    /// The call is done, and never answered.
    HangAfter,
    /// The stream breaks with [`ErrorKind::Interrupted`] after so many bytes (of a list: items). For a put it is the content that breaks.
    Cut(u64),
    /// The stream ends after so many bytes (of a list: items) as if that were all. Only what is read.
    Truncate(u64),
    /// The stream stops after so many bytes and never goes on: no more bytes, no end, no error. For a put it is the content that stops being taken in.
    /// [`Op::Read`] and [`Op::Put`].
    Stall(u64),
    /// The lowest bit of this byte comes out wrong, this once. The byte counts from the start of what is read. [`Op::Read`] and [`Op::NamedGet`].
    Flip(u64),
    /// The call succeeds, but the lowest bit of this byte of the blob is wrong on the medium from now on, until the blob is written again.
    /// [`Op::Put`] and [`Op::Commit`].
    Rot(u64),
    /// [`ErrorKind::StorageFull`]: nothing more fits. Not to be scripted; see [`FaultPlan::with_space`].
    Full,
}

/// A fault that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// In which call.
    pub op: Op,
    /// On what: a digest, a shard, an object's name, or the number of an upload in the order in which they were begun and resumed.
    pub key: String,
    /// What happened.
    pub fault: Fault,
}

impl Injected {
    pub(super) fn new(op: Op, key: &str, fault: Fault) -> Self {
        Self { op, key: key.to_owned(), fault }
    }
}

/// How often which faults happen: everything never, by default.
///
/// Probabilities are per call, from 0 to 1; a call has one fault at most. What happens in a call is drawn from the seed, the operation, what it is
/// about, and how many such calls there were: it does not depend on how concurrent calls about different things interleave.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    seed: u64,
    only: Option<Vec<Op>>,
    kind: ErrorKind,
    latency: (Duration, Duration),
    before: f64,
    after: f64,
    hang_before: f64,
    hang_after: f64,
    cut: f64,
    truncate: f64,
    flip: f64,
    rot: f64,
    stall: f64,
    pub(super) throughput: Option<u64>,
    pub(super) space: Option<u64>,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self {
            seed: 0,
            only: None,
            kind: ErrorKind::Unavailable,
            latency: (Duration::ZERO, Duration::ZERO),
            before: 0.0,
            after: 0.0,
            hang_before: 0.0,
            hang_after: 0.0,
            cut: 0.0,
            truncate: 0.0,
            flip: 0.0,
            rot: 0.0,
            stall: 0.0,
            throughput: None,
            space: None,
        }
    }
}

impl FaultPlan {
    /// No faults yet, but a seed for those that are added.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A store that is switched off: every call fails at once.
    pub fn down() -> Self {
        Self::default().with_errors_before(1.0)
    }

    /// A store whose network drops every packet: no call is answered, ever, not even after the plan was changed.
    pub fn black_hole() -> Self {
        Self::default().with_hangs_before(1.0)
    }

    /// Only these operations have faults; [space](Self::with_space), [latency](Self::with_latency) and
    /// [throughput](Self::with_throughput) go for all.
    #[must_use]
    pub fn only(mut self, ops: impl Into<Vec<Op>>) -> Self {
        self.only = Some(ops.into());
        self
    }

    /// Calls that fail do so as this kind; [`ErrorKind::Unavailable`] by default.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Every call waits first, between these two, on tokio's clock.
    #[must_use]
    pub fn with_latency(mut self, shortest: Duration, longest: Duration) -> Self {
        self.latency = (shortest, longest);
        self
    }

    /// Calls that fail and do nothing.
    #[must_use]
    pub fn with_errors_before(mut self, probability: f64) -> Self {
        self.before = probability;
        self
    }

    /// Calls that are done and fail nevertheless.
    #[must_use]
    pub fn with_errors_after(mut self, probability: f64) -> Self {
        self.after = probability;
        self
    }

    /// Calls that do nothing and are never answered.
    #[must_use]
    pub fn with_hangs_before(mut self, probability: f64) -> Self {
        self.hang_before = probability;
        self
    }

    /// Calls that are done and never answered.
    #[must_use]
    pub fn with_hangs_after(mut self, probability: f64) -> Self {
        self.hang_after = probability;
        self
    }

    /// Streams that break with an error: what is read, what is put, lists.
    #[must_use]
    pub fn with_cuts(mut self, probability: f64) -> Self {
        self.cut = probability;
        self
    }

    /// Streams that stop and never go on: what is read, what is put.
    #[must_use]
    pub fn with_stalls(mut self, probability: f64) -> Self {
        self.stall = probability;
        self
    }

    /// What is read, put or written to an upload goes no faster than this, each stream for itself, on tokio's clock: in pieces of a tenth of a second, as
    /// a slow line would bring them. 0 is taken for 1.
    #[must_use]
    pub fn with_throughput(mut self, bytes_per_second: u64) -> Self {
        self.throughput = Some(bytes_per_second.max(1));
        self
    }

    /// Reads that end early without an error.
    #[must_use]
    pub fn with_truncation(mut self, probability: f64) -> Self {
        self.truncate = probability;
        self
    }

    /// Reads with a wrong bit in them, from a medium that is sound.
    #[must_use]
    pub fn with_flips(mut self, probability: f64) -> Self {
        self.flip = probability;
        self
    }

    /// Writes that are acknowledged, and wrong on the medium.
    #[must_use]
    pub fn with_rot(mut self, probability: f64) -> Self {
        self.rot = probability;
        self
    }

    /// Room for so many bytes more, from when the plan was set; then every write is [`ErrorKind::StorageFull`]. Deletes give none back.
    #[must_use]
    pub fn with_space(mut self, bytes: u64) -> Self {
        self.space = Some(bytes);
        self
    }

    /// What happens in the `n`th call of this operation about `key`, and how long it waits first. Positions are still any number.
    pub(super) fn draw(&self, op: Op, key: &str, n: u64) -> (Duration, Option<Fault>) {
        let mut rng = Rng::new(self.seed ^ hash(op as u64, key, n));
        // Each number is drawn whether it is used or not, so that one more kind of fault does not change when the others happen.
        let share = rng.below(1 << 20);
        let range = self.latency.1.saturating_sub(self.latency.0);
        let delay = self.latency.0 + range.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / f64::from(1 << 20));
        let position = rng.next_u64();
        let reads = op == Op::Read;
        let table = [
            (self.before, true, Fault::Before(self.kind)),
            (self.after, true, Fault::After(self.kind)),
            (self.hang_before, true, Fault::HangBefore),
            (self.hang_after, true, Fault::HangAfter),
            (self.cut, op.streams(), Fault::Cut(position)),
            (self.truncate, reads, Fault::Truncate(position)),
            (self.flip, reads, Fault::Flip(position)),
            (self.rot, matches!(op, Op::Put | Op::Commit), Fault::Rot(position)),
            // New kinds come last: those above happen where they did before there were these.
            (self.stall, matches!(op, Op::Read | Op::Put), Fault::Stall(position)),
        ];
        let selected = self.only.as_ref().is_none_or(|ops| ops.contains(&op));
        let hits = table.map(|(probability, applies, fault)| (rng.chance(probability) && applies && selected).then_some(fault));
        (delay, hits.into_iter().flatten().next())
    }
}

/// FNV-1a over all of it, which is the same on every machine and with every release of the compiler.
fn hash(op: u64, key: &str, n: u64) -> u64 {
    let bytes = op.to_le_bytes().into_iter().chain(key.bytes()).chain(n.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
