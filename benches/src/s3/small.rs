//! Many small blobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::blob::Blob;
use benches::measure::Result;
use benches::turns::Way;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::Arguments;
use crate::service::Service;

const SIZE: usize = 4096;

/// Sends all of them to a new store, so many at a time.
async fn put(service: &Service, blobs: &[Blob], at_once: usize) -> Result<Duration> {
    let store = service.store(&registry_core::random_id()).await?;
    let start = Instant::now();
    let puts = blobs.iter().map(|blob| {
        let (store, blob) = (Arc::clone(&store), blob.clone());
        async move { tokio::spawn(async move { blob.put(&*store).await }).await? }
    });
    stream::iter(puts).buffer_unordered(at_once).try_for_each(|_| std::future::ready(Ok(()))).await?;
    Ok(start.elapsed())
}

/// Sends as many files by turns with the client and with `rclone`, each time to where nothing is.
pub(crate) async fn compare(arguments: &Arguments, service: &Service) -> Result<()> {
    let blobs: Vec<_> = (0..arguments.files).map(|seed| Blob::in_memory(seed, SIZE)).collect();
    let folder = service.path("small");
    std::fs::create_dir(&folder)?;
    for (seed, blob) in blobs.iter().enumerate() {
        Blob::in_file(&folder.join(blob.digest.hex()), seed as u64, SIZE as u64)?;
    }
    let from = folder.to_str().ok_or("the folder's name is not text")?;
    let of = &service.processes;
    let copy = |options: &'static [&'static str]| {
        let to = service.remote(&registry_core::random_id());
        async move { service.rclone(&[&["copy", "--s3-no-check-bucket", from, &to], options].concat(), None).await }
    };
    let mut ways: [Way; 5] = Default::default();
    for round in 0..=arguments.rounds {
        let [one, many, rclone_one, rclone_many, no_head] = &mut ways;
        rclone_many.add(of, copy(&["--transfers", "16"])).await?;
        many.add(of, put(service, &blobs, 16)).await?;
        no_head.add(of, copy(&["--transfers", "16", "--s3-no-head"])).await?;
        rclone_one.add(of, copy(&["--transfers", "1"])).await?;
        one.add(of, put(service, &blobs, 1)).await?;
        if round == 0 {
            ways = Default::default();
        }
    }
    let [one, many, rclone_one, rclone_many, no_head] = &ways;
    println!(
        "| {} blobs of 4 KiB, {} | seconds: median (smallest–largest) | per second | of rclone's rate | client, CPU ms each | {}, CPU ms each |\n|---|---|---|---|---|---|",
        arguments.files, service.name, service.name
    );
    let print = |name: &str, way: &Way, peer: &Way| {
        let (spread, cpu, files) = (way.spread(), way.cpu(), arguments.files as f64);
        let seconds = spread.median().as_secs_f64();
        let (rate, of_peer) = (files / seconds, 100.0 * peer.spread().median().as_secs_f64() / seconds);
        println!("| {name} | {spread} | {rate:.0} | {of_peer:.0} % | {:.2} | {:.2} |", cpu.client * 1e3 / files, cpu.service * 1e3 / files);
    };
    print("`rclone copy --transfers 1`", rclone_one, rclone_one);
    print("`put`, one at a time", one, rclone_one);
    print("`rclone copy --transfers 16`", rclone_many, rclone_many);
    print("`put`, 16 at a time", many, rclone_many);
    print("`rclone copy --transfers 16 --s3-no-head`", no_head, rclone_many);
    println!();
    Ok(())
}
