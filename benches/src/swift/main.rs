//! Measures the Swift client against `curl`: the same bytes, with the same token, to and from the same container, by turns. And how much memory an upload
//! takes, however large it is.
//!
//! Ours hashes what it sends (SHA-256 and MD5), has Swift compare, and hashes what it reads; `curl` does neither.
//!
//! ```sh
//! scripts/bench swift            # builds, starts Swift and Keystone if need be, prints the tables
//! ```

mod memory;
mod service;
mod transfer;

use std::path::PathBuf;

use benches::measure::Result;
use clap::{Parser, ValueEnum};

use crate::service::Service;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A blob there and back, against `curl`.
    Transfer,
    /// Memory while a small and a large blob are sent and read.
    Memory,
}

/// Measures the Swift client and prints Markdown tables. On the Swift whose variables `scripts/services/swift up` prints.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Rounds; the median, smallest and largest values are reported.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Measure only this; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Folder for the file that `curl` sends; in memory by default.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Size in MiB of the blob that is sent and read.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Size in MiB of its segments.
    #[arg(long, default_value_t = 8)]
    segment: u64,
    /// Size in MiB of the large upload. Swift needs that much room.
    #[arg(long, default_value_t = 5120)]
    large: u64,
    /// One round of little: to see that it works, not to measure.
    #[arg(long)]
    quick: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.rounds = 1;
        arguments.mib = arguments.mib.min(20);
        arguments.large = arguments.large.min(24);
    }
    let wanted = |kind| arguments.only.is_empty() || arguments.only.contains(&kind);
    let service = Service::new(&arguments.folder).await?;
    // Memory first, while there is nothing else in it.
    if wanted(Kind::Memory) {
        memory::measure(&arguments, &service).await?;
    }
    if wanted(Kind::Transfer) {
        transfer::compare(&arguments, &service).await?;
    }
    service.remove().await
}
