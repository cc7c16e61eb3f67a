//! Opening a directory.

use std::os::unix::fs::PermissionsExt as _;

use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, ErrorKind};
use storage_fs::FsBlobStore;

use super::{content, frames, scratch};

#[tokio::test]
async fn a_root_is_made_with_its_parents_for_owner_and_group_only() {
    let dir = scratch();
    let root = dir.path().join("a/b");
    FsBlobStore::open(&root).await.unwrap();
    for path in [dir.path().join("a"), root.clone(), root.join("blobs"), root.join("uploads"), root.join("_meta")] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert!(path.is_dir());
        assert_eq!(mode & 0o007, 0, "{} is open to others: {mode:o}", path.display());
    }
    assert_eq!(std::fs::read_to_string(root.join("format")).unwrap(), "storage-fs layout 1\n");
    assert_eq!(std::fs::read_dir(root.join("uploads")).unwrap().count(), 0);
    FsBlobStore::open(&root).await.unwrap();
}

#[tokio::test]
async fn a_root_that_is_no_directory_is_refused() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = FsBlobStore::open(&root).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("directory"), "{error}");
    }
    std::fs::write(dir.path().join("blobs"), "in the way").unwrap();
    assert_eq!(FsBlobStore::open(dir.path()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}

#[tokio::test]
async fn a_newer_layout_is_refused_and_left_as_it_is() {
    let dir = scratch();
    std::fs::write(dir.path().join("format"), "storage-fs layout 2\n").unwrap();
    let error = FsBlobStore::open(dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("newer release") && error.to_string().contains("layout 2"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made there");
    for garbage in ["", "layout", "storage-fs layout 0", "storage-fs layout -1", "storage-fs layout 99999999999"] {
        std::fs::write(dir.path().join("format"), garbage).unwrap();
        assert_eq!(FsBlobStore::open(dir.path()).await.unwrap_err().kind(), ErrorKind::Corrupt, "{garbage:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_make_one_root_at_once() {
    for _ in 0..20 {
        let dir = scratch();
        let root = dir.path().join("a/b/c");
        let openers: Vec<_> = (0..8).map(|_| tokio::spawn(FsBlobStore::open(root.clone()))).collect();
        let content = content(1, 100);
        let digest = Digest::sha256(&content);
        let mut stores = Vec::new();
        for opener in openers {
            stores.push(opener.await.unwrap().unwrap());
        }
        stores[0].put(&digest, Default::default(), frames(&content)).await.unwrap();
        for store in &stores {
            assert_eq!(store.read_all(&digest).await.unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(root.join("uploads")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn directories_that_somebody_tidied_away_are_made_again() {
    let dir = scratch();
    let store = FsBlobStore::open(dir.path()).await.unwrap();
    let content = content(1, 100);
    let digest = Digest::sha256(&content);
    for _ in 0..2 {
        store.put(&digest, Default::default(), frames(&content)).await.unwrap();
        store.delete(&digest).await.unwrap();
        std::fs::remove_dir(dir.path().join(format!("blobs/sha256/{}", &digest.hex()[..2]))).unwrap();
        store.delete(&digest).await.unwrap();
        assert_eq!(store.stat(&digest).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
