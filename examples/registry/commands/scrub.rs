//! `registry scrub`: is what is stored still what was pushed?

use std::time::Duration;

use clap::Args;
use replication::ReplicatedStore;

use super::job;
use crate::config::Config;
use crate::failure::Failure;

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this zone
    #[arg(id = "in", long = "zone", value_name = "ZONE")]
    zone: Option<String>,
    /// Read everything, not only what was not read within replication.scrub_interval
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    follow: job::Options,
}

/// Reads.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let not_read_for = if options.now { Duration::ZERO } else { config.replication.scrub_interval };
    let scrub = async |store: &ReplicatedStore, zone: &str| store.scrub(zone, not_read_for).await;
    job::in_zones(config, options.zone.as_deref(), &options.follow, scrub).await
}
