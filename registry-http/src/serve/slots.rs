//! [`Slots`]: how many connections are open, and which of them goes when there are too many.
//!
//! A connection that does nothing costs a client nothing, so that a stranger can open as many as there may be and keep everybody else out. Therefore none is kept
//! waiting for one that idles: whichever has moved nothing for the longest time is closed for it. One with a request that is being worked on is never closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long the one that was told to go may take, before another is told.
const PATIENCE: Duration = Duration::from_millis(50);

/// The open connections.
pub(super) struct Slots {
    max: usize,
    begun: Instant,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Activity>>,
}

/// What a connection does.
pub(super) struct Activity {
    begun: Instant,
    /// When a byte moved last, in milliseconds since the server began.
    moved: AtomicU64,
    /// Requests whose answers have not begun.
    running: AtomicUsize,
    evicted: Notify,
}

impl Activity {
    /// A byte has moved.
    pub(super) fn moved(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// A request is being worked on, until what is returned is dropped.
    pub(super) fn run(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Ends when the connection is to be closed for another.
    pub(super) async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            // It may have begun to do something meanwhile.
            if self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// See [`Activity::run`].
pub(super) struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.moved();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection's place.
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    pub(super) activity: Arc<Activity>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open().connections.remove(&self.id);
        self.slots.freed.notify_one();
    }
}

impl Slots {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, begun: Instant::now(), open: Mutex::default(), freed: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        loop {
            if let Some(slot) = self.try_take() {
                return slot;
            }
            self.evict();
            let _ = tokio::time::timeout(PATIENCE, self.freed.notified()).await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let mut open = self.open();
        if open.connections.len() >= self.max {
            return None;
        }
        let id = open.next;
        open.next += 1;
        let activity =
            Arc::new(Activity { begun: self.begun, moved: AtomicU64::new(0), running: AtomicUsize::new(0), evicted: Notify::new() });
        activity.moved();
        open.connections.insert(id, Arc::clone(&activity));
        Some(Slot { slots: Arc::clone(self), id, activity })
    }

    /// Tells the one to go that has done nothing for the longest time.
    fn evict(&self) {
        let open = self.open();
        let idle = open.connections.values().filter(|activity| activity.running.load(Ordering::Relaxed) == 0);
        if let Some(oldest) = idle.min_by_key(|activity| activity.moved.load(Ordering::Relaxed)) {
            oldest.evicted.notify_one();
        }
    }
}
