use std::time::Duration;

use metadata_sql::{PostgresOptions, SqlMetadataStore};
use registry_core::{ErrorKind, MetadataStore as _};

use super::{drop_schema, fresh_schema, open, options, outsider, server};
use crate::support::{all, digest, push_blob, repository};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_that_open_a_new_schema_at_once_find_one_database() {
    let Some(url) = server("many_processes_that_open_a_new_schema_at_once_find_one_database") else { return };
    let schema = fresh_schema();
    let opening: Vec<_> = (0..8)
        .map(|number| {
            let (url, options) = (url.clone(), options(&schema));
            tokio::spawn(async move {
                let store = open(&url, options).await;
                push_blob(&store, &format!("team/app{number}"), "layer").await.unwrap();
                store.close().await;
            })
        })
        .collect();
    for one in opening {
        one.await.unwrap();
    }
    let store = open(&url, options(&schema)).await;
    for number in 0..8 {
        assert!(store.blob_link(&repository(&format!("team/app{number}")), &digest("layer")).await.unwrap().is_some());
    }
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn a_schema_of_a_newer_release_is_refused_and_left_alone() {
    let Some(url) = server("a_schema_of_a_newer_release_is_refused_and_left_alone") else { return };
    let schema = fresh_schema();
    open(&url, options(&schema)).await.close().await;
    let outsider = outsider(&url).await;
    outsider.execute(&format!("UPDATE {schema}.meta SET value = 1000 WHERE name = 'schema_version'"), &[]).await.unwrap();
    let error = SqlMetadataStore::postgres(&url, options(&schema)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let row = outsider.query_one(&format!("SELECT value FROM {schema}.meta WHERE name = 'schema_version'"), &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1000);
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn nonsense_is_refused_without_telling_the_password() {
    let no_schema = PostgresOptions::default();
    for url in ["nonsense", "postgres://user:s3cret@host:port/db", "host=/tmp user=u password=s3cret nonsense=1"] {
        let error = SqlMetadataStore::postgres(url, no_schema.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
    let url = "postgres://user:s3cret@127.0.0.1:1/db";
    for schema in ["", "1a", "A", "a b", "a\"; DROP SCHEMA public; --", &"a".repeat(64)] {
        let error = SqlMetadataStore::postgres(url, no_schema.clone().with_schema(schema)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{schema}");
    }
    // Nobody listens there.
    let error = SqlMetadataStore::postgres(url, no_schema).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_unavailable_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://user@127.0.0.1:{}/db", silent.local_addr().unwrap().port());
    let options = PostgresOptions::default().with_connect_timeout(Duration::from_millis(200));
    let opening = SqlMetadataStore::postgres(&url, options);
    let error = tokio::time::timeout(Duration::from_secs(20), opening).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn without_a_clock_the_time_is_the_servers() {
    let Some(url) = server("without_a_clock_the_time_is_the_servers") else { return };
    let schema = fresh_schema();
    let outsider = outsider(&url).await;
    let now =
        async || -> i64 { outsider.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await.unwrap().get(0) };
    let store = open(&url, options(&schema)).await;
    let before = now().await;
    let digest = push_blob(&store, "team/app", "layer").await.unwrap();
    let link = store.blob_link(&repository("team/app"), &digest).await.unwrap().unwrap();
    // To the millisecond, rounded either way.
    assert!((before - 1..=now().await + 1).contains(&link.verified_at.as_millis()));
    assert!(store.rely_on_blob(&repository("team/app"), &digest, Duration::from_secs(60)).await.unwrap().is_some());
    let commands = store.stats().commands;
    assert_eq!(commands, 2, "relying on what was just linked is no change");
    assert!(store.rely_on_blob(&repository("team/app"), &digest, Duration::ZERO).await.unwrap().is_some());
    assert_eq!(store.stats().commands, commands + 1);
    store.close().await;
    drop_schema(&url, &schema).await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let Some(url) = server("a_closed_store_says_so") else { return };
    let schema = fresh_schema();
    let store = open(&url, options(&schema)).await;
    store.ping().await.unwrap();
    let clone = store.clone();
    store.close().await;
    tokio::time::timeout(Duration::from_secs(10), clone.close()).await.unwrap();
    assert_eq!(clone.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(push_blob(&clone, "team/app", "layer").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(clone.repositories(&all()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop_schema(&url, &schema).await;
}
