//! One blob there and back.

use std::time::{Duration, Instant};

use benches::blob::Blob;
use benches::measure::Result;
use benches::turns::{Way, header};
use futures_util::TryStreamExt as _;
use registry_core::BlobStore as _;

use crate::Arguments;
use crate::service::Service;

fn key(blob: &Blob, folder: &str) -> String {
    format!("{folder}/blobs/sha256/{:02x}/{}", blob.digest.shard(), blob.digest.hex())
}

/// What it takes `curl` to have Swift compare what arrived.
async fn checked(service: &Service, file: &str) -> Result<Duration> {
    let start = Instant::now();
    let output = tokio::process::Command::new("md5sum").arg(file).output().await?;
    let sum = String::from_utf8(output.stdout)?;
    let header = format!("ETag: {}", sum.split_whitespace().next().ok_or("md5sum failed")?);
    service.curl(&["-T", file, "-H", &header], "curl").await?;
    Ok(start.elapsed())
}

/// Sends and reads the same blob by turns with the client and with `curl`.
pub(crate) async fn compare(arguments: &Arguments, service: &Service) -> Result<()> {
    let blob = Blob::in_memory(1, usize::try_from(arguments.mib << 20)?);
    let file = service.path("blob");
    let content: Vec<_> = blob.stream()?.try_collect().await?;
    std::fs::write(&file, content.concat())?;
    let file = file.to_str().ok_or("the folder's name is not text")?;
    let whole = service.store("whole", arguments.mib << 20).await?;
    let segments = service.store("segments", arguments.segment << 20).await?;
    let swift = ["swift.d/daemon.py".to_owned()];
    let mut ways: [Way; 8] = Default::default();
    // The first round warms up connections and caches.
    for round in 0..=arguments.rounds {
        let [put_whole, put_segments, put_curl, put_curl_checked, get_whole, get_whole_curl, get_segments, get_segments_curl] = &mut ways;
        put_curl.add(&swift, service.curl(&["-T", file], "curl")).await?;
        put_curl_checked.add(&swift, checked(service, file)).await?;
        put_whole.add(&swift, blob.put(&whole)).await?;
        put_segments.add(&swift, blob.put(&segments)).await?;
        get_whole_curl.add(&swift, service.curl(&["-o", "/dev/null"], &key(&blob, "whole"))).await?;
        get_whole.add(&swift, blob.get(&whole)).await?;
        get_segments_curl.add(&swift, service.curl(&["-o", "/dev/null"], &key(&blob, "segments"))).await?;
        get_segments.add(&swift, blob.get(&segments)).await?;
        whole.delete(&blob.digest).await?;
        segments.delete(&blob.digest).await?;
        service.curl(&["-X", "DELETE"], "curl").await?;
        if round == 0 {
            ways = Default::default();
        }
    }
    header(&format!("{} MiB", arguments.mib), "curl", "Swift");
    let [put_whole, put_segments, put_curl, put_curl_checked, get_whole, get_whole_curl, get_segments, get_segments_curl] = &ways;
    put_curl.print("`curl -T`", blob.size, put_curl);
    put_curl_checked.print("`md5sum`, and `curl -T` with that as ETag", blob.size, put_curl);
    put_whole.print("`put`, one object", blob.size, put_curl);
    put_segments.print(&format!("`put`, segments of {} MiB", arguments.segment), blob.size, put_curl);
    get_whole_curl.print("`curl` of the one object", blob.size, get_whole_curl);
    get_whole.print("`read` of the one object", blob.size, get_whole_curl);
    get_segments_curl.print("`curl` of the segments", blob.size, get_segments_curl);
    get_segments.print("`read` of the segments", blob.size, get_segments_curl);
    println!();
    Ok(())
}
