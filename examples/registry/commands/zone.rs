//! `registry zone`: what operators do to zones.

use clap::{Args, Subcommand};
use replication::ReplicatedStore;
use serde_json::json;

use super::job::{self, follow};
use super::{print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};
use crate::zones::Zones;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fill a zone that was added to the configuration with what is to be there
    #[command(
        after_help = "Write its [[zone]] into the configuration of every server and restart them, one after the other: each then fills it by itself, and this shows how far it is.\n\
                      Manifests come first, then image by image what was used last; what is pushed meanwhile goes before. Limits: write_limit, background_share and\n\
                      background_hours of the [[zone]]. If this command is ended, the servers go on; if all of them are, the next one does."
    )]
    Add(Job),
    /// Write nothing new to a zone; what is there is read as ever
    #[command(after_help = "Pushes go to other zones, and copies that this one is owed wait. Every server knows within two seconds.")]
    Cordon(Name),
    /// Write to a zone again that was cordoned, or call its draining off
    #[command(after_help = "What has gone from a zone that was draining is copied back.")]
    Uncordon(Name),
    /// Empty a zone: each blob goes once verified copies of it are in the other zones
    #[command(
        after_help = "Beside running servers, or without any. The last copy of a blob never goes. If this command is ended, the servers go on; without\n\
                            any, the same command does. `registry status` shows how far it is, `registry zone uncordon` calls it off."
    )]
    Drain(Job),
    /// Take a drained zone out of the registry
    #[command(after_help = "Refused while any blob is only there. Afterwards remove its [[zone]] from the configuration of every server.")]
    Remove(Job),
}

/// Which zone.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The zone's name
    #[arg(id = "name", value_name = "ZONE")]
    zone: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which zone, and whether to wait.
#[derive(Debug, Args)]
pub(crate) struct Job {
    /// The zone's name
    #[arg(id = "name", value_name = "ZONE")]
    zone: String,
    #[command(flatten)]
    follow: job::Options,
}

/// Does it.
pub(crate) async fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    let (zone, json) = name(command);
    if !config.zones.iter().any(|known| known.name == *zone) {
        let names: Vec<_> = config.zones.iter().map(|zone| zone.name.as_str()).collect();
        let add = if matches!(command, Command::Add(_)) { "; write a [[zone]] of that name into the configuration" } else { "" };
        return Err(Failure::new(format!("there is no zone {zone}")).hint(format!("the zones are {}{add}", names.join(", "))));
    }
    let purpose = if matches!(command, Command::Add(_)) { Purpose::Add } else { Purpose::Use };
    let stores = Stores::open(config, purpose).await?;
    let done =
        match &stores.zones {
            Some(zones) if matches!(command, Command::Remove(_)) && is_removed(zones, zone).await? => {
                let text = format!("{zone} is none of the registry's zones any more: remove its [[zone]] from the configuration.\n");
                tell(zone, json, "removed", &text)
            }
            Some(zones) => order(&zones.replicated, command).await,
            None => Err(Failure::new("there is only one zone")
                .hint("write a second [[zone]] into the configuration and restart the server with it")),
        };
    stores.close().await;
    done
}

/// Which zone, and whether to print JSON.
fn name(command: &Command) -> (&String, bool) {
    match command {
        Command::Cordon(name) | Command::Uncordon(name) => (&name.zone, name.json),
        Command::Add(job) | Command::Drain(job) | Command::Remove(job) => (&job.zone, job.follow.json()),
    }
}

/// Whether the registry does not know the zone, though it is configured.
async fn is_removed(zones: &Zones, name: &str) -> Result<bool, Failure> {
    let known = zones.ledger.zones().await.map_err(|error| Failure::because("cannot tell which zones there are", &error))?;
    Ok(known.iter().all(|zone| zone.name != name))
}

fn tell(zone: &str, json: bool, state: &str, text: &str) -> Result<(), Failure> {
    if json { print_json(&json!({ "zone": zone, "state": state })) } else { print(text) }
}

async fn order(store: &ReplicatedStore, command: &Command) -> Result<(), Failure> {
    let (zone, json) = name(command);
    let failed = |what: &str, error| Failure::because(format!("cannot {what} {zone}"), &error);
    let told = |state: &str, text: String| tell(zone, json, state, &text);
    match command {
        Command::Cordon(_) => {
            store.cordon(zone).await.map_err(|error| failed("cordon", error))?;
            told("cordoned", format!("Nothing new is written to {zone} any more. `registry zone uncordon {zone}` undoes that.\n"))
        }
        Command::Uncordon(_) => {
            store.uncordon(zone).await.map_err(|error| failed("uncordon", error))?;
            told("active", format!("{zone} is written to again, and what it is owed is copied there.\n"))
        }
        Command::Add(job) => {
            let begun = store.fill(zone).await.map_err(|error| {
                failed("add", error).hint(format!("`registry validate {zone}` tries it, and `registry status` says what it is used for"))
            })?;
            follow(store, vec![begun], &job.follow).await
        }
        Command::Drain(job) => {
            let begun = store.drain(zone).await.map_err(|error| failed("drain", error))?;
            follow(store, vec![begun], &job.follow).await
        }
        Command::Remove(job) => {
            let begun = store
                .remove(zone)
                .await
                .map_err(|error| failed("remove", error).hint(format!("`registry zone drain {zone}` comes first")))?;
            follow(store, vec![begun], &job.follow).await
        }
    }
}
