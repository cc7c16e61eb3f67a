//! The HTTP API, in process and over TCP. `tests/README.md` says which test shows which part of the distribution-spec.

mod auth;
mod base;
mod blobs;
mod clients;
mod copies;
mod data;
mod failures;
mod hostile;
mod lists;
mod manifests;
mod proxies;
mod readme;
mod referrers;
mod snapshots;
mod support;
mod telemetry;
mod tls;
mod uploads;
mod wire;
