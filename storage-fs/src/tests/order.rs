//! In which order things reach the disk.

use registry_core::blob::{BlobUpload, ResumeOptions, WriteOptions};

use super::*;

/// What has to hold of every sequence that ends in an acknowledged blob.
fn assert_durable(ops: &[Op], digest: &Digest) {
    let place = crate::layout::blob(digest);
    let shard = place.rsplit_once('/').unwrap().0.to_owned();
    let position = |wanted: &dyn Fn(&Op) -> bool| ops.iter().position(wanted);
    let renamed = position(&|op| matches!(op, Op::Rename(_, to) if *to == place)).expect("renamed into place");
    let Op::Rename(from, _) = &ops[renamed] else { unreachable!() };
    let synced = position(&|op| *op == Op::SyncData(from.clone())).unwrap_or_else(|| panic!("data synced: {ops:?}"));
    let last_write = ops.iter().rposition(|op| *op == Op::Write(from.clone()) || *op == Op::Truncate(from.clone()));
    assert!(last_write.is_none_or(|write| write < synced), "all data is written before it is synced: {ops:?}");
    assert!(synced < renamed, "data is synced before it has its name: {ops:?}");
    let entry = ops.iter().rposition(|op| *op == Op::SyncDir(shard.clone())).unwrap_or_else(|| panic!("directory synced: {ops:?}"));
    assert!(renamed < entry, "the directory is synced after the rename: {ops:?}");
    for (at, op) in ops.iter().enumerate() {
        if let Op::Mkdir(path) = op {
            let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent).to_owned();
            let synced = ops.iter().skip(at).any(|op| *op == Op::SyncDir(parent.clone()));
            assert!(synced, "the entry of a new directory is synced: {path} in {ops:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_then_name_then_directory_then_the_answer() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::new();
    let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
    let opened = script.take();
    for directory in [".", "blobs"] {
        assert!(opened.contains(&Op::SyncDir(directory.to_owned())), "{directory} is synced when the store is made");
    }

    for (seed, len) in [(1, 0), (2, 1), (3, 4096), (4, BATCH - 1), (5, BATCH), (6, LARGE)] {
        let content = content(seed, len);
        let digest = Digest::sha256(&content);
        store.put(&digest, put_options(&content), frames(&content)).await.unwrap();
        assert_durable(&script.take(), &digest);

        let digest = Digest::of(registry_core::Algorithm::Sha512, &content);
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        upload.write(content.clone()).await.unwrap();
        upload.commit(&digest).await.unwrap();
        assert_durable(&script.take(), &digest);
    }
}

#[tokio::test]
async fn a_second_blob_of_a_shard_syncs_one_file_and_one_directory() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::new();
    let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
    let one = content(1, 100);
    let digest = Digest::sha256(&one);
    store.put(&digest, put_options(&one), frames(&one)).await.unwrap();
    script.take();
    store.put(&digest, put_options(&one), frames(&one)).await.unwrap();
    let ops = script.take();
    let kinds: Vec<_> = ops.iter().map(|op| format!("{op:?}").split('(').next().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["Create", "Write", "SyncData", "Rename", "SyncDir"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_given_out_when_its_bytes_and_their_name_are_durable() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::new();
    let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
    let all = content(1, LARGE);
    let digest = Digest::sha256(&all);
    let assert_suspended = |ops: &[Op]| {
        let write = ops.iter().rposition(|op| matches!(op, Op::Write(_))).unwrap();
        let data = ops.iter().rposition(|op| matches!(op, Op::SyncData(_))).unwrap();
        let entry = ops.iter().rposition(|op| *op == Op::SyncDir("uploads".to_owned())).unwrap();
        assert!(write < data && data < entry, "{ops:?}");
    };
    let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
    script.take();
    upload.write(all.slice(..10)).await.unwrap();
    let token = upload.suspend().await.unwrap();
    assert_suspended(&script.take());

    let mut upload = store.resume(ResumeOptions::new(token, 2)).await.unwrap();
    upload.write(all.slice(10..BATCH + 10)).await.unwrap();
    let token = upload.suspend().await.unwrap();
    assert_suspended(&script.take());

    let mut upload = store.resume(ResumeOptions::new(token, 3)).await.unwrap();
    upload.write(all.slice(BATCH + 10..)).await.unwrap();
    upload.commit(&digest).await.unwrap();
    assert_durable(&script.take(), &digest);
}

#[tokio::test]
async fn an_upload_that_was_not_written_to_touches_no_disk() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::new();
    let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
    script.take();
    let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
    let token = upload.suspend().await.unwrap();
    let upload: Box<dyn BlobUpload> = store.resume(ResumeOptions::new(token, 2)).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(script.take(), []);
}

#[tokio::test]
async fn a_delete_and_an_object_are_durable_when_answered() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::new();
    let store = hooked(root.path(), Durability::PowerLoss, script.hook()).unwrap();
    let one = content(1, 100);
    let digest = Digest::sha256(&one);
    store.put(&digest, put_options(&one), frames(&one)).await.unwrap();
    script.take();
    for _ in 0..2 {
        // The second time, too: the first caller may have been killed before the sync.
        store.delete(&digest).await.unwrap();
        let place = crate::layout::blob(&digest);
        let shard = place.rsplit_once('/').unwrap().0.to_owned();
        assert_eq!(script.take(), [Op::Unlink(place), Op::SyncDir(shard)]);
    }
    let objects = store.named().unwrap();
    objects.put("a/b", one.clone()).await.unwrap();
    let ops = script.take();
    let [Op::Create(temp), Op::Write(_), Op::SyncData(_), Op::Rename(from, to), Op::SyncDir(dir)] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!((temp, to.as_str(), dir.as_str()), (from, "_meta/a+b", "_meta"));
    objects.delete("a/b").await.unwrap();
    assert_eq!(script.take(), [Op::Unlink("_meta/a+b".to_owned()), Op::SyncDir("_meta".to_owned())]);
}

#[tokio::test]
async fn nothing_is_synced_when_only_a_crash_is_to_be_survived() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::new();
    let store = hooked(root.path(), Durability::ProcessCrash, script.hook()).unwrap();
    for len in [10, LARGE] {
        let one = content(1, len);
        let digest = Digest::sha256(&one);
        store.put(&digest, put_options(&one), frames(&one)).await.unwrap();
        store.delete(&digest).await.unwrap();
    }
    store.named().unwrap().put("a", content(1, 10)).await.unwrap();
    let synced = script.take().into_iter().any(|op| matches!(op, Op::SyncData(_) | Op::SyncDir(_)));
    assert!(!synced);
}
