//! What comes out: exactly the bytes, exactly the range; and what was deleted is gone.

use futures_util::{StreamExt as _, future};

use super::kit::{blob, blob512, holds, lacks, ok, put, read, refused, shared};
use super::{Case, Fixture, cases};
use crate::ErrorKind;
use crate::blob::{BlobStore, ByteRange, ReadOptions};

pub(super) const CASES: &[Case] = cases![Nothing:
    a_missing_blob_is_not_found,
    ranges_give_exactly_their_bytes,
    ranges_are_clamped_to_the_end,
    ranges_that_have_no_byte_name_the_size,
    an_empty_blob_has_no_range,
    the_reader_tells_the_whole_size_and_its_range,
    ranges_of_a_large_blob_give_exactly_their_bytes,
    parallel_readers_do_not_disturb_each_other,
    a_reader_may_be_dropped_anywhere,
    a_deleted_blob_is_gone_at_once,
    deleting_what_is_not_there_succeeds,
    deleting_one_blob_leaves_the_others,
    a_deleted_blob_can_be_written_again,
    a_blob_deleted_under_a_reader_ends_whole_or_with_an_error,
    a_second_process_sees_writes_and_deletes_at_once,
];

use ByteRange::{FromTo, Last};

async fn a_missing_blob_is_not_found(f: &Fixture) {
    put(&*f.store, &blob(1, 100)).await;
    for digest in [blob(2, 100).0, blob512(1, 100).0] {
        lacks(&*f.store, &digest, "of a blob that was never written").await;
        let options = ReadOptions::default().with_range(FromTo(0, Some(9)));
        refused("a range of a blob that was never written", ErrorKind::NotFound, f.store.read(&digest, options).await);
    }
}

/// Each range of the table gives the bytes `from..to`.
async fn gives(store: &dyn BlobStore, blob: &(crate::Digest, bytes::Bytes), table: &[(ByteRange, usize, usize)]) {
    for (range, from, to) in table {
        let bytes = ok(&format!("reading {range:?} of {} bytes", blob.1.len()), read(store, &blob.0, Some(*range)).await);
        assert_eq!(bytes.len(), to - from, "{range:?} of {} bytes is of another length", blob.1.len());
        assert!(bytes == blob.1[*from..*to], "{range:?} of {} bytes gives other bytes", blob.1.len());
    }
}

async fn ranges_give_exactly_their_bytes(f: &Fixture) {
    let blob = blob(1, 2000);
    put(&*f.store, &blob).await;
    let table = [
        (FromTo(500, Some(1499)), 500, 1500),
        (FromTo(500, None), 500, 2000),
        (Last(500), 1500, 2000),
        (FromTo(0, Some(0)), 0, 1),
        (FromTo(0, None), 0, 2000),
        (FromTo(0, Some(1999)), 0, 2000),
        (FromTo(1999, Some(1999)), 1999, 2000),
        (FromTo(1999, None), 1999, 2000),
        (Last(1), 1999, 2000),
        (Last(2000), 0, 2000),
    ];
    gives(&*f.store, &blob, &table).await;
}

async fn ranges_are_clamped_to_the_end(f: &Fixture) {
    let blob = blob(1, 2000);
    put(&*f.store, &blob).await;
    let table = [
        (FromTo(500, Some(2000)), 500, 2000),
        (FromTo(1999, Some(u64::MAX)), 1999, 2000),
        (FromTo(0, Some(1 << 40)), 0, 2000),
        (Last(2001), 0, 2000),
        (Last(u64::MAX), 0, 2000),
    ];
    gives(&*f.store, &blob, &table).await;
}

async fn ranges_that_have_no_byte_name_the_size(f: &Fixture) {
    let (digest, bytes) = blob(1, 2000);
    put(&*f.store, &(digest, bytes)).await;
    for range in [FromTo(2000, None), FromTo(2000, Some(2000)), FromTo(5000, Some(6000)), FromTo(u64::MAX, None), Last(0)] {
        let result = f.store.read(&digest, ReadOptions::default().with_range(range)).await;
        let error = refused(&format!("{range:?} of 2000 bytes"), ErrorKind::RangeInvalid, result);
        assert_eq!(error.offset(), Some(2000), "a range that cannot be read is answered with the blob's size: {range:?}");
    }
}

async fn an_empty_blob_has_no_range(f: &Fixture) {
    let empty = blob(1, 0);
    put(&*f.store, &empty).await;
    holds(&*f.store, &empty).await;
    for range in [FromTo(0, None), FromTo(0, Some(0)), Last(5)] {
        let result = f.store.read(&empty.0, ReadOptions::default().with_range(range)).await;
        let error = refused(&format!("{range:?} of an empty blob"), ErrorKind::RangeInvalid, result);
        assert_eq!(error.offset(), Some(0), "a range of an empty blob is answered with its size");
    }
}

async fn the_reader_tells_the_whole_size_and_its_range(f: &Fixture) {
    let (digest, bytes) = blob(1, 2000);
    put(&*f.store, &(digest, bytes)).await;
    for (range, expected) in
        [(None, 0..2000), (Some(FromTo(10, Some(19))), 10..20), (Some(Last(7)), 1993..2000), (Some(FromTo(3, None)), 3..2000)]
    {
        let reader = ok("read", f.store.read(&digest, ReadOptions { range }).await);
        assert_eq!(reader.info.size, 2000, "a reader of {range:?} tells the size of the whole blob");
        assert_eq!(reader.range, expected, "a reader of {range:?} tells which bytes it yields");
    }
}

async fn ranges_of_a_large_blob_give_exactly_their_bytes(f: &Fixture) {
    let blob = blob(1, f.large_size);
    put(&*f.store, &blob).await;
    let size = blob.1.len();
    // Around every edge that stores cut blobs at, as far as the blob reaches.
    let edges = [64 << 10, 1 << 20, 4 << 20, 5 << 20, 8 << 20, 16 << 20, size / 2].into_iter().filter(|edge| edge + 1 < size);
    let mut table: Vec<_> = edges.map(|edge| (FromTo(edge as u64 - 1, Some(edge as u64)), edge - 1, edge + 1)).collect();
    table.push((FromTo(1, Some(size as u64 - 2)), 1, size - 1));
    table.push((Last(size as u64 / 3), size - size / 3, size));
    gives(&*f.store, &blob, &table).await;
}

async fn parallel_readers_do_not_disturb_each_other(f: &Fixture) {
    let blob = blob(1, 500_000);
    put(&*f.store, &blob).await;
    let readers = (0..8_usize).map(|n| {
        let (store, blob) = (shared(f), blob.clone());
        tokio::spawn(async move {
            let from = n * 50_000;
            gives(&*store, &blob, &[(FromTo(from as u64, None), from, 500_000)]).await;
        })
    });
    for reader in future::join_all(readers).await {
        assert!(reader.is_ok(), "one of several readers failed: {reader:?}");
    }
}

async fn a_reader_may_be_dropped_anywhere(f: &Fixture) {
    let blob = blob(1, f.large_size);
    put(&*f.store, &blob).await;
    for chunks in 0..4 {
        let mut reader = ok("read", f.store.read(&blob.0, ReadOptions::default()).await);
        for _ in 0..chunks {
            if let Some(chunk) = reader.stream.next().await {
                ok("a chunk", chunk);
            }
        }
    }
    holds(&*f.store, &blob).await;
}

async fn a_deleted_blob_is_gone_at_once(f: &Fixture) {
    for (blob, what) in [(blob(1, 1000), "small"), (blob(2, 0), "empty"), (blob(3, f.large_size), "large"), (blob512(4, 1000), "sha512")] {
        put(&*f.store, &blob).await;
        holds(&*f.store, &blob).await;
        ok("delete", f.store.delete(&blob.0).await);
        lacks(&*f.store, &blob.0, &format!("of a {what} blob that was deleted")).await;
    }
}

async fn deleting_what_is_not_there_succeeds(f: &Fixture) {
    let blob = blob(1, 1000);
    ok("deleting a blob that never was", f.store.delete(&blob.0).await);
    put(&*f.store, &blob).await;
    ok("delete", f.store.delete(&blob.0).await);
    ok("deleting a blob for the second time", f.store.delete(&blob.0).await);
    lacks(&*f.store, &blob.0, "of a blob that was deleted twice").await;
}

async fn deleting_one_blob_leaves_the_others(f: &Fixture) {
    // The same content under two names are two blobs.
    let (one, two, three) = (blob(1, 1000), blob512(1, 1000), blob(2, 1000));
    for blob in [&one, &two, &three] {
        put(&*f.store, blob).await;
    }
    ok("delete", f.store.delete(&one.0).await);
    lacks(&*f.store, &one.0, "after the delete").await;
    holds(&*f.store, &two).await;
    holds(&*f.store, &three).await;
}

async fn a_deleted_blob_can_be_written_again(f: &Fixture) {
    let blob = blob(1, f.large_size);
    for _ in 0..2 {
        put(&*f.store, &blob).await;
        holds(&*f.store, &blob).await;
        ok("delete", f.store.delete(&blob.0).await);
        lacks(&*f.store, &blob.0, "after the delete").await;
    }
    put(&*f.store, &blob).await;
    holds(&*f.store, &blob).await;
}

async fn a_blob_deleted_under_a_reader_ends_whole_or_with_an_error(f: &Fixture) {
    let blob = blob(1, f.large_size);
    put(&*f.store, &blob).await;
    let mut reader = ok("read", f.store.read(&blob.0, ReadOptions::default()).await);
    let mut bytes = ok("the first chunk", reader.stream.next().await.expect("a chunk")).to_vec();
    ok("delete", f.store.delete(&blob.0).await);
    while let Some(chunk) = reader.stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(_) => return,
        }
    }
    assert!(bytes == blob.1, "a stream over a deleted blob ended after {} bytes without an error", bytes.len());
}

async fn a_second_process_sees_writes_and_deletes_at_once(f: &Fixture) {
    let other = f.reopened().await;
    for blob in [blob(1, 1000), blob(2, f.large_size), blob512(3, 10)] {
        for (one, two) in [(&f.store, &other), (&other, &f.store)] {
            lacks(&**two, &blob.0, "in a second process, before it was written").await;
            put(&**one, &blob).await;
            holds(&**two, &blob).await;
            holds(&**one, &blob).await;
            ok("delete by a second process", two.delete(&blob.0).await);
            lacks(&**one, &blob.0, "after another process deleted it").await;
        }
    }
}
