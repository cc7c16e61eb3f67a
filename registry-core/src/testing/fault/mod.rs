//! [`FaultStore`]: a store that fails on purpose.

mod calls;
mod faults;
mod pace;
mod plan;
mod streams;
mod upload;

use std::fmt;
use std::sync::Arc;

use self::faults::{Faults, Scripted};
pub use self::plan::{Fault, FaultPlan, Injected, Op};
use crate::Digest;
use crate::blob::BlobStore;

/// A store over another one that goes wrong as a [`FaultPlan`] says, or as it is told for single calls.
///
/// It has what real stores do to their callers: they wait, fail before or *after* the effect, hang, break streams, end them early, let them
/// stall or trickle, flip bits, rot, and fill up. A clone is the same store, so that a test keeps one to steer the other by:
///
/// ```
/// use std::sync::Arc;
/// use registry_core::memory::MemoryBlobStore;
/// use registry_core::testing::{Fault, FaultPlan, FaultStore, Op};
/// use registry_core::{BlobStore, BlobStoreExt, Digest, ErrorKind};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> registry_core::Result<()> {
/// let faults = FaultStore::new(Arc::new(MemoryBlobStore::default()), FaultPlan::default());
/// let store: Arc<dyn BlobStore> = Arc::new(faults.clone());
///
/// faults.fail_next(Op::Put, Fault::After(ErrorKind::TimedOut));
/// let digest = Digest::sha256(b"content");
/// assert!(store.put_bytes(&digest, "content".into()).await.is_err());
/// assert!(store.contains(&digest).await?, "it was only the answer that got lost");
///
/// faults.set_plan(FaultPlan::down());
/// assert!(store.contains(&digest).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FaultStore(Faults);

/// What is wrong with a blob on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The lowest bit of this byte is wrong.
    Flip(u64),
    /// Only the first so many bytes are there, and the store believes that this is all.
    Truncate(u64),
}

/// How many faults of which kind happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Calls that waited.
    pub delayed: u64,
    /// Calls that failed and did nothing.
    pub before: u64,
    /// Calls that were done and failed.
    pub after: u64,
    /// Calls that were never answered, done or not.
    pub hung: u64,
    /// Streams that broke.
    pub cut: u64,
    /// Streams that ended early without an error.
    pub truncated: u64,
    /// Streams that stopped and never went on.
    pub stalled: u64,
    /// Reads with a wrong bit in them.
    pub flipped: u64,
    /// Writes that were wrong on the medium.
    pub rotten: u64,
    /// Writes that found no space.
    pub full: u64,
}

impl FaultStore {
    /// A store over `inner` with this plan.
    pub fn new(inner: Arc<dyn BlobStore>, plan: FaultPlan) -> Self {
        Self(Faults::new(inner, plan))
    }

    /// What is underneath: to see the truth by, or to change it.
    pub fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.0.inner
    }

    /// Goes by this plan from the next call on, counting from the start. What was scripted remains.
    pub fn set_plan(&self, plan: FaultPlan) {
        let mut state = self.0.lock();
        state.plan = plan;
        state.drawn.clear();
        state.written = 0;
    }

    /// No more faults: the plan is empty, and what was scripted is forgotten. Damage on the medium stays until the blob is written again.
    pub fn heal(&self) {
        self.set_plan(FaultPlan::default());
        self.0.lock().script.clear();
    }

    /// Lets the next call of this operation go wrong. Told several times, the calls to come go wrong in that order.
    pub fn fail_next(&self, op: Op, fault: Fault) {
        self.fail_after(op, 0, fault);
    }

    /// Lets `skip` calls of this operation pass, and the one behind go wrong. If that one goes wrong otherwise already, the next one does.
    pub fn fail_after(&self, op: Op, skip: u64, fault: Fault) {
        self.0.lock().script.push_back(Scripted { op, skip, fault });
    }

    /// Damages a blob on the medium, until it is written again.
    pub fn damage(&self, digest: &Digest, damage: Damage) {
        self.0.lock().damaged.insert(*digest, damage);
    }

    /// How many calls of this operation there were.
    pub fn calls(&self, op: Op) -> u64 {
        self.0.lock().calls.get(&op).copied().unwrap_or(0)
    }

    /// Everything that went wrong so far, in the order in which it did.
    pub fn injected(&self) -> Vec<Injected> {
        self.0.lock().injected.clone()
    }

    /// How much went wrong so far.
    pub fn counts(&self) -> FaultCounts {
        let state = self.0.lock();
        let mut counts = FaultCounts { delayed: state.delayed, ..FaultCounts::default() };
        for injected in &state.injected {
            *match injected.fault {
                Fault::Before(_) => &mut counts.before,
                Fault::After(_) => &mut counts.after,
                Fault::HangBefore | Fault::HangAfter => &mut counts.hung,
                Fault::Cut(_) => &mut counts.cut,
                Fault::Truncate(_) => &mut counts.truncated,
                Fault::Stall(_) => &mut counts.stalled,
                Fault::Flip(_) => &mut counts.flipped,
                Fault::Rot(_) => &mut counts.rotten,
                Fault::Full => &mut counts.full,
            } += 1;
        }
        counts
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.0.inner).field("plan", &self.0.lock().plan).finish_non_exhaustive()
    }
}
