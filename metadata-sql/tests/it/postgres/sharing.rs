//! Several processes, and what happens to one does to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use registry_core::metadata::LinkBlob;
use registry_core::{ErrorKind, MetadataStore as _};

use super::{drop_schema, fresh_schema, lock, open, options, outsider, server};
use crate::support::{digest, eventually, push_blob, push_manifest, repository};

fn link(name: &str, content: &str, generation: u64) -> LinkBlob {
    LinkBlob { repository: repository(name), digest: digest(content), size: content.len() as u64, generation, upload: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_queues_up_behind_another_writer_is_committed_together_and_refusals_harm_nobody() {
    let Some(url) = server("what_queues_up_behind_another_writer_is_committed_together_and_refusals_harm_nobody") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema)).await;
    let mut links = Vec::new();
    for number in 0..60 {
        let content = format!("layer {number}");
        let generation = store.intend_blob(&digest(&content)).await.unwrap().generation;
        links.push(link("team/app", &content, if number % 3 == 0 { generation - 1 } else { generation }));
    }
    let before = store.stats();
    let outsider = outsider(&url).await;
    outsider.batch_execute(&format!("BEGIN; {}", lock(&schema))).await.unwrap();
    let waiting: Vec<_> = links
        .into_iter()
        .map(|link| {
            let store = store.clone();
            tokio::spawn(async move { store.link_blob(link).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waiting.iter().all(|one| !one.is_finished()), "somebody wrote out of turn");
    outsider.batch_execute("COMMIT").await.unwrap();
    for (number, one) in waiting.into_iter().enumerate() {
        let outcome = one.await.unwrap().map_err(|error| error.kind());
        assert_eq!(outcome, if number % 3 == 0 { Err(ErrorKind::Conflict) } else { Ok(()) }, "layer {number}");
    }
    let after = store.stats();
    assert_eq!(after.commands - before.commands, 60);
    let transactions = after.transactions - before.transactions;
    assert!(transactions <= 3, "{transactions} transactions for 60 commands");
    store.close().await;
    drop_schema(&url, &schema).await;
}

/// Ends every connection of the store, as a restart of the server does.
async fn cut(outsider: &tokio_postgres::Client, name: &str) -> usize {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    outsider.query(sql, &[&name]).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_replaced_without_anybody_noticing() {
    let Some(url) = server("a_lost_connection_is_replaced_without_anybody_noticing") else { return };
    let schema = fresh_schema();
    let outsider = outsider(&url).await;
    let store = open(&format!("{url}?application_name={schema}"), options(&schema)).await;
    let mut cuts = 0;
    for number in 0..10 {
        let blob = push_blob(&store, "team/app", &format!("layer {number}")).await.unwrap();
        store.blob_link(&repository("team/app"), &blob).await.unwrap().unwrap();
        cuts += cut(&outsider, &schema).await;
        // The client has to have heard of it; a cut in the very moment of asking is an honest `Unavailable`.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(cuts >= 20, "{cuts} connections were cut");
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_whose_connection_is_lost_before_they_commit_run_again() {
    let Some(url) = server("commands_whose_connection_is_lost_before_they_commit_run_again") else { return };
    let schema = fresh_schema();
    let outsider = outsider(&url).await;
    let store = open(&format!("{url}?application_name={schema}"), options(&schema)).await;
    let generation = store.intend_blob(&digest("layer")).await.unwrap().generation;
    outsider.batch_execute(&format!("BEGIN; {}", lock(&schema))).await.unwrap();
    let linking = tokio::spawn({
        let store = store.clone();
        async move { store.link_blob(link("team/app", "layer", generation)).await }
    });
    // It waits for its turn; nothing of it can have happened.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(cut(&outsider, &schema).await > 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    outsider.batch_execute("COMMIT").await.unwrap();
    linking.await.unwrap().unwrap();
    assert!(store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap().is_some());
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_cuts_at_any_moment_what_was_acknowledged_is_there_and_nothing_is_torn() {
    let Some(url) = server("under_cuts_at_any_moment_what_was_acknowledged_is_there_and_nothing_is_torn") else { return };
    let schema = fresh_schema();
    let outsider = outsider(&url).await;
    let store = open(&format!("{url}?application_name={schema}"), options(&schema)).await;
    let (pushes, done) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let pushing: Vec<_> = (0..6)
        .map(|lane| {
            let (store, pushes, done) = (store.clone(), Arc::clone(&pushes), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut acknowledged, mut failed) = (Vec::new(), 0);
                for step in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let text = format!("manifest {lane} {step}");
                    let pushed = async {
                        let blob = push_blob(&store, "team/app", &format!("layer {lane} {step}")).await?;
                        push_manifest(&store, "team/app", &text, vec![blob], &[&format!("v{lane}-{step}")]).await
                    };
                    match pushed.await {
                        Ok(digest) => {
                            acknowledged.push(digest);
                            pushes.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            failed += 1;
                        }
                    }
                }
                (acknowledged, failed)
            })
        })
        .collect();
    // However slow the machine is, something is acknowledged between two cuts.
    for number in 0..40 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        eventually("a push between two cuts", async || pushes.load(Ordering::Relaxed) > number).await;
        cut(&outsider, &schema).await;
    }
    done.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for lane in pushing {
        let (some, failures) = lane.await.unwrap();
        acknowledged.extend(some);
        failed += failures;
    }
    println!("{} acknowledged, {failed} failed", acknowledged.len());
    assert!(acknowledged.len() >= 40);
    for digest in &acknowledged {
        assert!(store.manifest(&repository("team/app"), &(*digest).into()).await.unwrap().is_some());
    }
    let torn = format!(
        "SELECT count(*) FROM {schema}.manifests m WHERE NOT EXISTS (SELECT 1 FROM {schema}.edges e WHERE e.manifest = m.digest)
            OR NOT EXISTS (SELECT 1 FROM {schema}.tags t WHERE t.digest = m.digest)"
    );
    assert_eq!(outsider.query_one(&torn, &[]).await.unwrap().get::<_, i64>(0), 0);
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_in_a_transaction_holds_up_the_others_only_so_long() {
    let Some(url) = server("a_process_that_hangs_in_a_transaction_holds_up_the_others_only_so_long") else { return };
    let schema = fresh_schema();
    let impatient = options(&schema).with_lock_timeout(Duration::from_millis(300)).with_statement_timeout(Duration::from_millis(1500));
    let store = open(&url, impatient).await;
    // Hangs with the time-out that every writer of ours has.
    let hung = outsider(&url).await;
    hung.batch_execute("SET idle_in_transaction_session_timeout = 1500").await.unwrap();
    hung.batch_execute(&format!("BEGIN; {}", lock(&schema))).await.unwrap();
    let start = Instant::now();
    let error = store.intend_blob(&digest("layer")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && start.elapsed() < Duration::from_secs(1), "{error:?}");
    // Readers do not wait.
    assert_eq!(store.blob_link(&repository("team/app"), &digest("layer")).await.unwrap(), None);
    eventually("the server ends the idle transaction", async || store.intend_blob(&digest("layer")).await.is_ok()).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_writers_have_the_time_outs_that_the_others_count_on() {
    let Some(url) = server("our_writers_have_the_time_outs_that_the_others_count_on") else { return };
    let schema = fresh_schema();
    let stubborn = options(&schema).with_lock_timeout(Duration::from_secs(60)).with_statement_timeout(Duration::from_secs(1));
    let store = open(&format!("{url}?application_name={schema}"), stubborn).await;
    // A statement that would wait far longer than the statement time-out is ended by the server: the time-outs are set.
    let outsider = outsider(&url).await;
    outsider.batch_execute(&format!("BEGIN; {}", lock(&schema))).await.unwrap();
    let start = Instant::now();
    let error = store.intend_blob(&digest("layer")).await.unwrap_err();
    assert!(error.is_retryable() && start.elapsed() < Duration::from_secs(5), "{error:?} after {:?}", start.elapsed());
    outsider.batch_execute("COMMIT").await.unwrap();
    store.intend_blob(&digest("layer")).await.unwrap();
    store.close().await;
    drop_schema(&url, &schema).await;
}
