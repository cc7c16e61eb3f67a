//! What goes on in the background where there are several zones.

use std::path::Path;
use std::time::Duration;

use registry_core::MetadataStore;
use replication::Workers;
use tokio_util::sync::CancellationToken;

use crate::adopt;
use crate::failure::Failure;
use crate::zones::Zones;

/// How often to look whether a zone that could not be made at the start can be by now.
const LOOK: Duration = Duration::from_secs(2);

/// Starts the workers. What was pushed when there was one plain store is made known to the ledger first: else it could not be pulled.
pub(crate) async fn start(zones: &Zones, metadata: &dyn MetadataStore, data: &Path) -> Result<Workers, Failure> {
    if !zones.plain.is_empty() {
        let adopted = adopt::run(zones, metadata, data).await;
        adopted.map_err(|error| {
            Failure::because("cannot take over what was stored in one zone", &error)
                .hint("nothing is lost: with that zone back, start again; until then it can be served from alone, with one [[zone]]")
        })?;
    }
    Ok(zones.replicated.start())
}

/// Fills zones that are new, as soon as they are there rather than when it is time for the next comparison; until `stop`.
pub(crate) async fn fill(zones: &Zones, stop: CancellationToken) {
    let mut empty = zones.new.clone();
    while !empty.is_empty() {
        if let Ok(known) = zones.ledger.zones().await {
            let before = empty.len();
            empty.retain(|name| !known.iter().any(|zone| zone.name == *name));
            if empty.len() < before {
                match stop.run_until_cancelled(zones.replicated.reconcile_policies()).await {
                    Some(Ok(report)) => tracing::info!(blobs = report.changed, "what is to be in a new zone is copied there"),
                    Some(Err(error)) => tracing::warn!(%error, "could not see what is to be in a new zone; it is tried again later"),
                    None => return,
                }
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

/// Stops the workers; they give back what is in progress.
pub(crate) async fn stop(workers: Workers, patience: Duration) {
    if tokio::time::timeout(patience, workers.stop()).await.is_err() {
        tracing::warn!("a zone did not answer: what is in progress there is taken up again when its lease is over");
    }
}
