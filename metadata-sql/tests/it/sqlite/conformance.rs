use std::sync::Arc;

use metadata_sql::{Durability, SqlMetadataStore, SqliteOptions};
use registry_core::MetadataStore;
use registry_core::testing::{ManualClock, metadata_store};

use super::folder;
use crate::support::dynamic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    let report = metadata_store::run(|| async {
        let (folder, path) = folder();
        let clock = Arc::new(ManualClock::default());
        // The order of flushes is not what the suite looks at; without them it takes seconds less.
        let options = SqliteOptions::default().with_clock(dynamic(&clock)).with_durability(Durability::Process);
        let store = SqlMetadataStore::sqlite(&path, options.clone()).await.expect("a database");
        let reopen = move || {
            let (path, options) = (path.clone(), options.clone());
            async move { Arc::new(SqlMetadataStore::sqlite(path, options).await.expect("the same database")) as Arc<dyn MetadataStore> }
        };
        metadata_store::Fixture::new(Arc::new(store), clock).with_reopen(reopen).keeping(folder)
    })
    .await;
    println!("{report}");
    report.assert_passed();
    assert!(report.skipped.is_empty(), "{report}");
}
