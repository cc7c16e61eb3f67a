//! `registry config example` and `registry config show`.

use clap::Subcommand;

use super::print;
use crate::config::{self, Values};
use crate::failure::Failure;

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a configuration file with every setting at its default, explained
    Example,
    /// Print the configuration in effect and where each setting came from; secrets are hidden
    Show,
}

/// Prints a file to begin with.
pub(crate) fn example() -> Result<(), Failure> {
    print(&config::example())
}

/// Prints what is in effect.
pub(crate) fn show(values: &Values) -> Result<(), Failure> {
    print(&config::show(values)?)
}
