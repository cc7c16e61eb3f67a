use super::{drop_schema, fresh_schema, open, options, server};
use crate::figures::{at_once, pushes, reads, tags};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; see figures.rs"]
async fn postgres_figures() {
    let Some(url) = server("postgres_figures") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema).with_readers(8)).await;
    reads("postgres", &store).await;
    at_once("postgres", &store).await;
    tags("postgres", &store).await;
    pushes("postgres", &store, 200).await;
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[cfg(feature = "ledger")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; see figures.rs"]
async fn postgres_ledger_figures() {
    let Some(url) = server("postgres_ledger_figures") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema).with_statement_timeout(std::time::Duration::from_secs(300))).await;
    let outsider = super::outsider(&url).await;
    outsider.batch_execute(&format!("SET search_path = {schema}")).await.unwrap();
    let fill = async |stored: u64, backlog: u64, failing: u64| {
        for sql in crate::ledger::FILL {
            let sql = sql.replace("{numbers}", &format!("generate_series(1, {stored}) AS n (n)"));
            let sql = sql.replace("{hex2}", "lpad(to_hex(n % 256), 2, '0')").replace("{hex62}", "lpad(to_hex(n), 62, '0')");
            let sql = sql.replace("{backlog}", &backlog.to_string()).replace("{failing}", &failing.to_string());
            outsider.batch_execute(&sql).await.unwrap();
        }
        // As the server does by itself a little later.
        for table in ["placements", "placed_blobs", "zones"] {
            outsider.batch_execute(&format!("VACUUM ANALYZE {table}")).await.unwrap();
        }
    };
    crate::ledger::figures("postgres", &store, fill).await;
    store.close().await;
    drop_schema(&url, &schema).await;
}
