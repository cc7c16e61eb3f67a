//! What it costs to compare a zone with the ledger and the metadata, and to scrub it, with ever more blobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::measure::{Result, forget_peak, peak};
use benches::usage::Cpu;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::blob::{WriteOptions, once};
use registry_core::{Digest, MetadataStore, Registry, RepositoryName, VerifyReads};
use replication::ledger::Commit;
use replication::{JobStatus, Options, ReplicatedStore};

use crate::Arguments;
use crate::world::World;

/// Blobs that are written at once while the zones are filled.
const AT_ONCE: usize = 256;

/// Fills two zones, and compares and scrubs one of them, at each size.
pub(crate) async fn measure(arguments: &Arguments) -> Result<()> {
    println!("| placements | job | blobs/s | µs of CPU per blob | peak memory, MiB | at rest before |\n|---|---|---|---|---|---|");
    for rows in [10_000, 100_000, 1_000_000].into_iter().filter(|rows| *rows <= arguments.rows) {
        let world = World::new(&arguments.folder).await?;
        let metadata: Arc<dyn MetadataStore> = world.metadata();
        let mut options = Options::default();
        options.background_share = 1.0;
        (options.compare_interval, options.scrub_interval) = (Duration::ZERO, Duration::ZERO);
        options.poll_interval = Duration::from_millis(100);
        let store = world.builder(options).await?.metadata(Arc::clone(&metadata)).build().await?;
        let registry = Registry::builder(Arc::new(store.clone()), metadata).verify_reads(VerifyReads::Never).build();
        fill(&world, &registry, rows / 2).await?;
        let workers = store.start();
        for kind in ["reconcile", "scrub"] {
            // Pages that are free again by now are not what a job needs.
            tokio::time::sleep(Duration::from_secs(1)).await;
            forget_peak()?;
            let (before, cpu, start) = (peak()?, Cpu::of(std::process::id())?, Instant::now());
            let begun = if kind == "scrub" { store.scrub("a", Duration::ZERO).await? } else { store.reconcile("a").await? };
            let job = ended(&store, &begun.id).await?;
            let (took, used) = (start.elapsed(), Cpu::of(std::process::id())?.since(&cpu));
            let looked_at = job.counts.get(if kind == "scrub" { "read" } else { "blobs" }).copied().unwrap_or(0);
            if job.state != "done" || looked_at != rows / 2 {
                return Err(format!("{kind} of {} blobs ended otherwise: {job:?}", rows / 2).into());
            }
            println!(
                "| {rows} | {kind} | {:.0} | {:.1} | {:.0} | {before:.0} |",
                looked_at as f64 / took.as_secs_f64(),
                used.as_secs_f64() * 1e6 / looked_at as f64,
                peak()?,
            );
        }
        workers.stop().await;
    }
    println!();
    Ok(())
}

async fn ended(store: &ReplicatedStore, id: &str) -> Result<JobStatus> {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let job = store.jobs(10).await?.into_iter().find(|job| job.id == id).ok_or("the job is forgotten")?;
        if !job.is_open() {
            return Ok(job);
        }
    }
}

/// So many blobs of eight bytes, held by a repository, and in both zones.
async fn fill(world: &World, registry: &Registry, blobs: u64) -> Result<()> {
    let (other, ledger) = (world.zone("b").await?, world.ledger());
    let zone = ledger.zones().await?.into_iter().find(|zone| zone.name == "b").ok_or("there is no zone b")?.id;
    let repository: RepositoryName = "team/app".parse()?;
    let puts = (0..blobs).map(|n| {
        let (other, ledger, zone, repository) = (Arc::clone(&other), Arc::clone(&ledger), zone.clone(), repository.clone());
        async move {
            let content = bytes::Bytes::copy_from_slice(&n.to_be_bytes());
            let digest = Digest::sha256(&content);
            registry.push_blob(&repository, &digest, Some(8), once(content.clone())).await?;
            other.put(&digest, WriteOptions::default().with_size(8), once(content)).await?;
            let placements = ledger.placements(&[digest]).await?;
            let generation = placements.iter().find(|placement| placement.zone == zone).map_or(0, |placement| placement.generation);
            ledger.committed(&Commit { digest, size: 8, zone, generation }).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        }
    });
    stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(())
}
