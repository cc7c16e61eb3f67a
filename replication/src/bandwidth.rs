//! [`Bandwidth`]: how much may go to and from a zone, and when work in the background may be done there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_core::Timestamp;
use tokio::time::{Instant, sleep_until};

/// How far the bytes may be ahead of the clock, so that a pause between two of them is made up for.
const BURST: Duration = Duration::from_millis(100);

/// A long chunk is let pass in slices that take this long: else who comes after it waits for all of it.
const SLICE: Duration = Duration::from_millis(50);

const DAY: u16 = 24 * 60;

/// What one process may send to a zone and read from it.
///
/// The limits hold for everything that passes through the process: pushes, pulls, and work in the background, which gets a share of them at most; within
/// that, copies of what is pushed and repairs go before copies of what was there before, to a new zone for example, and those before scrubs. What a client
/// is sent to the storage itself for does not pass through the process; what a store does within itself is not counted, such as reading a staged upload
/// again when its service cannot join it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bandwidth {
    /// Bytes a second that are read from the zone; no limit by default.
    pub read: Option<u64>,
    /// Bytes a second that are written into the zone; no limit by default.
    pub write: Option<u64>,
    /// Which share of both work in the background may take, from above 0 to 1; a half by default.
    pub background: f64,
    /// When work in the background may be begun: copies into the zone and from it, comparisons and scrubs. What has begun ends. Always, if there is none.
    pub hours: Vec<Hours>,
}

impl Default for Bandwidth {
    fn default() -> Self {
        Self { read: None, write: None, background: 0.5, hours: Vec::new() }
    }
}

impl Bandwidth {
    /// The same with this limit on what is read.
    #[must_use]
    pub fn with_read(mut self, bytes: u64) -> Self {
        self.read = Some(bytes);
        self
    }

    /// The same with this limit on what is written.
    #[must_use]
    pub fn with_write(mut self, bytes: u64) -> Self {
        self.write = Some(bytes);
        self
    }

    /// The same with this share for work in the background.
    #[must_use]
    pub fn with_background(mut self, share: f64) -> Self {
        self.background = share;
        self
    }

    /// The same with work in the background in these hours too.
    #[must_use]
    pub fn with_hours(mut self, hours: Hours) -> Self {
        self.hours.push(hours);
        self
    }
}

/// A part of each day, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    until: u16,
}

impl Hours {
    /// From this minute of the day until that one: `Hours::new(22 * 60, 6 * 60)` is from 22:00 to 06:00. `None` if they are the same, or one is beyond 24:00.
    pub fn new(from: u16, until: u16) -> Option<Self> {
        (from != until && from < DAY && until <= DAY).then_some(Self { from, until })
    }

    /// Whether this moment is in them.
    pub fn contains(self, moment: Timestamp) -> bool {
        let (from, until) = (i64::from(self.from), i64::from(self.until));
        let minute = (moment.as_millis() / 60_000).rem_euclid(i64::from(DAY));
        if from < until { (from..until).contains(&minute) } else { minute >= from || minute < until }
    }
}

/// On whose behalf bytes move. The first go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A client waits for them.
    Client,
    /// Copies of what is pushed and repairs, and what is read to be sure of them.
    Copy,
    /// Copies of what was pushed long ago, to where it is to be now.
    Fill,
    /// Scrubs.
    Scrub,
}

/// What is let pass to and from one zone.
#[derive(Debug)]
pub(crate) struct Throttle {
    pub(crate) read: Lane,
    pub(crate) write: Lane,
    hours: Vec<Hours>,
}

impl Throttle {
    pub(crate) fn new(bandwidth: Bandwidth) -> Self {
        let share = bandwidth.background.clamp(0.01, 1.0);
        Self { read: Lane::new(bandwidth.read, share), write: Lane::new(bandwidth.write, share), hours: bandwidth.hours }
    }

    /// Whether no work in the background is to be begun at this moment.
    pub(crate) fn is_closed(&self, now: Timestamp) -> bool {
        !self.hours.is_empty() && !self.hours.iter().any(|hours| hours.contains(now))
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Bytes a second.
    limit: Option<u64>,
    share: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When all that was let pass will have passed, at the limit.
    free: Instant,
    /// Before that, nothing more of the background's may be let pass.
    background_free: Instant,
    /// How many of each class of the background's wait.
    waiting: BTreeMap<Class, usize>,
}

/// Bytes of the background's that wait, for as long as they do.
struct Waiting<'a>(&'a Lane, Class);

impl<'a> Waiting<'a> {
    fn new(lane: &'a Lane, class: Class) -> Self {
        *lane.lock().waiting.entry(class).or_default() += 1;
        Self(lane, class)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.lock().waiting.get_mut(&self.1) {
            *waiting -= 1;
        }
    }
}

impl Lane {
    fn new(limit: Option<u64>, share: f64) -> Self {
        let now = Instant::now();
        let state = Mutex::new(State { free: now, background_free: now, waiting: BTreeMap::new() });
        Self { limit: limit.map(|limit| limit.max(1)), share, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Returns when so many more bytes may pass. Dropped, it has let some of them pass at most.
    pub(crate) async fn pass(&self, class: Class, bytes: usize) {
        let Some(limit) = self.limit else { return };
        let slice = (limit as f64 * SLICE.as_secs_f64()).max(1.0) as usize;
        let mut left = bytes;
        while left > 0 {
            let now = left.min(slice);
            self.pass_slice(class, Duration::from_secs_f64(now as f64 / limit as f64)).await;
            left -= now;
        }
    }

    /// The same of bytes that take so long at the limit.
    async fn pass_slice(&self, class: Class, takes: Duration) {
        let waiting = (class > Class::Client).then(|| Waiting::new(self, class));
        let start = loop {
            let again_at = {
                let mut state = self.lock();
                let now = Instant::now();
                let earliest = now.checked_sub(BURST).unwrap_or(now);
                if state.waiting.range(..class).any(|(_, waiting)| *waiting > 0) {
                    now + SLICE
                } else if class > Class::Client && state.background_free > now {
                    // Nothing is taken before its time: what is left meanwhile is the clients'.
                    state.background_free
                } else {
                    if class > Class::Client {
                        state.background_free = state.background_free.max(earliest) + takes.div_f64(self.share);
                    }
                    let start = state.free.max(earliest);
                    state.free = start + takes;
                    break start;
                }
            };
            sleep_until(again_at).await;
        };
        if start > Instant::now() {
            sleep_until(start).await;
        }
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// How long it takes until all of these have passed, one after the other.
    async fn takes(lane: &Lane, class: Class, chunks: usize, bytes: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..chunks {
            lane.pass(class, bytes).await;
        }
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_for_chunks_of_any_size() {
        for (chunks, bytes) in [(160, 64 * 1024), (10, MIB), (1, 10 * MIB), (10 * MIB / 1000, 1000)] {
            let lane = Lane::new(Some(MIB as u64), 0.5);
            let seconds = takes(&lane, Class::Client, chunks, bytes).await;
            assert!((9.8..10.1).contains(&seconds), "{chunks} of {bytes} took {seconds}");
            let seconds = takes(&Lane::new(Some(MIB as u64), 0.25), Class::Copy, chunks, bytes).await;
            assert!((39.0..40.3).contains(&seconds), "{chunks} of {bytes} in the background took {seconds}");
        }
        assert!(takes(&Lane::new(None, 0.5), Class::Scrub, 1000, MIB).await == 0.0, "there is no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_get_what_is_left_and_copies_go_before_scrubs() {
        let lane = Lane::new(Some(MIB as u64), 0.25);
        let work = async |class| {
            let mut passed = 0_u64;
            let end = Instant::now() + Duration::from_secs(60);
            while Instant::now() < end {
                lane.pass(class, 10_000).await;
                passed += 10_000;
            }
            passed as f64 / 60.0 / MIB as f64
        };
        let (client, copy, scrub) = tokio::join!(work(Class::Client), work(Class::Copy), work(Class::Scrub));
        let all = client + copy + scrub;
        assert!((0.97..1.03).contains(&all), "{client} {copy} {scrub}");
        assert!((0.2..0.26).contains(&copy) && scrub < 0.05 && client > 0.7, "{client} {copy} {scrub}");
        let (fill, scrub) = tokio::join!(work(Class::Fill), work(Class::Scrub));
        assert!((0.2..0.26).contains(&fill) && scrub < 0.05, "{fill} {scrub}");
        let (copy, fill) = tokio::join!(work(Class::Copy), work(Class::Fill));
        assert!((0.2..0.26).contains(&copy) && fill < 0.05, "{copy} {fill}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_holds_nobody_up() {
        let lane = Lane::new(Some(1000), 1.0);
        for class in [Class::Copy, Class::Fill, Class::Scrub, Class::Client] {
            let gone = tokio::time::timeout(Duration::from_millis(300), lane.pass(class, 100_000)).await;
            assert!(gone.is_err());
        }
        assert!(takes(&lane, Class::Scrub, 1, 1000).await < 1.5);
    }

    #[test]
    fn hours_may_go_over_midnight() {
        let at = |hour: i64, minute: i64| Timestamp::from_millis((20_000 * 24 + hour) * 3_600_000 + minute * 60_000);
        let night = Hours::new(22 * 60, 6 * 60 + 30).unwrap();
        for (hour, minute, is_in) in [(22, 0, true), (21, 59, false), (0, 0, true), (6, 29, true), (6, 30, false), (12, 0, false)] {
            assert_eq!(night.contains(at(hour, minute)), is_in, "{hour}:{minute}");
        }
        let day = Hours::new(8 * 60, 24 * 60).unwrap();
        assert!(day.contains(at(8, 0)) && day.contains(at(23, 59)) && !day.contains(at(7, 59)));
        assert_eq!([Hours::new(5, 5), Hours::new(1440, 5), Hours::new(5, 1441)], [None; 3]);
        let throttle = Throttle::new(Bandwidth::default().with_hours(night).with_hours(Hours::new(12 * 60, 13 * 60).unwrap()));
        assert!(throttle.is_closed(at(11, 0)) && !throttle.is_closed(at(12, 30)) && !throttle.is_closed(at(23, 0)));
        assert!(!Throttle::new(Bandwidth::default()).is_closed(at(11, 0)));
    }
}
