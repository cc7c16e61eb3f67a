//! The example server: see `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    registry_server::run()
}
