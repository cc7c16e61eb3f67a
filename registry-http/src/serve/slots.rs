//! [`Slots`]: how many connections are open, and which of them goes when there are too many.
//!
//! A connection that does nothing costs a client nothing, so that a stranger can open as many as there may be and keep everybody else out. Therefore none is kept
//! waiting for one that idles: of those without a request whichever has moved nothing for the longest time is closed for it, and if there are none, of those that
//! are being sent an answer one whose client has taken nothing in for half a minute. One with a request that is being worked on is never closed.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

/// How long the one that was told to go may take, before another is told.
const PATIENCE: Duration = Duration::from_millis(50);

/// After how long without a byte a connection that is being sent an answer may be closed for another, in milliseconds.
const STALLED: u64 = 30_000;

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
    working: AtomicUsize,
    /// Answers whose bodies have not ended.
    sending: AtomicUsize,
    evicted: Notify,
}

impl Activity {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A byte has moved.
    pub(super) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// A request is being worked on, until what is returned is dropped.
    pub(super) fn work(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(self))
    }

    /// Whether it may be closed for another, and since when it has done nothing; the first to go are those without a request.
    fn idle(&self) -> Option<(bool, u64)> {
        let moved = self.moved.load(Ordering::Relaxed);
        let is_sending = self.sending.load(Ordering::Relaxed) > 0;
        let may_go = self.working.load(Ordering::Relaxed) == 0 && (!is_sending || moved + STALLED <= self.now());
        may_go.then_some((is_sending, moved))
    }

    /// Ends when the connection is to be closed for another.
    pub(super) async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            // It may have begun to do something meanwhile, and even have ended it, with an answer that is not yet sent.
            if self.idle().is_some_and(|(_, moved)| moved + 10 <= self.now()) {
                return;
            }
        }
    }
}

/// See [`Activity::work`].
pub(super) struct Working(Arc<Activity>);

impl Working {
    /// The answer has begun: its body is still to be sent.
    pub(super) fn sends(self, body: Body) -> Body {
        self.0.sending.fetch_add(1, Ordering::Relaxed);
        Body::new(Sending { body, activity: Arc::clone(&self.0) })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.moved();
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
struct Sending {
    body: Body,
    activity: Arc<Activity>,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.activity.moved();
        self.activity.sending.fetch_sub(1, Ordering::Relaxed);
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
        let activity = Arc::new(Activity {
            begun: self.begun,
            moved: AtomicU64::new(0),
            working: AtomicUsize::new(0),
            sending: AtomicUsize::new(0),
            evicted: Notify::new(),
        });
        activity.moved();
        open.connections.insert(id, Arc::clone(&activity));
        Some(Slot { slots: Arc::clone(self), id, activity })
    }

    /// Tells the one to go that has done nothing for the longest time.
    pub(super) fn evict(&self) {
        let open = self.open();
        let idle = open.connections.values().filter_map(|activity| Some((activity.idle()?, activity)));
        if let Some((_, oldest)) = idle.min_by_key(|(idle, _)| *idle) {
            oldest.evicted.notify_one();
        }
    }
}
