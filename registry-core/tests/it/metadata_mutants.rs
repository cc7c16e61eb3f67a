//! The suite catches stores that are wrong: each mutant breaks one rule of the contract, and a case that is named here has to notice. No case is without a
//! mutant that it fails for, so that none of them passes whatever the store does.
//!
//! A mutant is a decorator over the memory store: it does with the contract's own commands what a wrong store would do inside.

mod flaw;
mod mutant;

use std::collections::BTreeMap;

use registry_core::testing::Report;
use registry_core::testing::metadata_store::{self, CASES};

use self::flaw::Flaw;
use self::mutant::Mutant;

/// Every mutant, and the case that has to fail.
const CAUGHT_BY: &[(Flaw, &str)] = &[
    (Flaw::LinkIgnoresGeneration, "an_old_generation_cannot_link_and_changes_nothing"),
    (Flaw::LinkIgnoresGeneration, "a_writer_older_than_the_claim_cannot_link"),
    (Flaw::LinkIgnoresEpoch, "an_old_writer_cannot_link"),
    (Flaw::LinkLeavesUploadOpen, "linking_finishes_the_session_and_its_result_is_kept"),
    (Flaw::GenerationsRepeat, "generations_never_repeat"),
    (Flaw::IntendIgnoresDeleting, "nobody_may_write_while_it_is_being_deleted"),
    (Flaw::CompleteIgnoresGeneration, "a_stale_claim_cannot_complete_and_the_new_row_stays"),
    (Flaw::RenewDoesNothing, "a_renewed_claim_holds_on_and_a_stale_one_cannot_be_renewed"),
    (Flaw::CompleteIgnoresGeneration, "a_crashed_deletion_is_claimed_again_after_its_lease"),
    (Flaw::CondemnIgnoresLinks, "a_linked_blob_is_never_condemned"),
    (Flaw::CondemnIgnoresManifests, "a_manifest_is_never_condemned"),
    (Flaw::CondemnIgnoresGrace, "a_bare_intent_is_kept_during_grace"),
    (Flaw::ClaimIgnoresTrashDelay, "a_condemned_blob_is_claimed_after_the_trash_delay"),
    (Flaw::ClaimIgnoresOtherClaims, "claims_are_limited_and_nobody_elses"),
    (Flaw::ClaimIgnoresOtherClaims, "one_of_many_claims_it"),
    (Flaw::RelyIsNotNoted, "relying_spares_a_link"),
    (Flaw::RelyIsAlwaysNoted, "relying_is_noted_at_most_so_often"),
    (Flaw::SuspicionIsNotNoted, "observations_are_remembered"),
    (Flaw::UnlinkReachesEverywhere, "unlinking_takes_it_from_one_repository_only"),
    (Flaw::MountIgnoresFrom, "what_the_named_repository_lacks_is_not_mounted_from_it"),
    (Flaw::MountTakesSuspects, "a_suspect_blob_is_not_mounted"),
    (Flaw::MountMakesNoLink, "a_blob_is_mounted_from_the_repository_that_has_it"),
    (Flaw::MountMakesNoLink, "mounting_counts_as_relying"),
    (Flaw::OpenKeepsEpoch, "opening_raises_the_epoch"),
    (Flaw::OpenKeepsEpoch, "of_two_writers_only_one_can_save"),
    (Flaw::OpenIgnoresOffset, "opening_elsewhere_tells_the_offset_and_changes_nothing"),
    (Flaw::SaveIgnoresEpoch, "an_old_writer_cannot_save"),
    (Flaw::CancelKeepsSession, "a_cancelled_session_is_gone"),
    (Flaw::OwnerIsNotChecked, "a_session_is_seen_by_its_owner_only"),
    (Flaw::OwnerIsNotChecked, "a_stranger_cannot_link"),
    (Flaw::ExpiryIgnoresIdleTime, "idle_sessions_expire"),
    (Flaw::PutChecksNothing, "everything_missing_is_named_at_once"),
    (Flaw::PutChecksNothing, "a_blob_of_another_repository_is_missing"),
    (Flaw::PutChecksFirstAndWritesLater, "a_pushed_manifest_cannot_lose_its_blobs_to_a_sweep"),
    (Flaw::PutNamesOneMissing, "everything_missing_is_named_at_once"),
    (Flaw::PutIgnoresGeneration, "an_old_generation_cannot_push_a_manifest"),
    (Flaw::PutReliesOnNothing, "a_pushed_manifest_relies_on_its_blobs"),
    (Flaw::PutKeepsNoEdges, "links_that_a_manifest_needs_are_kept_however_old"),
    (Flaw::PutKeepsNoEdges, "what_a_manifest_may_lack_is_kept_where_it_is_held"),
    (Flaw::FailedPutMovesTags, "a_failed_push_changes_nothing"),
    (Flaw::FailedPutLeavesEvent, "a_failed_push_leaves_no_event"),
    (Flaw::DeletedManifestLeavesTags, "deleting_a_manifest_takes_its_tags"),
    (Flaw::TagsInDictionaryOrder, "tags_are_in_byte_order"),
    (Flaw::PagesBeginWithAfter, "tags_are_listed_in_pages"),
    (Flaw::PagesBeginWithAfter, "repositories_are_in_byte_order_and_pages"),
    (Flaw::EmptyRepositoriesAreListed, "only_repositories_with_a_manifest_are_listed"),
    (Flaw::ReferrersIgnoreFilter, "referrers_are_filtered_by_artifact_type"),
    (Flaw::SweepEndsAfterOnePage, "a_sweep_of_links_visits_each_once"),
    (Flaw::SweepEndsAfterOnePage, "a_sweep_of_blobs_visits_each_once"),
    (Flaw::SweepNeverEnds, "a_sweep_of_links_visits_each_once"),
    (Flaw::PreviewCollects, "the_preview_says_what_would_go_and_changes_nothing"),
    (Flaw::TidyForgetsAllEvents, "old_events_are_forgotten"),
    (Flaw::TidyForgetsNoRepository, "tidying_forgets_empty_repositories"),
    (Flaw::EventsIgnoreLimit, "events_are_read_in_pages"),
    (Flaw::UsedManifestsNeedNothing, "manifests_are_listed_by_their_last_use_with_what_they_need"),
    (Flaw::UsesAreNotNoted, "noting_a_use_moves_a_manifest_to_the_front"),
    (Flaw::PagesByUseGoByTheTimeAlone, "manifests_are_listed_by_use_in_pages"),
    (Flaw::PingFails, "it_answers"),
    (Flaw::SizesAre32Bits, "a_blob_is_linked_under_the_generation_it_was_intended_with"),
    (Flaw::LinksAreSharedByAll, "only_the_repository_that_linked_a_blob_has_it"),
    (Flaw::LinkIgnoresGeneration, "linking_without_intending_is_refused"),
    (Flaw::IntentsOustEachOther, "linking_again_is_harmless"),
    (Flaw::OtherHandleSeesNothing, "another_process_sees_what_was_done"),
    (Flaw::MountNeedsFrom, "a_blob_is_mounted_from_anywhere_if_nobody_says_where"),
    (Flaw::MountMakesItUp, "an_unlinked_blob_is_not_mounted"),
    (Flaw::MountMakesItUp, "a_blob_being_deleted_is_not_mounted"),
    (Flaw::RelyMakesLink, "relying_on_what_is_not_there_is_none"),
    (Flaw::ObservationMakesRow, "observing_an_unknown_blob_is_passed_over"),
    (Flaw::LinkKeepsSuspicion, "linking_new_bytes_clears_suspicion"),
    (Flaw::CondemnTakesAll, "only_the_named_blobs_are_condemned"),
    (Flaw::ClaimGuessesSize, "a_blob_never_linked_is_deleted_with_size_zero"),
    (Flaw::LinksNeverExpire, "a_link_nobody_relies_on_expires"),
    (Flaw::TagsIgnoreCase, "a_manifest_is_found_by_digest_and_by_tag"),
    (Flaw::BytesAreText, "bytes_and_media_type_come_back_exactly"),
    (Flaw::ManifestsAreSharedByAll, "a_manifest_is_in_its_repository_only"),
    (Flaw::PutRequiresAll, "subject_and_optional_content_may_be_missing"),
    (Flaw::PushingAgainConflicts, "pushing_again_changes_nothing"),
    (Flaw::TagsNeverMove, "a_tag_moves_to_the_newest_manifest"),
    (Flaw::DeletedTagTakesManifest, "a_deleted_tag_leaves_its_manifest"),
    (Flaw::DeletingIsAlwaysTrue, "deleting_what_is_not_there_is_false"),
    (Flaw::AnnotationsAreDropped, "referrers_are_listed_by_digest_with_all_they_tell"),
    (Flaw::ReferrersOfUnknownFail, "an_unknown_subject_has_no_referrers"),
    (Flaw::DeletedSubjectTakesReferrers, "a_deleted_referrer_is_gone"),
    (Flaw::ReferrersInOrderOfHash, "sha512_is_as_good_as_sha256"),
    (Flaw::AlgorithmIsForgotten, "a_session_begins_empty"),
    (Flaw::TokensAreText, "a_session_is_taken_over_where_it_stands"),
    (Flaw::ExpiryIgnoresLimit, "sessions_expire_a_few_at_a_time"),
    (Flaw::DeletingNothingIsTold, "deleting_nothing_leaves_no_event"),
    (Flaw::IntendLeavesCondemned, "intending_brings_a_condemned_blob_back"),
    (Flaw::CondemnIgnoresLinks, "linking_and_mounting_keep_a_blob_that_came_back"),
    (Flaw::FenceNeverEnds, "it_may_be_written_once_nobody_can_be_deleting"),
    (Flaw::EdgesHoldEverywhereForEver, "another_repositorys_manifest_keeps_no_link"),
    (Flaw::EdgesHoldEverywhereForEver, "what_a_deleted_manifest_needed_expires"),
    (Flaw::PreviewSkipsCondemned, "the_preview_counts_what_is_condemned_already"),
    (Flaw::PutIgnoresChildren, "missing_children_are_named"),
    (Flaw::BlobsStandForManifests, "a_manifest_may_stand_for_a_blob_but_no_blob_for_a_manifest"),
    (Flaw::DeletedInAllRepositories, "deleting_a_manifest_leaves_the_other_repository_alone"),
    (Flaw::UnknownRepositoriesAreEmpty, "an_unknown_repository_has_no_list_of_tags"),
    (Flaw::EmptyRepositoriesAreUnknown, "a_known_repository_may_have_no_tags"),
    (Flaw::ReferrersIgnoreAfter, "referrers_are_listed_in_pages"),
    (Flaw::SessionsBeginThemselves, "an_unknown_session_is_unknown"),
    (Flaw::LinkLeavesUploadOpen, "a_cancelled_session_cannot_link"),
    (Flaw::FinishedSessionsAreDropped, "finished_sessions_are_kept_for_a_while"),
    (Flaw::EventsComeNewestFirst, "events_tell_what_happened_in_order"),
    (Flaw::UnmovedTagsAreTold, "a_moved_tag_is_an_event_and_an_unmoved_one_is_not"),
    (Flaw::LinkIgnoresGeneration, "writers_and_collectors_at_once_lose_nothing"),
    (Flaw::GenerationsRepeat, "writers_and_collectors_at_once_lose_nothing"),
    (Flaw::IntendIgnoresDeleting, "writers_and_collectors_at_once_lose_nothing"),
    (Flaw::PutChecksFirstAndWritesLater, "manifests_and_sweeps_at_once_lose_nothing"),
    (Flaw::HoldersIgnoreManifests, "holders_link_a_blob_or_have_it_as_a_manifest"),
    (Flaw::HoldersAreNamedTwice, "holders_link_a_blob_or_have_it_as_a_manifest"),
    (Flaw::HoldersAreRemembered, "who_let_go_of_a_blob_is_no_holder"),
    (Flaw::UnheldBlobsAreUnknown, "a_blob_is_unknown_as_long_as_it_has_no_row"),
    (Flaw::HeldBlobsSkipManifests, "held_blobs_are_listed_with_their_size_and_holders"),
    (Flaw::HeldBlobsBeginWithAfter, "held_blobs_are_listed_in_pages"),
    (Flaw::HeldBlobsIgnoreLimit, "held_blobs_are_listed_in_pages"),
    (Flaw::UnheldBlobsAreListed, "what_nobody_holds_is_not_among_the_held"),
];

async fn run(flaw: Flaw, cases: &[&str]) -> Report {
    metadata_store::run_only(cases, || async { Mutant::fixture(flaw) }).await
}

#[tokio::test(flavor = "current_thread")]
async fn the_decorator_without_a_flaw_passes() {
    let report = run(Flaw::Nothing, CASES).await;
    report.assert_passed();
    assert_eq!(report.passed, CASES);
}

#[tokio::test(flavor = "current_thread")]
async fn every_mutant_is_caught_by_the_cases_that_are_about_its_flaw() {
    let mut by_flaw: BTreeMap<Flaw, Vec<&str>> = BTreeMap::new();
    for (flaw, case) in CAUGHT_BY {
        by_flaw.entry(*flaw).or_default().push(case);
    }
    let mut missed = Vec::new();
    for (flaw, cases) in by_flaw {
        let report = run(flaw, &cases).await;
        missed.extend(report.passed.iter().map(|case| format!("{flaw:?} passes {case}")));
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_case_fails_for_some_mutant() {
    let untried: Vec<_> = CASES.iter().filter(|case| CAUGHT_BY.iter().all(|(_, by)| by != *case)).collect();
    assert!(untried.is_empty(), "nothing shows that these can fail: {untried:#?}");
}
