//! Metrics, the span and the access line of each request.
//!
//! Handles of metrics are looked up once per (route, method, status) and kept: a recorder has to be installed before the first request. All labels come
//! from fixed sets.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Unit};

use crate::route::Kind;

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OTHER"];
const STATUSES: [(u16, &str); 23] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (304, "304"),
    (307, "307"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (413, "413"),
    (414, "414"),
    (416, "416"),
    (429, "429"),
    (GONE, "499"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
    (0, "other"),
];
/// The client went away before it was answered: no status of HTTP's, but what proxies log.
const GONE: u16 = 499;

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// What one route and method counts.
struct Cell {
    duration: Histogram,
    received: Counter,
    sent: Counter,
    statuses: [OnceLock<Counter>; STATUSES.len()],
}

/// All the registry's HTTP metrics.
pub(crate) struct Telemetry {
    running: AtomicUsize,
    in_flight: OnceLock<Gauge>,
    cells: [OnceLock<Box<Cell>>; Kind::COUNT * METHODS.len()],
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        metrics::describe_counter!("registry_http_requests_total", Unit::Count, "Requests answered, by route, method and status.");
        metrics::describe_histogram!(
            "registry_http_request_duration_seconds",
            Unit::Seconds,
            "From the request's head to the last byte of its answer."
        );
        metrics::describe_counter!("registry_http_received_bytes_total", Unit::Bytes, "Bytes of requests' bodies.");
        metrics::describe_counter!("registry_http_sent_bytes_total", Unit::Bytes, "Bytes of answers' bodies.");
        metrics::describe_gauge!("registry_http_requests_in_flight", Unit::Count, "Requests being answered.");
        Self { running: AtomicUsize::new(0), in_flight: OnceLock::new(), cells: std::array::from_fn(|_| OnceLock::new()) }
    }

    fn cell(&self, kind: Kind, method: usize) -> &Cell {
        self.cells[kind as usize * METHODS.len() + method].get_or_init(|| {
            let (route, method) = (kind.as_str(), METHODS[method]);
            Box::new(Cell {
                duration: metrics::histogram!("registry_http_request_duration_seconds", "route" => route, "method" => method),
                received: metrics::counter!("registry_http_received_bytes_total", "route" => route, "method" => method),
                sent: metrics::counter!("registry_http_sent_bytes_total", "route" => route, "method" => method),
                statuses: std::array::from_fn(|_| OnceLock::new()),
            })
        })
    }

    pub(crate) fn received(&self, kind: Kind, method: &Method) -> Counter {
        self.cell(kind, method_index(method)).received.clone()
    }

    fn gauge(&self) -> &Gauge {
        self.in_flight.get_or_init(|| metrics::gauge!("registry_http_requests_in_flight"))
    }
}

/// One request's report: written when it is dropped, which is when the answer's last byte was handed over, or the client went away.
pub(crate) struct Report {
    app: std::sync::Arc<crate::App>,
    kind: Kind,
    method: usize,
    span: tracing::Span,
    start: Instant,
    pub(crate) status: Option<StatusCode>,
    pub(crate) sent: u64,
    failed: bool,
    /// How many requests were running when this began, itself included.
    pub(crate) running: usize,
}

impl Report {
    pub(crate) fn begin(app: std::sync::Arc<crate::App>, kind: Kind, method: &Method, span: tracing::Span) -> Self {
        let running = app.telemetry.running.fetch_add(1, Ordering::Relaxed) + 1;
        app.telemetry.gauge().increment(1);
        Self { app, kind, method: method_index(method), span, start: Instant::now(), status: None, sent: 0, failed: false, running }
    }

    /// The answer's body broke off.
    pub(crate) fn broken(&mut self, error: &registry_core::Error) {
        let causes: Vec<String> =
            std::iter::successors(std::error::Error::source(error), |error| (*error).source()).map(ToString::to_string).collect();
        tracing::error!(parent: &self.span, %error, kind = ?error.kind(), causes = causes.join(": "), "an answer broke off");
        self.failed = true;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let telemetry = &self.app.telemetry;
        telemetry.running.fetch_sub(1, Ordering::Relaxed);
        telemetry.gauge().decrement(1);
        let cell = telemetry.cell(self.kind, self.method);
        let status = self.status.map_or(GONE, |status| status.as_u16());
        let index = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(STATUSES.len() - 1);
        let count = cell.statuses[index].get_or_init(|| {
            metrics::counter!("registry_http_requests_total", "route" => self.kind.as_str(), "method" => METHODS[self.method], "status" => STATUSES[index].1)
        });
        count.increment(1);
        let duration = self.start.elapsed();
        cell.duration.record(duration);
        cell.sent.increment(self.sent);
        if !self.span.is_disabled() {
            let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            tracing::info!(target: "registry_http::access", parent: &self.span, status, bytes = self.sent, micros, failed = self.failed, "answered");
        }
    }
}
