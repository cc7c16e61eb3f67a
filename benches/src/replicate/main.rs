//! Measures replication between two directories: how fast one large blob is copied, against `curl` and `sha256sum` in a pipe; how fast many are, against
//! `rclone sync`; and what a claim of work, a comparison and a scrub cost when the ledger has a million rows.
//!
//! Both sides of a comparison do their work in turn, on the same file system, within each round.
//!
//! ```sh
//! scripts/bench replication            # builds, installs rclone and curl if need be, prints the tables
//! ```

mod claim;
mod copy;
mod many;
mod tend;
mod world;

use std::path::PathBuf;

use benches::measure::Result;
use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One large blob, against `curl src | tee >(sha256sum) | curl -T- dst`.
    Copy,
    /// Memory while blobs of growing size are copied.
    Memory,
    /// Many small blobs and some large ones, against `rclone sync`.
    Many,
    /// What a claim costs with ever more rows.
    Claim,
    /// What comparing and scrubbing a zone costs with ever more blobs.
    Tend,
}

/// Measures replication and prints Markdown tables.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Rounds; the median, smallest and largest values are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only this; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Folder for the zones; a file system in memory by default, so that the disk is not what is measured.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Size in MiB of the large blob.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// The most rows of the ledger.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// One round of little: to see that it works, not to measure.
    #[arg(long)]
    quick: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.rounds = 1;
        arguments.mib = arguments.mib.min(64);
        arguments.rows = arguments.rows.min(10_000);
    }
    let wanted = |kind| arguments.only.is_empty() || arguments.only.contains(&kind);
    if wanted(Kind::Copy) {
        copy::compare(&arguments).await?;
    }
    if wanted(Kind::Memory) {
        copy::memory(&arguments).await?;
    }
    if wanted(Kind::Many) {
        many::compare(&arguments).await?;
    }
    if wanted(Kind::Claim) {
        claim::measure(&arguments).await?;
    }
    if wanted(Kind::Tend) {
        tend::measure(&arguments).await?;
    }
    Ok(())
}
