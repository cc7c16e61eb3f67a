//! Writes that are given up.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use registry_core::blob::{ByteStream, WriteOptions};
use registry_core::{BlobStore as _, Digest, Error, ErrorKind};
use storage_fs::FsBlobStore;

use super::{all_whole, content, scratch};

/// More than two batches.
const LARGE: usize = 1_500_000;

fn staged(dir: &tempfile::TempDir) -> usize {
    std::fs::read_dir(dir.path().join("uploads")).unwrap().count()
}

/// The first `len` bytes in frames, and then `end`.
fn cut(whole: &bytes::Bytes, len: usize, end: ByteStream) -> ByteStream {
    let frames: Vec<_> = whole[..len].chunks(50_000).map(|frame| Ok(whole.slice_ref(frame))).collect();
    Box::pin(stream::iter(frames).chain(end))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_caller_goes_away_leaves_no_file() {
    let dir = scratch();
    let store = FsBlobStore::open(dir.path()).await.unwrap();
    let whole = content(1, LARGE);
    let digest = Digest::sha256(&whole);
    for len in [0, 50_000, 600_000, LARGE] {
        // A client that goes silent, and a server that gives up on it.
        let silent: ByteStream = Box::pin(stream::pending());
        let put = store.put(&digest, WriteOptions::default(), cut(&whole, len, silent));
        let gone = tokio::time::timeout(Duration::from_millis(50), put).await;
        assert!(gone.is_err());
        // Its batch that was on its way may still be written.
        let start = std::time::Instant::now();
        while staged(&dir) > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "the file of a put of {len} bytes is left");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(all_whole(&store).await.is_empty());
}

#[tokio::test]
async fn a_put_that_is_refused_leaves_no_file_when_it_is_answered() {
    let dir = scratch();
    let store = FsBlobStore::open(dir.path()).await.unwrap();
    let (whole, nothing) = (content(1, LARGE), || -> ByteStream { Box::pin(stream::empty()) });
    let digest = Digest::sha256(&whole);
    for len in [0, 50_000, 600_000, LARGE - 1] {
        let failing: ByteStream = Box::pin(stream::iter([Err(Error::new(ErrorKind::Interrupted, "the client went away"))]));
        let size = WriteOptions::default().with_size(LARGE as u64);
        let small = WriteOptions::default().with_size(10);
        let refusals = [
            (ErrorKind::Interrupted, store.put(&digest, WriteOptions::default(), cut(&whole, len, failing)).await),
            (ErrorKind::DigestInvalid, store.put(&digest, WriteOptions::default(), cut(&whole, len, nothing())).await),
            (ErrorKind::SizeInvalid, store.put(&digest, size, cut(&whole, len, nothing())).await),
            (ErrorKind::SizeInvalid, store.put(&digest, small, cut(&whole, len, nothing())).await),
        ];
        for (kind, refused) in refusals {
            assert_eq!(refused.unwrap_err().kind(), kind);
            assert_eq!(staged(&dir), 0);
        }
    }
    assert!(all_whole(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_caller_goes_away_can_be_repeated() {
    let dir = scratch();
    let store = FsBlobStore::open(dir.path()).await.unwrap();
    for len in [0, 1000, LARGE] {
        // However far the first one came: not at all, to the hand-over, or to its end.
        for polls in 0..4 {
            let whole = content(polls, len);
            let digest = Digest::sha256(&whole);
            let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
            upload.write(whole.clone()).await.unwrap();
            {
                let mut commit = upload.commit(&digest);
                for _ in 0..polls {
                    if (&mut commit).now_or_never().is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(polls)).await;
                }
            }
            let info = upload.commit(&digest).await.unwrap();
            assert_eq!((info.digest, info.size), (digest, len as u64));
            assert_eq!(upload.commit(&digest).await.unwrap(), info);
            assert_eq!(store.stat(&digest).await.unwrap(), info);
        }
    }
    all_whole(&store).await;
    assert_eq!(staged(&dir), 0);
}
