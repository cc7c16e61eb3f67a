//! One large blob from one zone to the other.

use std::process::Stdio;
use std::time::{Duration, Instant};

use benches::measure::{Result, Spread, forget_peak, peak};
use registry_core::BlobStore as _;
use registry_core::blob::WriteOptions;

use crate::Arguments;
use crate::world::{Content, World};

/// The pipe that it is compared with: it reads, hashes and writes, each in a process of its own.
const PIPE: &str = r#"set -euo pipefail; curl -s "file://$1" | tee >(sha256sum >"$2.sum") | curl -s -T- "file://$2"; while ! [ -s "$2.sum" ]; do sleep 0.001; done"#;

/// Copies the same blob by turns with replication and with the pipe.
pub(crate) async fn compare(arguments: &Arguments) -> Result<()> {
    let content = Content::new(1, arguments.mib << 20);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let world = World::new(&arguments.folder).await?;
        ours.push(replicate(&world, &content).await?);
        let source = world.path("source");
        let mut file = std::fs::File::create(&source)?;
        for chunk in content.chunks() {
            std::io::Write::write_all(&mut file, &chunk)?;
        }
        drop(file);
        let start = Instant::now();
        let mut pipe = tokio::process::Command::new("bash");
        pipe.args(["-c", PIPE, "pipe"]).arg(&source).arg(world.path("target")).stdin(Stdio::null());
        let status = pipe.status().await?;
        theirs.push(start.elapsed());
        if !status.success() || std::fs::metadata(world.path("target"))?.len() != content.size {
            return Err("the pipe failed".into());
        }
        let sum = std::fs::read_to_string(world.path("target.sum"))?;
        if !content.digest.to_string().ends_with(sum.split_whitespace().next().unwrap_or("-")) {
            return Err("the pipe copied something else".into());
        }
    }
    let (ours, theirs) = (Spread::new(ours), Spread::new(theirs));
    let rate = |time: &Spread| content.size as f64 / 1e6 / time.median().as_secs_f64();
    println!("| copy of {} MiB | seconds: median (smallest–largest) | MB/s |\n|---|---|---|", arguments.mib);
    println!("| replication, verified and noted in the ledger | {ours} | {:.0} |", rate(&ours));
    println!("| `curl src \\| tee >(sha256sum) \\| curl -T- dst` | {theirs} | {:.0} |", rate(&theirs));
    println!("\nThat is {:.0} % of the pipe's throughput.\n", 100.0 * rate(&ours) / rate(&theirs));
    Ok(())
}

/// Puts the blob into one zone and times its copy to the other.
async fn replicate(world: &World, content: &Content) -> Result<Duration> {
    let store = world.store().await?;
    store.put(&content.digest, WriteOptions::default().with_size(content.size), content.stream()).await?;
    let start = Instant::now();
    store.work_once().await?;
    let took = start.elapsed();
    let copy = world.zone("b").await?.stat(&content.digest).await?;
    if copy.size != content.size {
        return Err("the copy was not made".into());
    }
    Ok(took)
}

/// Copies ever larger blobs; the peak must not follow.
pub(crate) async fn memory(arguments: &Arguments) -> Result<()> {
    println!("| copied blob, MiB | peak memory of the process, MiB |\n|---|---|");
    for mib in [1, 16, 64, 256, 1024, 4096].into_iter().filter(|mib| *mib <= arguments.mib * 4) {
        forget_peak()?;
        let world = World::new(&arguments.folder).await?;
        replicate(&world, &Content::new(mib, mib << 20)).await?;
        println!("| {mib} | {:.1} |", peak()?);
    }
    println!();
    Ok(())
}
