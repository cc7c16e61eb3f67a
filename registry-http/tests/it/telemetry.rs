//! What operators see: metrics, the access line, the log of failures.

use std::io::Write;
use std::sync::{Arc, Mutex};

use metrics_exporter_prometheus::PrometheusBuilder;
use registry_core::ErrorKind;
use registry_core::testing::{Fault, Op};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Fixture, pieces};

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// What the metrics are after `work`.
fn metrics_after(work: impl Future<Output = ()>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || run(work));
    recorder.handle().render()
}

/// What is logged during `work` for people to read.
fn log_of(work: impl Future<Output = ()>) -> String {
    log_at(tracing::Level::INFO, work)
}

/// What is logged during `work`, down to this level.
pub(crate) fn log_at(level: tracing::Level, work: impl Future<Output = ()>) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl MakeWriter<'_> for Log {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(log.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        // Another test that has no subscriber may just be registering what is logged, and would switch it off after this one has switched it on.
        for _ in 0..5 {
            run(async { drop(Fixture::new().get("/v2/").await) });
            std::thread::sleep(std::time::Duration::from_millis(20));
            tracing::callsite::rebuild_interest_cache();
        }
        log.0.lock().unwrap().clear();
        run(work);
    });
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn requests_and_bytes_are_counted_by_route_method_and_status() {
    let metrics = metrics_after(async {
        let fixture = Fixture::new();
        let digest = fixture.push("team/app", "0123456789").await;
        fixture.get(&format!("/v2/team/app/blobs/{digest}")).await.assert(200);
        fixture.head(&format!("/v2/team/app/blobs/{digest}")).await.assert(200);
        fixture.get("/v2/team/app/tags/none").await.assert(404);
        fixture.request("BREW", "/v2/").send().await.assert(405);
        let location = fixture.begin("a").await;
        fixture.request("PATCH", &location).body(pieces(&[b"01", b"234"])).send().await.assert(202);
    });
    for line in [
        r#"registry_http_requests_total{route="upload-start",method="POST",status="201"} 1"#,
        r#"registry_http_requests_total{route="blob",method="GET",status="200"} 1"#,
        r#"registry_http_requests_total{route="blob",method="HEAD",status="200"} 1"#,
        r#"registry_http_requests_total{route="unknown",method="GET",status="404"} 1"#,
        r#"registry_http_requests_total{route="base",method="OTHER",status="405"} 1"#,
        r#"registry_http_received_bytes_total{route="upload-start",method="POST"} 10"#,
        r#"registry_http_received_bytes_total{route="upload",method="PATCH"} 5"#,
        r#"registry_http_sent_bytes_total{route="blob",method="GET"} 10"#,
        r#"registry_http_sent_bytes_total{route="blob",method="HEAD"} 0"#,
        r#"registry_http_request_duration_seconds_count{route="blob",method="GET"} 1"#,
        "registry_http_requests_in_flight 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    assert!(!metrics.contains("team/app"), "names are no labels: there is no end of them\n{metrics}");
}

#[test]
fn a_request_whose_client_went_away_is_counted_as_499() {
    let metrics = metrics_after(async {
        let fixture = Fixture::new();
        let body = axum::body::Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>());
        let waiting = fixture.request("PUT", "/v2/a/manifests/x").body(body).send();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), waiting).await.is_err());
    });
    assert!(metrics.contains(r#"registry_http_requests_total{route="manifest",method="PUT",status="499"} 1"#), "{metrics}");
    assert!(metrics.contains("registry_http_requests_in_flight 0"), "{metrics}");
}

#[test]
fn each_request_has_an_access_line_with_its_id() {
    let log = log_of(async {
        let fixture = Fixture::new();
        let digest = fixture.push("team/app", "0123456789").await;
        fixture.request("GET", &format!("/v2/team/app/blobs/{digest}")).header("x-request-id", "the-id").send().await.assert(200);
    });
    let line = log.lines().find(|line| line.contains("the-id")).unwrap_or_else(|| panic!("{log}"));
    for part in
        ["registry_http::access", "method=\"GET\"", "route=\"blob\"", "repository=\"team/app\"", "status=200", "bytes=10", "micros="]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_failure_inside_is_logged_with_the_request_s_id() {
    let log = log_of(async {
        let fixture = Fixture::new();
        let digest = fixture.push("a", "0123456789").await;
        fixture.faults.fail_next(Op::Read, Fault::Before(ErrorKind::Internal));
        fixture.request("GET", &format!("/v2/a/blobs/{digest}")).header("x-request-id", "the-id").send().await.assert(500);
        fixture.faults.fail_next(Op::Read, Fault::Cut(5));
        let torn = fixture.request("GET", &format!("/v2/a/blobs/{digest}")).header("x-request-id", "other-id").send().await;
        assert!(torn.broken);
    });
    let has = |id: &str, what: &str| log.lines().any(|line| line.contains("ERROR") && line.contains(id) && line.contains(what));
    assert!(has("the-id", "a request failed"), "{log}");
    assert!(has("other-id", "an answer broke off"), "{log}");
}

#[test]
fn what_a_client_names_cannot_forge_lines_of_the_log() {
    let log = log_of(async {
        let fixture = Fixture::new();
        let uri = "/v2/a%0AERROR%20forged%22/tags/list";
        fixture.request("GET", uri).header("x-request-id", "x\" status=\"y").send().await.assert(400);
        fixture.get(&format!("/v2/{}/tags/list", "long/".repeat(1000) + "x")).await.assert(400);
    });
    assert!(!log.lines().any(|line| line.starts_with("ERROR") || line.contains("ERROR forged")), "{log}");
    assert!(!log.contains("x\" status") && !log.contains("long/long"), "{log}");
}
