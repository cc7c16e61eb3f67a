//! One blob there and back.

use std::time::Duration;

use benches::blob::Blob;
use benches::measure::Result;
use benches::turns::{Way, header};

use crate::Arguments;
use crate::service::Service;

/// Sends and reads the same blob by turns with the client and with `rclone`.
pub(crate) async fn compare(arguments: &Arguments, service: &Service, mib: u64) -> Result<()> {
    let (source, target) = (service.path("source"), service.path("target"));
    let blob = Blob::in_file(&source, mib, mib << 20)?;
    let (from, to) = (source.to_str().ok_or("the folder's name is not text")?, target.to_str().ok_or("the folder's name is not text")?);
    let (known, unknown) = (service.store("known").await?, service.store("unknown").await?);
    let key = service.remote(&format!("known/blobs/sha256/{:02x}/{}", blob.digest.shard(), blob.digest.hex()));
    let (copied, piped) = (service.remote("copied"), service.remote("piped"));
    let mut ways: [Way; 7] = Default::default();
    let of = &service.processes;
    // The first round warms up connections and caches.
    for round in 0..=arguments.rounds {
        let [copyto, rcat, put, upload, cat, back, read] = &mut ways;
        copyto.add(of, service.rclone(&["copyto", from, &copied], None)).await?;
        put.add(of, blob.put(&*known)).await?;
        rcat.add(of, service.rclone(&["rcat", &piped], Some(&source))).await?;
        upload.add(of, blob.upload(&*unknown)).await?;
        cat.add(of, service.rclone(&["cat", &key], None)).await?;
        read.add(of, blob.get(&*known)).await?;
        back.add(of, service.rclone(&["copyto", &key, to], None)).await?;
        if std::fs::metadata(&target)?.len() != blob.size {
            return Err("rclone read something else".into());
        }
        // Or it would find that all is there already.
        std::fs::remove_file(&target)?;
        for name in [&copied, &piped] {
            service.rclone(&["deletefile", name], None).await?;
        }
        known.delete(&blob.digest).await?;
        unknown.delete(&blob.digest).await?;
        if round == 0 {
            ways = Default::default();
        }
    }
    let [copyto, rcat, put, upload, cat, back, read] = &ways;
    header(&format!("{mib} MiB, {}", service.name), "rclone", service.name);
    copyto.print("`rclone copyto` of a file", blob.size, copyto);
    put.print("`put`", blob.size, copyto);
    rcat.print("`rclone rcat`", blob.size, rcat);
    upload.print("`begin`, `write`, `commit`", blob.size, rcat);
    cat.print("`rclone cat`", blob.size, cat);
    read.print("`read`, hashed", blob.size, cat);
    back.print("`rclone copyto` to a file", blob.size, cat);
    println!("\n`rclone` takes {:.3} s of that to start.\n", start(service).await?.as_secs_f64());
    Ok(())
}

/// How long `rclone` takes to do nothing.
async fn start(service: &Service) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..3 {
        least = least.min(service.rclone(&["version"], None).await?);
    }
    Ok(least)
}
