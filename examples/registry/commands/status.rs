//! `registry status`: what is stored.

use clap::Args;
use futures_util::TryStreamExt as _;
use registry_core::blob::ListOptions;
use registry_core::metadata::Page;
use registry_core::{MetadataStore as _, Result};
use serde_json::json;

use super::{print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default)]
struct Status {
    repositories: u64,
    blobs: u64,
    bytes: u64,
}

/// Repositories asked for at once.
const PAGE: u32 = 1000;

/// Counts.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let stores = Stores::open(config, Purpose::Use).await?;
    let status = count(&stores).await;
    stores.close().await;
    let status = status.map_err(|error| Failure::because("cannot count what is stored", &error))?;
    if options.json {
        return print_json(&json!({
            "zone": config.zone.name,
            "path": config.zone.path,
            "repositories": status.repositories,
            "blobs": status.blobs,
            "bytes": status.bytes,
        }));
    }
    print(&format!(
        "zone {} in {}\n  {} repositories\n  {} blobs of {} bytes\n",
        config.zone.name,
        config.zone.path.display(),
        status.repositories,
        status.blobs,
        status.bytes
    ))
}

async fn count(stores: &Stores) -> Result<Status> {
    let mut status = Status::default();
    let mut after = None;
    loop {
        let page = stores.metadata.repositories(&Page { after: after.take(), limit: PAGE }).await?;
        status.repositories += page.len() as u64;
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(last.to_string()),
            _ => break,
        }
    }
    let mut blobs = stores.blobs.list(ListOptions::default());
    while let Some(blob) = blobs.try_next().await? {
        status.blobs += 1;
        status.bytes += blob.size;
    }
    Ok(status)
}
