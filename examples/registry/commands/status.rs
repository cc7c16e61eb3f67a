//! `registry status`: what is stored, and how each zone is.

use std::time::{Duration, SystemTime};

use clap::Args;
use futures_util::TryStreamExt as _;
use registry_core::blob::ListOptions;
use registry_core::metadata::Page;
use registry_core::{MetadataStore as _, Result};
use registry_http::Certificate;
use replication::{FailedWork, JobStatus, ZoneState, ZoneStatus};
use serde_json::{Value, json};

use super::image::Image;
use super::text::{age, count, size, table};
use super::{job, print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// An image, REPOSITORY:TAG or REPOSITORY@DIGEST: which zones have all of it
    #[arg(conflicts_with = "failures")]
    image: Option<String>,
    /// What failed to be copied, verified or deleted, and why
    #[arg(long)]
    failures: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Repositories asked for at once.
const PAGE: u32 = 1000;

/// Jobs that are looked at.
const JOBS: u32 = 100;

/// Failures that are told at most.
const FAILURES: u32 = 1000;

/// Looks, and tells.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let image = options.image.as_deref().map(Image::parse).transpose()?;
    let stores = Stores::open(config, Purpose::Use).await?;
    let told = match &image {
        Some(image) => image.status(config, &stores).await.map(|status| (status.as_json(), status.as_text())),
        None if options.failures => failures(&stores).await.map(|failed| (failures_json(&failed), failures_text(&failed))),
        None => status(config, &stores).await.map(|status| (status.as_json(), status.as_text())),
    };
    stores.close().await;
    let (json, text) = told.map_err(|error| match &options.image {
        Some(image) => Failure::because(format!("cannot tell where {image} is"), &error),
        None => Failure::because("cannot tell what is stored", &error),
    })?;
    if options.json { print_json(&json) } else { print(&text) }
}

#[derive(Debug, Default)]
struct Status {
    repositories: u64,
    blobs: u64,
    bytes: u64,
    /// How each zone is; of a plain store there is no more to tell than the above.
    zones: Vec<ZoneStatus>,
    /// The zones' names and places.
    places: Vec<(String, String)>,
    /// Long pieces of work that have not ended, newest first.
    jobs: Vec<JobStatus>,
    /// The certificate that is served with, or why it cannot be read.
    certificate: Option<Result<Certificate, String>>,
}

async fn status(config: &Config, stores: &Stores) -> Result<Status> {
    let places = config.zones.iter().map(|zone| (zone.name.clone(), zone.place())).collect();
    let certificate = config.tls.as_ref().map(|(path, _)| Certificate::read(path).map_err(|error| error.to_string()));
    let mut status = Status { places, certificate, ..Status::default() };
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
    drop(blobs);
    if let Some(zones) = &stores.zones {
        status.zones = zones.replicated.status().await?;
        status.jobs = zones.replicated.jobs(JOBS).await?.into_iter().filter(JobStatus::is_open).collect();
    }
    Ok(status)
}

impl Status {
    fn as_json(&self) -> Value {
        let zones = self.places.iter().map(|(name, path)| match self.zones.iter().find(|zone| zone.name == *name) {
            // It was opened, so it works.
            None => json!({ "name": name, "path": path, "state": "active", "healthy": true, "blobs": self.blobs, "bytes": self.bytes, "backlog": 0 }),
            Some(zone) => json!({
                "name": name,
                "path": path,
                "id": zone.id,
                "state": zone.state.as_str(),
                "healthy": zone.healthy,
                "blobs": zone.blobs,
                "bytes": zone.bytes,
                "backlog": zone.backlog + zone.suspects + zone.deletes,
                "to_copy": zone.backlog,
                "to_copy_bytes": zone.backlog_bytes,
                "to_verify": zone.suspects,
                "to_delete": zone.deletes,
                "without_source": zone.sourceless,
                "failing": zone.failing,
                "oldest_unconverged_seconds": zone.oldest_unconverged.map(|oldest| oldest.as_secs_f64()),
                "last_error": zone.last_error,
            }),
        });
        let jobs: Vec<_> = self.jobs.iter().map(job::as_json).collect();
        json!({ "repositories": self.repositories, "blobs": self.blobs, "bytes": self.bytes, "zones": zones.collect::<Vec<_>>(), "jobs": jobs, "certificate": self.certificate_json() })
    }

    fn as_text(&self) -> String {
        let mut text = format!(
            "{}, {}, {}\n\n",
            if self.repositories == 1 { "1 repository".to_owned() } else { format!("{} repositories", self.repositories) },
            count(self.blobs, "blob"),
            size(self.bytes)
        );
        if self.zones.is_empty() {
            text.extend(self.places.iter().map(|(name, path)| format!("zone {name} in {path}\n")));
            text.push_str(&self.certificate_text());
            return text;
        }
        let head = ["ZONE", "STATE", "HEALTHY", "BLOBS", "SIZE", "BACKLOG", "OLDEST", "LAST ERROR"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.zones.iter().map(|zone| {
            if zone.state == ZoneState::Removed {
                let cells = [&zone.name, "removed", "-", "-", "-", "-", "-", "remove its [[zone]] from the configuration"];
                return cells.map(str::to_owned).to_vec();
            }
            vec![
                zone.name.clone(),
                zone.state.as_str().to_owned(),
                if zone.healthy { "yes" } else { "no" }.to_owned(),
                zone.blobs.to_string(),
                size(zone.bytes),
                (zone.backlog + zone.suspects + zone.deletes).to_string(),
                zone.oldest_unconverged.map_or_else(|| "-".to_owned(), age),
                zone.last_error.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        }));
        text.push_str(&table(&rows));
        if !self.jobs.is_empty() {
            text.push('\n');
            let line = |job| format!("{}\n", job::line(job, job::pace(job.done, job.updated_at.since(job.begun_at))));
            text.extend(self.jobs.iter().map(line));
        }
        if self.zones.iter().any(|zone| zone.failing > 0) {
            text.push_str("\nSome copies failed: `registry status --failures` says why, and `registry replay` tries them again at once.\n");
        }
        text.push_str(&self.certificate_text());
        text
    }

    /// Days until the certificate ends; below zero if it has.
    fn days_left(certificate: &Certificate) -> i64 {
        let now = SystemTime::now();
        let days = |time: Duration| i64::try_from(time.as_secs() / 86_400).unwrap_or(i64::MAX);
        certificate.not_after.duration_since(now).map_or_else(|past| -1 - days(past.duration()), days)
    }

    fn certificate_text(&self) -> String {
        const RENEW: &str = "renew it with `registry certs issue`, or where it is from";
        match &self.certificate {
            None => String::new(),
            Some(Err(problem)) => format!("\nwarning: the certificate cannot be served with: {problem}\n"),
            Some(Ok(certificate)) => match Self::days_left(certificate) {
                ..0 => format!("\nwarning: the certificate for {} has ended: {RENEW}\n", certificate.names.join(", ")),
                days @ 0..30 => format!("\nwarning: the certificate for {} ends in {days} days: {RENEW}\n", certificate.names.join(", ")),
                days => format!("\nThe certificate for {} ends in {days} days.\n", certificate.names.join(", ")),
            },
        }
    }

    fn certificate_json(&self) -> Value {
        match &self.certificate {
            None => Value::Null,
            Some(Err(problem)) => json!({ "error": problem }),
            Some(Ok(certificate)) => json!({
                "names": certificate.names,
                "not_after": chrono::DateTime::<chrono::Utc>::from(certificate.not_after).to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                "days_left": Self::days_left(certificate),
            }),
        }
    }
}

async fn failures(stores: &Stores) -> Result<Vec<FailedWork>> {
    match &stores.zones {
        Some(zones) => zones.replicated.failures(FAILURES).await,
        None => Ok(Vec::new()),
    }
}

fn failures_json(failed: &[FailedWork]) -> Value {
    let failed = failed
        .iter()
        .map(|work| json!({ "zone": work.zone, "digest": work.digest.to_string(), "attempts": work.attempts, "error": work.error }));
    json!({ "failures": failed.collect::<Vec<_>>() })
}

fn failures_text(failed: &[FailedWork]) -> String {
    if failed.is_empty() {
        return "Nothing has failed.\n".to_owned();
    }
    let mut rows = vec![["ZONE", "ATTEMPTS", "BLOB", "ERROR"].map(str::to_owned).to_vec()];
    rows.extend(failed.iter().map(|work| vec![work.zone.clone(), work.attempts.to_string(), work.digest.to_string(), work.error.clone()]));
    let more = if failed.len() == FAILURES as usize { "There may be more.\n" } else { "" };
    format!("{}{more}", table(&rows))
}
