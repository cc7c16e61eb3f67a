//! [`Member`]: a zone in service: who it is, how it is, and how it is asked.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use registry_core::blob::StoreIdentity;
use registry_core::{BlobStore, Error, ErrorKind, Result, VerifyReads};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bandwidth::Throttle;
use crate::events::{Event, Events};
use crate::health::{Health, is_zones_fault};
use crate::ledger::{PlacementLedger, ZoneId, ZoneRecord, ZoneState};
use crate::metrics;
use crate::options::Options;
use crate::zone::Zone;

/// How blobs are laid out in a zone of ours.
const LAYOUT: &str = "native";

/// For how long a zone that has just said who it is need not be asked again before something is deleted from it.
const CONFIRMED: Duration = Duration::from_secs(5);

/// A zone in service.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) verify_reads: VerifyReads,
    pub(crate) concurrency: usize,
    pub(crate) throttle: Throttle,
    pub(crate) health: Health,
    pub(crate) events: Events,
    /// There is something to do here.
    pub(crate) wake: Notify,
    id: OnceLock<ZoneId>,
    confirmed_at: Mutex<Option<Instant>>,
    /// It answered, and is not the zone it was: not to be read from, written to, or deleted from.
    stranger: AtomicBool,
    /// It did not say who it is when it was last passed over.
    was_away: AtomicBool,
    /// It is told how it is.
    tells: AtomicBool,
    /// It is owed something for long.
    pub(crate) late: AtomicBool,
    /// What it is used for, as the ledger was last heard to say.
    state: Mutex<ZoneState>,
}

/// What a zone says of itself does not fit what is known of it.
fn not_itself(name: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_zone(name)
}

impl Member {
    pub(crate) fn new(zone: Zone, events: Events) -> Self {
        let Zone { name, store, verify_reads, copies, bandwidth } = zone;
        let (health, id) = (Health::default(), OnceLock::new());
        Self {
            name,
            store,
            verify_reads,
            concurrency: copies,
            throttle: Throttle::new(bandwidth),
            health,
            events,
            wake: Notify::new(),
            id,
            confirmed_at: Mutex::default(),
            stranger: AtomicBool::new(false),
            was_away: AtomicBool::new(false),
            tells: AtomicBool::new(false),
            late: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// What the zone is used for, as far as this process knows.
    pub(crate) fn state(&self) -> ZoneState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the ledger says of it; whether that is news.
    pub(crate) fn set_state(&self, state: ZoneState) -> bool {
        let was = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state);
        was != state
    }

    /// Who the zone is; `None` as long as nobody could find out.
    pub(crate) fn id(&self) -> Option<&ZoneId> {
        self.id.get()
    }

    /// Who the zone is, if it may be used: as far as anybody knows it is still the one it was.
    pub(crate) fn usable(&self) -> Option<&ZoneId> {
        self.id().filter(|_| !self.stranger.load(Ordering::Relaxed) && self.state() != ZoneState::Removed)
    }

    /// Asks the zone who it is, and compares with what the ledger knows; a zone that nobody has ever used is given an identity.
    ///
    /// An error means that nothing may be written there or deleted: the zone does not answer, is not the one it was, or is new and does not let itself be
    /// written to.
    pub(crate) async fn confirm(&self, ledger: &dyn PlacementLedger, timeout: Duration) -> Result<ZoneId> {
        match self.identify(ledger, timeout).await {
            Ok(id) => {
                self.stranger.store(false, Ordering::Relaxed);
                *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(id)
            }
            Err((error, is_stranger)) => {
                self.stranger.fetch_or(is_stranger, Ordering::Relaxed);
                self.was_away.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Who it is; or why that cannot be said, and whether that is because it is somebody else.
    async fn identify(&self, ledger: &dyn PlacementLedger, timeout: Duration) -> Result<ZoneId, (Error, bool)> {
        let down = |error| (error, false);
        let stranger = |message: String| (not_itself(&self.name, message), true);
        let known = match self.id() {
            Some(id) => Some(id.clone()),
            None => ledger.zones().await.map_err(down)?.into_iter().find(|zone| zone.name == self.name).map(|zone| zone.id),
        };
        if let Some(id) = &known {
            // The zone may be down now, and its placements are to be seen all the same.
            let _ = self.id.set(id.clone());
        }
        let Some(objects) = self.store.named() else {
            return self.register(ledger, known.unwrap_or_else(|| ZoneId::new(format!("name:{}", self.name)))).await;
        };
        let found = in_time(timeout, &self.name, StoreIdentity::read(objects)).await.map_err(down)?;
        let id = match (known, found) {
            (Some(known), Some(found)) if known.as_str() == found.id => return Ok(known),
            (Some(known), Some(found)) => {
                return Err(stranger(format!("it is another zone than before: its id is {}, and was {known}", found.id)));
            }
            (Some(_), None) => return Err(stranger("it has lost its identity: is it the right place, and is it mounted?".to_owned())),
            (None, Some(found)) if found.name != self.name => return Err(stranger(format!("it calls itself {}", found.name))),
            (None, Some(found)) => found.id,
            (None, None) => in_time(timeout, &self.name, StoreIdentity::read_or_write(objects, &self.name, LAYOUT)).await.map_err(down)?.id,
        };
        self.register(ledger, ZoneId::new(id)).await
    }

    async fn register(&self, ledger: &dyn PlacementLedger, id: ZoneId) -> Result<ZoneId, (Error, bool)> {
        let registered = ledger.register_zone(&ZoneRecord::new(id.clone(), &self.name)).await;
        if let Err(error) = registered {
            let conflicts = error.kind() == ErrorKind::Conflict;
            // If neither its id nor its name is anybody's, it is one that was removed.
            if conflicts
                && let Ok(known) = ledger.zones().await
                && known.iter().all(|zone| zone.id != id && zone.name != self.name)
            {
                self.set_state(ZoneState::Removed);
            }
            return Err((error, conflicts));
        }
        let _ = self.id.set(id.clone());
        Ok(id)
    }

    /// The same, unless it was confirmed just now. A zone that is passed over is always asked: who gets here has no other, and if it answers it is passed
    /// over no more.
    pub(crate) async fn be_sure(&self, ledger: &dyn PlacementLedger, timeout: Duration) -> Result<()> {
        let confirmed_at = *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = self.health.is_open();
        if !is_open && !self.stranger.load(Ordering::Relaxed) && confirmed_at.is_some_and(|at| at.elapsed() < CONFIRMED) {
            return Ok(());
        }
        let start = Instant::now();
        let id = self.confirm(ledger, timeout).await?;
        if is_open {
            self.works(ledger, &id, start.elapsed()).await;
        }
        Ok(())
    }

    /// The zone has said who it is, after so long: it is asked again from now on. Whether it was not before.
    pub(crate) async fn works(&self, ledger: &dyn PlacementLedger, id: &ZoneId, after: Duration) -> bool {
        metrics::breaker(&self.name, false);
        if !self.health.close(after) {
            return false;
        }
        tracing::info!(zone = self.name, "the zone works again");
        self.tell(Event::ZoneUp { zone: self.name.clone() });
        if !self.was_away.swap(false, Ordering::Relaxed) {
            // It answered all the time; what fails in it fails for reasons of its own, and waits as long as it has to.
            return true;
        }
        // What failed because it was away is not to wait for long pauses to end.
        if let Err(error) = ledger.replay(Some(id)).await {
            tracing::warn!(zone = self.name, %error, "could not make failed work due again");
        }
        true
    }

    /// Notes that the zone failed.
    pub(crate) fn failed(&self, error: &Error, options: &Options) {
        if self.health.failed(error, options.breaker_threshold) {
            self.is_down(error);
        }
    }

    /// Passes the zone over from now on: it did not say who it is.
    pub(crate) fn trip(&self, error: &Error) {
        if !is_zones_fault(error) {
            return self.trip(&not_itself(&self.name, error.to_string()));
        }
        if self.health.failed(error, 1) {
            self.is_down(error);
        }
    }

    fn is_down(&self, error: &Error) {
        tracing::warn!(zone = self.name, %error, "the zone is passed over until it answers again");
        metrics::breaker(&self.name, true);
        self.tell(Event::ZoneDown { zone: self.name.clone(), reason: error.to_string() });
    }

    /// Tells how the zone is.
    fn tell(&self, event: Event) {
        if self.tells.load(Ordering::Relaxed) {
            self.events.tell(&event);
        }
    }

    /// From now on it is told how the zone is: a process without workers only looks at it for a moment.
    pub(crate) fn begin_to_tell(&self) {
        if !self.tells.swap(true, Ordering::Relaxed) && self.health.is_open() {
            let reason = self.health.last_error().unwrap_or_default();
            self.tell(Event::ZoneDown { zone: self.name.clone(), reason });
        }
    }

    /// Makes a request that is to be answered within the [`request_timeout`](Options::request_timeout), and notes how it ended, and when.
    pub(crate) async fn ask<T>(&self, options: &Options, request: impl Future<Output = Result<T>>) -> Result<T> {
        let start = Instant::now();
        let result = self.ask_within(options.request_timeout, options, request).await;
        if result.is_ok() {
            self.health.answered(start.elapsed());
        }
        result
    }

    /// Makes a request that may take long, and notes how it ended.
    pub(crate) async fn ask_within<T>(&self, limit: Duration, options: &Options, request: impl Future<Output = Result<T>>) -> Result<T> {
        let result = in_time(limit, &self.name, request).await;
        match &result {
            Ok(_) => self.health.worked(),
            Err(error) => self.failed(error, options),
        }
        result
    }
}

/// The request's answer, or [`ErrorKind::TimedOut`] if there is none in time. Errors name the zone.
pub(crate) async fn in_time<T>(limit: Duration, zone: &str, request: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.with_zone(zone)),
        Err(_) => Err(timed_out(zone)),
    }
}

pub(crate) fn timed_out(zone: &str) -> Error {
    Error::new(ErrorKind::TimedOut, "the zone did not answer in time").with_zone(zone)
}
