//! [`Meter`]: what the shipped code itself counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A recorder of one run.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<BTreeMap<&'static str, Arc<Cell>>>);

#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl CounterFn for Cell {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What is counted here, by the name of its counter and the reason that goes with it.
fn name(key: &Key) -> Option<&'static str> {
    let label = |name: &str| key.labels().find(|label| label.key() == name).map(|label| label.value().to_owned());
    let reason = label("reason");
    match key.name() {
        "registry_replication_failovers_total" => match reason.as_deref() {
            Some("missing") => Some("falls over: missing"),
            Some("corrupt") => Some("falls over: corrupt"),
            Some("timeout") => Some("falls over: timeout"),
            Some("cut") => Some("falls over: cut"),
            _ => Some("falls over: other"),
        },
        "registry_replication_failures_total" => match reason.as_deref() {
            Some("overtaken") => Some("work failed: overtaken"),
            Some("corrupt") => Some("work failed: corrupt"),
            _ => Some("work failed: other"),
        },
        "registry_replication_copies_total" => match label("task").as_deref() {
            Some("copy") => Some("done: copy"),
            Some("verify") => Some("done: verify"),
            _ => Some("done: delete"),
        },
        _ => None,
    }
}

impl Meter {
    /// Tells all that was counted.
    pub(super) fn tell(&self, mut tell: impl FnMut(&'static str, u64)) {
        for (name, cell) in self.0.lock().unwrap().iter() {
            tell(name, cell.0.load(Ordering::Relaxed));
        }
    }
}

impl Recorder for Meter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let Some(name) = name(key) else { return Counter::noop() };
        let mut cells = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(cells.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
