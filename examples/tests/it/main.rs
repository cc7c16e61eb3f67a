//! The example programs as their users run them: as processes, over HTTP and by real clients.

#[path = "../../../storage-object/tests/support/blobs.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod blobs_support;
mod block;
mod certs;
mod clients;
mod configuration;
mod disk_full;
mod face;
mod from_quay;
#[path = "../../../storage-gcs/tests/it/stand_in/mod.rs"]
mod gcs_stand_in;
mod http;
mod image;
mod kill;
mod large;
mod many;
mod midstream;
mod object;
mod observing;
mod old_date;
mod policies;
mod postgres;
mod power_loss;
mod process;
mod programs;
#[path = "../../../storage-object/tests/support/proxy.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod proxy;
mod secure;
mod stopping;
mod swift;
#[path = "../../../storage-object/tests/support/tls_front.rs"]
#[allow(dead_code, reason = "what other crates need of it")]
mod tls_front;
mod tools;
mod two_processes;
#[allow(dead_code, reason = "the example uses all of it, the tests need the parsers")]
#[path = "../../registry/config/units.rs"]
mod units;
mod units_properties;
mod users;
mod zone_failures;
mod zone_life;
mod zone_status;
mod zone_truth;
mod zones;
