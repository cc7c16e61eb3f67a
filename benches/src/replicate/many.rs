//! Many small blobs and some large ones from one zone to the other.

use std::process::Stdio;
use std::time::Instant;

use benches::measure::{Result, Spread};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::BlobStore as _;
use registry_core::blob::WriteOptions;

use crate::Arguments;
use crate::world::{Content, World};

const SMALL: u64 = 1_000;
const LARGE: u64 = 10;

/// Copies the same blobs by turns with replication and with `rclone sync`.
pub(crate) async fn compare(arguments: &Arguments) -> Result<()> {
    let large = (arguments.mib << 20) / 16;
    let contents: Vec<_> = (0..SMALL).map(|n| (n, 4_096 + n)).chain((0..LARGE).map(|n| (SMALL + n, large + n))).collect();
    let (mut ours, mut theirs, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let world = World::new(&arguments.folder).await?;
        let store = world.store().await?;
        let puts = contents.iter().map(|(seed, size)| {
            let (store, content) = (store.clone(), Content::new(*seed, *size));
            async move {
                let options = WriteOptions::default().with_size(content.size);
                store.put(&content.digest, options, content.stream()).await.map(drop)
            }
        });
        stream::iter(puts).buffer_unordered(16).try_collect::<Vec<_>>().await?;
        let start = Instant::now();
        let done = store.work_once().await?;
        ours.push(start.elapsed());
        if done != SMALL + LARGE {
            return Err(format!("{done} pieces of work instead of {}", SMALL + LARGE).into());
        }
        let (source, target) = (world.path("a"), world.path("rclone"));
        for times in [&mut theirs, &mut again] {
            let start = Instant::now();
            let mut rclone = tokio::process::Command::new("rclone");
            rclone.args(["sync", "--transfers", "4", "--config", "/dev/null", "--quiet"]).arg(&source).arg(&target).stdin(Stdio::null());
            if !rclone.status().await?.success() {
                return Err("rclone failed".into());
            }
            times.push(start.elapsed());
        }
    }
    println!(
        "| {SMALL} blobs of some 4 KiB and {LARGE} of {} MiB, 4 at once | seconds: median (smallest–largest) |\n|---|---|",
        large >> 20
    );
    println!("| replication, each verified, durable and noted in the ledger | {} |", Spread::new(ours));
    println!("| `rclone sync --transfers 4` | {} |", Spread::new(theirs));
    println!("| `rclone sync` once more, nothing to do | {} |\n", Spread::new(again));
    Ok(())
}
