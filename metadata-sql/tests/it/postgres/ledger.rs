use std::cell::RefCell;
use std::sync::Arc;

use metadata_sql::SqlMetadataStore;
use registry_core::MetadataStore as _;
use registry_core::testing::ManualClock;
use replication::ledger::{PlacementLedger, Sighting, ZoneId, ZoneRecord};
use replication::testing::ledger;

use super::{drop_schema, fresh_schema, open, options, outsider, server};
use crate::ledger as both;
use crate::support::{digest, dynamic, push_blob, push_manifest, repository};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_on_postgres_keeps_the_contract() {
    let Some(url) = server("the_ledger_on_postgres_keeps_the_contract") else { return };
    let schemas = RefCell::new(Vec::new());
    let report = ledger::run(|| {
        let (url, schema) = (url.clone(), fresh_schema());
        schemas.borrow_mut().push(schema.clone());
        async move {
            let clock = Arc::new(ManualClock::default());
            let options = options(&schema).with_clock(dynamic(&clock));
            let store = SqlMetadataStore::postgres(&url, options.clone()).await.expect("a database");
            let reopen = move || {
                let (url, options) = (url.clone(), options.clone());
                async move {
                    Arc::new(SqlMetadataStore::postgres(&url, options).await.expect("the same database").ledger())
                        as Arc<dyn PlacementLedger>
                }
            };
            ledger::Fixture::new(Arc::new(store.ledger()), clock).with_reopen(reopen)
        }
    })
    .await;
    for schema in schemas.into_inner() {
        drop_schema(&url, &schema).await;
    }
    println!("{report}");
    report.assert_passed();
    assert_eq!(report.passed, ledger::CASES, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_stores_on_one_schema_claim_each_piece_of_work_once() {
    let Some(url) = server("four_stores_on_one_schema_claim_each_piece_of_work_once") else { return };
    let schema = fresh_schema();
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(open(&url, options(&schema)).await);
    }
    both::each_piece_of_work_is_claimed_once(&stores).await;
    for store in stores {
        store.close().await;
    }
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn a_claim_that_finds_nothing_due_is_no_transaction() {
    let Some(url) = server("a_claim_that_finds_nothing_due_is_no_transaction") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema)).await;
    both::a_claim_that_finds_nothing_due_is_no_transaction(&store).await;
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn the_ledger_is_in_the_stores_schema_and_closed_with_it() {
    let Some(url) = server("the_ledger_is_in_the_stores_schema_and_closed_with_it") else { return };
    let schema = fresh_schema();
    both::the_ledger_is_closed_with_its_store(&open(&url, options(&schema)).await).await;
    let rows = outsider(&url).await.query_one(&format!("SELECT COUNT(*) FROM {schema}.placements"), &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 2);
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn a_schema_of_the_first_version_is_upgraded_and_keeps_what_it_has() {
    let Some(url) = server("a_schema_of_the_first_version_is_upgraded_and_keeps_what_it_has") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema)).await;
    push_manifest(&store, "team/app", "{}", vec![push_blob(&store, "team/app", "layer").await.unwrap()], &[]).await.unwrap();
    store.close().await;
    // What the second version brought is taken away again.
    let outsider = outsider(&url).await;
    outsider.batch_execute(&format!("SET search_path = {schema}; {}", both::BACK_TO_THE_FIRST_VERSION)).await.unwrap();
    let store = open(&url, options(&schema)).await;
    assert!(store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap().is_some());
    both::push(&store.ledger(), &digest("layer"), &["a", "b"]).await;
    assert_eq!(store.ledger().placements(&[digest("layer")]).await.unwrap().len(), 2);
    // And what the third and the fourth brought.
    store.ledger().register_zone(&ZoneRecord::new(ZoneId::new("a"), "boston")).await.unwrap();
    store.close().await;
    outsider.batch_execute(both::BACK_TO_THE_SECOND_VERSION).await.unwrap();
    let store = open(&url, options(&schema)).await;
    both::what_a_second_version_had_is_there(&store).await;
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn whatever_a_store_says_can_be_noted() {
    let Some(url) = server("whatever_a_store_says_can_be_noted") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema)).await;
    let ledger = store.ledger();
    both::push(&ledger, &digest("layer"), &["a"]).await;
    let generation = ledger.placements(&[digest("layer")]).await.unwrap()[0].generation;
    let reason = Sighting::Suspect("a\0b \u{1f980}".to_owned());
    ledger.observe(&digest("layer"), &ZoneId::new("a"), generation, &reason).await.unwrap();
    let row = ledger.placements(&[digest("layer")]).await.unwrap().remove(0);
    assert_eq!(row.last_error.as_deref(), Some("a\u{fffd}b \u{1f980}"));
    store.close().await;
    drop_schema(&url, &schema).await;
}
