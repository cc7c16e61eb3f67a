//! The HTTP API, in process and over TCP. `tests/README.md` says which test shows which part of the distribution-spec.

mod base;
mod blobs;
mod clients;
mod copies;
mod data;
mod failures;
mod lists;
mod manifests;
mod proxies;
mod readme;
mod referrers;
mod snapshots;
mod support;
mod telemetry;
mod uploads;
mod wire;
