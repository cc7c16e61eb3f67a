//! `registry replay`: what failed is to be tried again at once.

use clap::Args;
use serde_json::json;

use super::{print, print_json};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};

/// How.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only what failed in this zone
    #[arg(id = "in", value_name = "ZONE")]
    zone: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Makes it due.
pub(crate) async fn run(config: &Config, options: &Options) -> Result<(), Failure> {
    if let Some(name) = options.zone.as_ref().filter(|name| !config.zones.iter().any(|zone| zone.name == **name)) {
        let names: Vec<_> = config.zones.iter().map(|zone| zone.name.as_str()).collect();
        return Err(Failure::new(format!("there is no zone {name}")).hint(format!("the zones are {}", names.join(", "))));
    }
    let stores = Stores::open(config, Purpose::Use).await?;
    let due = match &stores.zones {
        Some(zones) => zones.replicated.replay(options.zone.as_deref()).await,
        // With one zone there is nothing to be copied.
        None => Ok(0),
    };
    stores.close().await;
    let due = due.map_err(|error| Failure::because("could not make failed work due again", &error))?;
    if options.json {
        return print_json(&json!({ "due": due }));
    }
    print(&match due {
        0 => "Nothing has failed.\n".to_owned(),
        _ => format!(
            "{} that failed will be tried again now, by the servers that run.\n",
            if due == 1 { "1 piece of work".to_owned() } else { format!("{due} pieces of work") }
        ),
    })
}
