//! What the cases are written with.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Fixture;
use crate::blob::{BlobInfo, BlobStore, BlobUpload, ByteRange, ByteStream, ListOptions, ReadOptions, WriteOptions};
use crate::testing::Rng;
use crate::{Algorithm, Digest, ErrorKind, Result, Timestamp};

/// A time that everything in a test was written before: the end of the year 9999.
pub(super) const END_OF_TIME: Timestamp = Timestamp::from_millis(253_402_300_799_000);

/// Lengths at which stores go wrong: nothing, one byte, about the size of a buffer.
pub(super) const EDGES: [usize; 8] = [0, 1, 63, 64, 4096, (64 << 10) - 1, 64 << 10, (64 << 10) + 1];

/// Bytes that are different for each seed and compress badly.
pub(super) fn content(seed: u64, len: usize) -> Bytes {
    Rng::new(seed).bytes(len).into()
}

/// Content with its digest.
pub(super) fn blob(seed: u64, len: usize) -> (Digest, Bytes) {
    let content = content(seed, len);
    (Digest::sha256(&content), content)
}

/// The same with SHA-512.
pub(super) fn blob512(seed: u64, len: usize) -> (Digest, Bytes) {
    let content = content(seed, len);
    (Digest::of(Algorithm::Sha512, &content), content)
}

/// So many small blobs of one algorithm in one shard.
pub(super) fn blobs_in_shard(shard: u8, algorithm: Algorithm, count: usize) -> Vec<(Digest, Bytes)> {
    (0_u64..)
        .map(|n| Bytes::from(format!("{shard} {n}")))
        .map(|content| (Digest::of(algorithm, &content), content))
        .filter(|(digest, _)| digest.shard() == shard)
        .take(count)
        .collect()
}

/// Two different parts laid end to end.
pub(super) fn joined(parts: &[&Bytes]) -> Bytes {
    parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<_>>().into()
}

/// The content in pieces whose lengths follow no pattern, 1 byte to 100 kB.
pub(super) fn odd_chunks(content: &Bytes) -> Vec<Bytes> {
    let mut rng = Rng::new(content.len() as u64);
    let mut rest = content.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let most = [1, 77, 8 << 10, 100_000][usize::try_from(rng.below(4)).unwrap_or(0)];
        let len = usize::try_from(1 + rng.below(most)).unwrap_or(1);
        chunks.push(rest.split_to(len.min(rest.len())));
    }
    chunks
}

/// A stream of these chunks.
pub(super) fn stream_of(chunks: Vec<Bytes>) -> ByteStream {
    Box::pin(stream::iter(chunks.into_iter().map(Ok)))
}

/// A stream that yields `first`, then says so on the channel, then waits to be told to go on with `rest`.
pub(super) fn halting(first: Bytes, rest: Bytes) -> (ByteStream, tokio::sync::oneshot::Receiver<()>, tokio::sync::oneshot::Sender<()>) {
    let (reached, has_reached) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let tail = stream::once(async move {
        let _ = reached.send(());
        // Dropped by a case that never lets it go on: then it hangs, as a client that went silent does.
        if may_go_on.await.is_err() {
            std::future::pending::<()>().await;
        }
        Ok(rest)
    });
    (Box::pin(stream::iter([Ok(first)]).chain(tail)), has_reached, go_on)
}

/// The value of what must succeed.
#[track_caller]
pub(super) fn ok<T>(what: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what} failed: {:?}: {error}", error.kind()))
}

/// The error of what must be refused as this kind.
#[track_caller]
pub(super) fn refused<T: Debug>(what: &str, kind: ErrorKind, result: Result<T>) -> crate::Error {
    match result {
        Err(error) if error.kind() == kind => error,
        Err(error) => panic!("{what} must be refused as {kind:?}, not as {:?}: {error}", error.kind()),
        Ok(value) => panic!("{what} must be refused as {kind:?}, and was accepted: {value:?}"),
    }
}

/// Puts a blob, its size declared.
pub(super) async fn put(store: &dyn BlobStore, blob: &(Digest, Bytes)) -> BlobInfo {
    let options = WriteOptions::default().with_size(blob.1.len() as u64);
    ok("put", store.put(&blob.0, options, stream_of(vec![blob.1.clone()])).await)
}

/// Begins an upload as epoch 1.
pub(super) async fn begin(store: &dyn BlobStore) -> Box<dyn BlobUpload> {
    ok("begin", store.begin(WriteOptions::default().with_epoch(1)).await)
}

/// Writes all of it.
pub(super) async fn write(upload: &mut dyn BlobUpload, chunk: &Bytes) {
    let before = upload.offset();
    ok("write", upload.write(chunk.clone()).await);
    assert_eq!(upload.offset(), before + chunk.len() as u64, "the offset moves by what was written");
}

/// Reads a blob, or a part, and holds the store to every word of [`BlobStore::read`].
pub(super) async fn read(store: &dyn BlobStore, digest: &Digest, range: Option<ByteRange>) -> Result<Bytes> {
    let mut reader = store.read(digest, ReadOptions { range }).await?;
    assert_eq!(reader.info.digest, *digest, "the reader names the blob that was asked for");
    assert!(reader.range.start <= reader.range.end && reader.range.end <= reader.info.size, "the range lies in the blob: {reader:?}");
    let mut all = Vec::new();
    while let Some(chunk) = reader.stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    assert_eq!(all.len() as u64, reader.len(), "a stream that ends without an error has all bytes of its range and no more");
    Ok(all.into())
}

/// The blob is there, and every way to look at it says the same.
pub(super) async fn holds(store: &dyn BlobStore, (digest, content): &(Digest, Bytes)) {
    let info = ok("stat of a blob that is there", store.stat(digest).await);
    assert_eq!((info.digest, info.size), (*digest, content.len() as u64), "stat tells the blob's digest and size");
    let bytes = ok("read of a blob that is there", read(store, digest, None).await);
    assert!(bytes == *content, "{digest} reads back as other bytes than were written ({} bytes, {} written)", bytes.len(), content.len());
}

/// The blob is not there, whichever way one looks.
pub(super) async fn lacks(store: &dyn BlobStore, digest: &Digest, when: &str) {
    refused(&format!("stat {when}"), ErrorKind::NotFound, store.stat(digest).await);
    refused(&format!("read {when}"), ErrorKind::NotFound, store.read(digest, ReadOptions::default()).await);
}

/// Asks until the answer is as expected: once where lists are exact, for a while where they are hints.
async fn eventually<T: PartialEq + Debug, F: Future<Output = T>>(fixture: &Fixture, what: &str, expected: &T, ask: impl Fn() -> F) {
    let start = tokio::time::Instant::now();
    loop {
        let answer = ask().await;
        if answer == *expected {
            return;
        }
        let patient = fixture.store.capabilities().list_is_hint && start.elapsed() < fixture.patience;
        assert!(patient, "{what}: expected {expected:?}, got {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// The list has these blobs, each once, with their sizes; in this order where the store says that it has one.
pub(super) async fn lists(fixture: &Fixture, what: &str, options: &ListOptions, expected: &[&(Digest, Bytes)]) {
    let ordered = fixture.store.capabilities().ordered_list;
    let sort = |mut infos: Vec<(u8, Digest, u64)>| {
        if !ordered {
            infos.sort_unstable();
        }
        infos
    };
    let expected = sort(expected.iter().map(|(digest, content)| (digest.shard(), *digest, content.len() as u64)).collect());
    let ask = || async {
        let listed: Vec<_> = ok(what, fixture.store.list(options.clone()).try_collect().await);
        sort(listed.into_iter().map(|info: BlobInfo| (info.digest.shard(), info.digest, info.size)).collect())
    };
    eventually(fixture, what, &expected, ask).await;
}

/// The store has so many staged uploads, seen from a second process.
pub(super) async fn staged(fixture: &Fixture, what: &str, count: usize) {
    let store = fixture.reopened().await;
    eventually(fixture, what, &count, || async { pending(&*store, END_OF_TIME).await.len() }).await;
}

/// The ids of staged uploads.
pub(super) async fn pending(store: &dyn BlobStore, older_than: Timestamp) -> Vec<String> {
    let uploads: Vec<_> = ok("uploads", store.uploads(older_than).try_collect().await);
    uploads.into_iter().map(|upload| upload.id).collect()
}

/// The ids of staged uploads, once there are so many.
pub(super) async fn staged_ids(fixture: &Fixture, what: &str, count: usize) -> Vec<String> {
    staged(fixture, what, count).await;
    pending(&*fixture.reopened().await, END_OF_TIME).await
}

/// A handle for a task of its own.
pub(super) fn shared(fixture: &Fixture) -> Arc<dyn BlobStore> {
    Arc::clone(&fixture.store)
}
