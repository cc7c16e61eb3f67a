//! The contract of the database of placements: [`PlacementLedger`].

mod job;
mod memory;
pub mod rules;
mod types;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_core::{Digest, Result, Timestamp};

pub use self::job::{Job, JobKind, JobState};
pub use self::memory::MemoryLedger;
pub use self::types::{
    Backlog, Claim, Commit, Desired, IntendedTarget, Intent, ListPlacements, Observed, Outcome, Placement, Retarget, Sighting, Task,
    TaskKind, Totals, ZoneId, ZoneRecord, ZoneState,
};

/// What is to be where, and what is: one row, a *placement*, per blob and zone.
///
/// # A placement
///
/// It has what is *desired* (the copy is to be there or not), a *generation* that is raised whenever that changes and never repeats, and what was
/// *observed*. Replicating, filling a new zone, moving out of one, deleting, and repairing are one thing: workers [claim](Self::claim) placements where
/// the two differ, and do what makes them agree.
///
/// ```text
/// desired present:  Unknown, Absent, Quarantined ──copy──> Present ──(a reader doubts it)──> Suspect ──verify──> Present
///                        ^  ^                                                                   ├── not there ──> Absent
///                        │  └──────────── read alone, and wrong, while another good copy exists: Quarantined ─────┤
///                        │                    the only copy left: Damaged, kept and not served, verified again ────┘
/// desired absent:   anything but Absent ──(condemned: nothing happened yet, `intend` takes it back)──> Deleting ──> Absent ──(tidy)──> no row
/// ```
///
/// A copy that was to be there and is `Absent` becomes `Unknown` when it is condemned, since somebody may be writing it: it is deleted like any other.
///
/// A blob is *visible* while a placement of it is desired present. Which copies may be read, and copied from, is said by [`Placement::is_source`].
///
/// # The fence
///
/// No lease can recall a DELETE on its way. So a placement that is being deleted stays `Deleting` until its deleter has said that it is done, or the
/// deleter's lease and half of it again are over: until then nobody [intends](Self::intend) to write there or is given the copy to make, whatever is
/// desired by now. Once it is over, the deleter has lost the placement as soon as somebody else means to write there. The other way round, a placement whose copy is
/// still being written by a worker is not given to a deleter before that worker has said that it is done, or its lease and half of it again are over. A
/// worker that gives up is not done: what it has sent may still arrive.
///
/// # Durability and time
///
/// Every command is one transaction and durable when answered, except [`renew`](Self::renew), [`observe`](Self::observe), [`defer`](Self::defer) and
/// [`give_back`](Self::give_back), whose loss costs work and nothing else. Times are the ledger's own clock's: a worker's clock is never asked.
///
/// Implementations are checked by [`testing::ledger`](crate::testing::ledger).
#[async_trait]
pub trait PlacementLedger: fmt::Debug + Send + Sync + 'static {
    // ---- zones ----

    /// Makes a zone known, in the state that it is given with. The same again is fine, and changes no state.
    ///
    /// [`ErrorKind::Conflict`](registry_core::ErrorKind::Conflict) if the id is known under another name, or the name with another id: then something
    /// else was put in a zone's place, and nothing may be written or deleted there. And if the zone was [removed](Self::remove_zone).
    async fn register_zone(&self, zone: &ZoneRecord) -> Result<()>;

    /// The zones that were registered and not removed, by name.
    async fn zones(&self) -> Result<Vec<ZoneRecord>>;

    /// Changes what a zone is used for, if it is in one of the states `from`; returns the state that it was in. What a zone is owed that is set
    /// [active](ZoneState::Active), be it again, is due at once, however long it was put off.
    ///
    /// [`ErrorKind::Conflict`](registry_core::ErrorKind::Conflict), and nothing is changed, if it is in another;
    /// [`ErrorKind::NotFound`](registry_core::ErrorKind::NotFound) if it is not known, or was removed;
    /// [`ErrorKind::InvalidInput`](registry_core::ErrorKind::InvalidInput) if it is to be removed by this.
    async fn set_zone_state(&self, zone: &ZoneId, from: &[ZoneState], to: ZoneState) -> Result<ZoneState>;

    /// Drops the placements of these blobs in a zone that is [draining](ZoneState::Draining), without anything being done there. Returns the blobs whose
    /// placements stay: somebody wants the blob, and no other zone has a verified copy that is to stay; or a worker may still be at it (the fence).
    ///
    /// [`ErrorKind::Conflict`](registry_core::ErrorKind::Conflict), and nothing is changed, if the zone is in another state.
    async fn forget(&self, zone: &ZoneId, digests: &[Digest]) -> Result<Vec<Digest>>;

    /// Removes a zone that is [draining](ZoneState::Draining) and has no placement. Its name is free from then on; its id is not registered again, and no
    /// placement is made in it: what is intended there is left out of what is kept, so that a commit is a conflict. Jobs about it that have not ended are done.
    ///
    /// [`ErrorKind::Conflict`](registry_core::ErrorKind::Conflict), and nothing is changed, if the zone has a placement or is in another state. A zone that was
    /// removed already is fine.
    async fn remove_zone(&self, zone: &ZoneId) -> Result<()>;

    // ---- writers ----

    /// Says that bytes of this blob are about to be written, and where copies are to be in the end: before the first byte becomes visible anywhere.
    ///
    /// Each of `targets` is desired present from now on, under a new generation if it was not; other placements stay as they are. Whatever is condemned
    /// and not yet being deleted among the targets is as good as before. Touches the blob.
    async fn intend(&self, digest: &Digest, size: Option<u64>, targets: &[ZoneId]) -> Result<Intent>;

    /// Says that a writer has put all bytes in place: the copy is `Present`, verified now. Work on the other placements of the blob is due at once.
    ///
    /// [`ErrorKind::Conflict`](registry_core::ErrorKind::Conflict), and nothing is changed, if the generation moved on, the copy is no longer desired, or
    /// it is being deleted.
    async fn committed(&self, commit: &Commit) -> Result<()>;

    /// The whole blob is to go: every placement of it is desired absent and due after `trash_delay`. If there is no placement at all, one is made for
    /// each of `zones`, so that bytes which the ledger has never heard of go too.
    ///
    /// With `untouched_since`, [`ErrorKind::Conflict`](registry_core::ErrorKind::Conflict), and nothing is changed, if a placement of the blob was
    /// [touched](Placement::touched_at) later than that, or there is one at all and `untouched_since` is `Timestamp::default()`.
    async fn condemn(&self, digest: &Digest, untouched_since: Option<Timestamp>, trash_delay: Duration, zones: &[ZoneId]) -> Result<()>;

    /// `targets` are to have the blob too: widens what is desired, and touches the blob. Does nothing, and says so by `false`, for a blob that is not
    /// visible.
    async fn retain(&self, digest: &Digest, targets: &[ZoneId]) -> Result<bool>;

    /// Exactly `targets` are to have the blob: whether that is so from now on. Copies elsewhere are condemned, and due after [`Retarget::trash_delay`],
    /// unless somebody touched the blob during [`Retarget::untouched_for`]: then it is only widened. Does nothing for a blob that is not visible, and
    /// does not count as a touch. [`ErrorKind::InvalidInput`](registry_core::ErrorKind::InvalidInput) if there are no targets: that would be a deletion.
    async fn retarget(&self, digest: &Digest, retarget: &Retarget) -> Result<bool>;

    // ---- readers ----

    /// All placements of these blobs, in the order of (digest, zone).
    async fn placements(&self, digests: &[Digest]) -> Result<Vec<Placement>>;

    /// Notes what somebody saw of a copy. It may only lower trust: [`Sighting::Suspect`] makes a `Present` copy suspect and due at once;
    /// [`Sighting::Good`] moves the time at which a `Present` copy was verified, and changes nothing else; [`Sighting::Found`] makes one that is desired and
    /// `Unknown`, `Absent`, or `Deleting` with the fence past, suspect, so that it is verified and then trusted. Passed over when the generation moved on, or while somebody has it claimed.
    async fn observe(&self, digest: &Digest, zone: &ZoneId, generation: u64, sighting: &Sighting) -> Result<()>;

    /// Bytes of this blob may have come to this zone behind the ledger's back: a writer was overtaken by a deletion. If nobody wants them there they are
    /// deleted (once more): a placement that is absent as desired, or none at all, becomes `Unknown` and due; one that is being deleted gets
    /// another generation, and is deleted again when that is over. Nothing happens to one that is desired present, or is about to be deleted anyhow.
    async fn stray(&self, digest: &Digest, zone: &ZoneId) -> Result<()>;

    // ---- workers ----

    /// Takes up to [`Claim::limit`] pieces of work that are due in one zone, the longest due first.
    ///
    /// - desired present and `Unknown`, `Absent`, `Quarantined`, or `Deleting` with the fence past: [`TaskKind::Copy`], if another zone of
    ///   [`Claim::sources`] has a copy that [is a source](Placement::is_source);
    /// - desired present and `Suspect` or `Damaged`: [`TaskKind::Verify`];
    /// - desired absent and not known to be good, while a placement that is desired has no verified copy: [`TaskKind::Verify`], since it may be the only one
    ///   that the others can be made from;
    /// - desired absent and anything but `Absent`: [`TaskKind::Delete`], if either no placement of the blob is desired present any more, or every one that
    ///   is has a verified copy. The placement is `Deleting` from then on.
    ///
    /// What cannot be done now is looked at again after [`Claim::look_again`]. A claim gives fewer than `limit` only if no more can be done, or if it has
    /// looked at [`Claim::looks_at`] placements, so that thousands that cannot be done are passed by in no time, and a claim costs the same however many
    /// there are.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Task>>;

    /// Keeps a claim for another `lease`, and notes how far it is: whoever claims the placement after a crash goes on from the last `progress`
    /// (`None` leaves it as it is).
    ///
    /// [`ErrorKind::LeaseLost`](registry_core::ErrorKind::LeaseLost) if the claim is no longer the caller's, or, except for a delete, the generation
    /// moved on. A delete on its way cannot be recalled, so its fence can be kept up whatever is desired by now; but not taken up again once it is over.
    async fn renew(&self, task: &Task, lease: Duration, progress: Option<Bytes>) -> Result<()>;

    /// Says how a task ended. Returns how long the placement had been waiting to become what it is now.
    ///
    /// [`ErrorKind::LeaseLost`](registry_core::ErrorKind::LeaseLost) as for [`renew`](Self::renew); then nothing is changed but that the worker has let go
    /// of the placement. The end of a delete is heard even if the generation moved on: after [`Outcome::Deleted`] the copy is `Absent`, and may be written
    /// again; or, if it is still not wanted, `Unknown`, and is deleted once more.
    ///
    /// [`ErrorKind::InvalidInput`](registry_core::ErrorKind::InvalidInput), and nothing is changed, if a delete is to have ended otherwise than by
    /// [`Outcome::Deleted`] or [`Outcome::Spared`], or something else by these.
    async fn complete(&self, task: &Task, outcome: &Outcome) -> Result<Duration>;

    /// Gives a task back because of `error`, to be done in `delay`. Counts as a failure. What was sent for it may still be on its way: a delete is not done
    /// again, and a copy not deleted, before the fence is past.
    ///
    /// [`ErrorKind::LeaseLost`](registry_core::ErrorKind::LeaseLost) if the claim is no longer the caller's. If only the generation moved on, the worker has
    /// let go of the placement, and that is all.
    async fn defer(&self, task: &Task, delay: Duration, error: &str) -> Result<()>;

    /// Gives a task back undone, to be done by somebody else at once: the worker has to stop. Not a failure; otherwise as [`defer`](Self::defer).
    async fn give_back(&self, task: &Task) -> Result<()>;

    /// Makes everything that failed due at once (in one zone, or all), and forgets how often it failed; returns how many there were.
    async fn replay(&self, zone: Option<&ZoneId>) -> Result<u64>;

    // ---- onlookers ----

    /// What is still to be done in each zone that has any of it. Costs what the backlog is long, not what is stored.
    async fn backlog(&self) -> Result<Vec<Backlog>>;

    /// What each zone has. Costs a pass over everything that is stored.
    async fn totals(&self) -> Result<Vec<Totals>>;

    /// Placements in the order of (shard of the digest, digest, zone), a page at a time.
    async fn list(&self, list: &ListPlacements) -> Result<Vec<Placement>>;

    /// Drops up to `limit` placements that are absent as desired since `keep` at least; returns how many.
    async fn tidy(&self, keep: Duration, limit: u32) -> Result<u32>;

    // ---- jobs ----

    /// Begins a job of this kind about this zone, at this [`marker`](Job::marker), unless one has not ended: then it is that one, as it is. Nobody has a new
    /// one yet. [`ErrorKind::NotFound`](registry_core::ErrorKind::NotFound) if the zone was removed.
    async fn begin_job(&self, kind: JobKind, zone: Option<&ZoneId>, marker: Bytes) -> Result<Job>;

    /// Takes up the oldest job that has not ended, that nobody has, and that is about one of these zones or about none; `None` if there is none such.
    async fn take_job(&self, zones: &[ZoneId], lease: Duration) -> Result<Option<Job>>;

    /// Notes how far a job is ([`done`](Job::done), [`total`](Job::total), [`note`](Job::note), [`counts`](Job::counts), [`marker`](Job::marker)), and keeps it
    /// for another `lease`. May be lost with the power.
    ///
    /// [`ErrorKind::LeaseLost`](registry_core::ErrorKind::LeaseLost) if it is no longer the caller's, or has ended.
    async fn save_job(&self, job: &Job, lease: Duration) -> Result<()>;

    /// The same, and gives the job back: in the state [`Open`](JobState::Open) for somebody else to go on with, in another one for good.
    async fn end_job(&self, job: &Job) -> Result<()>;

    /// Calls off the job of this kind about this zone that has not ended; whether there was one.
    async fn cancel_job(&self, kind: JobKind, zone: Option<&ZoneId>) -> Result<bool>;

    /// The jobs that have not ended, and then those that ended last, each newest first, `limit` at most. At least the last 100 are remembered.
    async fn jobs(&self, limit: u32) -> Result<Vec<Job>>;
}
