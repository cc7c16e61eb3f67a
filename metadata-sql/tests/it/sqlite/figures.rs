use metadata_sql::{SqlMetadataStore, SqliteOptions};

use crate::figures::{at_once, pushes, reads, tags};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; see figures.rs"]
async fn sqlite_figures() {
    // The second is a disk where temporary files are, and memory if they are there.
    for (what, place) in [("sqlite, /dev/shm", "/dev/shm".into()), ("sqlite, disk", std::env::temp_dir())] {
        let Ok(folder) = tempfile::tempdir_in(place) else { continue };
        let store = SqlMetadataStore::sqlite(folder.path().join("registry.db"), SqliteOptions::default()).await.unwrap();
        reads(what, &store).await;
        at_once(what, &store).await;
        tags(what, &store).await;
        pushes(what, &store, 1000).await;
        store.close().await;
    }
}
