//! `registry reconcile`: is everything where it is said to be?

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
    #[command(flatten)]
    follow: job::Options,
}

/// Compares.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let names = job::zones(config, options.zone.as_deref())?;
    let stores = Stores::open(config, Purpose::Use).await?;
    let Some(zones) = &stores.zones else {
        stores.close().await;
        return Err(Failure::new("there is only one zone").hint("there is no ledger that could be compared with it"));
    };
    let compare = |zone: String| async move { zones.replicated.reconcile(&zone).await };
    let followed = job::begin_all(names, compare, &zones.replicated, &options.follow).await;
    stores.close().await;
    followed
}
