//! Finding what is there: blobs by shard, uploads that nobody finished.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::kit::{
    END_OF_TIME, begin, blob, blob512, blobs_in_shard, content, holds, lists, ok, pending, put, read, staged, staged_ids, write,
};
use super::{Case, Fixture, cases};
use crate::blob::{ListOptions, ResumeOptions};
use crate::{Algorithm, Digest, ErrorKind, Timestamp};

pub(super) const CASES: &[Case] = cases![Nothing:
    a_new_store_lists_nothing,
    a_list_has_every_blob_once,
    a_list_has_sha512_beside_sha256,
    a_list_of_a_shard_has_that_shard,
    a_list_after_a_digest_goes_on_behind_it,
    a_list_has_no_deleted_blob,
    a_list_has_blobs_only,
    a_list_may_be_dropped_anywhere,
    discarding_what_is_not_there_succeeds,
    a_committed_upload_is_no_longer_staged,
];

/// Cases that need an upload which is certainly staged: a suspended one.
pub(super) const STAGED: &[Case] = cases![Resume:
    a_suspended_upload_is_staged_for_every_process,
    uploads_go_by_when_they_were_last_written,
    a_discarded_upload_is_no_longer_staged,
    an_aborted_upload_is_no_longer_staged,
    discarding_one_upload_leaves_the_others,
    discarding_never_touches_a_committed_blob,
];

type Blobs = Vec<(Digest, Bytes)>;

/// Blobs of three shards, in order: the first, the last and one between, sha256 and sha512 in each.
fn population() -> Blobs {
    let mut blobs = Vec::new();
    for shard in [0x00, 0x7f, 0xff] {
        blobs.extend(blobs_in_shard(shard, Algorithm::Sha256, 3));
        blobs.extend(blobs_in_shard(shard, Algorithm::Sha512, 2));
    }
    blobs.sort_by_key(|(digest, _)| (digest.shard(), *digest));
    blobs
}

/// Puts them in another order than they are listed in.
async fn populate(f: &Fixture) -> Blobs {
    let blobs = population();
    for start in 0..4 {
        for blob in blobs.iter().skip(start).step_by(4) {
            put(&*f.store, blob).await;
        }
    }
    blobs
}

fn all() -> ListOptions {
    ListOptions::default()
}

async fn a_new_store_lists_nothing(f: &Fixture) {
    lists(f, "a list of a new store", &all(), &[]).await;
    lists(f, "a shard of a new store", &all().with_shard(0xff), &[]).await;
    staged(f, "uploads of a new store", 0).await;
}

async fn a_list_has_every_blob_once(f: &Fixture) {
    let mut blobs: Blobs = (0..40).map(|n| blob(n, usize::try_from(n).unwrap_or(0) * 11)).collect();
    for blob in &blobs {
        put(&*f.store, blob).await;
    }
    put(&*f.store, &blobs[7]).await;
    blobs.sort_by_key(|(digest, _)| (digest.shard(), *digest));
    lists(f, "a list of all", &all(), &blobs.iter().collect::<Vec<_>>()).await;
}

async fn a_list_has_sha512_beside_sha256(f: &Fixture) {
    let blobs = populate(f).await;
    lists(f, "a list of all", &all(), &blobs.iter().collect::<Vec<_>>()).await;
}

async fn a_list_of_a_shard_has_that_shard(f: &Fixture) {
    let blobs = populate(f).await;
    for shard in [0x00, 0x01, 0x7f, 0x80, 0xff] {
        let expected: Vec<_> = blobs.iter().filter(|(digest, _)| digest.shard() == shard).collect();
        lists(f, &format!("a list of shard {shard:02x}"), &all().with_shard(shard), &expected).await;
    }
}

async fn a_list_after_a_digest_goes_on_behind_it(f: &Fixture) {
    let blobs = populate(f).await;
    for (n, (digest, _)) in blobs.iter().enumerate() {
        let behind: Vec<_> = blobs[n + 1..].iter().collect();
        lists(f, &format!("a list after {digest}"), &all().with_after(*digest), &behind).await;
        let in_shard: Vec<_> = behind.into_iter().filter(|(other, _)| other.shard() == digest.shard()).collect();
        lists(f, &format!("a list of its shard after {digest}"), &all().with_after(*digest).with_shard(digest.shard()), &in_shard).await;
    }
    // A digest that is not there is as good a place to go on from.
    let gone = blobs[7].0;
    ok("delete", f.store.delete(&gone).await);
    lists(f, "a list after a deleted blob", &all().with_after(gone), &blobs[8..].iter().collect::<Vec<_>>()).await;
    lists(f, "a shard before the one to go on behind", &all().with_after(blobs[7].0).with_shard(0), &[]).await;
}

async fn a_list_has_no_deleted_blob(f: &Fixture) {
    let blobs = populate(f).await;
    for (digest, _) in blobs.iter().step_by(2) {
        ok("delete", f.store.delete(digest).await);
    }
    let rest: Vec<_> = blobs.iter().skip(1).step_by(2).collect();
    lists(f, "a list after deletes", &all(), &rest).await;
}

async fn a_list_has_blobs_only(f: &Fixture) {
    let blob = blob(1, 1000);
    put(&*f.store, &blob).await;
    let mut upload = begin(&*f.store).await;
    write(&mut *upload, &content(2, f.large_size)).await;
    if let Some(named) = f.store.named() {
        ok("put of a named object", named.put("suite/object", Bytes::from_static(b"x")).await);
    }
    lists(f, "a list beside a staged upload and a named object", &all(), &[&blob]).await;
    if f.store.capabilities().resume {
        ok("suspend", upload.suspend().await);
        lists(f, "a list beside a suspended upload", &all(), &[&blob]).await;
    }
}

async fn a_list_may_be_dropped_anywhere(f: &Fixture) {
    use futures_util::StreamExt as _;

    let blobs = populate(f).await;
    for steps in 0..4 {
        let mut listed = f.store.list(all());
        for _ in 0..steps {
            if let Some(info) = listed.next().await {
                ok("an item of a list", info);
            }
        }
    }
    lists(f, "a list after some that were dropped", &all(), &blobs.iter().collect::<Vec<_>>()).await;
}

async fn discarding_what_is_not_there_succeeds(f: &Fixture) {
    let blob = blob(1, 1000);
    put(&*f.store, &blob).await;
    for id in [crate::random_id().as_str(), "no-such-upload", &blob.0.to_string(), &blob.0.hex()] {
        ok(&format!("discarding an upload {id} that is not there"), f.store.discard(id).await);
    }
    holds(&*f.store, &blob).await;
}

async fn a_committed_upload_is_no_longer_staged(f: &Fixture) {
    for blob in [blob(1, 0), blob(2, 1000), blob512(3, f.large_size)] {
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &blob.1).await;
        ok("commit", upload.commit(&blob.0).await);
        staged(f, "uploads after the commit", 0).await;
        drop(upload);
        // What a blob that is replaced leaves behind may be for the clean-up, which waits for its readers.
        ok("delete", f.store.delete(&blob.0).await);
        put(&*f.store, &blob).await;
        staged(f, "uploads after a put", 0).await;
    }
}

/// So many suspended uploads, some small and one large.
async fn suspend_some(f: &Fixture, count: u64) -> Vec<crate::UploadToken> {
    let mut tokens = Vec::new();
    for n in 0..count {
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &content(n, if n == 0 { f.large_size } else { 1000 })).await;
        tokens.push(ok("suspend", upload.suspend().await));
    }
    tokens
}

async fn a_suspended_upload_is_staged_for_every_process(f: &Fixture) {
    suspend_some(f, 3).await;
    let ids = staged_ids(f, "three suspended uploads", 3).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "each upload has an id of its own: {ids:?}");
    let mut seen = pending(&*f.store, END_OF_TIME).await;
    let mut seen_by_other = ids;
    seen.sort();
    seen_by_other.sort();
    assert_eq!(seen, seen_by_other, "every process lists the same uploads");
}

async fn uploads_go_by_when_they_were_last_written(f: &Fixture) {
    use futures_util::TryStreamExt as _;

    suspend_some(f, 2).await;
    staged(f, "two suspended uploads", 2).await;
    let long_ago = pending(&*f.store, Timestamp::from_millis(1_000)).await;
    assert!(long_ago.is_empty(), "uploads written to just now are not older than 1970: {long_ago:?}");
    let uploads: Vec<_> = ok("uploads", f.store.uploads(END_OF_TIME).try_collect().await);
    for upload in uploads {
        let listed = pending(&*f.store, upload.modified).await;
        assert!(!listed.contains(&upload.id), "an upload is not older than its own time");
        let listed = pending(&*f.store, Timestamp::from_millis(upload.modified.as_millis() + 1)).await;
        assert!(listed.contains(&upload.id), "an upload that nobody wrote to since is listed");
        assert!(upload.size.is_none_or(|size| size >= 1000), "an upload has at least the bytes that were staged: {upload:?}");
    }
}

async fn a_discarded_upload_is_no_longer_staged(f: &Fixture) {
    suspend_some(f, 2).await;
    for id in staged_ids(f, "two suspended uploads", 2).await {
        ok("discard", f.store.discard(&id).await);
        ok("discarding again", f.store.discard(&id).await);
    }
    staged(f, "uploads after all were discarded", 0).await;
}

async fn an_aborted_upload_is_no_longer_staged(f: &Fixture) {
    for size in [1000, f.large_size] {
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &content(1, size)).await;
        ok("abort", upload.abort().await);
        staged(f, "uploads after an abort", 0).await;

        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &content(1, size)).await;
        ok("suspend", upload.suspend().await);
        ok("abort of a suspended upload", upload.abort().await);
        staged(f, "uploads after an abort", 0).await;
    }
}

async fn discarding_one_upload_leaves_the_others(f: &Fixture) {
    let tokens = suspend_some(f, 3).await;
    let ids = staged_ids(f, "three suspended uploads", 3).await;
    ok("discard", f.store.discard(&ids[1]).await);
    staged(f, "uploads after one of three was discarded", 2).await;
    let mut gone = 0;
    for (n, token) in (0..).zip(tokens) {
        let bytes = content(n, if n == 0 { f.large_size } else { 1000 });
        let digest = Digest::sha256(&bytes);
        match f.store.resume(ResumeOptions::new(token, 2)).await {
            Ok(mut upload) => {
                ok("commit of an upload that was not discarded", upload.commit(&digest).await);
                holds(&*f.store, &(digest, bytes)).await;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UploadUnknown, "a resume of what was discarded: {error}");
                gone += 1;
            }
        }
    }
    assert_eq!(gone, 1, "one upload was discarded");
}

async fn discarding_never_touches_a_committed_blob(f: &Fixture) {
    for size in [1000, f.large_size] {
        let blob = blob(1, size);
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &blob.1).await;
        let token = ok("suspend", upload.suspend().await);
        let ids = staged_ids(f, "a suspended upload", 1).await;
        let mut upload = ok("resume", f.store.resume(ResumeOptions::new(token, 2)).await);
        let mut ids = [ids, pending(&*f.store, END_OF_TIME).await].concat();
        ok("commit", upload.commit(&blob.0).await);
        ids.extend(pending(&*f.store, END_OF_TIME).await);
        for id in ids {
            ok("discarding an upload that was committed", f.reopened().await.discard(&id).await);
            let bytes = ok("reading a blob whose upload was discarded after the commit", read(&*f.store, &blob.0, None).await);
            assert!(bytes == blob.1, "discarding an upload changed the blob that it had become");
        }
        ok("delete", f.store.delete(&blob.0).await);
    }
}
