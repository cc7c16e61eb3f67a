//! `registry gc`: collect garbage now.

use clap::Args;
use registry_core::{GcOptions, GcReport};
use serde_json::json;

use super::{print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Change nothing, only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Collects.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let stores = Stores::open(config, Purpose::Use).await?;
    let report = collect(config, &stores, options.dry_run).await;
    stores.close().await;
    let report = report.map_err(|error| Failure::because("garbage collection failed", &error))?;
    if options.json {
        print_json(&as_json(&report))?;
    } else {
        print(&as_text(&report))?;
    }
    match report.failed {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} blobs could not be deleted; the log above says why"))
            .hint("they are tried again by the next run")),
    }
}

async fn collect(config: &Config, stores: &Stores, dry_run: bool) -> registry_core::Result<GcReport> {
    let report = stores.registry(config).collect_garbage(&GcOptions::default().with_dry_run(dry_run)).await?;
    if let Some(zones) = stores.zones.as_ref().filter(|_| !dry_run) {
        // Of several zones the bytes are deleted by the workers, and there may be no server to have any.
        zones.replicated.work_once().await?;
    }
    Ok(report)
}

fn as_json(report: &GcReport) -> serde_json::Value {
    match report.preview {
        Some(would) => json!({ "dry_run": true, "links": would.links, "blobs": would.blobs, "bytes": would.bytes }),
        None => json!({
            "dry_run": false,
            "links": report.links,
            "condemned": report.condemned,
            "deleted": report.deleted,
            "bytes": report.bytes,
            "failed": report.failed,
            "uploads": report.uploads,
        }),
    }
}

fn as_text(report: &GcReport) -> String {
    match report.preview {
        Some(would) => format!(
            "Would remove {} links of repositories to blobs, and with them {} blobs of {} bytes. Nothing was changed.\n",
            would.links, would.blobs, would.bytes
        ),
        None => format!(
            "Removed {} links of repositories to blobs and {} abandoned uploads.\n\
             {} blobs are held by nobody any more and go after the trash delay; {} of {} bytes were deleted now.\n",
            report.links, report.uploads, report.condemned, report.deleted, report.bytes
        ),
    }
}
