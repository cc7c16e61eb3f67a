//! Uploads that are put aside and taken up elsewhere, and writers that do not know that they were replaced.

use bytes::Bytes;

use super::kit::{EDGES, begin, blob, blob512, content, holds, joined, lacks, odd_chunks, ok, refused, staged, staged_ids, write};
use super::{Case, Fixture, cases};
use crate::blob::{BlobStore, BlobUpload, ResumeOptions, UploadToken, WriteOptions};
use crate::{Algorithm, Digest, ErrorKind};

pub(super) const CASES: &[Case] = cases![Resume:
    an_upload_goes_on_where_it_was_left,
    an_upload_goes_on_in_another_process,
    an_upload_may_be_put_aside_at_any_offset,
    an_upload_may_be_put_aside_before_its_first_byte,
    a_large_upload_goes_on_from_hand_to_hand,
    a_commit_may_follow_a_resume_at_once,
    a_token_survives_encoding,
    a_suspended_upload_is_inert,
    an_unreadable_midstate_is_no_obstacle,
    sha512_goes_on_from_a_token,
    a_resumed_upload_may_name_another_algorithm,
    a_wrong_digest_after_a_resume_is_refused,
    an_upload_with_a_wrong_digest_can_be_put_aside,
    bytes_behind_the_token_are_dropped,
    a_late_writer_changes_nothing,
    a_late_commit_changes_nothing,
    a_late_abort_changes_nothing,
    an_older_epoch_is_refused,
    a_resume_after_discard_is_unknown,
    a_resume_after_abort_is_unknown,
    a_resume_after_commit_is_unknown,
    a_commit_after_a_resume_can_be_repeated,
];

async fn resume(store: &dyn BlobStore, token: &UploadToken, epoch: u64) -> Box<dyn BlobUpload> {
    let upload = ok(&format!("resume as epoch {epoch}"), store.resume(ResumeOptions::new(token.clone(), epoch)).await);
    assert_eq!(upload.offset(), token.offset, "a resumed upload stands where it was suspended");
    upload
}

/// Suspends the upload, which has `offset` bytes.
async fn suspend(upload: &mut dyn BlobUpload, offset: usize) -> UploadToken {
    let token = ok("suspend", upload.suspend().await);
    assert_eq!(token.offset, offset as u64, "a token tells how many bytes are staged");
    token
}

/// An upload of epoch 1 with these bytes, suspended.
async fn suspended(store: &dyn BlobStore, bytes: &Bytes) -> UploadToken {
    let mut upload = begin(store).await;
    write(&mut *upload, bytes).await;
    suspend(&mut *upload, bytes.len()).await
}

async fn commit(mut upload: Box<dyn BlobUpload>, content: &Bytes) -> (Digest, Bytes) {
    let blob = (Digest::sha256(content), content.clone());
    let info = ok("commit of a resumed upload", upload.commit(&blob.0).await);
    assert_eq!(info.size, content.len() as u64, "a commit answers with the size of all parts");
    blob
}

async fn an_upload_goes_on_where_it_was_left(f: &Fixture) {
    let (first, second) = (content(1, 70_001), content(2, 30_011));
    let token = suspended(&*f.store, &first).await;
    let mut upload = resume(&*f.store, &token, 2).await;
    write(&mut *upload, &second).await;
    let blob = commit(upload, &joined(&[&first, &second])).await;
    holds(&*f.store, &blob).await;
}

async fn an_upload_goes_on_in_another_process(f: &Fixture) {
    let (first, second) = (content(1, 70_001), content(2, 30_011));
    let token = suspended(&*f.store, &first).await;
    let other = f.reopened().await;
    let mut upload = resume(&*other, &token, 2).await;
    write(&mut *upload, &second).await;
    let blob = commit(upload, &joined(&[&first, &second])).await;
    holds(&*other, &blob).await;
    holds(&*f.store, &blob).await;
}

async fn an_upload_may_be_put_aside_at_any_offset(f: &Fixture) {
    for (seed, len) in (0..).zip(EDGES) {
        let (first, second) = (content(seed, len), content(seed + 100, 1000));
        let token = suspended(&*f.store, &first).await;
        let mut upload = resume(&*f.store, &token, 2).await;
        write(&mut *upload, &second).await;
        let blob = commit(upload, &joined(&[&first, &second])).await;
        holds(&*f.store, &blob).await;
    }
}

async fn an_upload_may_be_put_aside_before_its_first_byte(f: &Fixture) {
    let token = suspend(&mut *begin(&*f.store).await, 0).await;
    let token = suspend(&mut *resume(&*f.reopened().await, &token, 2).await, 0).await;
    let blob = blob(1, 1000);
    let mut upload = resume(&*f.reopened().await, &token, 3).await;
    write(&mut *upload, &blob.1).await;
    commit(upload, &blob.1).await;
    holds(&*f.store, &blob).await;

    let token = suspend(&mut *begin(&*f.store).await, 0).await;
    let empty = commit(resume(&*f.store, &token, 2).await, &Bytes::new()).await;
    holds(&*f.store, &empty).await;
}

async fn a_large_upload_goes_on_from_hand_to_hand(f: &Fixture) {
    let blob = blob(1, f.large_size);
    let mut upload = begin(&*f.store).await;
    let parts = 7;
    for n in 0..parts {
        let part = blob.1.slice(f.large_size * n / parts..f.large_size * (n + 1) / parts);
        for chunk in odd_chunks(&part) {
            write(&mut *upload, &chunk).await;
        }
        let token = suspend(&mut *upload, f.large_size * (n + 1) / parts).await;
        let store = if n % 2 == 0 { f.reopened().await } else { super::kit::shared(f) };
        upload = resume(&*store, &token, n as u64 + 2).await;
    }
    lacks(&*f.store, &blob.0, "before the commit").await;
    commit(upload, &blob.1).await;
    holds(&*f.store, &blob).await;
}

async fn a_commit_may_follow_a_resume_at_once(f: &Fixture) {
    for len in [1, 70_000, f.large_size] {
        let bytes = content(len as u64, len);
        let token = suspended(&*f.store, &bytes).await;
        let blob = commit(resume(&*f.reopened().await, &token, 2).await, &bytes).await;
        holds(&*f.store, &blob).await;
    }
}

async fn a_token_survives_encoding(f: &Fixture) {
    let (first, second) = (content(1, 70_001), content(2, 30_011));
    let token = suspended(&*f.store, &first).await;
    let encoded = ok("encoding a token", token.encode());
    assert!(encoded.len() <= UploadToken::MAX_LEN, "a token has at most 64 KiB");
    let decoded = ok("decoding a token", UploadToken::decode(&encoded));
    assert_eq!(decoded, token, "a token is the same after encoding");
    let mut upload = resume(&*f.reopened().await, &decoded, 2).await;
    write(&mut *upload, &second).await;
    let blob = commit(upload, &joined(&[&first, &second])).await;
    holds(&*f.store, &blob).await;
}

async fn a_suspended_upload_is_inert(f: &Fixture) {
    let bytes = content(1, 70_000);
    let digest = Digest::sha256(&bytes);
    let mut old = begin(&*f.store).await;
    write(&mut *old, &bytes).await;
    let token = suspend(&mut *old, 70_000).await;
    refused("a write after suspend", ErrorKind::Conflict, old.write(content(2, 10)).await);
    refused("a commit after suspend", ErrorKind::Conflict, old.commit(&digest).await);
    refused("a second suspend", ErrorKind::Conflict, old.suspend().await);
    assert_eq!(old.offset(), 70_000, "a suspended upload still tells its offset");
    lacks(&*f.store, &digest, "after a commit that was refused").await;
    let blob = commit(resume(&*f.store, &token, 2).await, &bytes).await;
    holds(&*f.store, &blob).await;
}

async fn an_unreadable_midstate_is_no_obstacle(f: &Fixture) {
    for len in [0, 70_001, f.large_size] {
        let (first, second) = (content(len as u64, len), content(2, 30_011));
        let mut token = suspended(&*f.store, &first).await;
        token.midstate = Bytes::from_static(b"not a midstate");
        let mut upload = resume(&*f.reopened().await, &token, 2).await;
        write(&mut *upload, &second).await;
        let blob = commit(upload, &joined(&[&first, &second])).await;
        holds(&*f.store, &blob).await;
    }
}

async fn sha512_goes_on_from_a_token(f: &Fixture) {
    let blob = blob512(1, 100_000);
    let mut upload = ok("begin", f.store.begin(WriteOptions::default().with_algorithm(Algorithm::Sha512).with_epoch(1)).await);
    write(&mut *upload, &blob.1.slice(..33_333)).await;
    let token = suspend(&mut *upload, 33_333).await;
    let mut upload = resume(&*f.reopened().await, &token, 2).await;
    write(&mut *upload, &blob.1.slice(33_333..)).await;
    ok("commit as sha512 of a resumed upload", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn a_resumed_upload_may_name_another_algorithm(f: &Fixture) {
    let blob = blob512(1, f.large_size);
    let half = f.large_size / 2;
    let token = suspended(&*f.store, &blob.1.slice(..half)).await;
    let mut upload = resume(&*f.reopened().await, &token, 2).await;
    write(&mut *upload, &blob.1.slice(half..)).await;
    ok("commit as sha512 of a resumed upload that did not announce it", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn a_wrong_digest_after_a_resume_is_refused(f: &Fixture) {
    let (first, second) = (content(1, 70_001), content(2, 30_011));
    let token = suspended(&*f.store, &first).await;
    let mut upload = resume(&*f.store, &token, 2).await;
    write(&mut *upload, &second).await;
    let whole = joined(&[&first, &second]);
    // The digests of a part are those that a store would take if it forgot the rest.
    for wrong in [Digest::sha256(&second), Digest::sha256(&first), Digest::of(Algorithm::Sha512, &second)] {
        refused("a commit under the digest of a part", ErrorKind::DigestInvalid, upload.commit(&wrong).await);
        lacks(&*f.store, &wrong, "after a commit with the wrong digest").await;
    }
    let blob = commit(upload, &whole).await;
    holds(&*f.store, &blob).await;
}

async fn an_upload_with_a_wrong_digest_can_be_put_aside(f: &Fixture) {
    let (first, second) = (content(1, 70_001), content(2, 10));
    let mut upload = begin(&*f.store).await;
    write(&mut *upload, &first).await;
    refused("a commit under another digest", ErrorKind::DigestInvalid, upload.commit(&Digest::sha256(b"another")).await);
    let token = suspend(&mut *upload, 70_001).await;
    let mut upload = resume(&*f.reopened().await, &token, 2).await;
    write(&mut *upload, &second).await;
    let blob = commit(upload, &joined(&[&first, &second])).await;
    holds(&*f.store, &blob).await;
}

async fn bytes_behind_the_token_are_dropped(f: &Fixture) {
    for (behind, after) in [(30_000, 10), (10, 30_000), (f.large_size, 1000), (500, 0)] {
        let (first, lost, second) = (content(1, 70_001), content(2, behind), content(3, after));
        let token = suspended(&*f.store, &first).await;
        // This writer's token is lost with its process, though all its bytes are stored.
        let mut lost_writer = resume(&*f.store, &token, 2).await;
        write(&mut *lost_writer, &lost).await;
        suspend(&mut *lost_writer, 70_001 + behind).await;
        drop(lost_writer);

        let mut upload = resume(&*f.reopened().await, &token, 3).await;
        write(&mut *upload, &second).await;
        let blob = commit(upload, &joined(&[&first, &second])).await;
        holds(&*f.store, &blob).await;
    }
}

/// Two writers of one upload: the older one does not know of the newer. Parts of this size.
struct Overtaken {
    first: Bytes,
    older: Box<dyn BlobUpload>,
    newer: Box<dyn BlobUpload>,
    token: UploadToken,
}

async fn overtaken(f: &Fixture) -> Overtaken {
    let first = content(1, 70_001);
    let token = suspended(&*f.store, &first).await;
    let mut older = resume(&*f.store, &token, 2).await;
    write(&mut *older, &content(2, 10_000)).await;
    let newer = resume(&*f.reopened().await, &token, 3).await;
    Overtaken { first, older, newer, token }
}

async fn a_late_writer_changes_nothing(f: &Fixture) {
    for size in [20_000, f.large_size / 2] {
        let Overtaken { first, mut older, mut newer, .. } = overtaken(f).await;
        let parts = [content(3, size), content(4, size), content(5, size)];
        let mut late = Ok(());
        for (n, part) in (10..).zip(&parts) {
            // Refused or taken in: what counts is what the newer one commits.
            if late.is_ok() {
                late = older.write(content(n, size)).await;
            }
            write(&mut *newer, part).await;
        }
        if late.is_ok() {
            drop(older.suspend().await);
        }
        let blob = commit(newer, &joined(&[&first, &parts[0], &parts[1], &parts[2]])).await;
        holds(&*f.store, &blob).await;
        drop(older);
        holds(&*f.store, &blob).await;
    }
}

async fn a_late_commit_changes_nothing(f: &Fixture) {
    let Overtaken { first, mut older, mut newer, .. } = overtaken(f).await;
    let second = content(3, 20_000);
    write(&mut *newer, &second).await;
    let late = joined(&[&first, &content(2, 10_000)]);
    let late = (Digest::sha256(&late), late);
    // It may succeed, since its bytes are what it says; it may not harm the newer one.
    match older.commit(&late.0).await {
        Ok(_) => holds(&*f.store, &late).await,
        Err(_) => lacks(&*f.store, &late.0, "after a late commit that failed").await,
    }
    let third = content(4, 20_000);
    write(&mut *newer, &third).await;
    let whole = joined(&[&first, &second, &third]);
    drop(older.commit(&Digest::sha256(&whole)).await);
    let blob = commit(newer, &whole).await;
    holds(&*f.store, &blob).await;
}

async fn a_late_abort_changes_nothing(f: &Fixture) {
    let Overtaken { first, older, mut newer, .. } = overtaken(f).await;
    let second = content(3, 20_000);
    write(&mut *newer, &second).await;
    drop(older.abort().await);
    let third = content(4, 20_000);
    write(&mut *newer, &third).await;
    let blob = commit(newer, &joined(&[&first, &second, &third])).await;
    holds(&*f.store, &blob).await;
}

async fn an_older_epoch_is_refused(f: &Fixture) {
    let Overtaken { first, mut newer, token, .. } = overtaken(f).await;
    let other = f.reopened().await;
    refused("a resume as an older epoch", ErrorKind::Conflict, other.resume(ResumeOptions::new(token.clone(), 2)).await);
    let second = content(3, 20_000);
    write(&mut *newer, &second).await;
    refused("a resume as an older epoch", ErrorKind::Conflict, f.store.resume(ResumeOptions::new(token.clone(), 2)).await);
    let newest = suspend(&mut *newer, 90_001).await;
    refused("a resume as an older epoch", ErrorKind::Conflict, other.resume(ResumeOptions::new(token, 2)).await);
    let blob = commit(resume(&*other, &newest, 4).await, &joined(&[&first, &second])).await;
    holds(&*f.store, &blob).await;
}

async fn a_resume_after_discard_is_unknown(f: &Fixture) {
    let token = suspended(&*f.store, &content(1, 70_001)).await;
    for id in staged_ids(f, "a suspended upload", 1).await {
        ok("discard", f.reopened().await.discard(&id).await);
    }
    refused("a resume of what was discarded", ErrorKind::UploadUnknown, f.store.resume(ResumeOptions::new(token, 2)).await);
}

async fn a_resume_after_abort_is_unknown(f: &Fixture) {
    let token = suspended(&*f.store, &content(1, 70_001)).await;
    ok("abort of a resumed upload", resume(&*f.store, &token, 2).await.abort().await);
    staged(f, "uploads after an abort", 0).await;
    let other = f.reopened().await;
    refused("a resume of what was aborted", ErrorKind::UploadUnknown, other.resume(ResumeOptions::new(token, 3)).await);

    let mut upload = begin(&*f.store).await;
    write(&mut *upload, &content(2, 70_001)).await;
    let token = suspend(&mut *upload, 70_001).await;
    ok("abort of a suspended upload", upload.abort().await);
    refused("a resume of what was aborted", ErrorKind::UploadUnknown, other.resume(ResumeOptions::new(token, 2)).await);
}

async fn a_resume_after_commit_is_unknown(f: &Fixture) {
    let bytes = content(1, 70_001);
    let token = suspended(&*f.store, &bytes).await;
    let blob = commit(resume(&*f.store, &token, 2).await, &bytes).await;
    let other = f.reopened().await;
    refused("a resume of what was committed", ErrorKind::UploadUnknown, other.resume(ResumeOptions::new(token, 3)).await);
    holds(&*f.store, &blob).await;
}

async fn a_commit_after_a_resume_can_be_repeated(f: &Fixture) {
    let bytes = content(1, f.large_size);
    let digest = Digest::sha256(&bytes);
    let token = suspended(&*f.store, &bytes).await;
    let mut upload = resume(&*f.reopened().await, &token, 2).await;
    ok("commit", upload.commit(&digest).await);
    ok("committing again what was committed", upload.commit(&digest).await);
    ok("aborting what was committed", upload.abort().await);
    holds(&*f.store, &(digest, bytes)).await;
}
