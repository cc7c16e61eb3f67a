//! The suite catches ledgers that are wrong: each mutant breaks one rule of the contract, and the case that is named here has to notice.
//!
//! A mutant is a decorator over the ledger in memory: it does with the contract's own commands what a wrong ledger would do inside.

mod mutant;

use replication::testing::ledger;

use self::mutant::{Flaw, Mutant};

/// Every mutant, and a case that has to fail.
const CAUGHT_BY: &[(Flaw, &str)] = &[
    (Flaw::ZonesAreNeverInConflict, "a_zone_under_another_name_is_a_conflict"),
    (Flaw::ZonesAreNeverInConflict, "a_name_with_another_zone_is_a_conflict"),
    (Flaw::ActiveZonesGoOnWaiting, "what_an_active_zone_is_owed_is_due_at_once"),
    (Flaw::OtherHandleSeesNothing, "an_intent_makes_a_placement_in_each_target"),
    (Flaw::IntendChangesGeneration, "intending_again_keeps_the_generation_and_touches"),
    (Flaw::IntendChangesGeneration, "one_of_many_intents_makes_the_placement"),
    (Flaw::IntendHidesFence, "nobody_writes_while_it_is_being_deleted"),
    (Flaw::IntendHidesFence, "it_may_be_written_when_nobody_can_be_deleting"),
    (Flaw::IntendForgetsSize, "the_size_is_what_somebody_knew"),
    (Flaw::CommitIgnoresGeneration, "a_commit_under_an_old_generation_is_a_conflict"),
    (Flaw::CommitMakesItUp, "a_commit_of_what_is_condemned_is_a_conflict"),
    (Flaw::CommitMakesItUp, "a_commit_of_what_is_unknown_is_a_conflict"),
    (Flaw::CondemnIgnoresTouch, "a_blob_touched_since_is_not_condemned"),
    (Flaw::CondemnIgnoresTouch, "a_blob_is_condemned_unseen_only_if_there_is_no_placement"),
    (Flaw::CondemnIgnoresTrash, "a_condemned_blob_is_kept_for_the_trash_delay"),
    (Flaw::CondemnMakesNothing, "what_is_unknown_is_condemned_in_each_zone"),
    (Flaw::RetainRevives, "a_blob_that_is_not_visible_is_not_retained"),
    (Flaw::RetainIsNoTouch, "retaining_widens_and_touches"),
    (Flaw::RetargetIgnoresTouch, "a_touched_blob_is_only_widened"),
    (Flaw::RetargetToNowhereDeletes, "a_blob_cannot_be_retargeted_to_nowhere"),
    (Flaw::RetargetTouches, "retargeting_is_no_touch"),
    (Flaw::GoodRaisesTrust, "a_good_copy_was_verified_later_and_nothing_else"),
    (Flaw::FoundIsTrusted, "what_is_found_is_verified_before_it_is_trusted"),
    (Flaw::ObserveIgnoresGeneration, "sightings_under_an_old_generation_are_passed_over"),
    (Flaw::ClaimIgnoresSources, "a_copy_is_claimed_where_a_source_can_be_read"),
    (Flaw::ClaimIgnoresSources, "what_cannot_be_done_is_looked_at_again_later"),
    (Flaw::ClaimIgnoresLimit, "claims_are_limited_and_nobody_elses"),
    (Flaw::ClaimIgnoresLimit, "a_claim_looks_at_a_few_only"),
    (Flaw::ClaimLooksAgainAtOnce, "what_cannot_be_done_is_looked_at_again_later"),
    (Flaw::ClaimSharesTasks, "claims_are_limited_and_nobody_elses"),
    (Flaw::ClaimSharesTasks, "many_claimers_share_nothing"),
    (Flaw::ClaimForgetsProgress, "the_last_progress_is_handed_on"),
    (Flaw::ClaimForgetsEpoch, "a_vanished_workers_task_goes_to_another"),
    (Flaw::DeletesGoUnverified, "an_unwanted_copy_waits_for_the_others_to_be_verified"),
    (Flaw::DeletesGoUnverified, "a_blob_moves_and_its_old_copy_goes_last"),
    (Flaw::CopiersAreNoFence, "a_copier_that_lost_keeps_the_deleter_away"),
    (Flaw::RenewDoesNothing, "a_renewed_claim_holds_on"),
    (Flaw::RenewDoesNothing, "a_delete_is_renewed_whatever_is_desired"),
    (Flaw::RenewMindsTheGenerationOfDeletes, "a_delete_is_renewed_whatever_is_desired"),
    (Flaw::CompleteIgnoresGeneration, "a_moved_generation_loses_the_lease"),
    (Flaw::CompleteIgnoresGeneration, "a_worker_that_lost_its_lease_changes_nothing"),
    (Flaw::CompleteIgnoresLease, "a_vanished_workers_task_goes_to_another"),
    (Flaw::CompleteIgnoresLease, "what_was_never_claimed_is_lost"),
    (Flaw::MovedDeletesAreNotHeard, "it_may_be_written_when_the_delete_is_done"),
    (Flaw::WrongIsMissing, "a_wrong_copy_is_quarantined_if_there_is_another"),
    (Flaw::WrongIsMissing, "a_wrong_copy_that_is_the_last_is_kept"),
    (Flaw::SparedIsDeleted, "a_spared_copy_is_what_it_was"),
    (Flaw::SparedIsDeleted, "a_spared_copy_that_is_wanted_again_is_kept"),
    (Flaw::SparedIsTrusted, "a_spared_copy_that_an_earlier_worker_may_have_deleted_is_none"),
    (Flaw::StrayIsForgotten, "stray_bytes_are_deleted"),
    (Flaw::StrayIsForgotten, "stray_bytes_are_deleted_after_the_delete_at_hand"),
    (Flaw::StrayLosesTrust, "stray_bytes_of_what_is_wanted_or_condemned_change_nothing"),
    (Flaw::DeferIsForgotten, "a_deferred_task_comes_again"),
    (Flaw::GiveBackIsAFailure, "a_task_that_is_given_back_has_not_failed"),
    (Flaw::DeferEndsFence, "a_deferred_delete_keeps_its_fence"),
    (Flaw::ReplayIgnoresZone, "what_failed_is_replayed"),
    (Flaw::BacklogPutsNothingOff, "the_backlog_tells_what_is_put_off"),
    (Flaw::BacklogTakesAllForCopies, "the_backlog_is_what_is_to_be_done"),
    (Flaw::BacklogLagsInTheTrash, "a_copy_in_the_trash_is_not_late"),
    (Flaw::TotalsCountUnwanted, "totals_count_what_is_there"),
    (Flaw::ListInOrderOfDigests, "placements_are_listed_in_order_of_shards"),
    (Flaw::PagesBeginWithAfter, "placements_are_listed_in_pages"),
    (Flaw::ListIgnoresFailing, "only_what_failed_is_listed_if_asked"),
    (Flaw::PlacementsAsAsked, "placements_come_in_order_and_once"),
    (Flaw::TidyIgnoresKeep, "tidying_drops_what_is_gone"),
    (Flaw::TidyIgnoresLimit, "tidying_drops_what_is_gone"),
    (Flaw::GenerationsBeginAnew, "generations_and_touches_never_repeat"),
    (Flaw::BytesGoBeforeTheClaim, "writers_copiers_and_deleters_at_once_lose_nothing"),
    (Flaw::StatesChangeFromAnything, "a_zones_state_changes_from_what_it_is"),
    (Flaw::RegisteringChangesTheState, "a_zones_state_changes_from_what_it_is"),
    (Flaw::ForgetTakesTheLast, "only_what_is_safe_elsewhere_is_forgotten"),
    (Flaw::ForgetIgnoresTheState, "only_what_is_safe_elsewhere_is_forgotten"),
    (Flaw::RemoveForgetsPlacements, "a_zone_is_removed_when_it_has_no_placement"),
    (Flaw::RemovedZonesComeBack, "nothing_is_placed_in_a_removed_zone"),
    (Flaw::JobsAreBegunTwice, "a_job_is_begun_once"),
    (Flaw::JobsAreForAnyZone, "a_job_is_one_processs_at_a_time"),
    (Flaw::JobsAreShared, "a_job_is_one_processs_at_a_time"),
    (Flaw::SavedJobsForgetTheirMarker, "a_jobs_successor_goes_on_where_it_stood"),
    (Flaw::EndedJobsGoOn, "a_job_that_has_ended_is_nobodys"),
    (Flaw::CancelLeavesTheHolder, "a_job_is_called_off_whoever_has_it"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decorator_without_a_flaw_passes() {
    ledger::check(|| async { Mutant::fixture(Flaw::Nothing) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mutant_is_caught() {
    let mut survivors = Vec::new();
    for (flaw, case) in CAUGHT_BY {
        let report = ledger::run_only(&[case], || async { Mutant::fixture(*flaw) }).await;
        if !report.has_failed(case) {
            survivors.push((flaw, case));
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
    let named: std::collections::BTreeSet<_> = CAUGHT_BY.iter().map(|(flaw, _)| *flaw).collect();
    assert_eq!(named.len(), Flaw::COUNT, "each mutant is named once at least");
}
