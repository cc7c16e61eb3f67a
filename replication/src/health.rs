//! [`Health`]: whether a zone is worth asking, and how quick it is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_core::{Error, ErrorKind};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How much a new measurement counts.
const WEIGHT: f64 = 0.2;

/// How long a zone that is full gets nothing new.
const FULL: Duration = Duration::from_secs(30);

/// A zone's circuit breaker, and the time it takes to answer.
///
/// While the breaker is open a zone is asked only when no other can help, and by the probe, which closes it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: bool,
    full_until: Option<Instant>,
    latency: Option<Duration>,
    last_error: Option<String>,
}

/// Whether this says something about the zone, and not about the request.
pub(crate) fn is_zones_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::Denied
            | ErrorKind::Internal
            | ErrorKind::StorageFull
    )
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zone did what it was asked to. How long that took says more about the request than about the zone.
    pub(crate) fn worked(&self) {
        self.lock().failures = 0;
    }

    /// The zone answered, after so long.
    pub(crate) fn answered(&self, after: Duration) {
        let mut state = self.lock();
        state.failures = 0;
        let mean = state.latency.map_or(after, |mean| mean.mul_f64(1.0 - WEIGHT) + after.mul_f64(WEIGHT));
        state.latency = Some(mean);
    }

    /// A probe succeeded: the zone is worth asking. Whether it was not before.
    pub(crate) fn close(&self, after: Duration) -> bool {
        self.answered(after);
        let was_open = std::mem::take(&mut self.lock().open);
        if was_open {
            self.changed.notify_waiters();
        }
        was_open
    }

    /// The zone failed; whether that opened its breaker.
    pub(crate) fn failed(&self, error: &Error, threshold: u32) -> bool {
        if !is_zones_fault(error) {
            return false;
        }
        let mut state = self.lock();
        state.last_error = Some(error.to_string());
        if error.kind() == ErrorKind::StorageFull {
            state.full_until = Some(Instant::now() + FULL);
            return false;
        }
        state.failures = state.failures.saturating_add(1);
        let trips = error.kind() == ErrorKind::TimedOut || state.failures >= threshold;
        let opened = trips && !state.open;
        state.open |= trips;
        drop(state);
        if opened {
            self.changed.notify_waiters();
        }
        opened
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Whether new bytes may be sent there.
    pub(crate) fn is_writable(&self) -> bool {
        let state = self.lock();
        !state.open && state.full_until.is_none_or(|until| until <= Instant::now())
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.lock().latency
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    /// Waits until the breaker opens or closes.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "of a test")
    }

    #[tokio::test]
    async fn failures_in_a_row_open_the_breaker_and_a_probe_closes_it() {
        let health = Health::default();
        assert!(!health.failed(&error(ErrorKind::Unavailable), 3) && !health.failed(&error(ErrorKind::Unavailable), 3));
        health.answered(Duration::from_millis(5));
        assert!(!health.failed(&error(ErrorKind::Unavailable), 3) && !health.failed(&error(ErrorKind::Interrupted), 3));
        assert!(!health.is_open());
        assert!(health.failed(&error(ErrorKind::Unavailable), 3), "the third opens it");
        assert!(health.is_open() && !health.failed(&error(ErrorKind::Unavailable), 3), "it opens once");
        assert!(health.close(Duration::from_millis(5)) && !health.is_open() && !health.close(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_request_that_is_not_answered_opens_it_at_once_and_what_is_the_requests_fault_never() {
        let health = Health::default();
        for kind in [ErrorKind::NotFound, ErrorKind::DigestInvalid, ErrorKind::RangeInvalid, ErrorKind::Conflict] {
            assert!(!health.failed(&error(kind), 1), "{kind:?}");
        }
        assert!(health.failed(&error(ErrorKind::TimedOut), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_zone_is_read_from_but_not_written_to_for_a_while() {
        let health = Health::default();
        health.failed(&error(ErrorKind::StorageFull), 1);
        assert!(!health.is_open() && !health.is_writable());
        tokio::time::advance(FULL).await;
        assert!(health.is_writable());
    }
}
