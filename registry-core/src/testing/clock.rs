//! Clocks for tests.

use std::sync::Mutex;
use std::time::Duration;

use crate::{Clock, Timestamp};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows this time.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = *now + by;
    }

    /// Sets it, back as well, as a machine's clock may be.
    pub fn set(&self, time: Timestamp) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = time;
    }
}

impl Default for ManualClock {
    /// Shows a time in the year 2026.
    fn default() -> Self {
        Self::new(Timestamp::from_millis(1_790_000_000_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A clock that goes with tokio's, and so stands still and leaps where a test has paused that.
#[derive(Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
    shown: Timestamp,
}

impl Default for TokioClock {
    /// Shows a time in the year 2026 now.
    fn default() -> Self {
        Self { start: tokio::time::Instant::now(), shown: Timestamp::from_millis(1_790_000_000_000) }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.shown + self.start.elapsed()
    }
}
