//! A zone that dies in the middle of a pull: its process killed, or its connections swallowed. The zone is behind a real network connection, to a process
//! of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use registry_core::blob::{
    BlobInfo, BlobReader, ByteRange, ByteStream, Capabilities, ItemStream, ListOptions, NamedObjects, PendingUpload, ReadOptions,
    ResumeOptions, WriteOptions,
};
use registry_core::testing::Rng;
use registry_core::{Algorithm, BlobStore, BlobUpload, Digest, Error, ErrorKind, Hasher, Result, Timestamp};
use replication::ledger::{Commit, ZoneRecord};
use replication::{Closest, MemoryLedger, Options, PlacementLedger, ReplicatedStore, Zone, ZoneId};
use storage_fs::FsBlobStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::process::Server;
use crate::tools::large;

/// How long a stream may stand still.
const STALL: Duration = Duration::from_secs(3);

/// A zone whose blobs are read from a registry over HTTP, and otherwise are those of a directory.
#[derive(Debug)]
struct Remote {
    address: String,
    directory: FsBlobStore,
}

impl Remote {
    /// `GET` of a range, as a stream of what comes over the wire.
    async fn get(&self, digest: &Digest, start: u64, end: u64) -> Result<ByteStream> {
        let mut connection = TcpStream::connect(&self.address).await?;
        let head = format!(
            "GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: zone\r\nConnection: close\r\nRange: bytes={start}-{}\r\n\r\n",
            end.saturating_sub(1)
        );
        connection.write_all(head.as_bytes()).await?;
        let mut buffer = Vec::new();
        let body = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if connection.read_buf(&mut buffer).await? == 0 {
                return Err(Error::new(ErrorKind::Interrupted, "the zone closed the connection"));
            }
        };
        let status = String::from_utf8_lossy(&buffer[..body]).split(' ').nth(1).map(str::to_owned);
        if !matches!(status.as_deref(), Some("200" | "206")) {
            return Err(Error::new(ErrorKind::Unavailable, format!("the zone answered {status:?}")));
        }
        let first = Bytes::copy_from_slice(&buffer[body..]);
        let rest = stream::try_unfold((connection, end - start - first.len() as u64), |(mut connection, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let mut chunk = bytes::BytesMut::with_capacity(256 << 10);
            match connection.read_buf(&mut chunk).await {
                Ok(0) => Err(Error::new(ErrorKind::Interrupted, "the zone closed the connection")),
                Ok(n) => Ok(Some((chunk.freeze(), (connection, left - n as u64)))),
                Err(error) => Err(Error::new(ErrorKind::Interrupted, error.to_string())),
            }
        });
        Ok(Box::pin(stream::iter((!first.is_empty()).then_some(Ok(first))).chain(rest)))
    }
}

#[async_trait]
impl BlobStore for Remote {
    async fn stat(&self, digest: &Digest) -> Result<BlobInfo> {
        self.directory.stat(digest).await
    }

    async fn read(&self, digest: &Digest, options: ReadOptions) -> Result<BlobReader> {
        let info = self.directory.stat(digest).await?;
        let range = options.resolve(digest, info.size)?;
        let stream = self.get(digest, range.start, range.end).await?;
        Ok(BlobReader::new(info, range, stream))
    }

    async fn begin(&self, options: WriteOptions) -> Result<Box<dyn BlobUpload>> {
        self.directory.begin(options).await
    }

    async fn resume(&self, options: ResumeOptions) -> Result<Box<dyn BlobUpload>> {
        self.directory.resume(options).await
    }

    async fn put(&self, digest: &Digest, options: WriteOptions, content: ByteStream) -> Result<BlobInfo> {
        self.directory.put(digest, options, content).await
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.directory.delete(digest).await
    }

    fn list(&self, options: ListOptions) -> ItemStream<'_, BlobInfo> {
        self.directory.list(options)
    }

    fn uploads(&self, older_than: Timestamp) -> ItemStream<'_, PendingUpload> {
        self.directory.uploads(older_than)
    }

    async fn discard(&self, id: &str) -> Result<()> {
        self.directory.discard(id).await
    }

    fn named(&self) -> Option<&dyn NamedObjects> {
        self.directory.named()
    }

    fn capabilities(&self) -> Capabilities {
        self.directory.capabilities()
    }
}

/// Passes a connection on to `target`, and from `swallow` bytes of the answer on swallows everything, with all connections kept open.
async fn proxy(target: String, swallow: u64, passed: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (target, passed) = (target.clone(), Arc::clone(&passed));
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(&target).await else { return };
                let (mut ask, mut answer) = (vec![0; 64 << 10], vec![0; 256 << 10]);
                loop {
                    tokio::select! {
                        n = client.read(&mut ask) => match n {
                            Ok(n) if n > 0 => server.write_all(&ask[..n]).await.unwrap_or_default(),
                            _ => return,
                        },
                        n = server.read(&mut answer) => {
                            let Ok(n) = n else { return };
                            if n == 0 {
                                return;
                            }
                            if passed.fetch_add(n as u64, Ordering::Relaxed) >= swallow {
                                std::future::pending::<()>().await;
                            }
                            if client.write_all(&answer[..n]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    address
}

/// Writes a blob of random bytes into a zone's directory, as a push would.
async fn put(store: &FsBlobStore, size: u64) -> Digest {
    let chunk = Bytes::from(Rng::new(4711).bytes(1 << 20));
    let chunks = move || {
        let chunk = chunk.clone();
        (0..size.div_ceil(1 << 20)).map(move |n| chunk.slice(..usize::try_from((size - (n << 20)).min(1 << 20)).unwrap()))
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    chunks().for_each(|chunk| hasher.update(&chunk));
    let digest = hasher.finalize();
    store.put(&digest, WriteOptions::default().with_size(size), Box::pin(stream::iter(chunks().map(Ok)))).await.unwrap();
    digest
}

/// What kills the zone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Kill,
    BlackHole,
}

/// Pulls a blob while its zone dies after a quarter of it.
async fn pull(dir: &Path, size: u64, death: Death) {
    let data = dir.join("zone");
    let near = FsBlobStore::builder(data.join("local")).build().await.unwrap();
    let far = FsBlobStore::builder(dir.join("far")).build().await.unwrap();
    // The near zone's process: a registry over the same directory, which holds the blob.
    let zone = format!("name=local,path={}", data.join("local").display());
    let mut server = Server::start(&data, &["--log", "warn", "--zone", &zone]);
    let digest = put(&far, size).await;
    let mut source = far.read(&digest, ReadOptions::default()).await.unwrap().stream;
    let push = server.client().begin("POST", &format!("/v2/team/app/blobs/uploads/?digest={digest}"), &[], Some(size)).await;
    let mut push = push.unwrap();
    while let Some(chunk) = source.next().await {
        push.write(&chunk.unwrap()).await.unwrap();
    }
    push.finish("POST").await.unwrap().expect(201);

    let passed = Arc::new(AtomicU64::new(0));
    let swallow = if death == Death::BlackHole { size / 4 } else { u64::MAX };
    let address = proxy(server.address.clone(), swallow, Arc::clone(&passed)).await;
    let ledger: Arc<dyn PlacementLedger> = Arc::new(MemoryLedger::default());
    let mut options = Options::default();
    options.stall_timeout = STALL;
    let store = ReplicatedStore::builder(Arc::clone(&ledger))
        .zone(Zone::new("local", Arc::new(Remote { address, directory: near })))
        .zone(Zone::new("far", Arc::new(far)))
        .closest(Closest::Preference(vec!["local".to_owned(), "far".to_owned()]))
        .options(options)
        .build()
        .await
        .unwrap();
    let zones: Vec<ZoneId> = ledger.zones().await.unwrap().into_iter().map(|zone: ZoneRecord| zone.id).collect();
    let intent = ledger.intend(&digest, Some(size), &zones).await.unwrap();
    for target in intent.targets {
        ledger.committed(&Commit { digest, size, zone: target.zone, generation: target.generation }).await.unwrap();
    }

    let start = Instant::now();
    let mut reader = store.read(&digest, ReadOptions::default().with_range(ByteRange::FromTo(0, None))).await.unwrap();
    let (mut hasher, mut position, mut longest, mut last) = (Hasher::new(Algorithm::Sha256), 0, Duration::ZERO, Instant::now());
    let mut was_killed = false;
    while let Some(chunk) = reader.stream.next().await {
        let chunk = chunk.unwrap_or_else(|error| panic!("{death:?} at {position} of {size}: {error}"));
        longest = longest.max(last.elapsed());
        position += chunk.len() as u64;
        hasher.update(&chunk);
        if death == Death::Kill && passed.load(Ordering::Relaxed) >= size / 4 && position < size / 2 {
            server.kill();
            // Once is enough.
            passed.store(0, Ordering::Relaxed);
            was_killed = true;
        }
        last = Instant::now();
    }
    assert_eq!(position, size, "{death:?}: every byte once");
    assert_eq!(hasher.finalize(), digest, "{death:?}");
    assert!(longest < STALL + Duration::from_secs(2), "{death:?}: it stood still for {longest:?}");
    let status = store.status().await.unwrap();
    println!("{death:?}: {} MiB in {:?}, longest pause {longest:?}, {:?}", size >> 20, start.elapsed(), status[0].last_error);
    match death {
        // Counted anew since then: nearly all of the rest came from the other zone.
        Death::Kill => assert!(was_killed && passed.load(Ordering::Relaxed) < size / 4, "the zone did not die while it was read"),
        Death::BlackHole => assert!(longest > STALL / 2 && status[0].last_error.is_some(), "the zone was not swallowed: {status:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_the_death_of_its_zone_and_gets_every_byte_once() {
    let size = if large() { 1 << 30 } else { 96 << 20 };
    for death in [Death::Kill, Death::BlackHole] {
        let dir = tempfile::tempdir().unwrap();
        pull(dir.path(), size, death).await;
    }
}
