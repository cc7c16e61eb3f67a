//! What the process counts, in Prometheus's text format.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// The upper bounds of the latency histograms, in seconds: from a cached manifest to a layer of gigabytes.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// The same for how long a blob takes to get to another zone: from at once to a zone that was away over a weekend.
const REPLICA_BUCKETS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 259_200.0];

/// The process's metrics.
#[derive(Clone)]
pub(crate) struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to count. Once per process.
    pub(crate) fn start() -> Result<Self, Failure> {
        let replica = Matcher::Full("registry_replication_time_to_replica_seconds".to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(replica, &REPLICA_BUCKETS))
            .map_err(|error| Failure::because("cannot set up metrics", &error))?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| Failure::because("cannot set up metrics", &error))?;
        replication::describe_metrics();
        Ok(Self(handle))
    }

    /// Moves what was counted out of the recorder's buffers now and then, so that they stay small when nobody asks; until `stop`.
    pub(crate) async fn upkeep(self, stop: CancellationToken) {
        let work = async {
            let mut ticks = tokio::time::interval(Duration::from_secs(5));
            loop {
                ticks.tick().await;
                self.0.run_upkeep();
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// All of it as text.
    pub(crate) fn render(&self) -> String {
        let mut text = self.0.render();
        if let Some(process) = process() {
            text.push_str(&process);
        }
        text
    }
}

/// CPU time and memory of this process from `/proc`; `None` where there is no such thing.
fn process() -> Option<String> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything: count from behind it (proc(5): utime is 14, stime 15, rss 24).
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |n: usize| fields.split_ascii_whitespace().nth(n - 3)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = (field(14)? + field(15)?) / ticks;
    let resident = field(24)? * rustix::param::page_size() as f64;
    Some(format!(
        "# HELP process_cpu_seconds_total CPU time of this process.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {cpu}\n\
         # HELP process_resident_memory_bytes Memory of this process that is in RAM.\n# TYPE process_resident_memory_bytes gauge\n\
         process_resident_memory_bytes {resident}\n"
    ))
}
