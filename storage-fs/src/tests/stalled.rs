//! A writer that stalls, is taken for dead, and comes back.

use registry_core::blob::{BlobUpload, ResumeOptions, WriteOptions};
use registry_core::{ErrorKind, UploadToken};

use super::*;
use crate::layout::Staged;

/// What the old writer does when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Write,
    Suspend,
    Commit,
    Abort,
    Drop,
}

const LATE: [Late; 5] = [Late::Write, Late::Suspend, Late::Commit, Late::Abort, Late::Drop];

struct Scene {
    root: tempfile::TempDir,
    a: FsBlobStore,
    b: FsBlobStore,
    token: UploadToken,
}

/// One upload put aside at `offset`, seen by two processes.
async fn scene(prefix: &Bytes) -> Scene {
    let root = scratch();
    let (a, b) = (FsBlobStore::open(root.path()).await.unwrap(), FsBlobStore::open(root.path()).await.unwrap());
    let mut upload = a.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
    upload.write(prefix.clone()).await.unwrap();
    let token = upload.suspend().await.unwrap();
    Scene { root, a, b, token }
}

/// What the old writer has in hand is a valid blob of its own; it may get it in, but never into what the new writer commits.
async fn act(upload: &mut Option<Box<dyn BlobUpload>>, late: Late, own: &Bytes, prefix: usize) {
    let Some(handle) = upload else { return };
    match late {
        Late::Write => {
            // More than a batch, so that it goes to the disk.
            let at = usize::try_from(handle.offset()).unwrap();
            if at + BATCH < own.len() {
                drop(handle.write(own.slice(at..at + BATCH + 1)).await);
            }
        }
        Late::Suspend => {
            if let Err(error) = handle.suspend().await {
                assert_eq!(error.kind(), ErrorKind::Conflict);
            }
        }
        Late::Commit => {
            let at = usize::try_from(handle.offset()).unwrap();
            assert!(at >= prefix);
            match handle.commit(&Digest::sha256(&own[..at])).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
            }
        }
        Late::Abort => upload.take().unwrap().abort().await.unwrap(),
        Late::Drop => drop(upload.take()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_writer_does_no_harm_whenever_and_however_it_comes_back() {
    let prefix = content(1, 100_000);
    let mine: Bytes = [&prefix[..], &content(2, 3 * BATCH)[..]].concat().into();
    let theirs: Bytes = [&prefix[..], &content(3, BATCH + 777)[..]].concat().into();
    let digest = Digest::sha256(&theirs);
    // How much the stalled writer has written before: nothing, into memory only, to the disk.
    for before in [0, 1000, BATCH + 5] {
        // Between which steps of the new writer it comes back: resume, write, write, commit.
        for moment in 0..4 {
            for first in LATE {
                for second in LATE {
                    let scene = scene(&prefix).await;
                    let mut old = Some(scene.a.resume(ResumeOptions::new(scene.token.clone(), 2)).await.unwrap());
                    if before > 0 {
                        old.as_mut().unwrap().write(mine.slice(prefix.len()..prefix.len() + before)).await.unwrap();
                    }
                    let mut new = scene.b.resume(ResumeOptions::new(scene.token.clone(), 3)).await.unwrap();
                    assert_eq!(new.offset(), prefix.len() as u64);
                    let half = prefix.len() + BATCH + 1;
                    for step in 0..4 {
                        if step == moment {
                            act(&mut old, first, &mine, prefix.len()).await;
                            act(&mut old, second, &mine, prefix.len()).await;
                        }
                        match step {
                            0 => new.write(theirs.slice(prefix.len()..half)).await.unwrap(),
                            1 => new.write(theirs.slice(half..)).await.unwrap(),
                            2 => {
                                let info = new.commit(&digest).await.unwrap();
                                assert_eq!(info.size, theirs.len() as u64, "{before} {moment} {first:?} {second:?}");
                            }
                            _ => {}
                        }
                    }
                    drop(old);
                    let own: Vec<_> =
                        (0..4).map(|n| Digest::sha256(&mine[..(prefix.len() + before + n * (BATCH + 1)).min(mine.len())])).collect();
                    let listed = assert_holds(&scene.b, &[&own[..], &[digest]].concat()).await;
                    assert!(listed.contains(&digest), "{before} {moment} {first:?} {second:?}");
                    assert_leftovers_can_be_dropped(&scene.b, scene.root.path()).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stalled_writer_is_told_and_its_file_has_no_name_any_more() {
    let prefix = content(1, 1000);
    for commit in [false, true] {
        let scene = scene(&prefix).await;
        let mut old = scene.a.resume(ResumeOptions::new(scene.token.clone(), 2)).await.unwrap();
        old.write(content(2, BATCH)).await.unwrap();
        let new = scene.b.resume(ResumeOptions::new(scene.token.clone(), 3)).await.unwrap();
        let names = staged(scene.root.path());
        assert!(names.len() == 1 && names[0].ends_with(".3.1.1000"), "{names:?}");
        let refused = match commit {
            false => old.suspend().await.unwrap_err(),
            true => old.commit(&Digest::sha256(&[&prefix[..], &content(2, BATCH)[..]].concat())).await.unwrap_err(),
        };
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        drop(new);
    }
}

#[tokio::test]
async fn a_name_that_went_to_another_file_meanwhile_is_not_claimed() {
    // Between opening and locking: the file became a blob, and the name another's.
    let root = scratch();
    let store = FsBlobStore::open(root.path()).await.unwrap();
    let shared = Arc::clone(&store.shared);
    let mine = Staged::new(2);
    let path = Staged::new(1).path();
    for locked in [false, true] {
        std::fs::write(root.path().join(&path), "a blob by now").unwrap();
        let file = shared.sys.open_write(&path).unwrap();
        std::fs::rename(root.path().join(&path), root.path().join("blob")).unwrap();
        let holder = std::fs::File::open(root.path().join("blob")).unwrap();
        assert!(!locked || crate::sys::lock(&holder).unwrap());
        std::fs::write(root.path().join(&path), "another's").unwrap();
        assert!(crate::resume::claim(&shared, &path, file, 3, &mine).unwrap().is_none());
        assert_eq!(std::fs::read(root.path().join("blob")).unwrap(), b"a blob by now");
        assert_eq!(std::fs::read(root.path().join(&path)).unwrap(), b"another's");
    }
}

#[tokio::test]
async fn an_older_epoch_is_refused_once_a_newer_one_was_here() {
    let prefix = content(1, 1000);
    let scene = scene(&prefix).await;
    assert_eq!(scene.a.resume(ResumeOptions::new(scene.token.clone(), 1)).await.unwrap_err().kind(), ErrorKind::Conflict);
    let newer = scene.b.resume(ResumeOptions::new(scene.token.clone(), 5)).await.unwrap();
    for epoch in [2, 4, 5] {
        let refused = scene.a.resume(ResumeOptions::new(scene.token.clone(), epoch)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{epoch}");
    }
    drop(newer);
    assert_eq!(scene.a.resume(ResumeOptions::new(scene.token.clone(), 4)).await.unwrap_err().kind(), ErrorKind::Conflict);
    scene.a.resume(ResumeOptions::new(scene.token, 6)).await.unwrap();
}

#[tokio::test]
async fn a_token_is_not_joined_to_bytes_that_its_hash_has_not_seen() {
    // Two writers from one token, of which the second is what counts; the first one's token has the same length as the second one's file.
    let prefix = content(1, 1000);
    let scene = scene(&prefix).await;
    let mut first = scene.a.resume(ResumeOptions::new(scene.token.clone(), 2)).await.unwrap();
    first.write(content(2, 500)).await.unwrap();
    let stale = first.suspend().await.unwrap();
    let mut second = scene.b.resume(ResumeOptions::new(scene.token.clone(), 3)).await.unwrap();
    second.write(content(3, 500)).await.unwrap();
    let good = second.suspend().await.unwrap();
    assert_eq!(scene.a.resume(ResumeOptions::new(stale, 4)).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    let mut third = scene.a.resume(ResumeOptions::new(good, 5)).await.unwrap();
    let all = [&prefix[..], &content(3, 500)[..]].concat();
    third.commit(&Digest::sha256(&all)).await.unwrap();
    assert_eq!(scene.b.read_all(&Digest::sha256(&all)).await.unwrap(), all);
}

#[tokio::test]
async fn a_blob_with_a_second_name_in_uploads_is_not_cut_by_a_resume() {
    // As a crash may leave it on a filesystem without a journal.
    let prefix = content(1, 1000);
    let scene = scene(&prefix).await;
    let mut upload = scene.a.resume(ResumeOptions::new(scene.token.clone(), 2)).await.unwrap();
    upload.write(content(2, 500)).await.unwrap();
    let all: Bytes = [&prefix[..], &content(2, 500)[..]].concat().into();
    let digest = Digest::sha256(&all);
    upload.commit(&digest).await.unwrap();
    let blob = scene.root.path().join(crate::layout::blob(&digest));
    let name = format!("{}.2.1.1000", std::str::from_utf8(&scene.token.backend).unwrap().split('.').next().unwrap());
    std::fs::hard_link(&blob, scene.root.path().join("uploads").join(name)).unwrap();
    let mut upload = scene.b.resume(ResumeOptions::new(scene.token.clone(), 3)).await.unwrap();
    upload.write(content(3, 10)).await.unwrap();
    upload.commit(&Digest::sha256(&[&prefix[..], &content(3, 10)[..]].concat())).await.unwrap();
    assert_eq!(scene.b.read_all(&digest).await.unwrap(), all);
}

#[tokio::test]
async fn a_file_shorter_than_its_token_is_an_unknown_upload() {
    let scene = scene(&content(1, 1000)).await;
    let name = scene.root.path().join("uploads").join(&staged(scene.root.path())[0]);
    std::fs::File::options().write(true).open(name).unwrap().set_len(999).unwrap();
    assert_eq!(scene.a.resume(ResumeOptions::new(scene.token, 2)).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
}

#[tokio::test]
async fn a_live_writer_is_neither_listed_nor_discarded() {
    let scene = scene(&content(1, 1000)).await;
    let upload = scene.a.resume(ResumeOptions::new(scene.token.clone(), 2)).await.unwrap();
    let name = staged(scene.root.path()).remove(0);
    assert!(scene.b.uploads(END_OF_TIME).try_collect::<Vec<_>>().await.unwrap().is_empty());
    assert_eq!(scene.b.discard(&name).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(upload);
    assert_eq!(scene.b.uploads(END_OF_TIME).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert!(scene.b.uploads(Timestamp::from_millis(0)).try_collect::<Vec<_>>().await.unwrap().is_empty(), "touched since then");
    scene.b.discard(&name).await.unwrap();
    assert_eq!(scene.a.resume(ResumeOptions::new(scene.token, 3)).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
}

#[tokio::test]
async fn an_unreadable_midstate_is_made_up_for_by_reading() {
    let prefix = content(1, 300_000);
    let mut scene = scene(&prefix).await;
    scene.token.midstate = Bytes::from_static(b"from another library");
    let mut upload = scene.b.resume(ResumeOptions::new(scene.token, 2)).await.unwrap();
    upload.write(Bytes::from_static(b"more")).await.unwrap();
    let all = [&prefix[..], b"more"].concat();
    upload.commit(&Digest::sha256(&all)).await.unwrap();
}
