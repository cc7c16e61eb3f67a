//! `registry config example`, `registry config show` and `registry config from-quay`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::print;
use crate::config::{self, Values};
use crate::failure::Failure;
use crate::quay;

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a configuration file with every setting at its default, explained
    Example,
    /// Print the configuration in effect and where each setting came from; secrets are hidden
    Show,
    /// Print the zones that a config.yaml of Quay has, as this program's configuration
    #[command(after_help = "Storage and preference are taken over, secrets included; what has no counterpart is named in a comment.\n\
                            Write it to a file that only the registry's user may read, and try that with `registry --config FILE validate`.")]
    FromQuay {
        /// Quay's configuration
        #[arg(value_name = "CONFIG_YAML")]
        file: PathBuf,
    },
}

/// Prints a file to begin with.
pub(crate) fn example() -> Result<(), Failure> {
    print(&config::example())
}

/// Prints what is in effect.
pub(crate) fn show(values: &Values) -> Result<(), Failure> {
    print(&config::show(values)?)
}

/// Prints what a configuration of Quay says of storage.
pub(crate) fn from_quay(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::because(format!("cannot read {}", file.display()), &error))?;
    print(&quay::convert(&text).map_err(|problem| Failure::new(format!("{}: {problem}", file.display())))?)
}
