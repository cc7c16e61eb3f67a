//! A service that says no: not now, not you, not so much.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use registry_core::{BlobStoreExt as _, ErrorKind};
use tokio::sync::Barrier;

use crate::blobs_support::content;
use crate::proxy::{Fault, Proxy, Seen, first};
use crate::service::{self, before, builder, logged_in, open};

/// Refusals that pass, each with the seconds that it asks for.
const NOT_NOW: [(&str, u64); 4] = [
    ("503 Service Unavailable", 0),
    ("429 Too Many Requests\r\nRetry-After: 1", 1),
    ("498 Rate Limited\r\nRetry-After: 1", 1),
    ("503 Service Unavailable\r\nRetry-After: 1", 1),
];

fn what(seen: &Seen) -> String {
    format!("{} {}", seen.method, seen.target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_refusals_is_sat_out_and_nobody_comes_back_earlier_than_asked() {
    let Some(config) = service::keystone() else { return };
    let (proxy, through) = before(&logged_in(config).await).await;
    let store = open(&through).await;
    // Each request is refused in each of the ways before it is let through.
    let refused = Mutex::new(BTreeMap::<String, usize>::new());
    proxy.plan(move |seen| {
        let mut refused = refused.lock().unwrap();
        let times = refused.entry(what(seen)).or_default();
        *times += 1;
        NOT_NOW.get(*times - 1).map_or(Fault::None, |(head, _)| Fault::Answer(head, ""))
    });
    let all = (0..5).map(|n| {
        let store = store.clone();
        async move {
            let (digest, bytes) = content(40 + n, 1000);
            store.put_bytes(&digest, bytes.clone()).await.unwrap();
            assert_eq!(store.read_all(&digest).await.unwrap(), bytes);
        }
    });
    join_all(all).await;
    let mut came = BTreeMap::<String, Vec<Instant>>::new();
    for seen in proxy.seen() {
        came.entry(what(&seen)).or_default().push(seen.at);
    }
    assert_eq!(came.len(), 10, "five times PUT and GET");
    for (what, came) in came {
        assert_eq!(came.len(), 5, "{what}");
        for (pair, (_, asked)) in came.windows(2).zip(NOT_NOW) {
            assert!(pair[1] - pair[0] >= Duration::from_secs(asked), "{what} came back too early");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_that_does_not_end_is_an_error_that_says_when_to_come_back() {
    let Some(config) = service::keystone() else { return };
    let config = logged_in(config).await;
    let cases = NOT_NOW.into_iter().chain([("503 Service Unavailable\r\nRetry-After: 600", 600)]);
    let rounds = cases.map(|(head, asked)| {
        let config = &config;
        async move {
            let (proxy, through) = before(config).await;
            let store = builder(&through).with_retries(2, Duration::from_secs(30)).build_blob_store().await.unwrap();
            proxy.plan(move |_| Fault::Answer(head, ""));
            let (digest, bytes) = content(50, 1000);
            let error = store.put_bytes(&digest, bytes).await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
            assert_eq!(error.retry_after(), (asked > 0).then_some(Duration::from_secs(asked)), "{error}");
            assert_eq!(proxy.seen().len(), if asked > 30 { 1 } else { 3 }, "{head}");
            // As many retries as one likes, but no time for a second one.
            let store = builder(&through).with_retries(1000, Duration::from_millis(1500));
            proxy.plan(|_| Fault::None);
            let store = store.build_blob_store().await.unwrap();
            proxy.plan(move |_| Fault::Answer(head, ""));
            let began = Instant::now();
            assert!(store.read_all(&digest).await.unwrap_err().is_retryable());
            if asked == 1 {
                assert_eq!(proxy.seen().len(), 2, "{head}");
            }
            assert!(began.elapsed() < Duration::from_secs(10));
        }
    });
    join_all(rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_log_in_serves_all_who_were_told_that_their_token_is_no_good() {
    let Some(mut config) = service::keystone() else { return };
    config.storage_url = logged_in(config.clone()).await.storage_url;
    let keystone = Proxy::new(config.auth_url.as_deref().unwrap()).await;
    config.auth_url = config.auth_url.map(|url| keystone.instead_of(&url));
    let (swift, through) = before(&config).await;
    let store = open(&through).await;
    let (digest, bytes) = content(51, 1000);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let old = swift.seen().last().unwrap().header("X-Auth-Token").to_owned();
    assert_eq!(keystone.seen().len(), 1);
    let all = Arc::new(Barrier::new(20));
    let refused = Fault::AnswerTogether(all, "401 Unauthorized");
    swift.plan(move |seen| if seen.header("X-Auth-Token") == old { refused.clone() } else { Fault::None });
    let reads = join_all((0..20).map(|_| store.read_all(&digest))).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == bytes));
    assert_eq!((keystone.seen().len(), swift.seen().len()), (2, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_is_no_good_either_is_the_end_of_it() {
    let Some(mut config) = service::keystone() else { return };
    config.storage_url = logged_in(config.clone()).await.storage_url;
    let (proxy, through) = before(&config).await;
    let store = open(&through).await;
    proxy.plan(|_| Fault::Answer("401 Unauthorized", ""));
    let (digest, bytes) = content(53, 1000);
    let error = store.put_bytes(&digest, bytes).await.unwrap_err();
    assert_eq!((error.kind(), proxy.seen().len()), (ErrorKind::Denied, 2), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_that_fails_for_a_moment_fails_nothing_else() {
    let Some(mut config) = service::keystone() else { return };
    let keystone = Proxy::new(config.auth_url.as_deref().unwrap()).await;
    config.auth_url = config.auth_url.map(|url| keystone.instead_of(&url));
    keystone.plan(first(1, |_| true, Fault::Answer("503 Service Unavailable", "")));
    open(&config).await;
    assert_eq!(keystone.seen().len(), 2);
}

/// What a PUT fails with that is answered so, and how often it was made.
async fn put_answered(head: &'static str, body: &'static str) -> Option<(registry_core::Error, usize)> {
    let (proxy, through) = before(&logged_in(service::keystone()?).await).await;
    let store = open(&through).await;
    proxy.plan(move |_| Fault::Answer(head, body));
    let (digest, bytes) = content(52, 1000);
    let error = store.put_bytes(&digest, bytes).await.unwrap_err();
    Some((error, proxy.seen().len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_or_does_not_fit_is_not_tried_again() {
    // The third is what Swift's quotas answer, the fourth RadosGW's.
    let cases = [
        ("403 Forbidden", "", ErrorKind::Denied),
        ("507 Insufficient Storage", "", ErrorKind::StorageFull),
        ("413 Request Entity Too Large", "Upload exceeds quota.", ErrorKind::StorageFull),
        ("413 Request Entity Too Large", r#"{"Code":"QuotaExceeded"}"#, ErrorKind::StorageFull),
        ("413 Request Entity Too Large", "Your request is too large.", ErrorKind::TooLarge),
    ];
    for (head, body, kind) in cases {
        let Some((error, requests)) = put_answered(head, body).await else { return };
        assert_eq!((error.kind(), requests), (kind, 1), "{error}");
    }
}
