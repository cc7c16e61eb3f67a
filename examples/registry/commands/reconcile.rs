//! `registry reconcile`: is everything where it is said to be?

use clap::Args;

use super::job;
use crate::config::Config;
use crate::failure::Failure;

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this zone
    #[arg(id = "in", long = "zone", value_name = "ZONE")]
    zone: Option<String>,
    #[command(flatten)]
    follow: job::Options,
}

/// Compares.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    job::in_zones(config, options.zone.as_deref(), &options.follow, async |store, zone| store.reconcile(zone).await).await
}
