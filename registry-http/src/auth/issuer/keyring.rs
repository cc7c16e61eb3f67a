//! [`Keyring`]: the keys that were fetched, and when to fetch them again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_core::{Error, ErrorKind, Result};
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::keys::KeySet;
use super::source::Source;

/// How long keys are good whose source is away.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How often to ask a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How old keys may be before others are fetched behind a request's back.
    pub(super) refresh: Duration,
    /// After how long without a try a request waits for it: nobody asked meanwhile, and a key that was withdrawn is not to be good once more.
    pub(super) wait: Duration,
    /// How long between a try and the next, whatever anybody sends.
    pub(super) retry: Duration,
    /// The same while there are no keys at all.
    pub(super) retry_without_keys: Duration,
}

/// The keys of one issuer. At most one request for them is under way at a time, and everybody who has to waits for that one.
#[derive(Debug)]
pub(super) struct Keyring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: String,
    source: Source,
    pace: Pace,
    /// Held by who fetches.
    gate: Arc<Gate<()>>,
    state: Mutex<State>,
}

/// Times are of the monotonic clock: nobody's setting the other one makes keys older or younger.
#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<KeySet>, Instant)>,
    tried: Option<Instant>,
    /// Why the last try failed.
    failure: Option<String>,
}

impl Keyring {
    pub(super) fn new(issuer: String, source: Source) -> Self {
        let pace = source.pace();
        Self(Arc::new(Inner { issuer, source, pace, gate: Arc::default(), state: Mutex::default() }))
    }

    /// The keys to verify with. [`ErrorKind::Unavailable`] if there are none.
    pub(super) async fn keys(&self) -> Result<Arc<KeySet>> {
        let pace = self.0.pace;
        match self.0.held() {
            None => self.refresh(pace.retry_without_keys).await,
            Some(_) if !self.0.tried_within(pace.wait) => self.refresh(pace.wait).await,
            Some((_, age)) if age >= pace.refresh => self.refresh_behind(),
            Some(_) => {}
        }
        self.0.held().map(|(keys, _)| keys).ok_or_else(|| self.0.unavailable())
    }

    /// Other keys than these, if there are any by now.
    pub(super) async fn newer_than(&self, old: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        self.refresh(self.0.pace.retry).await;
        let (keys, _) = self.0.held()?;
        (!Arc::ptr_eq(&keys, old)).then_some(keys)
    }

    /// Fetches them, unless that was tried a short while ago.
    async fn refresh(&self, pause: Duration) {
        if self.0.tried_within(pause) {
            return;
        }
        let turn = Arc::clone(&self.0.gate).lock_owned().await;
        // Whoever had the gate before has done it.
        if !self.0.tried_within(pause) {
            // It fails only if the runtime ends.
            let _ = self.fetch(turn).await;
        }
    }

    fn refresh_behind(&self) {
        if let Ok(turn) = Arc::clone(&self.0.gate).try_lock_owned()
            && !self.0.tried_within(self.0.pace.retry)
        {
            drop(self.fetch(turn));
        }
    }

    /// A task of its own: a client that goes away would take with it what others wait for.
    fn fetch(&self, turn: OwnedMutexGuard<()>) -> JoinHandle<()> {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            inner.fetch().await;
            drop(turn);
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that are good, and how old they are.
    fn held(&self) -> Option<(Arc<KeySet>, Duration)> {
        let state = self.state();
        let (keys, since) = state.keys.as_ref()?;
        let age = since.elapsed();
        (age < LONGEST && !keys.is_empty()).then(|| (Arc::clone(keys), age))
    }

    fn tried_within(&self, pause: Duration) -> bool {
        self.state().tried.is_some_and(|at| at.elapsed() < pause)
    }

    fn unavailable(&self) -> Error {
        let why = self.state().failure.clone().unwrap_or_else(|| format!("{}: there is none that can be used", self.source));
        let message = format!("there are no keys to verify tokens with: {why}");
        Error::new(ErrorKind::Unavailable, message).with_key(&self.issuer).with_retry_after(self.pace.retry_without_keys)
    }

    async fn fetch(&self) {
        let fetched = self.source.read().await.and_then(|json| KeySet::parse(&json));
        let now = Instant::now();
        let mut state = self.state();
        state.tried = Some(now);
        match fetched {
            Ok(keys) => {
                // Also if there is none left: that is how an issuer withdraws all.
                state.keys = Some((Arc::new(keys), now));
                state.failure = None;
            }
            Err(error) => {
                let why = format!("{}: {error}", self.source);
                // Once, not at every try.
                if state.failure.as_ref() != Some(&why) {
                    tracing::warn!(issuer = self.issuer, why, "could not fetch the keys of an issuer of tokens");
                }
                state.failure = Some(why);
            }
        }
    }
}
