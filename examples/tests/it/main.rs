//! The example programs as their users run them: as processes, over HTTP and by real clients.

mod clients;
mod configuration;
mod disk_full;
mod face;
mod from_quay;
mod http;
mod image;
mod kill;
mod large;
mod many;
mod midstream;
mod policies;
mod postgres;
mod power_loss;
mod process;
mod programs;
mod stopping;
mod swift;
mod tools;
mod two_processes;
#[allow(dead_code, reason = "the example uses all of it, the tests need the parsers")]
#[path = "../../registry/config/units.rs"]
mod units;
mod units_properties;
mod zone_failures;
mod zone_status;
mod zones;
