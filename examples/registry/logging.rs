//! Logs on standard error: text for people or JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// Starts logging. Standard output is left to what a command prints.
pub(crate) fn start(config: &Config, serves: bool) {
    let filter = EnvFilter::try_new(if serves { &config.log } else { &config.command_log }).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    if config.log_json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
}
