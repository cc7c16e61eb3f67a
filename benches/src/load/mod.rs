//! The loads, and how one is applied and measured.
//!
//! | file | load |
//! |---|---|
//! | `pull` | GET of a 64 MiB blob |
//! | `push` | POST, chunked PATCH, PUT of a 64 MiB blob; of 1 GiB ones while memory is watched |
//! | `small` | POST and PUT of a 4 KiB blob |
//! | `manifest` | GET of a manifest by tag |
//! | `tags` | a page of 100 out of 10,000 tags |
//! | `image` | the image that the last two need |

pub(crate) mod image;
pub(crate) mod manifest;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod small;
pub(crate) mod tags;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::push::REPOSITORY;

use crate::Result;
use crate::client::Connection;
use crate::server::Server;
use crate::usage::Cpu;

/// The size of a large blob, in bytes.
pub(crate) const LARGE: u64 = 64 << 20;

/// Which load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Pulls of 64 MiB blobs, one and 16 at once.
    Pull,
    /// Pushes of 64 MiB blobs, one and 16 at once.
    Push,
    /// GET of a manifest by tag, 64 at once.
    Manifest,
    /// Durable pushes of 4 KiB blobs, 16 at once.
    Small,
    /// Pages of a list of 10,000 tags.
    Tags,
    /// Peak memory under 16 pushes of large blobs at once.
    Memory,
}

/// One kind of operation, done over and over by many clients.
pub(crate) trait Load: Send + Sync + 'static {
    /// One operation; `n` is a number that no other operation of this program has.
    fn run(&self, connection: &mut Connection, n: u64) -> impl Future<Output = Result<()>> + Send;
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// After this long.
    Lasting(Duration),
    /// After so many operations of each client.
    Each(u64),
}

/// What a load came to.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// How long each operation took, shortest first.
    latencies: Vec<Duration>,
}

impl Measured {
    pub(crate) fn operations(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// The latency that `share` (0 to 1) of the operations did not exceed.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
}

/// Lets `clients` do the same at once, each on a connection of its own that is opened and used once before the clock starts.
pub(crate) async fn measure<L: Load>(server: &Server, clients: usize, extent: Extent, load: L) -> Result<Measured> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let number = || NUMBERS.fetch_add(1, Ordering::Relaxed);
    let load = Arc::new(load);
    let mut connections = Vec::new();
    for _ in 0..clients {
        let mut connection = Connection::open(server.address).await?;
        load.run(&mut connection, number()).await?;
        connections.push(connection);
    }
    let before = Cpu::of(server.pid)?;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for mut connection in connections {
        let load = Arc::clone(&load);
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let more = |done: usize| match extent {
                Extent::Lasting(time) => began.elapsed() < time,
                Extent::Each(operations) => (done as u64) < operations,
            };
            while more(latencies.len()) {
                let start = Instant::now();
                load.run(&mut connection, number()).await?;
                latencies.push(start.elapsed());
            }
            Result::Ok(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await??);
    }
    let elapsed = began.elapsed();
    let cpu = Cpu::of(server.pid)?.since(&before);
    latencies.sort_unstable();
    Ok(Measured { elapsed, cpu, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_latencies() {
        let latencies = (1..=100).map(Duration::from_millis).collect();
        let measured = Measured { elapsed: Duration::from_secs(1), cpu: Duration::ZERO, latencies };
        assert_eq!(measured.operations(), 100);
        assert_eq!(measured.latency(0.0), Duration::from_millis(1));
        assert_eq!(measured.latency(0.99), Duration::from_millis(99));
        assert_eq!(measured.latency(1.0), Duration::from_millis(100));
    }
}
