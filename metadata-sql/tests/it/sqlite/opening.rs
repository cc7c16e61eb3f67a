use std::time::Duration;

use metadata_sql::{SqlMetadataStore, SqliteOptions};
use registry_core::{ErrorKind, MetadataStore as _};

use super::{as_child, child, folder, open, outsider};
use crate::support::{all, push_blob, repository};

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let digest = push_blob(&store, "team/app", "layer").await.unwrap();
    store.close().await;
    let link = open(&path).await.blob_link(&repository("team/app"), &digest).await.unwrap();
    assert_eq!(link.map(|link| link.size), Some(5));
}

#[cfg(unix)]
#[tokio::test]
async fn new_files_and_folders_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, _) = folder();
    let path = folder.path().join("a/b/registry.db");
    let store = open(&path).await;
    push_blob(&store, "team/app", "layer").await.unwrap();
    let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("a"), mode("a/b")], [0o700; 2]);
    for name in ["a/b/registry.db", "a/b/registry.db-wal", "a/b/registry.db-shm"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[tokio::test]
async fn closing_leaves_one_file_that_is_complete() {
    let (folder, path) = folder();
    let store = open(&path).await;
    let digest = push_blob(&store, "team/app", "layer").await.unwrap();
    store.close().await;
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert!(open(&copy).await.blob_link(&repository("team/app"), &digest).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    open(&path).await.close().await;
    outsider(&path).execute("UPDATE meta SET value = 1000 WHERE name = 'schema_version'", []).unwrap();
    let error = SqlMetadataStore::sqlite(&path, SqliteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("1000") && error.to_string().contains("registry.db"), "{error}");
    let version: i64 = outsider(&path).query_row("SELECT value FROM meta WHERE name = 'schema_version'", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1000);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    let text = "These are somebody's notes, and no database at all. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let error = SqlMetadataStore::sqlite(&path, SqliteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let (folder, _) = folder();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = SqlMetadataStore::sqlite(folder.path().join("file/registry.db"), SqliteOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("file/registry.db"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_handles_that_open_a_new_file_at_once_find_one_database() {
    for _ in 0..10 {
        let (_folder, path) = folder();
        let opening: Vec<_> = (0..8)
            .map(|number| {
                let path = path.clone();
                tokio::spawn(async move {
                    let store = open(&path).await;
                    push_blob(&store, &format!("team/app{number}"), "layer").await.unwrap();
                })
            })
            .collect();
        for one in opening {
            one.await.unwrap();
        }
        let digest = crate::support::digest("layer");
        let store = open(&path).await;
        for number in 0..8 {
            assert!(store.blob_link(&repository(&format!("team/app{number}")), &digest).await.unwrap().is_some());
        }
    }
}

#[test]
fn many_processes_that_open_a_new_file_at_once_find_one_database() {
    for _ in 0..3 {
        let (_folder, path) = folder();
        let mut children: Vec<_> = (0..4).map(|_| child("sqlite::opening::child_that_opens_and_pushes", &path)).collect();
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        let links: i64 = outsider(&path).query_row("SELECT COUNT(*) FROM links", [], |row| row.get(0)).unwrap();
        assert_eq!(links, 4);
    }
}

#[tokio::test]
#[ignore = "run by many_processes_that_open_a_new_file_at_once_find_one_database"]
async fn child_that_opens_and_pushes() {
    let Some(path) = as_child() else { return };
    let store = open(&path).await;
    push_blob(&store, &format!("team/app{}", std::process::id()), "layer").await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let clone = store.clone();
    store.close().await;
    // Again, and from a clone.
    tokio::time::timeout(Duration::from_secs(10), clone.close()).await.unwrap();
    assert_eq!(clone.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(push_blob(&clone, "team/app", "layer").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(clone.repositories(&all()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
