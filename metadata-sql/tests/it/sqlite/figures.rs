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

#[cfg(feature = "ledger")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; see figures.rs"]
async fn sqlite_ledger_figures() {
    let (_folder, path) = super::folder();
    let store = super::open(&path).await;
    let outsider = super::outsider(&path);
    let fill = async |stored: u64, backlog: u64, failing: u64| {
        let numbers = format!("(WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {stored}) SELECT n FROM c)");
        for sql in crate::ledger::FILL {
            let sql =
                sql.replace("{numbers}", &numbers).replace("{hex2}", "printf('%02x', n % 256)").replace("{hex62}", "printf('%062x', n)");
            let sql = sql.replace("{backlog}", &backlog.to_string()).replace("{failing}", &failing.to_string());
            outsider.execute(&sql, []).unwrap();
        }
    };
    crate::ledger::figures("sqlite", &store, fill).await;
    store.close().await;
}
