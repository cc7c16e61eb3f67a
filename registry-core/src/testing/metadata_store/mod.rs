//! The conformance suite of [`MetadataStore`].
//!
//! ```
//! use std::sync::Arc;
//! use registry_core::memory::MemoryMetadataStore;
//! use registry_core::testing::{ManualClock, metadata_store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! metadata_store::check(|| async {
//!     let clock = Arc::new(ManualClock::default());
//!     let store = MemoryMetadataStore::with_clock(Arc::clone(&clock) as Arc<_>);
//!     let other = store.clone();
//!     metadata_store::Fixture::new(Arc::new(store), clock).with_reopen(move || {
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
//! It holds a store to the trait's documentation. Where that leaves room, cases keep away from the edge: time is moved well past a limit or well short of
//! it, a crashed deletion is looked for once its lease and half of it again are over, and cursors are only ever handed back. Two things it takes the
//! documentation to mean: a tag that is new points elsewhere than before, so that it is an [`EventKind::TagMoved`](crate::metadata::EventKind), and the tags
//! that go with their manifest are each an [`EventKind::TagDeleted`](crate::metadata::EventKind) after its own.

mod collecting;
mod deleting;
mod events;
mod holding;
mod kit;
mod linking;
mod listing;
mod manifests;
mod referrers;
mod together;
mod uploads;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_core::future::BoxFuture;

use crate::MetadataStore;
use crate::testing::{ManualClock, Report};

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn MetadataStore>> + Send + Sync>;

/// A store to be tested: empty, and used by nobody else.
#[must_use]
pub struct Fixture {
    store: Arc<dyn MetadataStore>,
    clock: Arc<ManualClock>,
    reopen: Option<Reopen>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    /// A store and the clock that it was built with.
    pub fn new(store: Arc<dyn MetadataStore>, clock: Arc<ManualClock>) -> Self {
        Self { store, clock, reopen: None, kept: Vec::new() }
    }

    /// How another process opens the same database, with the same clock. Without this, one handle plays both processes.
    pub fn with_reopen<F, Fut>(mut self, reopen: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Arc<dyn MetadataStore>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Keeps something, such as a temporary folder, until the case is over; it is dropped after the store's first handle.
    pub fn keeping(mut self, thing: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(thing));
        self
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
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
    linking:
        it_answers,
        a_blob_is_linked_under_the_generation_it_was_intended_with,
        only_the_repository_that_linked_a_blob_has_it,
        linking_without_intending_is_refused,
        an_old_generation_cannot_link_and_changes_nothing,
        linking_again_is_harmless,
        another_process_sees_what_was_done,
        a_blob_is_mounted_from_the_repository_that_has_it,
        a_blob_is_mounted_from_anywhere_if_nobody_says_where,
        what_the_named_repository_lacks_is_not_mounted_from_it,
        an_unlinked_blob_is_not_mounted,
        a_blob_being_deleted_is_not_mounted,
        a_suspect_blob_is_not_mounted,
        unlinking_takes_it_from_one_repository_only,
        relying_on_what_is_not_there_is_none,
        observations_are_remembered,
        observing_an_unknown_blob_is_passed_over,
        linking_new_bytes_clears_suspicion;
    deleting:
        a_bare_intent_is_kept_during_grace,
        a_linked_blob_is_never_condemned,
        a_manifest_is_never_condemned,
        only_the_named_blobs_are_condemned,
        a_condemned_blob_is_claimed_after_the_trash_delay,
        claims_are_limited_and_nobody_elses,
        a_blob_never_linked_is_deleted_with_size_zero,
        intending_brings_a_condemned_blob_back,
        linking_and_mounting_keep_a_blob_that_came_back,
        nobody_may_write_while_it_is_being_deleted,
        a_writer_older_than_the_claim_cannot_link,
        it_may_be_written_once_nobody_can_be_deleting,
        a_stale_claim_cannot_complete_and_the_new_row_stays,
        a_crashed_deletion_is_claimed_again_after_its_lease,
        a_renewed_claim_holds_on_and_a_stale_one_cannot_be_renewed,
        generations_never_repeat;
    collecting:
        a_link_nobody_relies_on_expires,
        relying_spares_a_link,
        relying_is_noted_at_most_so_often,
        mounting_counts_as_relying,
        links_that_a_manifest_needs_are_kept_however_old,
        what_a_manifest_may_lack_is_kept_where_it_is_held,
        another_repositorys_manifest_keeps_no_link,
        a_pushed_manifest_relies_on_its_blobs,
        what_a_deleted_manifest_needed_expires,
        a_sweep_of_links_visits_each_once,
        a_sweep_of_blobs_visits_each_once,
        the_preview_says_what_would_go_and_changes_nothing,
        the_preview_counts_what_is_condemned_already,
        tidying_forgets_empty_repositories;
    manifests:
        a_manifest_is_found_by_digest_and_by_tag,
        bytes_and_media_type_come_back_exactly,
        a_manifest_is_in_its_repository_only,
        everything_missing_is_named_at_once,
        a_blob_of_another_repository_is_missing,
        missing_children_are_named,
        a_manifest_may_stand_for_a_blob_but_no_blob_for_a_manifest,
        subject_and_optional_content_may_be_missing,
        pushing_again_changes_nothing,
        a_tag_moves_to_the_newest_manifest,
        an_old_generation_cannot_push_a_manifest,
        a_failed_push_changes_nothing,
        a_pushed_manifest_cannot_lose_its_blobs_to_a_sweep,
        deleting_a_manifest_takes_its_tags,
        deleting_a_manifest_leaves_the_other_repository_alone,
        a_deleted_tag_leaves_its_manifest,
        deleting_what_is_not_there_is_false;
    listing:
        tags_are_in_byte_order,
        tags_are_listed_in_pages,
        an_unknown_repository_has_no_list_of_tags,
        a_known_repository_may_have_no_tags,
        repositories_are_in_byte_order_and_pages,
        only_repositories_with_a_manifest_are_listed,
        manifests_are_listed_by_their_last_use_with_what_they_need,
        noting_a_use_moves_a_manifest_to_the_front,
        manifests_are_listed_by_use_in_pages;
    holding:
        holders_link_a_blob_or_have_it_as_a_manifest,
        who_let_go_of_a_blob_is_no_holder,
        held_blobs_are_listed_with_their_size_and_holders,
        held_blobs_are_listed_in_pages,
        what_nobody_holds_is_not_among_the_held,
        a_blob_is_unknown_as_long_as_it_has_no_row;
    referrers:
        referrers_are_listed_by_digest_with_all_they_tell,
        referrers_are_filtered_by_artifact_type,
        referrers_are_listed_in_pages,
        an_unknown_subject_has_no_referrers,
        a_deleted_referrer_is_gone,
        sha512_is_as_good_as_sha256;
    uploads:
        a_session_begins_empty,
        a_session_is_taken_over_where_it_stands,
        opening_raises_the_epoch,
        opening_elsewhere_tells_the_offset_and_changes_nothing,
        an_old_writer_cannot_save,
        a_session_is_seen_by_its_owner_only,
        a_cancelled_session_is_gone,
        an_unknown_session_is_unknown,
        linking_finishes_the_session_and_its_result_is_kept,
        an_old_writer_cannot_link,
        a_cancelled_session_cannot_link,
        a_stranger_cannot_link,
        idle_sessions_expire,
        finished_sessions_are_kept_for_a_while,
        sessions_expire_a_few_at_a_time,
        of_two_writers_only_one_can_save;
    events:
        events_tell_what_happened_in_order,
        a_moved_tag_is_an_event_and_an_unmoved_one_is_not,
        events_are_read_in_pages,
        a_failed_push_leaves_no_event,
        deleting_nothing_leaves_no_event,
        old_events_are_forgotten;
    together:
        writers_and_collectors_at_once_lose_nothing,
        manifests_and_sweeps_at_once_lose_nothing,
        one_of_many_claims_it;
}
