//! The suite of blob stores finds broken stores: each of these has one bug, and the case that has to see it is named.

mod broken;

use std::sync::Arc;

use registry_core::BlobStore;
use registry_core::testing::blob_store::{self, Fixture};

use self::broken::{Broken, Bug};

fn fixture(bug: Bug) -> Fixture {
    let store = Broken::new(bug);
    let first = store.clone();
    // Large enough here: what is broken is broken at any size, and some of these copy all they have with each chunk.
    Fixture::new(Arc::new(store)).with_large_size(300_007).with_reopen(move || {
        let other: Arc<dyn BlobStore> = Arc::new(first.in_another_process());
        async move { other }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_that_bugs_are_put_into_is_sound_without_one() {
    blob_store::check(|| async { fixture(Bug::None) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_is_seen_by_the_case_that_is_about_it() {
    let table: &[(Bug, &str)] = &[
        (Bug::CommitUnchecked, "a_commit_with_the_wrong_digest_leaves_nothing"),
        (Bug::PutUnchecked, "a_put_with_the_wrong_digest_leaves_nothing"),
        (Bug::PutVisibleEarly, "nothing_is_visible_while_a_put_runs"),
        (Bug::PutVisibleEarly, "a_dropped_put_leaves_nothing"),
        (Bug::UploadVisibleEarly, "nothing_is_visible_before_commit"),
        (Bug::TornPut, "a_failing_stream_leaves_nothing"),
        (Bug::StreamErrorIsTheEnd, "a_failing_stream_leaves_nothing"),
        (Bug::EmptyChunkIsTheEnd, "empty_chunks_do_no_harm"),
        (Bug::SizeUnchecked, "the_declared_size_of_a_put_is_checked"),
        (Bug::WrongDigestKills, "an_upload_survives_a_wrong_digest"),
        (Bug::CommitOnce, "a_commit_can_be_repeated"),
        (Bug::CommitOnce, "a_commit_after_a_resume_can_be_repeated"),
        (Bug::NoSha512Unannounced, "sha512_is_taken_in_every_way"),
        (Bug::ReplacesInTwoSteps, "readers_see_no_gap_while_a_blob_is_replaced"),
        (Bug::FailedPutDeletes, "a_failed_write_over_a_blob_leaves_it_alone"),
        (Bug::OneWriterOnly, "two_writers_of_one_blob_both_succeed"),
        (Bug::BeginStages, "an_upload_takes_no_room_before_its_first_byte"),
        (Bug::ShortRead, "a_put_of_any_size_reads_back"),
        (Bug::LongRead, "ranges_give_exactly_their_bytes"),
        (Bug::StatWrongSize, "a_put_of_any_size_reads_back"),
        (Bug::MissingIsInternal, "a_missing_blob_is_not_found"),
        (Bug::RangeOffByOne, "ranges_give_exactly_their_bytes"),
        (Bug::SuffixOffByOne, "ranges_give_exactly_their_bytes"),
        (Bug::RangeNotClamped, "ranges_are_clamped_to_the_end"),
        (Bug::RangeWithoutSize, "ranges_that_have_no_byte_name_the_size"),
        (Bug::RangeOfEmptySucceeds, "an_empty_blob_has_no_range"),
        (Bug::DeletesNothing, "a_deleted_blob_is_gone_at_once"),
        (Bug::DeleteOfMissingFails, "deleting_what_is_not_there_succeeds"),
        (Bug::DeletesTwins, "deleting_one_blob_leaves_the_others"),
        (Bug::CachesPerProcess, "a_second_process_sees_writes_and_deletes_at_once"),
        (Bug::ListMissesSha512, "a_list_has_sha512_beside_sha256"),
        (Bug::ListUnordered, "a_list_has_every_blob_once"),
        (Bug::ListRepeats, "a_list_has_every_blob_once"),
        (Bug::ListIgnoresShard, "a_list_of_a_shard_has_that_shard"),
        (Bug::ListIgnoresAfter, "a_list_after_a_digest_goes_on_behind_it"),
        (Bug::ListStopsEarly, "a_list_has_every_blob_once"),
        (Bug::ListShowsDeleted, "a_list_has_no_deleted_blob"),
        (Bug::ResumeKeepsBytes, "bytes_behind_the_token_are_dropped"),
        (Bug::LateWritesArrive, "a_late_writer_changes_nothing"),
        (Bug::LateAbortKills, "a_late_abort_changes_nothing"),
        (Bug::LateCommitKills, "a_late_commit_changes_nothing"),
        (Bug::OlderEpochAccepted, "an_older_epoch_is_refused"),
        (Bug::SuspendedWritable, "a_suspended_upload_is_inert"),
        (Bug::SuspendedCommits, "a_suspended_upload_is_inert"),
        (Bug::NeedsMidstate, "an_unreadable_midstate_is_no_obstacle"),
        (Bug::TokensPerProcess, "an_upload_goes_on_in_another_process"),
        (Bug::ResumeForgetsHash, "a_wrong_digest_after_a_resume_is_refused"),
        (Bug::ResumesAnything, "a_resume_after_discard_is_unknown"),
        (Bug::ResumesAnything, "a_resume_after_abort_is_unknown"),
        (Bug::ResumesAnything, "a_resume_after_commit_is_unknown"),
        (Bug::UploadsForgotten, "a_suspended_upload_is_staged_for_every_process"),
        (Bug::UploadsIgnoreTime, "uploads_go_by_when_they_were_last_written"),
        (Bug::UploadsKeepCommitted, "a_committed_upload_is_no_longer_staged"),
        (Bug::AbortKeeps, "an_aborted_upload_is_no_longer_staged"),
        (Bug::DiscardKeeps, "a_discarded_upload_is_no_longer_staged"),
        (Bug::DiscardsAll, "discarding_one_upload_leaves_the_others"),
        (Bug::DiscardOfMissingFails, "discarding_what_is_not_there_succeeds"),
        (Bug::DiscardDeletesBlob, "discarding_never_touches_a_committed_blob"),
        (Bug::NamedPutKeepsFirst, "a_named_object_is_put_and_deleted"),
        (Bug::NamedListUnordered, "named_objects_are_listed_by_prefix_in_order"),
        (Bug::NamedListByFolder, "named_objects_are_listed_by_prefix_in_order"),
        (Bug::NamesUnchecked, "names_that_are_none_are_refused"),
        (Bug::NamedUnlimited, "a_named_object_has_at_most_4_mib"),
        (Bug::NamedReplacedInTwoSteps, "a_named_object_is_replaced_as_a_whole"),
        (Bug::IdentityPerProcess, "the_identity_stays"),
        (Bug::IdentityPerProcess, "a_second_process_sees_named_objects"),
        (Bug::ReleaseDeletes, "hints_about_scopes_are_taken"),
        (Bug::CopiesAreNeverEnough, "copies_of_what_is_there_are_enough"),
        (Bug::NoCopiesAreTooFew, "copies_of_what_is_there_are_enough"),
        (Bug::ProbeLeavesBlob, "a_probe_succeeds_and_leaves_nothing"),
        (Bug::SaysItPresigns, "download_urls_are_there_if_the_store_says_so"),
        (Bug::SaysItHasNoNames, "named_objects_are_there_if_the_store_says_so"),
    ];
    let mut missed = Vec::new();
    for (bug, case) in table {
        let bug = *bug;
        let report = blob_store::run_case(case, || async move { fixture(bug) }).await;
        if !report.has_failed(case) {
            missed.push(format!("{bug:?} passes {case}"));
        }
        println!("{bug:?}: {report}");
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test]
async fn what_a_store_says_it_cannot_do_is_skipped_and_said() {
    let report = blob_store::run_case("an_upload_goes_on_where_it_was_left", || async { fixture(Bug::SaysItCannotResume) }).await;
    assert_eq!(report.skipped.len(), 1, "{report}");
    assert!(report.passed.is_empty() && report.failed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_fails_and_does_not_hang_the_suite() {
    let report = blob_store::run_case("a_missing_blob_is_not_found", || async { fixture(Bug::StatHangs) }).await;
    assert!(report.failed["a_missing_blob_is_not_found"].contains("not done within"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_a_hint_may_lag_and_must_catch_up() {
    let case = "a_list_has_every_blob_once";
    let report = blob_store::run_case(case, || async { fixture(Bug::HintCatchesUp) }).await;
    report.assert_passed();
    let report = blob_store::run_case(case, || async { fixture(Bug::HintNeverCatchesUp) }).await;
    assert!(report.has_failed(case), "{report}");
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let names = blob_store::case_names();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names.len() >= 60, "{} cases", names.len());
}
