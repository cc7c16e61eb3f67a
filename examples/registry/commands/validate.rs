//! `registry validate`: does the configuration work?

use std::time::{Duration, Instant};

use clap::Args;
use registry_core::{BlobStore, MetadataStore as _};
use serde_json::json;

use super::text::chain;
use super::{job, print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this zone
    #[arg(id = "in", value_name = "ZONE")]
    zone: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A step that was tried: its name, how long it took, and what went wrong.
struct Step {
    name: String,
    elapsed: Duration,
    problem: Option<String>,
}

/// Tries.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    let names = job::zones(config, options.zone.as_deref())?;
    let stores = Stores::open(config, Purpose::Try).await?;
    let steps = try_all(config, &stores, &names).await;
    stores.close().await;
    if options.json {
        let steps: Vec<_> =
            steps.iter().map(|step| json!({ "step": step.name, "ms": step.elapsed.as_millis(), "problem": step.problem })).collect();
        print_json(&json!({ "steps": steps }))?;
    } else {
        print(&steps.iter().map(line).collect::<String>())?;
    }
    match steps.iter().find_map(|step| Some((step, step.problem.as_ref()?))) {
        None => Ok(()),
        Some((step, problem)) => Err(Failure::new(format!("{}: {problem}", step.name))),
    }
}

fn line(step: &Step) -> String {
    let outcome = step.problem.as_ref().map_or_else(|| "ok".to_owned(), |problem| format!("FAILED: {problem}"));
    format!("{:<28} {:>8.1} ms  {outcome}\n", step.name, step.elapsed.as_secs_f64() * 1000.0)
}

async fn try_all(config: &Config, stores: &Stores, names: &[String]) -> Vec<Step> {
    let begin = Instant::now();
    let pinged = stores.metadata.ping().await;
    let mut steps =
        vec![Step { name: "database: answers".to_owned(), elapsed: begin.elapsed(), problem: pinged.err().map(|error| error.to_string()) }];
    match &stores.zones {
        None => {
            for zone in config.zones.iter().filter(|zone| names.contains(&zone.name)) {
                try_zone(config, &zone.name, &*stores.blobs, &mut steps).await;
            }
        }
        Some(zones) => {
            for (name, store) in zones.stores.iter().filter(|(name, _)| names.contains(name)) {
                let begin = Instant::now();
                let problem = match store.open().await {
                    Ok(()) => zones.replicated.identify(name).await.err().map(|error| error.message().to_owned()),
                    Err(error) => Some(chain(&error)),
                };
                let is_open = problem.is_none();
                steps.push(Step { name: format!("zone {name}: open"), elapsed: begin.elapsed(), problem });
                if is_open {
                    try_zone(config, name, store, &mut steps).await;
                }
            }
        }
    }
    steps
}

async fn try_zone(config: &Config, name: &str, store: &dyn BlobStore, steps: &mut Vec<Step>) {
    if config.read_only {
        return;
    }
    steps.extend(store.probe().await.steps.into_iter().map(|step| Step {
        name: format!("zone {name}: {}", step.name),
        elapsed: step.elapsed,
        problem: step.outcome.err().map(|error| error.to_string()),
    }));
}
