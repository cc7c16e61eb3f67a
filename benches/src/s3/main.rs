//! Measures the S3 client against `rclone`: the same bytes, with the same keys, to and from the same bucket, by turns. How much memory it takes, however large
//! a blob is, and how much a registry takes whose zone is in S3.
//!
//! Both sides read the same file in memory, and speak HTTP over loopback to a service on the same two cores. Ours hashes what it sends (SHA-256 for the
//! digest, MD5 for the service to compare, and SHA-256 once more to sign it, as there is no TLS), and hashes what it reads. What `rclone` hashes is
//! told beside the figures.
//!
//! ```sh
//! scripts/bench s3            # builds, starts SeaweedFS if need be, prints the tables
//! ```

mod memory;
mod service;
mod small;
mod transfer;

use std::path::PathBuf;

use benches::measure::{Result, machine};
use clap::{Parser, ValueEnum};

use crate::service::Service;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A blob there and back, against `rclone copyto`, `rcat` and `cat`.
    Transfer,
    /// Many blobs of 4 KiB, against `rclone copy`.
    Small,
    /// Memory while small and large blobs are sent and read.
    Memory,
    /// Memory and throughput of a registry to which 16 clients push large blobs at once.
    Registry,
}

/// Measures the S3 client and prints Markdown tables. On the SeaweedFS whose variables `scripts/services/seaweedfs up` prints, and on the RadosGW of
/// `scripts/services/rgw up` too if its variables are set: there only what needs little room, as its store is in memory. What was written is removed again.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Rounds; the median, smallest and largest values are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only this; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Folder for the files that are sent, and for the registry's database; in memory by default.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Size in MiB of a blob that is sent and read; may be given more than once.
    #[arg(long, default_values_t = [64, 1024])]
    mib: Vec<u64>,
    /// How many blobs of 4 KiB are sent in a round.
    #[arg(long, default_value_t = 1000)]
    files: u64,
    /// Measure memory with a blob of 4 GiB too.
    #[arg(long)]
    large: bool,
    /// Size in MiB of each of the 16 blobs that are pushed to a registry at once. The service needs room for all of them twice for a while; SeaweedFS, as
    /// it is started here, has 32 GiB for everybody.
    #[arg(long, default_value_t = 512)]
    push: u64,
    /// What that registry's uploads may have in memory.
    #[arg(long, default_value = "256MiB")]
    upload_memory: String,
    /// The example server's program.
    #[arg(long, default_value = "target/release/examples/registry")]
    program: PathBuf,
    /// One round of little: to see that it works, not to measure.
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    fn wants(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }

    fn sizes_of_memory(&self) -> Vec<u64> {
        match (self.quick, self.large) {
            (true, _) => vec![1, 24],
            (_, false) => vec![1, 64, 1024],
            (_, true) => vec![1, 64, 1024, 4096],
        }
    }
}

async fn measure(arguments: &Arguments, service: &Service) -> Result<()> {
    // Memory first, while there is nothing else in it.
    if arguments.wants(Kind::Memory) && service.has_room() {
        memory::peaks(arguments, service).await?;
    }
    if arguments.wants(Kind::Transfer) {
        for mib in arguments.mib.iter().filter(|mib| service.has_room() || **mib <= 64) {
            transfer::compare(arguments, service, *mib).await?;
        }
    }
    if arguments.wants(Kind::Small) {
        small::compare(arguments, service).await?;
    }
    if arguments.wants(Kind::Registry) && service.has_room() {
        memory::registry(arguments, service).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.rounds = 1;
        arguments.mib = vec![20];
        arguments.files = 40;
        arguments.push = 12;
    }
    println!("Machine: {}; client and service on it.\n", machine());
    for service in Service::all(&arguments.folder)? {
        // Ends with everything removed: the service may be used by others.
        let measured = tokio::select! {
            measured = measure(&arguments, &service) => measured,
            signal = tokio::signal::ctrl_c() => signal.map_err(Into::into).and(Err("interrupted".into())),
        };
        let removed = service.remove().await;
        measured.and(removed)?;
    }
    Ok(())
}
