//! The conformance suite of [`PlacementLedger`].
//!
//! ```
//! use std::sync::Arc;
//! use registry_core::testing::ManualClock;
//! use replication::ledger::MemoryLedger;
//! use replication::testing::ledger;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! ledger::check(|| async {
//!     let clock = Arc::new(ManualClock::default());
//!     let store = MemoryLedger::with_clock(Arc::clone(&clock) as Arc<_>);
//!     let other = store.clone();
//!     ledger::Fixture::new(Arc::new(store), clock).with_reopen(move || {
//!         let other = other.clone();
//!         async move { Arc::new(other) as Arc<_> }
//!     })
//! })
//! .await;
//! # }
//! ```
//!
//! # What it does not decide
//!
//! It holds a ledger to the trait's documentation. Where that leaves room, cases keep away from the edge: time is moved past a limit or short of it, never
//! to it; whether condemning what is condemned begins the trash delay anew, and which of two errors at the same time is a zone's last, is not asked.

mod claiming;
mod condemning;
mod fencing;
mod intending;
mod jobs;
mod kit;
mod observing;
mod retargeting;
mod together;
mod watching;
mod working;
mod zones;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use registry_core::testing::{ManualClock, Report};

use crate::ledger::PlacementLedger;

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn PlacementLedger>> + Send + Sync>;

/// A ledger to be tested: empty, and used by nobody else.
#[must_use]
pub struct Fixture {
    ledger: Arc<dyn PlacementLedger>,
    clock: Arc<ManualClock>,
    reopen: Option<Reopen>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A ledger and the clock that it was built with.
    pub fn new(ledger: Arc<dyn PlacementLedger>, clock: Arc<ManualClock>) -> Self {
        Self { ledger, clock, reopen: None, kept: Vec::new() }
    }

    /// How another process opens the same database, with the same clock. Without this, one handle plays both processes.
    pub fn with_reopen<F, Fut>(mut self, reopen: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Arc<dyn PlacementLedger>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Keeps something, such as a temporary folder, until the case is over; it is dropped after the ledger's first handle.
    pub fn keeping(mut self, thing: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(thing));
        self
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// Runs every case, each on a fixture of its own.
///
/// # Panics
///
/// If a case fails.
pub async fn check<F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Fixture>,
{
    run(factory).await.assert_passed();
}

/// Runs every case, each on a fixture of its own, and says how each ended.
pub async fn run<F, Fut>(factory: F) -> Report
where
    F: Fn() -> Fut,
    Fut: Future<Output = Fixture>,
{
    run_only(CASES, factory).await
}

/// Names every case once, for [`run_only`] and [`CASES`].
macro_rules! cases {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        /// The names of all cases, in the order in which they run.
        pub const CASES: &[&str] = &[$($(stringify!($case)),+),+];

        /// Runs the cases of these names, each on a fixture of its own, and says how each ended.
        ///
        /// # Panics
        ///
        /// If there is no case of one of the names.
        pub async fn run_only<F, Fut>(names: &[&str], factory: F) -> Report
        where
            F: Fn() -> Fut,
            Fut: Future<Output = Fixture>,
        {
            if let Some(unknown) = names.iter().find(|name| !CASES.contains(name)) {
                panic!("there is no case {unknown}");
            }
            let mut report = Report::default();
            $($(if names.contains(&stringify!($case)) {
                let fixture = factory().await;
                let case = async move {
                    $module::$case(fixture).await;
                    None
                };
                report.run(stringify!($case), case).await;
            })+)+
            report
        }
    };
}

cases! {
    zones:
        zones_are_registered_once_and_again,
        a_zone_under_another_name_is_a_conflict,
        a_name_with_another_zone_is_a_conflict,
        a_zones_state_changes_from_what_it_is,
        what_an_active_zone_is_owed_is_due_at_once,
        only_what_is_safe_elsewhere_is_forgotten,
        what_a_worker_may_be_at_is_not_forgotten,
        what_was_forgotten_never_comes_back_under_its_generation,
        a_zone_is_removed_when_it_has_no_placement,
        nothing_is_placed_in_a_removed_zone;
    jobs:
        a_job_is_begun_once,
        a_job_is_one_processs_at_a_time,
        a_jobs_successor_goes_on_where_it_stood,
        a_job_that_has_ended_is_nobodys,
        a_job_is_called_off_whoever_has_it,
        jobs_that_have_not_ended_come_first,
        whatever_is_said_of_a_job_can_be_noted,
        the_last_hundred_jobs_are_remembered;
    intending:
        an_intent_makes_a_placement_in_each_target,
        intending_again_keeps_the_generation_and_touches,
        intending_for_more_zones_leaves_the_others,
        a_condemned_copy_is_taken_back_as_good_as_before,
        the_size_is_what_somebody_knew,
        touches_are_each_later,
        a_committed_copy_is_there,
        a_commit_wakes_the_others,
        a_commit_after_the_first_moves_no_others_waiting,
        a_commit_under_an_old_generation_is_a_conflict,
        a_commit_of_what_is_condemned_is_a_conflict,
        a_commit_of_what_is_unknown_is_a_conflict,
        committing_again_heals,
        a_commit_takes_the_work_from_whoever_has_it;
    condemning:
        a_condemned_blob_is_kept_for_the_trash_delay,
        a_blob_touched_since_is_not_condemned,
        a_blob_is_condemned_unseen_only_if_there_is_no_placement,
        what_is_unknown_is_condemned_in_each_zone,
        condemning_again_changes_no_generation,
        a_condemned_blob_goes_everywhere,
        what_was_absent_and_wanted_is_deleted_all_the_same;
    retargeting:
        retaining_widens_and_touches,
        a_blob_that_is_not_visible_is_not_retained,
        a_blob_moves_and_its_old_copy_goes_last,
        a_touched_blob_is_only_widened,
        retargeting_is_no_touch,
        a_blob_cannot_be_retargeted_to_nowhere,
        a_blob_that_is_not_visible_is_not_retargeted,
        retargeting_to_where_it_is_changes_nothing,
        a_copy_that_is_wanted_again_is_taken_back;
    observing:
        suspicion_lowers_trust,
        suspicion_of_what_is_not_trusted_is_passed_over,
        a_good_copy_was_verified_later_and_nothing_else,
        what_is_found_is_verified_before_it_is_trusted,
        what_is_found_and_not_desired_is_passed_over,
        sightings_under_an_old_generation_are_passed_over,
        sightings_of_what_is_claimed_are_passed_over,
        a_condemned_copy_under_suspicion_is_kept_as_long,
        a_copy_that_was_being_deleted_is_verified_if_the_others_turn_out_to_be_bad,
        a_doubted_copy_that_is_not_wanted_is_verified_if_the_others_are_to_come_from_it,
        what_is_found_after_a_dead_deleter_is_verified,
        stray_bytes_are_deleted,
        stray_bytes_are_deleted_after_the_delete_at_hand,
        stray_bytes_are_deleted_after_a_dead_deleter,
        stray_bytes_of_what_is_wanted_or_condemned_change_nothing;
    claiming:
        a_copy_is_claimed_where_a_source_can_be_read,
        a_suspect_is_claimed_without_a_source,
        an_unwanted_copy_waits_for_the_others_to_be_verified,
        the_longest_due_come_first,
        claims_are_limited_and_nobody_elses,
        what_cannot_be_done_is_looked_at_again_later,
        what_cannot_be_done_hides_nothing,
        a_claim_looks_at_a_few_only,
        a_vanished_workers_task_goes_to_another,
        the_last_progress_is_handed_on,
        progress_ends_with_its_task;
    working:
        a_copied_blob_is_there,
        a_copy_wakes_the_others,
        a_renewed_claim_holds_on,
        a_moved_generation_loses_the_lease,
        a_worker_that_lost_its_lease_changes_nothing,
        what_was_never_claimed_is_lost,
        a_task_that_is_given_back_has_not_failed,
        a_deferred_task_comes_again,
        a_verified_suspect_is_trusted_again,
        a_wrong_copy_is_quarantined_if_there_is_another,
        a_wrong_copy_that_is_the_last_is_kept,
        a_missing_copy_is_made_again,
        a_deleted_copy_is_absent,
        a_spared_copy_is_what_it_was,
        a_spared_copy_that_an_earlier_worker_may_have_deleted_is_none,
        a_spared_copy_that_is_wanted_again_is_kept,
        a_delete_ends_by_a_delete_only;
    fencing:
        nobody_writes_while_it_is_being_deleted,
        it_may_be_written_when_the_delete_is_done,
        it_may_be_written_when_nobody_can_be_deleting,
        a_delete_is_renewed_whatever_is_desired,
        a_delete_is_not_renewed_once_its_fence_is_over,
        a_deleter_that_is_late_takes_nothing_away,
        a_deferred_delete_keeps_its_fence,
        a_copy_after_a_dead_deleter_is_no_fence,
        a_copier_that_lost_keeps_the_deleter_away,
        a_copier_that_is_done_makes_way_for_the_deleter,
        a_copy_given_back_may_still_arrive,
        an_earlier_copier_keeps_the_deleter_away_as_well,
        a_copy_taken_back_waits_for_its_old_worker;
    watching:
        placements_come_in_order_and_once,
        the_backlog_is_what_is_to_be_done,
        the_backlog_tells_what_is_put_off,
        the_backlog_tells_how_long_it_waits,
        a_copy_in_the_trash_is_not_late,
        the_backlog_tells_the_last_error,
        what_failed_is_replayed,
        replaying_passes_no_fence,
        totals_count_what_is_there,
        placements_are_listed_in_order_of_shards,
        placements_are_listed_in_pages,
        only_what_failed_is_listed_if_asked,
        tidying_drops_what_is_gone,
        generations_and_touches_never_repeat;
    together:
        many_claimers_share_nothing,
        one_of_many_intents_makes_the_placement,
        writers_copiers_and_deleters_at_once_lose_nothing;
}
