//! [`Life`]: what becomes of one process. Every call it makes is two steps, before and after its effect, and between any two steps it may be killed (from
//! then on none of its calls ever goes on) or stopped for a while (as by SIGSTOP: all its calls stand still and go on afterwards).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::plan::LONG;

/// One run of a process, from its start to its death.
#[derive(Debug)]
pub(super) struct Life {
    /// Which process, and which run of it.
    pub(super) name: String,
    state: Mutex<State>,
    died: Notify,
}

/// When something happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// So many steps on.
    Steps(u64),
    /// At the next step of this name, once `skip` of them have passed. Each call has two: before it is made, and after it was answered.
    At { step: &'static str, skip: u64 },
}

impl When {
    /// Whether it is now.
    fn is_now(&mut self, name: &str) -> bool {
        let left = match self {
            Self::Steps(left) => left,
            Self::At { step, .. } if *step != name => return false,
            Self::At { skip, .. } => skip,
        };
        let now = *left == 0;
        *left = left.saturating_sub(1);
        now
    }
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    kill: Option<When>,
    stop: Option<(When, Duration)>,
    stopped_until: Option<Instant>,
    stops: u64,
    disturbances: u64,
    /// From now on it is only stopped in an orderly way.
    spared: bool,
    overslept: bool,
}

impl Life {
    pub(super) fn new(name: String) -> Self {
        Self { name, state: Mutex::default(), died: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is to be killed then.
    pub(super) fn kill_at(&self, when: When) {
        self.lock().kill = Some(when);
    }

    /// It is to stand still then, for so long.
    pub(super) fn stop_at(&self, when: When, pause: Duration) {
        self.lock().stop = Some((when, pause));
    }

    /// Nothing is to happen to it any more.
    pub(super) fn spare(&self) {
        let mut state = self.lock();
        (state.kill, state.stop, state.spared) = (None, None, true);
    }

    /// Kills it now.
    pub(super) fn kill(&self) {
        let mut state = self.lock();
        (state.dead, state.disturbances) = (true, state.disturbances + 1);
        drop(state);
        self.died.notify_waiters();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Whether it stands still just now.
    pub(super) fn stands_still(&self) -> bool {
        self.lock().stopped_until.is_some_and(|until| until > Instant::now())
    }

    /// Whether it ever stood still for longer than anybody may.
    pub(super) fn overslept(&self) -> bool {
        self.lock().overslept
    }

    /// How often it was stopped.
    pub(super) fn stops(&self) -> u64 {
        self.lock().stops
    }

    /// It may not be able to keep its leases.
    pub(super) fn disturb(&self) {
        self.lock().disturbances += 1;
    }

    /// How often something happened to it that may keep it from keeping its leases.
    pub(super) fn disturbances(&self) -> u64 {
        self.lock().disturbances
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
    pub(super) async fn step(&self, name: &str) {
        let dies = {
            let mut state = self.lock();
            let dies = !state.spared && state.kill.as_mut().is_some_and(|when| when.is_now(name));
            if dies && !state.dead {
                state.dead = true;
                state.disturbances += 1;
                self.died.notify_waiters();
            }
            if let Some((_, pause)) = state.stop.take_if(|(when, _)| when.is_now(name)) {
                state.stopped_until = Some(Instant::now() + pause);
                state.stops += 1;
                state.disturbances += 1;
                state.overslept |= pause > LONG;
                state.spared |= state.overslept;
            }
            state.dead
        };
        if dies {
            std::future::pending::<()>().await;
        }
        // Whoever waits here may be dead, or be stopped again, when it goes on.
        loop {
            let until = {
                let state = self.lock();
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
