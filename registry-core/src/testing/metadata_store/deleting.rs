//! From condemned to gone, and the fence that keeps writers and deleters apart.

use std::time::Duration;

use super::Fixture;
use super::kit::{GRACE, LEASE, MINUTE, SECOND, TRASH, blob, fails, repo, set};
use crate::ErrorKind;
use crate::metadata::Deletion;

pub(super) async fn a_bare_intent_is_kept_during_grace(f: Fixture) {
    let digest = blob("layer");
    let generation = f.intend(&digest).await;
    f.pass(GRACE / 2);
    assert!(f.condemn().await.is_empty(), "its writer may still be at it");
    assert!(f.store.condemn(&[digest], GRACE).await.expect("condemn").is_empty());
    f.store.link_blob(Fixture::link_of("team/app", &digest, generation)).await.expect("the writer was slow, not late");
    // A second intent is as good as a first.
    let other = blob("another layer");
    f.intend(&other).await;
    f.pass(GRACE - MINUTE);
    f.intend(&other).await;
    f.pass(GRACE / 2);
    assert!(f.condemn().await.is_empty(), "it was intended again not long ago");
    f.pass(GRACE);
    assert_eq!(f.condemn().await, set([other]));
}

pub(super) async fn a_linked_blob_is_never_condemned(f: Fixture) {
    let digest = f.push("one", "layer").await;
    f.link("two", &digest).await;
    f.pass(GRACE * 10);
    assert!(f.condemn().await.is_empty());
    assert!(f.store.condemn(&[digest], Duration::ZERO).await.expect("condemn").is_empty());
    assert!(f.unlink("one", &digest).await);
    f.pass(GRACE * 10);
    assert!(f.condemn().await.is_empty(), "two still has it");
    assert!(f.store.condemn(&[digest], Duration::ZERO).await.expect("condemn").is_empty());
    assert!(f.unlink("two", &digest).await);
    f.pass(GRACE * 10);
    assert_eq!(f.condemn().await, set([digest]));
    assert!(f.condemn().await.is_empty(), "it is condemned already");
}

pub(super) async fn a_manifest_is_never_condemned(f: Fixture) {
    let digest = f.put_tagged("one", "image", &[]).await;
    f.put_tagged("two", "image", &[]).await;
    f.pass(GRACE * 10);
    assert!(f.condemn().await.is_empty());
    assert!(f.store.condemn(&[digest], Duration::ZERO).await.expect("condemn").is_empty());
    assert!(f.delete_manifest("one", &digest).await);
    f.pass(GRACE * 10);
    assert!(f.condemn().await.is_empty(), "two still has it");
    assert!(f.delete_manifest("two", &digest).await);
    f.pass(GRACE + SECOND);
    assert_eq!(f.condemn().await, set([digest]), "its bytes are a blob like any other now");
}

pub(super) async fn only_the_named_blobs_are_condemned(f: Fixture) {
    let [one, two] = [blob("one"), blob("two")];
    f.intend(&one).await;
    f.intend(&two).await;
    f.pass(GRACE + SECOND);
    let condemned = f.store.condemn(&[one, blob("unknown")], GRACE).await.expect("condemn");
    assert_eq!(condemned, [one]);
    assert!(f.store.condemn(&[], GRACE).await.expect("condemn").is_empty());
    assert_eq!(f.condemn().await, set([two]), "the other was left for the sweep");
}

pub(super) async fn a_condemned_blob_is_claimed_after_the_trash_delay(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    assert!(f.unlink("team/app", &digest).await);
    f.pass(GRACE + SECOND);
    assert!(f.claim().await.is_empty(), "nobody condemned it");
    assert_eq!(f.condemn().await, set([digest]));
    f.pass(TRASH - MINUTE);
    assert!(f.claim().await.is_empty(), "it can be brought back for another minute");
    f.pass(MINUTE + SECOND);
    let claimed = f.claim().await;
    assert_eq!(claimed.iter().map(|d| (d.digest, d.size)).collect::<Vec<_>>(), [(digest, 7)]);
    f.store.complete_deletion(&claimed[0]).await.expect("complete_deletion");
    f.pass(GRACE * 2);
    assert!(f.condemn().await.is_empty() && f.claim().await.is_empty(), "there is nothing left");
}

pub(super) async fn claims_are_limited_and_nobody_elses(f: Fixture) {
    let digests: Vec<_> = (0..5).map(|n| blob(&format!("layer {n}"))).collect();
    for digest in &digests {
        f.intend(digest).await;
    }
    f.pass(GRACE + SECOND);
    f.condemn().await;
    f.pass(TRASH + SECOND);
    let other = f.other().await;
    let mut claimed = Vec::new();
    for expected in [2, 2, 1, 0] {
        let page = other.claim_deletions(TRASH, LEASE, 2).await.expect("claim_deletions");
        assert_eq!(page.len(), expected);
        claimed.extend(page.into_iter().map(|deletion| deletion.digest));
    }
    claimed.sort();
    let mut expected = digests;
    expected.sort();
    assert_eq!(claimed, expected);
    assert!(f.store.claim_deletions(TRASH, LEASE, 0).await.expect("claim_deletions").is_empty());
}

pub(super) async fn a_blob_never_linked_is_deleted_with_size_zero(f: Fixture) {
    let digest = blob("never arrived");
    f.intend(&digest).await;
    assert_eq!(f.claim_one(&digest).await.size, 0);
}

pub(super) async fn intending_brings_a_condemned_blob_back(f: Fixture) {
    let digest = blob("layer");
    f.intend(&digest).await;
    f.pass(GRACE + SECOND);
    assert_eq!(f.condemn().await, set([digest]));
    f.intend(&digest).await;
    f.pass(TRASH + SECOND);
    assert!(f.claim().await.is_empty(), "it is live again");
    assert!(f.condemn().await.is_empty(), "and was touched not long ago");
    f.pass(GRACE);
    assert_eq!(f.condemn().await, set([digest]), "it has to be condemned anew");
    assert!(f.claim().await.is_empty(), "and the trash delay begins anew");
}

pub(super) async fn linking_and_mounting_keep_a_blob_that_came_back(f: Fixture) {
    let digest = f.push("one", "layer").await;
    assert!(f.unlink("one", &digest).await);
    f.pass(GRACE + SECOND);
    assert_eq!(f.condemn().await, set([digest]));
    f.link("two", &digest).await;
    assert!(f.mount(Some("two"), "three", &digest).await.is_some());
    assert!(f.unlink("two", &digest).await);
    f.pass(GRACE * 2);
    assert!(f.claim().await.is_empty(), "three holds it");
    assert!(f.condemn().await.is_empty());
    assert!(f.has("three", &digest).await);
}

pub(super) async fn nobody_may_write_while_it_is_being_deleted(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    assert!(f.unlink("team/app", &digest).await);
    f.claim_one(&digest).await;
    for store in [&f.store, &f.other().await] {
        let error = fails(store.intend_blob(&digest).await, ErrorKind::Unavailable);
        assert!(error.is_retryable());
        assert!(error.retry_after().is_some_and(|wait| !wait.is_zero()), "it says when to come back: {:?}", error.retry_after());
    }
    f.pass(LEASE - SECOND);
    fails(f.store.intend_blob(&digest).await, ErrorKind::Unavailable);
    f.intend(&blob("another layer")).await;
}

pub(super) async fn a_writer_older_than_the_claim_cannot_link(f: Fixture) {
    let digest = blob("layer");
    let old = f.intend(&digest).await;
    let claim = f.claim_one(&digest).await;
    fails(f.store.link_blob(Fixture::link_of("team/app", &digest, old)).await, ErrorKind::Conflict);
    f.store.complete_deletion(&claim).await.expect("complete_deletion");
    fails(f.store.link_blob(Fixture::link_of("team/app", &digest, old)).await, ErrorKind::Conflict);
    assert!(!f.has("team/app", &digest).await, "its bytes are gone");
    // The same for a manifest's bytes.
    let manifest = f.manifest("team/app", "image").await;
    let claim = f.claim_one(&manifest.digest).await;
    fails(f.store.put_manifest(manifest.clone()).await, ErrorKind::Conflict);
    f.store.complete_deletion(&claim).await.expect("complete_deletion");
    fails(f.store.put_manifest(manifest.clone()).await, ErrorKind::Conflict);
    assert!(!f.has_manifest("team/app", &manifest.digest).await);
}

pub(super) async fn it_may_be_written_once_nobody_can_be_deleting(f: Fixture) {
    // When the deletion ended.
    let digest = f.push("team/app", "layer").await;
    assert!(f.unlink("team/app", &digest).await);
    let claim = f.claim_one(&digest).await;
    f.store.complete_deletion(&claim).await.expect("complete_deletion");
    f.link("team/app", &digest).await;
    assert!(f.has("team/app", &digest).await);
    // When whoever had claimed it must have given up.
    let digest = blob("another layer");
    f.intend(&digest).await;
    let claim = f.claim_one(&digest).await;
    f.pass(LEASE + LEASE / 2 + SECOND);
    let generation = f.intend(&digest).await;
    assert!(generation > claim.generation, "{generation} is not behind the claim's {}", claim.generation);
    assert!(f.claim().await.is_empty(), "it is live again, and not up for deletion");
    f.store.link_blob(Fixture::link_of("team/app", &digest, generation)).await.expect("link_blob");
}

pub(super) async fn a_stale_claim_cannot_complete_and_the_new_row_stays(f: Fixture) {
    let digest = blob("layer");
    f.intend(&digest).await;
    let stale = f.claim_one(&digest).await;
    f.pass(LEASE + LEASE / 2 + SECOND);
    let generation = f.intend(&digest).await;
    fails(f.store.complete_deletion(&stale).await, ErrorKind::Conflict);
    f.store.link_blob(Fixture::link_of("team/app", &digest, generation)).await.expect("the row is still there");
    fails(f.store.complete_deletion(&stale).await, ErrorKind::Conflict);
    assert!(f.store.blob_link(&repo("team/app"), &digest).await.expect("blob_link").is_some());
}

pub(super) async fn a_crashed_deletion_is_claimed_again_after_its_lease(f: Fixture) {
    let digest = f.push("team/app", "layer").await;
    assert!(f.unlink("team/app", &digest).await);
    let crashed = f.claim_one(&digest).await;
    f.pass(LEASE / 2);
    assert!(f.claim().await.is_empty(), "its claim still holds");
    // Past the lease, and the half that a late delete may still take.
    f.pass(LEASE + SECOND);
    let other = f.other().await;
    let claimed = other.claim_deletions(TRASH, LEASE, 10).await.expect("claim_deletions");
    assert_eq!(claimed.iter().map(|d| (d.digest, d.size)).collect::<Vec<_>>(), [(digest, 7)]);
    assert!(claimed[0].generation > crashed.generation);
    fails(f.store.complete_deletion(&crashed).await, ErrorKind::Conflict);
    // The fence counts from the second claim.
    f.pass(LEASE - SECOND);
    fails(f.store.intend_blob(&digest).await, ErrorKind::Unavailable);
    other.complete_deletion(&claimed[0]).await.expect("complete_deletion");
    f.intend(&digest).await;
}

pub(super) async fn a_renewed_claim_holds_on_and_a_stale_one_cannot_be_renewed(f: Fixture) {
    let digest = blob("layer");
    f.intend(&digest).await;
    let claim = f.claim_one(&digest).await;
    f.pass(LEASE);
    f.store.renew_deletion(&claim, LEASE).await.expect("renew_deletion");
    f.pass(LEASE + LEASE / 4);
    fails(f.store.intend_blob(&digest).await, ErrorKind::Unavailable);
    assert!(f.claim().await.is_empty(), "its claim still holds");
    f.pass(LEASE);
    f.intend(&digest).await;
    fails(f.store.renew_deletion(&claim, LEASE).await, ErrorKind::Conflict);
    fails(f.store.renew_deletion(&Deletion { digest: blob("never was"), size: 0, generation: 1 }, LEASE).await, ErrorKind::Conflict);
}

pub(super) async fn generations_never_repeat(f: Fixture) {
    let digest = blob("layer");
    let mut newest = None;
    for round in 0..3 {
        // A store may make generations of the time in milliseconds.
        f.pass(SECOND);
        let intended = f.intend(&digest).await;
        assert!(Some(intended) > newest, "round {round}: {intended} after {newest:?}");
        let claim = f.claim_one(&digest).await;
        assert!(claim.generation > intended, "round {round}: {claim:?} after {intended}");
        f.store.complete_deletion(&claim).await.expect("complete_deletion");
        fails(f.store.link_blob(Fixture::link_of("team/app", &digest, intended)).await, ErrorKind::Conflict);
        newest = Some(claim.generation);
    }
}
