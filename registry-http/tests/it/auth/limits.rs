//! How much one may ask for, and what is told of it.

use std::time::Duration;

use registry_http::ConnectionInfo;
use registry_http::auth::RateLimits;

use super::kit::{Kit, PASSWORD, basic};
use crate::support::wire::Server;

#[tokio::test]
async fn who_asks_too_much_is_told_when_to_come_back_and_others_are_served() {
    let kit = Kit::with(|auth| auth.with_rate_limits(RateLimits::default().with_requests_per_second(1)));
    let (reader, writer) = (basic("reader", PASSWORD), basic("writer", PASSWORD));
    for _ in 0..10 {
        kit.ask(&reader, "GET", "/v2/", "").await.assert(200);
    }
    let limited = kit.ask(&reader, "GET", "/v2/", "").await;
    limited.assert_error(429, "TOOMANYREQUESTS");
    let after: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=2).contains(&after));
    kit.ask(&writer, "GET", "/v2/", "").await.assert(200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    kit.ask(&reader, "GET", "/v2/", "").await.assert(200);
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down_by_address_and_does_not_shut_others_out() {
    let kit = Kit::with(|auth| auth.with_rate_limits(RateLimits::default().with_failures_per_minute(5)));
    let ask = async |address: &str, password: &str| {
        let mut request = http::Request::get("/v2/").body(axum::body::Body::empty()).unwrap();
        request.headers_mut().insert("authorization", basic("writer", password).parse().unwrap());
        request.extensions_mut().insert(ConnectionInfo::new(format!("{address}:1234").parse().unwrap(), false));
        let answer = tower::ServiceExt::oneshot(kit.closed.router.clone(), request).await.unwrap();
        answer.status().as_u16()
    };
    let failed = async || {
        let mut statuses = Vec::new();
        for n in 0..8 {
            statuses.push(ask("10.0.0.1", &format!("guess {n}")).await);
        }
        statuses
    };
    assert_eq!(failed().await, [401, 401, 401, 401, 401, 401, 429, 429]);
    assert_eq!(ask("10.0.0.1", PASSWORD).await, 429, "not even the right one is tried: that would tell");
    assert_eq!(ask("10.0.0.2", PASSWORD).await, 200);
    // A token is no guess.
    let token = kit.ask("Bearer a.b.c", "GET", "/v2/", "").await;
    assert_eq!(token.status, 401);
    assert!(kit.audit.take().contains(&"|GET|log_in|||limited|too many failed log-ins".to_owned()));
}

#[tokio::test]
async fn what_is_done_and_what_is_refused_is_told() {
    let kit = Kit::new();
    let (manifest, layer) = kit.image("team/app").await;
    let (reader, writer, admin) = (basic("reader", PASSWORD), basic("writer", PASSWORD), basic("admin", PASSWORD));
    kit.ask(&reader, "GET", "/v2/team/app/manifests/v1", "").await.assert(200);
    assert_eq!(kit.audit.take(), [""; 0], "pulls are in the access log");
    kit.ask(&reader, "DELETE", "/v2/team/app/manifests/v1", "").await.assert(403);
    kit.ask("", "GET", "/v2/team/app/tags/list", "").await.assert(401);
    kit.ask(&basic("reader", "wrong horse"), "GET", "/v2/", "").await.assert(401);
    kit.ask(&basic("correct horse", ""), "GET", "/v2/", "").await.assert(401);
    let token = kit.token(&writer, "repository:team/app:pull").await;
    kit.ask(&token, "PUT", &format!("/v2/team/app/manifests/{manifest}"), "").await.assert(401);
    kit.ask(&admin, "DELETE", &format!("/v2/team/app/blobs/{layer}"), "").await.assert(202);
    assert_eq!(
        kit.audit.take(),
        [
            "reader|DELETE|delete|team/app|v1|denied|not allowed".to_owned(),
            "|GET|pull|team/app||denied|not logged in".to_owned(),
            "reader|GET|log_in|||failed|the name or the password is wrong".to_owned(),
            // Whoever types a password into the wrong field does not find it here.
            "|GET|log_in|||failed|the name or the password is wrong".to_owned(),
            "writer|GET|log_in|||allowed|".to_owned(),
            format!("writer|PUT|push|team/app|{manifest}|denied|the token is not for this"),
            format!("admin|DELETE|delete|team/app|{layer}|allowed|"),
        ]
    );
}

#[tokio::test]
async fn a_body_that_nobody_may_send_is_refused_before_it_is_read() {
    let kit = Kit::new();
    let server = Server::start(kit.closed.router.clone()).await;
    let mut wire = server.connect().await;
    wire.head("POST /v2/team/app/blobs/uploads/?digest=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 HTTP/1.1\ncontent-length: 1000000000\nexpect: 100-continue").await;
    let answer = wire.answer(false).await;
    answer.assert_error(401, "UNAUTHORIZED");
}
