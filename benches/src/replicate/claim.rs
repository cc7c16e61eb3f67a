//! What a claim costs with ever more rows in the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::measure::{Result, Spread};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::Digest;
use replication::PlacementLedger;
use replication::ZoneId;
use replication::ledger::{Claim, Commit, Outcome, ZoneRecord};

use crate::Arguments;
use crate::world::World;

/// Claims that are timed at each size.
const CLAIMS: usize = 100;

/// Fills a ledger and claims from it, while everything is settled, and while everything is still to be done.
pub(crate) async fn measure(arguments: &Arguments) -> Result<()> {
    let world = World::new(&arguments.folder).await?;
    let ledger = world.ledger();
    let (a, b) = (ZoneId::new("a"), ZoneId::new("b"));
    for zone in [&a, &b] {
        ledger.register_zone(&ZoneRecord::new(zone.clone(), zone.to_string())).await?;
    }
    println!("| blobs in the ledger, all of them to be copied | claim of 4, ms: median (smallest–largest, of {CLAIMS}) |\n|---|---|");
    let mut filled = 0;
    for size in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= arguments.rows) {
        fill(&ledger, &a, &b, filled, size).await?;
        filled = size;
        let claim = Claim {
            zone: b.clone(),
            sources: vec![a.clone()],
            limit: 4,
            lease: Duration::from_secs(3600),
            look_again: Duration::from_secs(10),
        };
        let mut times = Vec::new();
        for _ in 0..CLAIMS {
            let start = Instant::now();
            let tasks = ledger.claim(&claim).await?;
            times.push(start.elapsed() * 1000);
            if tasks.len() != 4 {
                return Err(format!("{} tasks instead of 4", tasks.len()).into());
            }
            for task in tasks {
                ledger.complete(&task, &Outcome::Copied(7)).await?;
            }
        }
        println!("| {size} | {} |", Spread::new(times));
    }
    let start = Instant::now();
    let backlog = ledger.backlog().await?;
    println!(
        "\nThe backlog of {} copies is counted in {:.0} ms.\n",
        backlog.iter().map(|zone| zone.copies).sum::<u64>(),
        start.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

/// Blobs that are in one zone and owed to the other.
async fn fill(ledger: &Arc<dyn PlacementLedger>, a: &ZoneId, b: &ZoneId, from: u64, to: u64) -> Result<()> {
    let rows = (from..to).map(|n| {
        let (ledger, targets) = (Arc::clone(ledger), [a.clone(), b.clone()]);
        async move {
            let digest = Digest::sha256(&n.to_be_bytes());
            let intent = ledger.intend(&digest, Some(7), &targets).await?;
            let generation = intent.target(&targets[0]).map_or(0, |target| target.generation);
            ledger.committed(&Commit { digest, size: 7, zone: targets[0].clone(), generation }).await
        }
    });
    stream::iter(rows).buffer_unordered(256).try_collect::<Vec<_>>().await?;
    Ok(())
}
