//! One blob there and back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::blob::{ReadOptions, WriteOptions};
use registry_core::{BlobStore as _, Digest, Hasher};
use storage_swift::SwiftBlobStore;

use crate::Arguments;
use crate::measure::{Result, Spread};
use crate::service::Service;

/// Bytes that a store is given at a time.
const CHUNK: usize = 256 << 10;

struct Blob {
    digest: Digest,
    content: Bytes,
}

impl Blob {
    async fn put(&self, store: &SwiftBlobStore) -> Result<Duration> {
        let start = Instant::now();
        let chunks: Vec<_> =
            (0..self.content.len()).step_by(CHUNK).map(|at| Ok(self.content.slice(at..self.content.len().min(at + CHUNK)))).collect();
        let options = WriteOptions::default().with_size(self.content.len() as u64);
        store.put(&self.digest, options, stream::iter(chunks).boxed()).await?;
        Ok(start.elapsed())
    }

    /// Reads all of it, and compares the digest.
    async fn get(&self, store: &SwiftBlobStore) -> Result<Duration> {
        let start = Instant::now();
        let mut chunks = store.read(&self.digest, ReadOptions::default()).await?.stream;
        let mut hasher = Hasher::new(self.digest.algorithm());
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
        }
        if hasher.finalize() != self.digest {
            return Err("what was read is not what was sent".into());
        }
        Ok(start.elapsed())
    }

    fn key(&self, folder: &str) -> String {
        format!("{folder}/blobs/sha256/{:02x}/{}", self.digest.shard(), self.digest.hex())
    }
}

/// Seconds of CPU time: of this process, of those it has started, and of all of Swift's servers here.
#[derive(Clone, Copy, Default)]
struct Cpu([f64; 3]);

impl Cpu {
    fn now() -> Result<Self> {
        let [own, children] = times("self")?;
        let mut swift = 0.0;
        for process in std::fs::read_dir("/proc")? {
            let name = process?.file_name().to_string_lossy().into_owned();
            let command = std::fs::read_to_string(format!("/proc/{name}/cmdline")).unwrap_or_default();
            if command.contains("swift.d/daemon.py") {
                swift += times(&name)?[0];
            }
        }
        Ok(Self([own, children, swift]))
    }
}

/// Of a process, and of its children that have ended. Linux counts in hundredths of a second.
fn times(process: &str) -> Result<[f64; 2]> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat is not as it should be")?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(4).map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [user, system, children_user, children_system] = ticks[..] else { return Err("/proc/PID/stat is too short".into()) };
    Ok([(user + system) / 100.0, (children_user + children_system) / 100.0])
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

/// All rounds of one way to do it.
#[derive(Default)]
struct Row {
    times: Vec<Duration>,
    /// Of the client and of Swift.
    cpu: [f64; 2],
}

impl Row {
    async fn add(&mut self, run: impl Future<Output = Result<Duration>>) -> Result<()> {
        let Cpu(before) = Cpu::now()?;
        self.times.push(run.await?);
        let Cpu(after) = Cpu::now()?;
        self.cpu[0] += after[0] - before[0] + after[1] - before[1];
        self.cpu[1] += after[2] - before[2];
        Ok(())
    }

    fn print(&self, name: &str, size: f64, curl: &Self) {
        let spread = Spread::new(self.times.clone());
        let rate = size / 1e6 / spread.median().as_secs_f64();
        let of_curl = 100.0 * Spread::new(curl.times.clone()).median().as_secs_f64() / spread.median().as_secs_f64();
        let all = size / 1e9 * self.times.len() as f64;
        println!("| {name} | {spread} | {rate:.0} | {of_curl:.0} % | {:.2} | {:.2} |", self.cpu[0] / all, self.cpu[1] / all);
    }
}

/// Sends and reads the same blob by turns with the client and with `curl`.
pub(crate) async fn compare(arguments: &Arguments, service: &Service) -> Result<()> {
    let len = usize::try_from(arguments.mib << 20)?;
    let content = Bytes::from(registry_core::testing::Rng::new(1).bytes(len));
    let blob = Blob { digest: Digest::sha256(&content), content };
    let file = service.path("blob");
    std::fs::write(&file, &blob.content)?;
    let file = file.to_str().ok_or("the folder's name is not text")?;
    let whole = service.store("whole", arguments.mib << 20).await?;
    let segments = service.store("segments", arguments.segment << 20).await?;
    let mut rows: [Row; 8] = Default::default();
    // The first round warms up connections and caches.
    for round in 0..=arguments.rounds {
        let [put_whole, put_segments, put_curl, put_curl_checked, get_whole, get_whole_curl, get_segments, get_segments_curl] = &mut rows;
        put_curl.add(service.curl(&["-T", file], "curl")).await?;
        put_curl_checked.add(checked(service, file)).await?;
        put_whole.add(blob.put(&whole)).await?;
        put_segments.add(blob.put(&segments)).await?;
        get_whole_curl.add(service.curl(&["-o", "/dev/null"], &blob.key("whole"))).await?;
        get_whole.add(blob.get(&whole)).await?;
        get_segments_curl.add(service.curl(&["-o", "/dev/null"], &blob.key("segments"))).await?;
        get_segments.add(blob.get(&segments)).await?;
        whole.delete(&blob.digest).await?;
        segments.delete(&blob.digest).await?;
        service.curl(&["-X", "DELETE"], "curl").await?;
        if round == 0 {
            rows = Default::default();
        }
    }
    let size = blob.content.len() as f64;
    println!(
        "| {} MiB | seconds: median (smallest–largest) | MB/s | of curl's rate | client, CPU s/GB | Swift, CPU s/GB |\n|---|---|---|---|---|---|",
        arguments.mib
    );
    let [put_whole, put_segments, put_curl, put_curl_checked, get_whole, get_whole_curl, get_segments, get_segments_curl] = &rows;
    put_curl.print("`curl -T`", size, put_curl);
    put_curl_checked.print("`md5sum`, and `curl -T` with that as ETag", size, put_curl);
    put_whole.print("`put`, one object", size, put_curl);
    put_segments.print(&format!("`put`, segments of {} MiB", arguments.segment), size, put_curl);
    get_whole_curl.print("`curl` of the one object", size, get_whole_curl);
    get_whole.print("`read` of the one object", size, get_whole_curl);
    get_segments_curl.print("`curl` of the segments", size, get_segments_curl);
    get_segments.print("`read` of the segments", size, get_segments_curl);
    println!();
    Ok(())
}
