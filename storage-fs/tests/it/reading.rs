//! What readers see of files that are not as they should be, and how large blobs go by.

use futures_util::StreamExt as _;
use registry_core::blob::{ByteRange, ListOptions, ReadOptions};
use registry_core::{Algorithm, BlobStore as _, BlobStoreExt as _, Digest, ErrorKind};
use storage_fs::FsBlobStore;

use super::{content, frames, scratch};

/// In memory and on a disk reads take different paths.
fn places() -> [tempfile::TempDir; 2] {
    [scratch(), tempfile::tempdir().unwrap()]
}

fn path(dir: &tempfile::TempDir, digest: &Digest) -> std::path::PathBuf {
    dir.path().join(format!("blobs/{}/{}/{}", digest.algorithm(), &digest.hex()[..2], digest.hex()))
}

#[tokio::test]
async fn a_blob_that_shrinks_while_it_is_read_ends_in_an_error() {
    for dir in places() {
        let store = FsBlobStore::open(dir.path()).await.unwrap();
        let content = content(1, 3 << 20);
        let digest = Digest::sha256(&content);
        store.put(&digest, Default::default(), frames(&content)).await.unwrap();
        let mut reader = store.read(&digest, ReadOptions::default()).await.unwrap();
        let first = reader.stream.next().await.unwrap().unwrap();
        assert_eq!(first, content[..first.len()]);
        std::fs::File::options().write(true).open(path(&dir, &digest)).unwrap().set_len(2 << 20).unwrap();
        let mut got = first.len();
        let error = loop {
            match reader.stream.next().await.expect("no end without an error") {
                Ok(chunk) => got += chunk.len(),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), got), (ErrorKind::Corrupt, 2 << 20));
        assert!(reader.stream.next().await.is_none(), "nothing behind an error");
    }
}

#[tokio::test]
async fn what_is_no_file_is_no_blob() {
    for dir in places() {
        let store = FsBlobStore::open(dir.path()).await.unwrap();
        let content = content(1, 100);
        let digest = Digest::sha256(&content);
        store.put(&digest, Default::default(), frames(&content)).await.unwrap();
        let path = path(&dir, &digest);
        std::fs::remove_file(&path).unwrap();
        for make in
            [|path: &std::path::Path| std::fs::create_dir(path), |path: &std::path::Path| std::os::unix::fs::symlink("/etc/passwd", path)]
        {
            make(&path).unwrap();
            for kind in
                [store.stat(&digest).await.unwrap_err().kind(), store.read(&digest, ReadOptions::default()).await.unwrap_err().kind()]
            {
                assert_eq!(kind, ErrorKind::Corrupt);
            }
            assert!(store.list(ListOptions::default()).next().await.is_none());
            let _ = std::fs::remove_dir(&path).or_else(|_| std::fs::remove_file(&path));
        }
        // And files that are not named as blobs are none of ours.
        std::fs::write(path.with_file_name("README"), "hello").unwrap();
        std::fs::write(dir.path().join("uploads/README"), "hello").unwrap();
        std::fs::write(dir.path().join("_meta/README"), "hello").unwrap();
        assert!(store.list(ListOptions::default()).next().await.is_none());
        assert!(store.uploads(super::END_OF_TIME).next().await.is_none());
        assert!(store.named().unwrap().list("").next().await.is_none());
        store.discard("README").await.unwrap();
        store.discard("../format").await.unwrap();
        assert!(dir.path().join("uploads/README").exists() && dir.path().join("format").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_a_large_blob_comes_through_in_any_range() {
    for dir in places() {
        let store = FsBlobStore::open(dir.path()).await.unwrap();
        let content = content(7, (2 << 20) + 4321);
        let digest = Digest::of(Algorithm::Sha512, &content);
        store.put(&digest, Default::default(), frames(&content)).await.unwrap();
        assert!(store.read_all(&digest).await.unwrap() == content);
        // From the disk, too, as far as that can be asked for.
        let file = std::fs::File::open(path(&dir, &digest)).unwrap();
        for (first, last) in [(0, 0), (1, 131_072), (131_071, 131_073), (262_143, 1 << 20), (2 << 20, u64::MAX)] {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            let range = ByteRange::FromTo(first, Some(last));
            let bytes = store.read(&digest, ReadOptions::default().with_range(range)).await.unwrap().collect().await.unwrap();
            let wanted = range.resolve(content.len() as u64).unwrap();
            assert!(bytes == content[usize::try_from(wanted.start).unwrap()..usize::try_from(wanted.end).unwrap()], "{first}-{last}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_kept_are_not_written_over_by_later_reads() {
    let dir = scratch();
    let store = FsBlobStore::open(dir.path()).await.unwrap();
    let contents: Vec<_> = (0..4).map(|seed| content(seed, 1 << 20)).collect();
    let mut kept = Vec::new();
    for round in 0..3 {
        for content in &contents {
            let digest = Digest::sha256(content);
            if round == 0 {
                store.put(&digest, Default::default(), frames(content)).await.unwrap();
            }
            let mut reader = store.read(&digest, ReadOptions::default()).await.unwrap();
            let mut at = 0;
            while let Some(chunk) = reader.stream.next().await {
                let chunk = chunk.unwrap();
                let wanted = content.slice(at..at + chunk.len());
                at += chunk.len();
                // Every third is kept, the others go back to the pool.
                if (at / chunk.len()) % 3 == round {
                    kept.push((chunk, wanted));
                }
            }
        }
    }
    assert!(kept.len() > 10 && kept.iter().all(|(chunk, wanted)| chunk == wanted));
}
