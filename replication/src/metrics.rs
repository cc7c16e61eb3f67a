//! The names of what is counted, in one place. All through the `metrics` facade: a program that installs no recorder pays nothing.

use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::events::Event;
use crate::ledger::Backlog;

const READS: &str = "registry_replication_reads_total";
const FAILOVERS: &str = "registry_replication_failovers_total";
const COPIES: &str = "registry_replication_copies_total";
const COPIED_BYTES: &str = "registry_replication_copied_bytes_total";
const FAILURES: &str = "registry_replication_failures_total";
const TIME_TO_REPLICA: &str = "registry_replication_time_to_replica_seconds";
const LAG: &str = "registry_replication_lag_seconds";
const BACKLOG: &str = "registry_replication_backlog_blobs";
const BACKLOG_BYTES: &str = "registry_replication_backlog_bytes";
const BREAKER: &str = "registry_zone_breaker_open";
const EVENTS: &str = "registry_replication_events_total";
const SUSPECTS: &str = "registry_replication_suspects_total";

/// Gives each metric its unit and a line of explanation, for recorders that show them. Call it once, after the recorder was installed.
pub fn describe_metrics() {
    describe_counter!(
        READS,
        Unit::Count,
        "Blobs and parts of blobs that were begun to be read from this zone, by clients and to be copied."
    );
    describe_counter!(FAILOVERS, Unit::Count, "Reads that gave this zone up, for another one if there was one, and why.");
    describe_counter!(COPIES, Unit::Count, "Pieces of work that came to an end in this zone: copy, verify, delete.");
    describe_counter!(COPIED_BYTES, Unit::Bytes, "Bytes that were copied into this zone.");
    describe_counter!(FAILURES, Unit::Count, "Pieces of work that failed in this zone, by the kind of failure.");
    describe_histogram!(TIME_TO_REPLICA, Unit::Seconds, "From when this zone was first owed a copy that could be made to when it had it.");
    describe_gauge!(LAG, Unit::Seconds, "For how long the oldest piece of work of this zone has been waiting.");
    describe_gauge!(BACKLOG, Unit::Count, "Work that waits in this zone: copy, verify, delete.");
    describe_gauge!(BACKLOG_BYTES, Unit::Bytes, "Bytes that are to be copied into this zone.");
    describe_gauge!(BREAKER, Unit::Count, "1 while the zone is passed over because it fails, else 0.");
    describe_counter!(EVENTS, Unit::Count, "What operators want to hear of about this zone, by what it is.");
    describe_counter!(SUSPECTS, Unit::Count, "Copies in this zone that were doubted.");
}

pub(crate) fn read(zone: &str) {
    counter!(READS, "zone" => zone.to_owned()).increment(1);
}

pub(crate) fn failover(zone: &str, reason: &'static str) {
    counter!(FAILOVERS, "zone" => zone.to_owned(), "reason" => reason).increment(1);
}

pub(crate) fn done(zone: &str, task: &'static str) {
    counter!(COPIES, "zone" => zone.to_owned(), "task" => task).increment(1);
}

pub(crate) fn copied(zone: &str, bytes: u64, waited: Duration) {
    counter!(COPIED_BYTES, "zone" => zone.to_owned()).increment(bytes);
    histogram!(TIME_TO_REPLICA, "zone" => zone.to_owned()).record(waited.as_secs_f64());
}

pub(crate) fn failure(zone: &str, task: &'static str, reason: &'static str) {
    counter!(FAILURES, "zone" => zone.to_owned(), "task" => task, "reason" => reason).increment(1);
}

pub(crate) fn suspect(zone: &str) {
    counter!(SUSPECTS, "zone" => zone.to_owned()).increment(1);
}

pub(crate) fn event(event: &Event) {
    counter!(EVENTS, "zone" => event.zone().to_owned(), "event" => event.kind()).increment(1);
}

pub(crate) fn breaker(zone: &str, open: bool) {
    gauge!(BREAKER, "zone" => zone.to_owned()).set(f64::from(u8::from(open)));
}

/// Sets the gauges of one zone.
pub(crate) fn backlog(zone: &str, backlog: &Backlog) {
    gauge!(LAG, "zone" => zone.to_owned()).set(backlog.lag.as_secs_f64());
    for (task, count) in [("copy", backlog.copies), ("verify", backlog.suspects), ("delete", backlog.deletes)] {
        gauge!(BACKLOG, "zone" => zone.to_owned(), "task" => task).set(count as f64);
    }
    gauge!(BACKLOG_BYTES, "zone" => zone.to_owned()).set(backlog.copy_bytes as f64);
}

/// A failure's kind as a label: few, and known beforehand.
pub(crate) fn reason(error: &registry_core::Error) -> &'static str {
    use registry_core::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "missing",
        Kind::Corrupt | Kind::DigestInvalid | Kind::SizeInvalid => "corrupt",
        Kind::TimedOut => "timeout",
        Kind::Interrupted => "cut",
        Kind::StorageFull => "full",
        Kind::Denied => "denied",
        Kind::Unavailable => "unavailable",
        Kind::LeaseLost | Kind::Conflict => "overtaken",
        _ => "other",
    }
}
