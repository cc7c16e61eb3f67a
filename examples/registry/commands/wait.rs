//! `registry wait`: until an image is where it is to be pulled.

use std::time::Duration;

use clap::Args;

use super::image::Image;
use super::job;
use super::{print, print_json};
use crate::config::{Config, duration};
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// For what, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The image, REPOSITORY:TAG or REPOSITORY@DIGEST
    image: String,
    /// Only this zone; else every zone that is to have it
    #[arg(id = "in", long = "zone", value_name = "ZONE")]
    zone: Option<String>,
    /// For how long at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Waits.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let image = Image::parse(&options.image)?;
    job::zones(config, options.zone.as_deref())?;
    let stores = Stores::open(config, Purpose::Use).await?;
    let waited = image.wait(config, &stores, options.zone.as_deref(), options.timeout).await;
    stores.close().await;
    let (in_time, status) = waited.map_err(|error| Failure::because(format!("cannot wait for {}", options.image), &error))?;
    if options.json {
        print_json(&status.as_json())?;
    } else {
        print(&status.as_text())?;
    }
    if in_time {
        return Ok(());
    }
    Err(Failure::new(format!("{} is not there after {:?}", options.image, options.timeout))
        .hint("`registry status --failures` says what could not be copied; copies are made by the servers that run"))
}
