//! Makes known to the ledger what was pushed while there was one plain store.
//!
//! What a plain store has acknowledged is as good as what is pushed to a zone now: so it is readable at once. The other zones are filled with it, as any
//! that is new; copying verifies it. What the metadata has noted as damaged or missing is left to the comparison of placements with policies, which
//! verifies before it trusts.

use futures_util::{StreamExt as _, TryStreamExt as _};
use registry_core::metadata::HeldBlob;
use registry_core::{BlobStore as _, ErrorKind, MetadataStore, Result};
use replication::ledger::{Commit, Observed, ZoneRecord};

use crate::identity;
use crate::zones::Zones;

/// Blobs looked at together.
const PAGE: u32 = 500;

/// Blobs at once, so that the database can make one commit of many.
const AT_ONCE: usize = 64;

/// Adopts everything, and then forgets that there was a plain store. What is killed before that begins again at the next start; what it had adopted it
/// passes over.
pub(crate) async fn run(zones: &Zones, metadata: &dyn MetadataStore, data: &std::path::Path) -> Result<()> {
    let known = zones.ledger.zones().await?;
    let (mut after, mut adopted) = (None, 0_u64);
    loop {
        let page = metadata.held_blobs(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.digest);
        let digests: Vec<_> = page.iter().map(|held| held.digest).collect();
        let placed = zones.ledger.placements(&digests).await?;
        // One that nobody has looked at may be of a start that was killed on its way.
        let is_known = |held: &HeldBlob| placed.iter().any(|known| known.digest == held.digest && known.observed != Observed::Unknown);
        let unplaced = page.iter().filter(|held| !is_known(held));
        let each = unplaced.map(|held| adopt(zones, metadata, &known, held));
        let counts: Vec<bool> = futures_util::stream::iter(each.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await?;
        adopted += counts.into_iter().filter(|adopted| *adopted).count() as u64;
    }
    tracing::info!(blobs = adopted, "took over what was stored in one zone; it is copied to the others now");
    identity::forget(data).map_err(registry_core::Error::from)
}

/// Adopts one blob from the zone that was the plain store; whether it was there.
async fn adopt(zones: &Zones, metadata: &dyn MetadataStore, known: &[ZoneRecord], held: &HeldBlob) -> Result<bool> {
    let digest = &held.digest;
    let Some(repository) = held.repositories.first() else { return Ok(false) };
    if metadata.blob_link(repository, digest).await?.is_some_and(|link| link.suspect) {
        return Ok(false);
    }
    for (name, store) in zones.stores.iter().filter(|(name, _)| zones.plain.contains_key(name)) {
        let size = match store.stat(digest).await {
            Ok(info) if info.size == held.size => info.size,
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Where else it is wanted, and whether it stays here, the comparison of placements with policies sees to.
        let Some(here) = known.iter().find(|zone| zone.name == *name) else { continue };
        let intent = zones.ledger.intend(digest, Some(size), std::slice::from_ref(&here.id)).await?;
        let Some(here) = intent.target(&here.id) else { continue };
        let commit = Commit { digest: *digest, size, zone: here.zone.clone(), generation: here.generation };
        zones.ledger.committed(&commit).await?;
        return Ok(true);
    }
    Ok(false)
}
