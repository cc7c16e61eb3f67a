use std::cell::RefCell;
use std::sync::Arc;

use metadata_sql::SqlMetadataStore;
use registry_core::MetadataStore;
use registry_core::testing::{ManualClock, metadata_store};

use super::{drop_schema, fresh_schema, options, server};
use crate::support::dynamic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let Some(url) = server("postgres_keeps_the_contract") else { return };
    let schemas = RefCell::new(Vec::new());
    let report =
        metadata_store::run(|| {
            let (url, schema) = (url.clone(), fresh_schema());
            schemas.borrow_mut().push(schema.clone());
            async move {
                let clock = Arc::new(ManualClock::default());
                let options = options(&schema).with_clock(dynamic(&clock));
                let store = SqlMetadataStore::postgres(&url, options.clone()).await.expect("a database");
                let reopen = move || {
                    let (url, options) = (url.clone(), options.clone());
                    async move {
                        Arc::new(SqlMetadataStore::postgres(&url, options).await.expect("the same database")) as Arc<dyn MetadataStore>
                    }
                };
                metadata_store::Fixture::new(Arc::new(store), clock).with_reopen(reopen)
            }
        })
        .await;
    for schema in schemas.into_inner() {
        drop_schema(&url, &schema).await;
    }
    println!("{report}");
    report.assert_passed();
    assert!(report.skipped.is_empty(), "{report}");
}
