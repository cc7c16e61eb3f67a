//! Garbage collection in the background.

use std::time::Duration;

use registry_core::{GcOptions, Registry};
use tokio_util::sync::CancellationToken;

/// Collects every `interval`, give or take a tenth, so that servers over one database don't all begin at once; until `stop`.
///
/// A run that is cut off leaves a state that the next one goes on from, in this process or another.
pub(crate) async fn run(registry: Registry, interval: Duration, stop: CancellationToken) {
    let options = GcOptions::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(interval)) => {}
        }
        let collected = tokio::select! {
            () = stop.cancelled() => return,
            collected = registry.collect_garbage(&options) => collected,
        };
        match collected {
            Ok(report) => tracing::info!(
                links = report.links,
                condemned = report.condemned,
                deleted = report.deleted,
                bytes = report.bytes,
                failed = report.failed,
                uploads = report.uploads,
                "garbage collected"
            ),
            Err(error) => tracing::warn!(%error, "garbage collection failed; it is tried again after the interval"),
        }
    }
}

/// 90 to 110 % of the interval, by chance.
fn jittered(interval: Duration) -> Duration {
    let chance = u32::from_str_radix(&registry_core::random_id()[..4], 16).unwrap_or(0x8000);
    interval.mul_f64(0.9 + 0.2 * f64::from(chance) / 65536.0)
}
