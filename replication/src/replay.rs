//! [`Replay`]: content that comes only once, and may have to be written twice.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use futures_util::future::poll_fn;
use registry_core::blob::ByteStream;
use registry_core::{Error, Result};
use std::future::Future;
use std::pin::pin;
use tokio::time::{Instant, sleep_until};

use crate::bandwidth::Class;
use crate::member::{Member, timed_out};
use crate::options::Options;

/// Content on its way to a zone: its beginning is kept, so that another zone can be given it if the first one fails, and it is known who keeps whom
/// waiting.
#[derive(Clone)]
pub(crate) struct Replay(Arc<Mutex<State>>);

struct State {
    source: ByteStream,
    /// All that came so far, if it is not too much.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    limit: usize,
    /// More came than is kept.
    overflowed: bool,
    /// Came, and was not taken yet.
    ahead: Option<Result<Bytes>>,
    ahead_since: Option<Instant>,
    ended: bool,
    /// The content itself broke off: that is nobody's fault here.
    broken: bool,
    /// Which attempt may take from the source.
    attempt: u64,
    /// What was taken is held back, to keep to a limit.
    delayed: bool,
    /// Who waits for the source.
    waker: Option<Waker>,
    /// Who watches, and has nothing to watch while it is delayed.
    watcher: Option<Waker>,
}

impl Replay {
    /// Keeps up to `limit` bytes.
    pub(crate) fn new(source: ByteStream, limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            source,
            kept: Vec::new(),
            kept_bytes: 0,
            limit,
            overflowed: false,
            ahead: None,
            ahead_since: None,
            ended: false,
            broken: false,
            attempt: 0,
            delayed: false,
            waker: None,
            watcher: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all that was handed out can be handed out once more.
    pub(crate) fn can_begin_anew(&self) -> bool {
        let state = self.lock();
        !state.overflowed && !state.broken
    }

    /// Whether the content itself broke off.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// All of it from the start, as fast as this zone may be written to. An earlier attempt gets nothing more.
    pub(crate) fn attempt(&self, member: &Arc<Member>, class: Class) -> ByteStream {
        let mut state = self.lock();
        state.attempt += 1;
        state.delayed = false;
        // The last one's zone left it lying, and not this one's.
        state.ahead_since = state.ahead_since.map(|_| Instant::now());
        let attempt = Attempt { replay: self.clone(), number: state.attempt, next: 0 };
        if !member.throttle.write.is_limited() {
            return Box::pin(attempt);
        }
        let (replay, number, member) = (self.clone(), state.attempt, Arc::clone(member));
        Box::pin(attempt.then(move |chunk| {
            let (replay, member) = (replay.clone(), Arc::clone(&member));
            async move {
                if let Ok(chunk) = &chunk {
                    replay.delay(number, true);
                    member.throttle.write.pass(class, chunk.len()).await;
                    replay.delay(number, false);
                }
                chunk
            }
        }))
    }

    /// Begins to hold back what an attempt has taken, or ends: the zone waits, and is not waited for.
    fn delay(&self, attempt: u64, delayed: bool) {
        let mut state = self.lock();
        if state.attempt == attempt {
            state.delayed = delayed;
            state.ahead_since = state.ahead_since.map(|_| Instant::now());
            if let Some(watcher) = state.watcher.take() {
                watcher.wake();
            }
        }
    }

    /// Runs `write`, which takes from an [`attempt`](Self::attempt), to its end; but not if the zone leaves content that is there untaken for the
    /// [`stall_timeout`](Options::stall_timeout), or takes longer than the [`commit_timeout`](Options::commit_timeout) after the last byte. A client
    /// that keeps the zone waiting is none of its faults.
    pub(crate) async fn watch<T>(&self, options: &Options, zone: &str, write: impl Future<Output = Result<T>>) -> Result<T> {
        let mut write = pin!(write);
        let mut alarm = pin!(sleep_until(Instant::now() + options.stall_timeout));
        poll_fn(|context| {
            if let Poll::Ready(result) = write.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let (since, limit) = {
                let mut state = self.lock();
                state.look_ahead(context);
                match (state.ahead_since, state.ended) {
                    _ if state.delayed => {
                        state.watcher = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                    (Some(since), true) => (since, options.commit_timeout),
                    (Some(since), false) => (since, options.stall_timeout),
                    (None, _) => return Poll::Pending,
                }
            };
            alarm.as_mut().reset(since + limit);
            alarm.as_mut().poll(context).map(|()| Err(timed_out(zone)))
        })
        .await
    }
}

impl State {
    /// Sees whether anything has come.
    fn look_ahead(&mut self, context: &mut Context<'_>) {
        if self.ahead.is_some() || self.ended {
            return;
        }
        if let Poll::Ready(chunk) = self.source.as_mut().poll_next(context) {
            self.arrived(chunk);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    fn arrived(&mut self, chunk: Option<Result<Bytes>>) {
        self.ahead_since = Some(Instant::now());
        match chunk {
            Some(chunk) => {
                self.broken |= chunk.is_err();
                self.ahead = Some(chunk);
            }
            None => self.ended = true,
        }
    }

    fn keep(&mut self, chunk: &Bytes) {
        self.kept_bytes = self.kept_bytes.saturating_add(chunk.len());
        if self.kept_bytes > self.limit {
            self.overflowed = true;
            self.kept = Vec::new();
        } else if !self.overflowed {
            self.kept.push(chunk.clone());
        }
    }
}

struct Attempt {
    replay: Replay,
    number: u64,
    /// How much of what is kept it has had.
    next: usize,
}

impl Stream for Attempt {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = &mut *self;
        let mut state = this.replay.lock();
        if state.attempt != this.number {
            let message = "the write was begun anew in another zone";
            return Poll::Ready(Some(Err(Error::new(registry_core::ErrorKind::Interrupted, message))));
        }
        if !state.overflowed
            && let Some(chunk) = state.kept.get(this.next)
        {
            this.next += 1;
            return Poll::Ready(Some(Ok(chunk.clone())));
        }
        if state.ahead.is_none() && !state.ended {
            match state.source.as_mut().poll_next(context) {
                Poll::Ready(chunk) => state.arrived(chunk),
                Poll::Pending => {
                    state.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        match state.ahead.take() {
            Some(chunk) => {
                state.ahead_since = None;
                if let Ok(chunk) = &chunk {
                    state.keep(chunk);
                    this.next += 1;
                }
                Poll::Ready(Some(chunk))
            }
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry_core::ErrorKind;
    use registry_core::memory::MemoryBlobStore;

    use super::*;
    use crate::bandwidth::Bandwidth;
    use crate::events::Events;
    use crate::zone::Zone;

    fn content() -> Replay {
        let chunks = [&b"one"[..], b"two", b"three"].map(|chunk| Ok(Bytes::from_static(chunk)));
        Replay::new(Box::pin(futures_util::stream::iter(chunks)), 1000)
    }

    fn member(bandwidth: Bandwidth) -> Arc<Member> {
        let zone = Zone::new("a", Arc::new(MemoryBlobStore::default())).with_bandwidth(bandwidth);
        Arc::new(Member::new(zone, Events::default()))
    }

    fn options() -> Options {
        Options { stall_timeout: Duration::from_secs(10), ..Options::default() }
    }

    /// Takes all of it, with a pause after the first chunk.
    async fn take(mut content: ByteStream, pause: Duration) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = content.next().await {
            all.extend(chunk?);
            if all.len() == 3 {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(all)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_zone_does_not_inherit_the_stall_of_the_one_before() {
        let (content, member, options) = (content(), member(Bandwidth::default()), options());
        let stands_still = take(content.attempt(&member, Class::Client), Duration::from_secs(3600));
        let error = content.watch(&options, "a", stands_still).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let slow = take(content.attempt(&member, Class::Client), Duration::from_secs(5));
        assert_eq!(content.watch(&options, "b", slow).await.unwrap(), b"onetwothree");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_no_stall_and_a_zone_that_stands_still_afterwards_is_one() {
        let (member, options) = (member(Bandwidth::default().with_write(1).with_background(0.1)), options());
        let content_of_a_minute = content();
        let start = Instant::now();
        let all = take(content_of_a_minute.attempt(&member, Class::Copy), Duration::ZERO);
        assert_eq!(content_of_a_minute.watch(&options, "a", all).await.unwrap(), b"onetwothree");
        assert!(start.elapsed() > Duration::from_secs(90), "eleven bytes at a tenth of a byte a second: {:?}", start.elapsed());
        let content = content();
        let stands_still = take(content.attempt(&member, Class::Client), Duration::from_secs(3600));
        assert_eq!(content.watch(&options, "a", stands_still).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
