use std::sync::Arc;

use metadata_sql::{Durability, SqlMetadataStore, SqliteOptions};
use registry_core::testing::ManualClock;
use replication::ledger::{PlacementLedger, ZoneId, ZoneRecord};
use replication::testing::ledger;

use super::{folder, open, outsider};
use crate::ledger as both;
use crate::support::{digest, dynamic, push_blob, push_manifest, repository};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_on_sqlite_keeps_the_contract() {
    let report = ledger::run(|| async {
        let (folder, path) = folder();
        let clock = Arc::new(ManualClock::default());
        let options = SqliteOptions::default().with_clock(dynamic(&clock)).with_durability(Durability::Process);
        let store = SqlMetadataStore::sqlite(&path, options.clone()).await.expect("a database");
        let reopen = move || {
            let (path, options) = (path.clone(), options.clone());
            async move {
                Arc::new(SqlMetadataStore::sqlite(path, options).await.expect("the same database").ledger()) as Arc<dyn PlacementLedger>
            }
        };
        ledger::Fixture::new(Arc::new(store.ledger()), clock).with_reopen(reopen).keeping(folder)
    })
    .await;
    println!("{report}");
    report.assert_passed();
    assert_eq!(report.passed, ledger::CASES, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_stores_on_one_file_claim_each_piece_of_work_once() {
    let (_folder, path) = folder();
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(open(&path).await);
    }
    both::each_piece_of_work_is_claimed_once(&stores).await;
}

#[tokio::test]
async fn a_claim_that_finds_nothing_due_is_no_transaction() {
    let (_folder, path) = folder();
    both::a_claim_that_finds_nothing_due_is_no_transaction(&open(&path).await).await;
}

#[tokio::test]
async fn the_ledger_is_in_the_stores_file_and_closed_with_it() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    both::the_ledger_is_closed_with_its_store(&store).await;
    let rows: i64 = outsider(&path).query_row("SELECT COUNT(*) FROM placements", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn a_file_of_the_first_version_is_upgraded_and_keeps_what_it_has() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    push_manifest(&store, "team/app", "{}", vec![push_blob(&store, "team/app", "layer").await.unwrap()], &[]).await.unwrap();
    store.close().await;
    // What the second version brought is taken away again.
    let outsider = outsider(&path);
    outsider.execute_batch(both::BACK_TO_THE_FIRST_VERSION).unwrap();
    let store = open(&path).await;
    let link = store_link(&store).await;
    assert_eq!(link, Some(5));
    both::push(&store.ledger(), &digest("layer"), &["a", "b"]).await;
    assert_eq!(store.ledger().placements(&[digest("layer")]).await.unwrap().len(), 2);
    let version: i64 = outsider.query_row("SELECT value FROM meta WHERE name = 'schema_version'", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 4);
    // And what the third and the fourth brought.
    store.ledger().register_zone(&ZoneRecord::new(ZoneId::new("a"), "boston")).await.unwrap();
    store.close().await;
    outsider.execute_batch(both::BACK_TO_THE_SECOND_VERSION).unwrap();
    both::what_a_second_version_had_is_there(&open(&path).await).await;
}

async fn store_link(store: &SqlMetadataStore) -> Option<u64> {
    use registry_core::MetadataStore as _;
    store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap().map(|link| link.size)
}
