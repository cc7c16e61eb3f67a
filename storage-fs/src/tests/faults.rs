//! Every operation of every flow fails once: before it was done, after it was done, and with the process killed there.

use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{ErrorKind, UploadToken};

use super::*;

/// The ways to fail that are tried at each operation.
fn plans(at: usize) -> Vec<Plan> {
    let plan = |dead, verdict| Plan { at, dead, verdict };
    vec![
        plan(false, Verdict::Fail(Errno::NOSPC)),
        plan(false, Verdict::Fail(Errno::DQUOT)),
        plan(false, Verdict::Fail(Errno::IO)),
        plan(false, Verdict::DoneButFail(Errno::IO)),
        plan(true, Verdict::Fail(Errno::IO)),
        plan(true, Verdict::DoneButFail(Errno::IO)),
    ]
}

fn assert_kind(plan: Plan, kind: ErrorKind) {
    if let Verdict::Fail(Errno::NOSPC | Errno::DQUOT) = plan.verdict {
        assert_eq!(kind, ErrorKind::StorageFull, "{plan:?}");
    } else {
        assert_eq!(kind, ErrorKind::Unavailable, "{plan:?}");
    }
}

/// Runs `flow` on a fresh store for each operation that it has and each way to fail, until it gets through without reaching the plan.
async fn at_each_operation<F, Fut>(flow: F)
where
    F: Fn(FsBlobStore, Arc<Script>, Plan, std::path::PathBuf) -> Fut,
    Fut: Future<Output = bool>,
{
    for at in 0.. {
        assert!(at < 100, "a flow that never ends");
        let mut reached = false;
        for plan in plans(at) {
            let root = scratch();
            let script = Script::new();
            let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
            reached |= flow(store, script, plan, root.path().to_owned()).await;
        }
        if !reached {
            assert!(at > 3, "a flow has operations");
            return;
        }
    }
}

/// After the fault: nothing torn, nothing lost, leftovers only after a death, and the same write succeeds.
async fn assert_recovers(root: &Path, plan: Plan, before: &Bytes, written: &Bytes) {
    let store = FsBlobStore::open(root).await.unwrap();
    let (old, new) = (Digest::sha256(before), Digest::sha256(written));
    let listed = assert_holds(&store, &[old, new]).await;
    assert!(listed.contains(&old), "{plan:?}: what was acknowledged is there");
    assert_leftovers_can_be_dropped(&store, root).await;
    store.put(&new, put_options(written), frames(written)).await.unwrap();
    assert_eq!(store.read_all(&new).await.unwrap(), *written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_fails_anywhere_leaves_nothing_torn_and_no_file() {
    for len in [0, 4096, LARGE] {
        at_each_operation(|store, script, plan, root| async move {
            let before = content(99, 1000);
            store.put(&Digest::sha256(&before), put_options(&before), frames(&before)).await.unwrap();
            let written = content(1, len);
            let digest = Digest::sha256(&written);
            script.arm(plan);
            let result = store.put(&digest, put_options(&written), frames(&written)).await;
            let reached = script.disarm();
            assert_eq!(result.is_err(), reached, "{plan:?}: a failed operation is a failed write, and no other is");
            if let Err(error) = &result {
                assert_kind(plan, error.kind());
                if !plan.dead {
                    // A failed unlink leaves its file, whatever caused it; here only one operation fails, and a put without another failure unlinks nothing.
                    assert_eq!(staged(&root), Vec::<String>::new(), "{plan:?}: no file is left");
                }
                assert_eq!(store.read_all(&Digest::sha256(&before)).await.unwrap(), before, "{plan:?}: reads go on");
            }
            drop(store);
            assert_recovers(&root, plan, &before, &written).await;
            reached
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_over_a_blob_that_fails_anywhere_leaves_one_or_the_other() {
    at_each_operation(|store, script, plan, root| async move {
        let written = content(1, 4096);
        let digest = Digest::sha256(&written);
        store.put(&digest, put_options(&written), frames(&written)).await.unwrap();
        script.arm(plan);
        let result = store.put(&digest, put_options(&written), frames(&written)).await;
        let reached = script.disarm();
        assert_eq!(result.is_err(), reached);
        assert_eq!(store.read_all(&digest).await.unwrap(), written, "{plan:?}: the acknowledged blob is there");
        drop(store);
        assert_recovers(&root, plan, &written, &written).await;
        reached
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_anywhere_can_be_tried_again_or_says_that_the_bytes_are_gone() {
    for len in [0, 4096, LARGE] {
        at_each_operation(|store, script, plan, root| async move {
            let before = content(99, 1000);
            store.put(&Digest::sha256(&before), put_options(&before), frames(&before)).await.unwrap();
            let written = content(1, len);
            let digest = Digest::sha256(&written);
            script.arm(plan);
            let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
            let mut result = Ok(());
            for frame in written.chunks(100_000) {
                result = upload.write(written.slice_ref(frame)).await;
                if result.is_err() {
                    break;
                }
            }
            let commit = match result {
                Ok(()) => upload.commit(&digest).await.map(drop),
                Err(error) => Err(error),
            };
            let reached = script.disarm();
            assert_eq!(commit.is_err(), reached, "{plan:?}: {commit:?}");
            if let Err(error) = &commit {
                assert_kind(plan, error.kind());
                match upload.commit(&digest).await {
                    Ok(info) => assert_eq!((info.digest, info.size), (digest, len as u64)),
                    // A sync that failed, or a write: never good on the second try.
                    Err(again) => assert!(matches!(again.kind(), ErrorKind::UploadUnknown | ErrorKind::Conflict), "{plan:?}: {again:?}"),
                }
            } else {
                upload.commit(&digest).await.unwrap();
            }
            drop((upload, store));
            assert_recovers(&root, plan, &before, &written).await;
            reached
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_data_sync_is_never_followed_by_a_good_one_of_the_same_file() {
    for len in [4096, LARGE] {
        let root = scratch();
        let log = Script::new();
        let (once, hook) = (AtomicUsize::new(0), log.hook());
        let failing: Hook = Arc::new(move |op| {
            hook(op);
            match op {
                Op::SyncData(path)
                    if path.starts_with("uploads/") && !path.ends_with(".format") && once.fetch_add(1, Ordering::SeqCst) == 0 =>
                {
                    Verdict::Fail(Errno::IO)
                }
                _ => Verdict::Go,
            }
        });
        let store = hooked(root.path(), Durability::PowerLoss, failing).unwrap();
        let written = content(1, len);
        let digest = Digest::sha256(&written);
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        upload.write(written.clone()).await.unwrap();
        log.take();
        upload.commit(&digest).await.unwrap_err();
        let again = upload.commit(&digest).await;
        let ops = log.take();
        let syncs = ops.iter().filter(|op| matches!(op, Op::SyncData(_))).count();
        if len < BATCH {
            again.unwrap();
            assert_eq!(syncs, 2);
            let last_create = ops.iter().rposition(|op| matches!(op, Op::Create(_))).unwrap();
            let failed = ops.iter().position(|op| matches!(op, Op::SyncData(_))).unwrap();
            assert!(failed < last_create, "the second sync is that of a new file: {ops:?}");
        } else {
            assert_eq!(again.unwrap_err().kind(), ErrorKind::UploadUnknown);
            assert_eq!(syncs, 1);
            assert_eq!(staged(root.path()), Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_suspend_or_resume_leaves_the_last_token_good_or_says_that_it_is_not() {
    let half = LARGE / 2;
    at_each_operation(|store, script, plan, root| async move {
        let all = content(1, LARGE);
        let digest = Digest::sha256(&all);
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        upload.write(all.slice(..half)).await.unwrap();
        let token = upload.suspend().await.unwrap();
        drop(upload);

        script.arm(plan);
        let second: Result<UploadToken> = async {
            let mut upload = store.resume(ResumeOptions::new(token.clone(), 2)).await?;
            upload.write(content(2, BATCH + 10)).await?;
            upload.suspend().await
        }
        .await;
        let reached = script.disarm();
        assert_eq!(second.is_err(), reached, "{plan:?}");
        drop(store);

        let store = FsBlobStore::open(&root).await.unwrap();
        let synced_badly = second.is_err();
        match store.resume(ResumeOptions::new(token, 3)).await {
            // Also if the second got through: its token was never saved, so the first is what counts.
            Ok(mut upload) => {
                upload.write(all.slice(half..)).await.unwrap();
                upload.commit(&digest).await.unwrap();
                assert_eq!(store.read_all(&digest).await.unwrap(), all, "{plan:?}: not a byte of the other writer");
            }
            Err(error) => {
                assert!(synced_badly, "{plan:?}: a token is good as long as nothing failed: {error}");
                assert_eq!(error.kind(), ErrorKind::UploadUnknown, "{plan:?}");
            }
        }
        assert_holds(&store, &[digest]).await;
        assert_leftovers_can_be_dropped(&store, &root).await;
        reached
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_gives_back_the_room_of_what_failed_and_keeps_what_was_acknowledged() {
    let root = scratch();
    let script = Script::new();
    let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
    let all = content(1, LARGE);
    let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
    upload.write(all.slice(..1000)).await.unwrap();
    let token = upload.suspend().await.unwrap();
    let mut upload = store.resume(ResumeOptions::new(token.clone(), 2)).await.unwrap();
    upload.write(all.slice(1000..BATCH + 1000)).await.unwrap();
    let file = root.path().join("uploads").join(&staged(root.path())[0]);
    while std::fs::metadata(&file).unwrap().len() < 1000 + BATCH as u64 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    // The write of the second batch.
    script.arm(Plan { at: 0, dead: false, verdict: Verdict::Fail(Errno::NOSPC) });
    let error = async {
        upload.write(content(2, BATCH)).await?;
        upload.suspend().await
    }
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(script.disarm());
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 1000, "cut to what was acknowledged");
    drop(upload);
    let mut upload = store.resume(ResumeOptions::new(token, 3)).await.unwrap();
    upload.write(all.slice(1000..)).await.unwrap();
    upload.commit(&Digest::sha256(&all)).await.unwrap();
    assert_holds(&store, &[Digest::sha256(&all)]).await;
}

#[tokio::test]
async fn an_object_that_fails_to_be_replaced_has_its_old_value_or_the_new_one() {
    at_each_operation(|store, script, plan, root| async move {
        let objects = store.named().unwrap();
        objects.put("zone", content(1, 100)).await.unwrap();
        script.arm(plan);
        let result = objects.put("zone", content(2, 200)).await;
        let reached = script.disarm();
        assert_eq!(result.is_err(), reached);
        let value = objects.get("zone").await.unwrap().unwrap();
        assert!(value == content(2, 200) || (reached && value == content(1, 100)), "{plan:?}");
        let store = FsBlobStore::open(&root).await.unwrap();
        assert_leftovers_can_be_dropped(&store, &root).await;
        reached
    })
    .await;
}

#[tokio::test]
async fn opening_that_fails_anywhere_can_be_tried_again() {
    for at in 0.. {
        let mut reached = false;
        for plan in plans(at) {
            let root = scratch();
            let script = Script::new();
            script.arm(plan);
            let opened = hooked(root.path(), Durability::PowerLoss, script.hook());
            reached |= script.disarm();
            assert_eq!(opened.is_err(), reached, "{plan:?}");
            FsBlobStore::open(root.path()).await.unwrap();
        }
        if !reached {
            assert!(at > 10);
            return;
        }
    }
}
