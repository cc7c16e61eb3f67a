//! What goes in: whole or not at all, and only the right bytes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};

use super::kit::{
    EDGES, begin, blob, blob512, content, halting, holds, lacks, odd_chunks, ok, put, read, refused, shared, staged, stream_of, write,
};
use super::{Case, Fixture, cases};
use crate::blob::{ByteStream, WriteOptions};
use crate::{Algorithm, Digest, Error, ErrorKind};

pub(super) const CASES: &[Case] = cases![Nothing:
    a_put_of_any_size_reads_back,
    an_upload_of_any_size_reads_back,
    a_large_put_in_odd_chunks_reads_back,
    a_large_upload_in_odd_chunks_reads_back,
    a_large_upload_in_one_chunk_reads_back,
    empty_chunks_do_no_harm,
    nothing_is_visible_before_commit,
    nothing_is_visible_while_a_put_runs,
    a_put_with_the_wrong_digest_leaves_nothing,
    a_large_put_with_the_wrong_digest_leaves_nothing,
    a_commit_with_the_wrong_digest_leaves_nothing,
    an_upload_survives_a_wrong_digest,
    a_failing_stream_leaves_nothing,
    a_dropped_put_leaves_nothing,
    a_dropped_commit_is_whole_or_nothing,
    an_upload_that_is_dropped_is_never_visible,
    the_declared_size_of_a_put_is_checked,
    a_wrong_size_told_to_begin_never_gives_a_wrong_blob,
    sha512_is_taken_in_every_way,
    a_commit_may_name_another_algorithm,
    a_commit_can_be_repeated,
    writing_again_succeeds,
    a_failed_write_over_a_blob_leaves_it_alone,
    readers_see_no_gap_while_a_blob_is_replaced,
    two_writers_of_one_blob_both_succeed,
    a_wrong_writer_does_not_disturb_a_right_one,
    many_small_blobs_at_once,
    an_upload_takes_no_room_before_its_first_byte,
];

async fn a_put_of_any_size_reads_back(f: &Fixture) {
    for (seed, len) in (0..).zip(EDGES) {
        let blob = blob(seed, len);
        let info = put(&*f.store, &blob).await;
        assert_eq!((info.digest, info.size), (blob.0, len as u64), "a put answers with the blob's digest and size");
        holds(&*f.store, &blob).await;
    }
}

async fn an_upload_of_any_size_reads_back(f: &Fixture) {
    for (seed, len) in (0..).zip(EDGES) {
        let blob = blob(seed, len);
        let mut upload = begin(&*f.store).await;
        assert_eq!(upload.offset(), 0, "an upload begins at 0");
        write(&mut *upload, &blob.1).await;
        let info = ok("commit", upload.commit(&blob.0).await);
        assert_eq!((info.digest, info.size), (blob.0, len as u64), "a commit answers with the blob's digest and size");
        holds(&*f.store, &blob).await;
    }
}

async fn a_large_put_in_odd_chunks_reads_back(f: &Fixture) {
    let blob = blob(1, f.large_size);
    ok("put without a declared size", f.store.put(&blob.0, WriteOptions::default(), stream_of(odd_chunks(&blob.1))).await);
    holds(&*f.store, &blob).await;
}

async fn a_large_upload_in_odd_chunks_reads_back(f: &Fixture) {
    let blob = blob(1, f.large_size);
    let mut upload = begin(&*f.store).await;
    for chunk in odd_chunks(&blob.1) {
        write(&mut *upload, &chunk).await;
    }
    ok("commit", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn a_large_upload_in_one_chunk_reads_back(f: &Fixture) {
    let blob = blob(2, f.large_size);
    let mut upload = ok("begin", f.store.begin(WriteOptions::default().with_size(blob.1.len() as u64).with_scope("a/b")).await);
    write(&mut *upload, &blob.1).await;
    ok("commit", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn empty_chunks_do_no_harm(f: &Fixture) {
    let first = blob(1, 1000);
    let chunks = vec![Bytes::new(), first.1.slice(..400), Bytes::new(), Bytes::new(), first.1.slice(400..), Bytes::new()];
    ok("put", f.store.put(&first.0, WriteOptions::default(), stream_of(chunks.clone())).await);
    holds(&*f.store, &first).await;

    let nothing = blob(2, 0);
    ok("put", f.store.put(&nothing.0, WriteOptions::default().with_size(0), stream_of(vec![Bytes::new()])).await);
    holds(&*f.store, &nothing).await;

    ok("delete", f.store.delete(&first.0).await);
    let mut upload = begin(&*f.store).await;
    for chunk in &chunks {
        write(&mut *upload, chunk).await;
    }
    ok("commit", upload.commit(&first.0).await);
    holds(&*f.store, &first).await;
}

async fn nothing_is_visible_before_commit(f: &Fixture) {
    let blob = blob(1, f.large_size);
    let mut upload = begin(&*f.store).await;
    for chunk in odd_chunks(&blob.1) {
        write(&mut *upload, &chunk).await;
    }
    lacks(&*f.store, &blob.0, "before the commit").await;
    ok("commit", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn nothing_is_visible_while_a_put_runs(f: &Fixture) {
    let blob = blob(1, 200_000);
    let (content, reached, go_on) = halting(blob.1.slice(..150_000), blob.1.slice(150_000..));
    let store = shared(f);
    let writing = tokio::spawn(async move { store.put(&blob.0, WriteOptions::default().with_size(200_000), content).await });
    ok("the put reads its stream", reached.await.map_err(|_| Error::new(ErrorKind::Internal, "the stream was dropped")));
    lacks(&*f.store, &blob.0, "while the put runs").await;
    let _ = go_on.send(());
    ok("put", writing.await.expect("no panic"));
    holds(&*f.store, &blob).await;
}

async fn a_put_with_the_wrong_digest_leaves_nothing(f: &Fixture) {
    for (seed, (wrong, _)) in (10..).zip([blob(1, 5000), blob512(2, 5000), blob(3, 0)]) {
        let other = content(seed, 5000);
        let result = f.store.put(&wrong, WriteOptions::default().with_size(5000), stream_of(vec![other])).await;
        refused("a put of other content", ErrorKind::DigestInvalid, result);
        lacks(&*f.store, &wrong, "after a put with the wrong digest").await;
    }
}

async fn a_large_put_with_the_wrong_digest_leaves_nothing(f: &Fixture) {
    let blob = blob(1, f.large_size);
    let mut chunks = odd_chunks(&blob.1);
    let last = chunks.pop().expect("a chunk");
    chunks.push(last.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into());
    let result = f.store.put(&blob.0, WriteOptions::default(), stream_of(chunks)).await;
    refused("a put whose last chunk is wrong", ErrorKind::DigestInvalid, result);
    lacks(&*f.store, &blob.0, "after a put with the wrong digest").await;
}

async fn a_commit_with_the_wrong_digest_leaves_nothing(f: &Fixture) {
    let (right, bytes) = blob(1, 5000);
    for wrong in [blob(2, 5000).0, blob512(2, 5000).0] {
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &bytes).await;
        refused("a commit under another digest", ErrorKind::DigestInvalid, upload.commit(&wrong).await);
        lacks(&*f.store, &wrong, "after a commit with the wrong digest").await;
        lacks(&*f.store, &right, "after a commit that named another digest").await;
    }
}

async fn an_upload_survives_a_wrong_digest(f: &Fixture) {
    let blob = blob(1, 70_000);
    let mut upload = begin(&*f.store).await;
    write(&mut *upload, &blob.1).await;
    refused("a commit under another digest", ErrorKind::DigestInvalid, upload.commit(&Digest::sha256(b"another")).await);
    assert_eq!(upload.offset(), 70_000, "a wrong digest leaves the offset");
    ok("commit with the right digest after a wrong one", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn a_failing_stream_leaves_nothing(f: &Fixture) {
    for len in [0, 1, 100_000, f.large_size] {
        let blob = blob(1, len);
        // All bytes, and then an error: the length alone must not convince the store.
        let failure = Err(Error::new(ErrorKind::Interrupted, "the client went away"));
        let content: ByteStream = Box::pin(stream_of(odd_chunks(&blob.1)).chain(stream::iter([failure])));
        let result = f.store.put(&blob.0, WriteOptions::default(), content).await;
        refused("a put whose stream fails", ErrorKind::Interrupted, result);
        lacks(&*f.store, &blob.0, "after the stream of its put failed").await;
    }
}

async fn a_dropped_put_leaves_nothing(f: &Fixture) {
    let blob = blob(1, f.large_size);
    let (content, reached, go_on) = halting(blob.1.slice(..blob.1.len() - 1), blob.1.slice(blob.1.len() - 1..));
    {
        let writing = f.store.put(&blob.0, WriteOptions::default().with_size(blob.1.len() as u64), content);
        match future::select(writing, reached).await {
            future::Either::Left((result, _)) => panic!("a put ended before its stream did: {result:?}"),
            future::Either::Right((reached, writing)) => {
                assert!(reached.is_ok(), "a put reads its stream to the end");
                drop(writing);
            }
        }
    }
    drop(go_on);
    lacks(&*f.store, &blob.0, "after its put was dropped").await;
    put(&*f.store, &blob).await;
    holds(&*f.store, &blob).await;
}

async fn a_dropped_commit_is_whole_or_nothing(f: &Fixture) {
    for seed in 0..8 {
        let blob = blob(seed, 150_000);
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &blob.1).await;
        // Each round gives the commit a little longer.
        let patience = Duration::from_micros(seed * seed * 50);
        let answered = matches!(tokio::time::timeout(patience, upload.commit(&blob.0)).await, Ok(Ok(_)));
        drop(upload);
        match read(&*f.store, &blob.0, None).await {
            Ok(bytes) => assert!(bytes == blob.1, "a dropped commit left a torn blob of {} bytes", bytes.len()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "a dropped commit leaves the blob whole or not there: {error}");
                assert!(!answered, "a commit that was answered is durable");
            }
        }
        put(&*f.store, &blob).await;
        holds(&*f.store, &blob).await;
    }
}

async fn an_upload_that_is_dropped_is_never_visible(f: &Fixture) {
    let blob = blob(1, f.large_size);
    let mut upload = begin(&*f.store).await;
    write(&mut *upload, &blob.1).await;
    drop(upload);
    lacks(&*f.store, &blob.0, "after its upload was dropped").await;
}

async fn the_declared_size_of_a_put_is_checked(f: &Fixture) {
    let blob = blob(1, 5000);
    for declared in [0, 4999, 5001, 1 << 20] {
        let result = f.store.put(&blob.0, WriteOptions::default().with_size(declared), stream_of(vec![blob.1.clone()])).await;
        refused(&format!("a put of 5000 bytes declared as {declared}"), ErrorKind::SizeInvalid, result);
        lacks(&*f.store, &blob.0, "after a put of the wrong size").await;
    }
}

async fn a_wrong_size_told_to_begin_never_gives_a_wrong_blob(f: &Fixture) {
    let blob = blob(1, 5000);
    for declared in [0, 4999, 5001] {
        let mut upload = ok("begin", f.store.begin(WriteOptions::default().with_size(declared)).await);
        let result = match upload.write(blob.1.clone()).await {
            Ok(()) => upload.commit(&blob.0).await.map(drop),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => holds(&*f.store, &blob).await,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::SizeInvalid, "an upload of another size than was told: {error}");
                lacks(&*f.store, &blob.0, "after an upload of the wrong size").await;
            }
        }
        ok("delete", f.store.delete(&blob.0).await);
    }
}

async fn sha512_is_taken_in_every_way(f: &Fixture) {
    let by_put = blob512(1, 70_000);
    put(&*f.store, &by_put).await;
    holds(&*f.store, &by_put).await;

    let announced = blob512(2, 70_000);
    let mut upload = ok("begin", f.store.begin(WriteOptions::default().with_algorithm(Algorithm::Sha512)).await);
    write(&mut *upload, &announced.1).await;
    ok("commit of an upload announced as sha512", upload.commit(&announced.0).await);
    holds(&*f.store, &announced).await;

    let large = blob512(3, f.large_size);
    let mut upload = begin(&*f.store).await;
    for chunk in odd_chunks(&large.1) {
        write(&mut *upload, &chunk).await;
    }
    refused("a commit under a wrong sha512", ErrorKind::DigestInvalid, upload.commit(&announced.0).await);
    ok("commit as sha512 of an upload that did not announce it", upload.commit(&large.0).await);
    holds(&*f.store, &large).await;
    lacks(&*f.store, &Digest::sha256(&large.1), "under a digest that nobody committed").await;
}

async fn a_commit_may_name_another_algorithm(f: &Fixture) {
    let blob = blob(1, 70_000);
    let mut upload = ok("begin", f.store.begin(WriteOptions::default().with_algorithm(Algorithm::Sha512)).await);
    write(&mut *upload, &blob.1).await;
    ok("commit as sha256 of an upload announced as sha512", upload.commit(&blob.0).await);
    holds(&*f.store, &blob).await;
}

async fn a_commit_can_be_repeated(f: &Fixture) {
    for len in [0, 100, f.large_size] {
        let blob = blob(len as u64, len);
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &blob.1).await;
        let first = ok("commit", upload.commit(&blob.0).await);
        let again = ok("committing again what was committed", upload.commit(&blob.0).await);
        assert_eq!((first.digest, first.size), (again.digest, again.size), "a repeated commit answers the same");
        holds(&*f.store, &blob).await;
    }
}

async fn writing_again_succeeds(f: &Fixture) {
    for len in [0, 1000, f.large_size] {
        let blob = blob(len as u64, len);
        put(&*f.store, &blob).await;
        put(&*f.store, &blob).await;
        holds(&*f.store, &blob).await;
        let mut upload = begin(&*f.store).await;
        write(&mut *upload, &blob.1).await;
        ok("commit over a blob that is there", upload.commit(&blob.0).await);
        holds(&*f.store, &blob).await;
    }
}

async fn a_failed_write_over_a_blob_leaves_it_alone(f: &Fixture) {
    let blob = blob(1, 100_000);
    put(&*f.store, &blob).await;
    let wrong = f.store.put(&blob.0, WriteOptions::default(), stream_of(vec![content(2, 100_000)])).await;
    refused("a put of other content", ErrorKind::DigestInvalid, wrong);
    holds(&*f.store, &blob).await;

    let failure = Err(Error::new(ErrorKind::Interrupted, "the client went away"));
    let cut: ByteStream = Box::pin(stream::iter([Ok(blob.1.slice(..70_000)), failure]));
    refused("a put whose stream fails", ErrorKind::Interrupted, f.store.put(&blob.0, WriteOptions::default(), cut).await);
    holds(&*f.store, &blob).await;

    let mut upload = begin(&*f.store).await;
    write(&mut *upload, &content(3, 1000)).await;
    refused("a commit of other content", ErrorKind::DigestInvalid, upload.commit(&blob.0).await);
    ok("abort", upload.abort().await);
    holds(&*f.store, &blob).await;
}

async fn readers_see_no_gap_while_a_blob_is_replaced(f: &Fixture) {
    let blob = blob(1, 300_000);
    put(&*f.store, &blob).await;
    let (store, again) = (shared(f), blob.clone());
    let writing = tokio::spawn(async move {
        for _ in 0..8 {
            put(&*store, &again).await;
            tokio::task::yield_now().await;
        }
    });
    let mut rounds = 0;
    while !writing.is_finished() || rounds == 0 {
        holds(&*f.store, &blob).await;
        tokio::task::yield_now().await;
        rounds += 1;
    }
    assert!(writing.await.is_ok(), "a put over a blob that is being read failed");
}

async fn two_writers_of_one_blob_both_succeed(f: &Fixture) {
    let blob = blob(1, 300_000);
    let mut writers = Vec::new();
    for n in 0..6 {
        let store = if n % 2 == 0 { shared(f) } else { f.reopened().await };
        let blob = blob.clone();
        writers.push(tokio::spawn(async move {
            if n < 3 {
                put(&*store, &blob).await;
            } else {
                let mut upload = begin(&*store).await;
                for chunk in odd_chunks(&blob.1) {
                    write(&mut *upload, &chunk).await;
                }
                ok("commit of one blob by several writers", upload.commit(&blob.0).await);
            }
            holds(&*store, &blob).await;
        }));
    }
    for writer in future::join_all(writers).await {
        assert!(writer.is_ok(), "one of several writers of the same blob failed: {writer:?}");
    }
    holds(&*f.store, &blob).await;
}

async fn a_wrong_writer_does_not_disturb_a_right_one(f: &Fixture) {
    let blob = blob(1, 300_000);
    let (content, reached, go_on) = halting(blob.1.slice(..100_000), blob.1.slice(100_000..));
    let store = shared(f);
    let right = tokio::spawn(async move { store.put(&blob.0, WriteOptions::default(), content).await });
    assert!(reached.await.is_ok(), "a put reads its stream");
    let wrong = f.store.put(&blob.0, WriteOptions::default(), stream_of(vec![super::kit::content(2, 300_000)])).await;
    refused("a put of other content beside a right one", ErrorKind::DigestInvalid, wrong);
    lacks(&*f.store, &blob.0, "while only a wrong put has ended").await;
    let _ = go_on.send(());
    ok("a right put beside a wrong one", right.await.expect("no panic"));
    holds(&*f.store, &blob).await;
}

async fn many_small_blobs_at_once(f: &Fixture) {
    let blobs: Vec<_> = (0..64).map(|seed| blob(seed, 10 + usize::try_from(seed * 37).unwrap_or(0))).collect();
    let writers = blobs.iter().map(|blob| {
        let (store, blob) = (shared(f), blob.clone());
        tokio::spawn(async move { put(&*store, &blob).await })
    });
    for writer in future::join_all(writers).await {
        assert!(writer.is_ok(), "one of many puts at once failed: {writer:?}");
    }
    for blob in &blobs {
        holds(&*f.store, blob).await;
    }
}

async fn an_upload_takes_no_room_before_its_first_byte(f: &Fixture) {
    let upload = begin(&*f.store).await;
    staged(f, "uploads that were begun and not written to", 0).await;
    ok("abort of an upload with nothing in it", upload.abort().await);
    drop(begin(&*f.store).await);
    staged(f, "uploads that were dropped before their first byte", 0).await;
}
