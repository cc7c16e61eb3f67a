use std::sync::Arc;
use std::time::Duration;

use metadata_sql::{SqlMetadataStore, SqliteOptions};
use registry_core::metadata::LinkBlob;
use registry_core::{ErrorKind, MetadataStore as _};

use super::{folder, open, outsider};
use crate::support::{all, digest, eventually, manifest, push_blob, push_manifest, repository};

fn link(name: &str, content: &str, generation: u64) -> LinkBlob {
    LinkBlob { repository: repository(name), digest: digest(content), size: content.len() as u64, generation, upload: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_queues_up_behind_a_slow_commit_is_committed_together() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let mut links = Vec::new();
    for number in 0..100 {
        let content = format!("layer {number}");
        let generation = store.intend_blob(&digest(&content)).await.unwrap().generation;
        links.push(link("team/app", &content, generation));
    }
    let before = store.stats();

    // While another program holds the file, the first command waits in the writer and all others behind it.
    let outsider = outsider(&path);
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting: Vec<_> = links
        .into_iter()
        .map(|link| {
            let store = store.clone();
            tokio::spawn(async move { store.link_blob(link).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    outsider.execute_batch("COMMIT").unwrap();
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    let after = store.stats();
    assert_eq!(after.commands - before.commands, 100);
    let transactions = after.transactions - before.transactions;
    assert!(transactions <= 3, "{transactions} transactions for 100 commands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_command_does_no_harm_to_those_it_is_committed_with() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let outsider = outsider(&path);
    let mut waiting = Vec::new();
    let mut generations = Vec::new();
    for number in 0..30 {
        generations.push(store.intend_blob(&digest(format!("layer {number}"))).await.unwrap().generation);
    }
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    for (number, generation) in generations.into_iter().enumerate() {
        // Every third has an old generation.
        let link = link("team/app", &format!("layer {number}"), if number % 3 == 0 { generation - 1 } else { generation });
        let store = store.clone();
        waiting.push(tokio::spawn(async move { store.link_blob(link).await }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    outsider.execute_batch("COMMIT").unwrap();
    for (number, one) in waiting.into_iter().enumerate() {
        let outcome = one.await.unwrap().map_err(|error| error.kind());
        assert_eq!(outcome, if number % 3 == 0 { Err(ErrorKind::Conflict) } else { Ok(()) }, "layer {number}");
        let held = store.blob_link(&repository("team/app"), &digest(format!("layer {number}"))).await.unwrap();
        assert_eq!(held.is_some(), number % 3 != 0, "layer {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_its_command_whole() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let generation = store.intend_blob(&digest("layer")).await.unwrap().generation;
    let outsider = outsider(&path);
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let linking = store.link_blob(link("team/app", "layer", generation));
    // It is queued when it is first polled, and dropped while it waits.
    tokio::time::timeout(Duration::from_millis(100), linking).await.unwrap_err();
    assert_eq!(store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap(), None);
    outsider.execute_batch("COMMIT").unwrap();
    eventually("the link of the caller that went away", async || {
        store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_finishes_what_was_begun() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let generation = store.intend_blob(&digest("layer")).await.unwrap().generation;
    let outsider = outsider(&path);
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let linking = tokio::spawn({
        let store = store.clone();
        async move { store.link_blob(link("team/app", "layer", generation)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!closing.is_finished());
    outsider.execute_batch("COMMIT").unwrap();
    linking.await.unwrap().unwrap();
    closing.await.unwrap();
    assert!(open(&path).await.blob_link(&repository("team/app"), &digest("layer")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_program_holds_is_unavailable_and_then_available_again() {
    let (_folder, path) = folder();
    let options = SqliteOptions::default().with_busy_timeout(Duration::from_millis(200));
    let store = SqlMetadataStore::sqlite(&path, options).await.unwrap();
    push_blob(&store, "team/app", "layer").await.unwrap();
    let outsider = outsider(&path);
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.intend_blob(&digest("other")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error:?}");
    // Readers wait for nobody.
    assert!(store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap().is_some());
    outsider.execute_batch("COMMIT").unwrap();
    push_blob(&store, "team/app", "other").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_storage_full_and_nothing_is_torn() {
    let (_folder, path) = folder();
    let store = Arc::new(SqlMetadataStore::sqlite(&path, SqliteOptions::default().with_max_size(400 << 10)).await.unwrap());
    let blob = push_blob(&*store, "team/app", "layer").await.unwrap();
    let mut stored = Vec::new();
    let error = loop {
        let text = format!("{:0>20000}", stored.len());
        match push_manifest(&*store, "team/app", &text, vec![blob], &["latest"]).await {
            Ok(digest) => stored.push(digest),
            Err(error) => break error,
        }
        assert!(stored.len() < 100, "the file grew past its bound");
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert!(stored.len() > 3, "only {} manifests fitted", stored.len());

    // Reads go on; the tag is at the last manifest that was acknowledged, and no event tells of the one that was not.
    let latest = store.manifest(&repository("team/app"), &"latest".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(Some(&latest.digest), stored.last());
    let pushed = store.events(0, 1000).await.unwrap();
    assert_eq!(pushed.len(), 2 * stored.len());

    // Of a batch, what fits is committed and what does not is refused.
    let (big, small) = ("b".repeat(100_000), "small");
    let big = manifest(&*store, "team/app", &big, vec![blob], &[]).await.unwrap();
    let small = manifest(&*store, "team/app", small, vec![blob], &[]).await.unwrap();
    let (big_digest, small_digest) = (big.digest, small.digest);
    let outsider = outsider(&path);
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let both = [small, big].map(|put| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put_manifest(put).await })
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    outsider.execute_batch("COMMIT").unwrap();
    let [small, big] = both;
    small.await.unwrap().unwrap();
    assert_eq!(big.await.unwrap().unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(store.manifest(&repository("team/app"), &small_digest.into()).await.unwrap().is_some());
    assert!(store.manifest(&repository("team/app"), &big_digest.into()).await.unwrap().is_none());

    // What is deleted makes room.
    for digest in &stored[..3] {
        assert!(store.delete_manifest(&repository("team/app"), digest).await.unwrap());
    }
    push_manifest(&*store, "team/app", &"c".repeat(20_000), vec![blob], &[]).await.unwrap();
    assert_eq!(store.tags(&repository("team/app"), &all()).await.unwrap().map(|tags| tags.len()), Some(1));
    let damage: String = outsider.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(damage, "ok");
}
