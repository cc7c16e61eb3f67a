//! What goes on in the background where there are several zones.

use std::path::Path;
use std::time::{Duration, Instant};

use replication::Workers;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::identity;
use crate::stores::Zones;

/// How long a start waits for blobs of before there were several zones to be verified. Until a blob is, its pulls are answered 503.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the workers. What was pushed when there was one plain store is made known to the ledger first: else it could not be pulled.
pub(crate) async fn start(zones: &Zones, data: &Path) -> Result<Workers, Failure> {
    if !zones.must_adopt {
        return Ok(zones.replicated.start());
    }
    let cannot = |error| Failure::because("cannot take over what was stored in one zone", &error);
    let report = zones.replicated.reconcile_policies().await.map_err(cannot)?;
    if report.missing > 0 {
        tracing::error!(blobs = report.missing, "blobs that repositories hold are in no zone that can be asked");
    } else if let Err(error) = identity::forget(data) {
        tracing::warn!(%error, "could not remove zones.json; everything is looked through once more at the next start");
    }
    let workers = zones.replicated.start();
    if report.adopted > 0 {
        tracing::info!(blobs = report.adopted, "took over what was stored in one zone; it is verified and copied now");
        let deadline = Instant::now() + PATIENCE;
        while suspects(zones).await > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(workers)
}

/// Blobs that are not verified yet.
async fn suspects(zones: &Zones) -> u64 {
    zones.ledger.backlog().await.map_or(0, |backlogs| backlogs.iter().map(|backlog| backlog.suspects).sum())
}

/// Fills zones that are new, at once rather than when it is time for the next comparison; until `stop`.
pub(crate) async fn fill(zones: &Zones, stop: CancellationToken) {
    if zones.must_adopt || !zones.has_new {
        return;
    }
    match stop.run_until_cancelled(zones.replicated.reconcile_policies()).await {
        Some(Ok(report)) => tracing::info!(blobs = report.changed, "blobs are to be copied to zones that are new"),
        Some(Err(error)) => tracing::warn!(%error, "could not see what is to be copied to zones that are new; it is tried again later"),
        None => {}
    }
}

/// Stops the workers; they give back what is in progress.
pub(crate) async fn stop(workers: Workers, patience: Duration) {
    if tokio::time::timeout(patience, workers.stop()).await.is_err() {
        tracing::warn!("a zone did not answer: what is in progress there is taken up again when its lease is over");
    }
}
