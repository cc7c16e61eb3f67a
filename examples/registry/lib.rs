//! `registry`: an OCI registry to run as it is, and an example of how the crates are put together.
//!
//! The program is `main.rs`; all else is this library, so that its parts can have tests.
//!
//! Nothing here is a rule of the registry's; each file assembles one thing:
//!
//! | where | what |
//! |---|---|
//! | `commands/` | the command line, one file a command |
//! | `config/` | settings from flags, environment and file |
//! | `admin/` | health, readiness, metrics |
//! | `stores`, `zones` | opens the database and the zones |
//! | `backend/` | what keeps a zone's blobs, one file a type |
//! | `zone_store` | a zone that may be away |
//! | `identity` | is the only zone still the one it was? |
//! | `quay` | what Quay's settings for storage are called here |
//! | `auth` | who may log in, and what they may do |
//! | `adopt` | from one zone to several |
//! | `replicator` | what goes on in the background where there are several zones |
//! | `collector` | garbage collection in the background |
//! | `events`, `lines` | events, and files that lines are appended to |
//! | `logging`, `signals`, `failure`, `open_files` | what their names say |

mod admin;
mod adopt;
mod auth;
mod backend;
mod collector;
mod commands;
mod config;
mod events;
mod failure;
mod identity;
mod lines;
mod logging;
mod open_files;
mod quay;
mod replicator;
mod signals;
mod stores;
mod zone_store;
mod zones;

use std::process::ExitCode;

/// Runs the command that the process was started with; says on standard error why it failed, if it did.
pub fn run() -> ExitCode {
    match commands::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done about a standard error that is closed.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {failure}\n"));
            failure.exit_code()
        }
    }
}

/// What `fuzz/` calls.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Whatever a configuration can be.
    pub fn config(text: &str) {
        crate::config::fuzz(text);
    }
}
