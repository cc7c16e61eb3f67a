//! Compares the example server with Debian's docker-registry: the same load from the same client, in turn, on the same machine and file system.
//!
//! # Why a load generator of our own
//!
//! The figure that lasts is the server's CPU time per gigabyte or per operation, read from /proc: unlike megabytes per second it does not depend on how
//! much of the two cores the client leaves over. Still, client and server share the machine and its caches, so the client has to be lean: HTTP/1.1 written
//! by hand on kept-alive connections, content made once and told apart by its last 16 bytes, one reusable buffer per connection.
//!
//! Rejected: `wrk` and the like (cannot push, cannot read another process's CPU time), a client on `hyper` (costs as much as the server under test).
//!
//! Each round gives each server a fresh process over a fresh folder; servers take turns within a round, so that a noisy minute hits both.
//!
//! ```sh
//! scripts/bench compare    # builds everything, installs docker-registry if need be, prints the tables
//! ```

mod load;
mod report;
mod round;
mod server;

use std::path::PathBuf;

use benches::measure::Result;
use benches::{client, content, usage};
use clap::Parser;

/// Compares the example server with Debian's docker-registry and prints Markdown tables.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Rounds per server; medians, smallest and largest values are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Run only this load; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<load::Kind>,
    /// Run only this server; may be given more than once.
    #[arg(long, value_enum)]
    server: Vec<server::Kind>,
    /// Folder for the servers' data; a file system in memory by default, so that the disk is not what is measured.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// The example server's program.
    #[arg(long, default_value = "target/release/examples/registry")]
    program: PathBuf,
    /// Size in MiB of each of the 16 blobs pushed while memory is watched.
    #[arg(long, default_value_t = 1024)]
    memory_mib: u64,
    /// A quarter of the operations: to see that it works, not to measure.
    #[arg(long)]
    quick: bool,
    /// Loads a server that runs already at this address, as process PID: its figures alone are printed.
    #[arg(long, value_name = "ADDRESS,PID")]
    running: Option<server::Running>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let work = async {
        let mut report = report::Report::new(&arguments);
        round::all(&arguments, &mut report).await?;
        println!("{report}");
        Ok(())
    };
    // Ends with everything dropped, so that no server outlives us and no folder stays in memory.
    tokio::select! {
        done = work => done,
        signal = tokio::signal::ctrl_c() => { signal?; Err("interrupted".into()) }
    }
}
