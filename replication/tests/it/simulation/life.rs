//! [`Life`]: what becomes of one process. Every call it makes is two steps, before and after its effect, and between any two steps it may be killed (from
//! then on none of its calls ever goes on) or stopped for a while (as by SIGSTOP: all its calls stand still and go on afterwards).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// One run of a process, from its start to its death.
#[derive(Debug)]
pub(super) struct Life {
    /// Which process, and which run of it.
    pub(super) name: String,
    state: Mutex<State>,
    died: Notify,
}

#[derive(Debug, Default)]
struct State {
    steps: u64,
    dead: bool,
    kill_at: Option<u64>,
    stop_at: Option<(u64, Duration)>,
    stopped_until: Option<Instant>,
    stops: u64,
}

impl Life {
    pub(super) fn new(name: String) -> Self {
        Self { name, state: Mutex::default(), died: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many steps from now it is killed.
    pub(super) fn kill_after(&self, steps: u64) {
        let mut state = self.lock();
        state.kill_at = Some(state.steps + steps.max(1));
    }

    /// So many steps from now it stands still for so long.
    pub(super) fn stop_after(&self, steps: u64, pause: Duration) {
        let mut state = self.lock();
        state.stop_at = Some((state.steps + steps.max(1), pause));
    }

    /// Nothing is to happen to it any more.
    pub(super) fn spare(&self) {
        let mut state = self.lock();
        (state.kill_at, state.stop_at) = (None, None);
    }

    /// Kills it now.
    pub(super) fn kill(&self) {
        self.lock().dead = true;
        self.died.notify_waiters();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// How often it was stopped.
    pub(super) fn stops(&self) -> u64 {
        self.lock().stops
    }

    /// Returns when it is dead.
    pub(super) async fn died(&self) {
        loop {
            let died = self.died.notified();
            if self.is_dead() {
                return;
            }
            died.await;
        }
    }

    /// A step: never returns if this is where it dies.
    pub(super) async fn step(&self) {
        loop {
            let until = {
                let mut state = self.lock();
                state.steps += 1;
                if state.kill_at.is_some_and(|at| at <= state.steps) && !state.dead {
                    state.dead = true;
                    self.died.notify_waiters();
                }
                let steps = state.steps;
                if let Some((_, pause)) = state.stop_at.take_if(|(at, _)| *at <= steps) {
                    state.stopped_until = Some(Instant::now() + pause);
                    state.stops += 1;
                }
                if state.dead { None } else { Some(state.stopped_until.filter(|until| *until > Instant::now())) }
            };
            match until {
                None => std::future::pending().await,
                Some(None) => return,
                Some(Some(until)) => tokio::time::sleep_until(until).await,
            }
        }
    }
}
