//! A whole store on a disk that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use registry_core::metadata::LinkBlob;
use registry_core::{Digest, ErrorKind, MetadataStore as _, RepositoryName};
use rusqlite::{Connection, ffi};
use tempfile::TempDir;

use super::faults::Faults;
use super::{Sqlite, SqliteSession, connection};
use crate::database::Database;
use crate::{SqlMetadataStore, SqliteOptions};

const COMMIT: &str = "COMMIT";
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(PASSIVE)";
const EMPTY_LOG_AT_END: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

fn open(path: &Path) -> (SqlMetadataStore, Faults) {
    connection::create_file(path).unwrap();
    let options = SqliteOptions::default();
    let session = SqliteSession::open(path, &options).unwrap();
    let faults = session.faults.clone();
    let open = Sqlite::start(path.to_owned(), &options, session).unwrap();
    (SqlMetadataStore::over(Database::Sqlite(Box::new(open))), faults)
}

fn fresh() -> (TempDir, SqlMetadataStore, Faults) {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = open(&folder.path().join("registry.db"));
    (folder, store, faults)
}

fn team() -> RepositoryName {
    "team/app".parse().unwrap()
}

async fn push(store: &SqlMetadataStore, content: &str) -> registry_core::Result<Digest> {
    let digest = Digest::sha256(content.as_bytes());
    let generation = store.intend_blob(&digest).await?.generation;
    store.link_blob(LinkBlob { repository: team(), digest, size: 1, generation, upload: None }).await?;
    Ok(digest)
}

async fn is_given_up(store: &SqlMetadataStore) {
    for error in [push(store, "later").await.unwrap_err(), store.ping().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("restart the process"), "{error}");
    }
}

/// Several callers share the batch; none of them is tried again alone, and nothing is acknowledged any more, although the disk works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_commit_that_the_disk_failed_nothing_is_written_any_more() {
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR] {
        let (folder, store, faults) = fresh();
        let before = push(&store, "before").await.unwrap();
        store.ping().await.unwrap();
        let commits = faults.count(COMMIT);

        let outsider = Connection::open(folder.path().join("registry.db")).unwrap();
        outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
        faults.plant(COMMIT, Some(code));
        let pushing: Vec<_> = (0..5)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move { store.intend_blob(&Digest::sha256(format!("{number}").as_bytes())).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        outsider.execute_batch("COMMIT").unwrap();
        for one in pushing {
            let error = one.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
        assert_eq!(faults.count(COMMIT) - commits, 1, "tried again");

        faults.plant(COMMIT, None);
        is_given_up(&store).await;
        assert_eq!(faults.count(COMMIT) - commits, 1, "committed after the failure");
        // Reads go on.
        assert!(store.blob_link(&team(), &before).await.unwrap().is_some());
        assert!(store.events(0, 10).await.unwrap().is_empty());

        let log = folder.path().join("registry.db-wal");
        let length = log.metadata().unwrap().len();
        assert!(length > 0);
        drop(outsider);
        store.close().await;
        drop(store);
        assert_eq!(faults.count(EMPTY_LOG) + faults.count(EMPTY_LOG_AT_END), 0);
        assert_eq!(log.metadata().unwrap().len(), length, "the log was emptied into the database");

        // Another process decides anew.
        let (store, _) = open(&folder.path().join("registry.db"));
        store.ping().await.unwrap();
        push(&store, "later").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_found_no_room_or_no_turn_is_no_failure_of_the_disk() {
    for (code, kind) in [(ffi::SQLITE_FULL, ErrorKind::StorageFull), (ffi::SQLITE_BUSY, ErrorKind::Unavailable)] {
        let (_folder, store, faults) = fresh();
        faults.plant(COMMIT, Some(code));
        assert_eq!(push(&store, "layer").await.unwrap_err().kind(), kind);
        faults.plant(COMMIT, None);
        store.ping().await.unwrap();
        push(&store, "layer").await.unwrap();
    }
}

/// Enough pages for the log to be long.
async fn fill_log(store: &SqlMetadataStore) {
    for number in 0..500 {
        push(store, &format!("layer {number}")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_emptied_after_the_commit_and_starts_over() {
    let (folder, store, faults) = fresh();
    fill_log(&store).await;
    fill_log(&store).await;
    assert!(faults.count(EMPTY_LOG) > 1);
    assert!(folder.path().join("registry.db-wal").metadata().unwrap().len() < 8 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_flushed_before_it_is_emptied_is_a_failure_of_the_disk() {
    let (_folder, store, faults) = fresh();
    faults.plant(EMPTY_LOG, Some(ffi::SQLITE_IOERR_FSYNC));
    let mut failed = false;
    for number in 0..1000 {
        failed = push(&store, &format!("layer {number}")).await.is_err();
        if failed {
            break;
        }
    }
    assert!(failed, "{} times", faults.count(EMPTY_LOG));
    assert_eq!(faults.count(EMPTY_LOG), 1);
    faults.plant(EMPTY_LOG, None);
    is_given_up(&store).await;
    let store = Arc::new(store);
    store.close().await;
    assert_eq!((faults.count(EMPTY_LOG), faults.count(EMPTY_LOG_AT_END)), (1, 0));
}
