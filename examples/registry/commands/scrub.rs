//! `registry scrub`: is what is stored still what was pushed?

use std::time::Duration;

use clap::Args;

use super::job;
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this zone
    #[arg(id = "in", value_name = "ZONE")]
    zone: Option<String>,
    /// Read everything, not only what was not read within replication.scrub_interval
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    follow: job::Options,
}

/// Reads.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let names = job::zones(config, options.zone.as_deref())?;
    let stores = Stores::open(config, Purpose::Use).await?;
    let Some(zones) = &stores.zones else {
        stores.close().await;
        return Err(Failure::new("there is only one zone").hint("a copy that is wrong could not be made again from another"));
    };
    let not_read_for = if options.now { Duration::ZERO } else { config.replication.scrub_interval };
    let scrub = |zone: String| async move { zones.replicated.scrub(&zone, not_read_for).await };
    let followed = job::begin_all(names, scrub, &zones.replicated, &options.follow).await;
    stores.close().await;
    followed
}
