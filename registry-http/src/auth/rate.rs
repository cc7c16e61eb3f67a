//! [`RateLimits`]: how much one may ask for.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::Identity;

/// How many checks there are between two clean-ups of what nobody asked for any more.
const TIDY: u32 = 4096;

/// How many requests and failed log-ins there may be. Each process counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RateLimits {
    requests: Option<NonZeroU32>,
    failures: Option<NonZeroU32>,
}

impl Default for RateLimits {
    /// As many requests as anybody likes, and 30 failed log-ins a minute.
    fn default() -> Self {
        Self { requests: None, failures: NonZeroU32::new(30) }
    }
}

impl RateLimits {
    /// How many requests a second one user may make, and one address without a user; for a moment ten times as many. Zero: no limit. More are answered 429.
    pub fn with_requests_per_second(mut self, requests: u32) -> Self {
        self.requests = NonZeroU32::new(requests);
        self
    }

    /// How many log-ins a minute may fail from one address; then none is tried from there, right or wrong, for some seconds. Zero: no limit.
    pub fn with_failures_per_minute(mut self, failures: u32) -> Self {
        self.failures = NonZeroU32::new(failures);
        self
    }
}

/// Who is counted: a user, or an address; of IPv6, the network of one customer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Address(IpAddr),
}

impl Who {
    /// `None` of an address that nobody knows: all such would be one, and each would pay for the others.
    fn from(peer: Option<IpAddr>) -> Option<Self> {
        Some(Self::Address(match peer?.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
            address => address,
        }))
    }
}

struct Limit {
    limiter: RateLimiter<Who, DefaultKeyedStateStore<Who>, DefaultClock>,
    checks: AtomicU32,
}

impl Limit {
    fn new(quota: Quota) -> Self {
        Self { limiter: RateLimiter::keyed(quota), checks: AtomicU32::new(0) }
    }

    /// Counts one; how long to wait if that is one too many.
    fn check(&self, who: &Who) -> Result<(), Duration> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            // Whoever could ask as much as ever is forgotten, so that what is kept is bounded by the rate of checks.
            self.limiter.retain_recent();
        }
        let now = self.limiter.clock().now();
        self.limiter.check_key(who).map_err(|until| until.wait_time_from(now))
    }
}

/// Counts.
pub(super) struct Rates {
    requests: Option<Limit>,
    failures: Option<Failures>,
}

/// Failed log-ins. Trying one counts only if it fails, so that counting alone could not tell beforehand.
struct Failures {
    limit: Limit,
    /// Until when nobody is tried from an address.
    closed: Mutex<HashMap<Who, Instant>>,
    /// How many are being tried from an address now: their failures are yet to be counted.
    trying: Mutex<HashMap<Who, u32>>,
}

/// How many log-ins are tried at a time from one address. Those whose password was right before take no time.
const AT_ONCE: u32 = 32;

/// A log-in that is being tried.
pub(super) struct Attempt<'a>(Option<(&'a Failures, Who)>);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some((failures, who)) = &self.0 else { return };
        let mut trying = lock(&failures.trying);
        if let Some(count) = trying.get_mut(who) {
            *count -= 1;
            if *count == 0 {
                trying.remove(who);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most addresses that are closed at a time; beyond, those that open first are forgotten.
const MOST_CLOSED: usize = 10_000;

impl Rates {
    pub(super) fn new(limits: RateLimits) -> Self {
        let burst = |per_second: NonZeroU32| {
            Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN)))
        };
        let failures = |quota| Failures { limit: Limit::new(quota), closed: Mutex::default(), trying: Mutex::default() };
        Self {
            requests: limits.requests.map(|requests| Limit::new(burst(requests))),
            failures: limits.failures.map(|each| failures(Quota::per_minute(each))),
        }
    }

    /// Counts a request; how long to wait if it is one too many.
    pub(super) fn request(&self, identity: &Identity, peer: Option<IpAddr>) -> Result<(), Duration> {
        let Some(limit) = &self.requests else { return Ok(()) };
        let who = if identity.is_anonymous() { Who::from(peer) } else { Some(Who::User(identity.name().to_owned())) };
        who.map_or(Ok(()), |who| limit.check(&who))
    }

    /// Whether a log-in may be tried from there; how long to wait if not. It is being tried until what is returned is dropped.
    pub(super) fn log_in(&self, peer: Option<IpAddr>) -> Result<Attempt<'_>, Duration> {
        let (Some(failures), Some(who)) = (&self.failures, Who::from(peer)) else { return Ok(Attempt(None)) };
        let now = Instant::now();
        if let Some(left) = lock(&failures.closed).get(&who).map(|until| until.saturating_duration_since(now))
            && left > Duration::ZERO
        {
            return Err(left);
        }
        let mut trying = lock(&failures.trying);
        let count = trying.entry(who.clone()).or_default();
        if *count >= AT_ONCE {
            return Err(Duration::from_secs(1));
        }
        *count += 1;
        Ok(Attempt(Some((failures, who))))
    }

    /// A log-in has failed.
    pub(super) fn failed(&self, peer: Option<IpAddr>) {
        let (Some(failures), Some(who)) = (&self.failures, Who::from(peer)) else { return };
        if let Err(wait) = failures.limit.check(&who) {
            let mut closed = lock(&failures.closed);
            let now = Instant::now();
            if closed.len() >= MOST_CLOSED {
                closed.retain(|_, until| *until > now);
            }
            if closed.len() < MOST_CLOSED {
                closed.insert(who, now + wait.max(Duration::from_secs(1)));
            }
        }
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn requests_are_counted_by_user_and_else_by_address() {
        let rates = Rates::new(RateLimits::default().with_requests_per_second(2));
        let (alice, bob, nobody) = (Identity::new("alice", []), Identity::new("bob", []), Identity::anonymous());
        let burst = |identity: &Identity, peer| (0..100).take_while(|_| rates.request(identity, peer).is_ok()).count();
        assert!((20..30).contains(&burst(&alice, address("10.0.0.1"))));
        assert!(burst(&alice, address("10.0.0.2")) < 3, "the same, from elsewhere");
        assert!((20..30).contains(&burst(&bob, address("10.0.0.1"))));
        assert!((20..30).contains(&burst(&nobody, address("10.0.0.1"))));
        assert!((20..30).contains(&burst(&nobody, address("2001:db8::1"))));
        assert!(burst(&nobody, address("2001:db8::2")) < 3, "the same network");
        let wait = rates.request(&alice, None).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        let none = Rates::new(RateLimits::default().with_requests_per_second(0));
        assert!((0..1000).all(|_| none.request(&alice, None).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_too_many_failures_nobody_is_tried_from_there_for_a_while() {
        let rates = Rates::new(RateLimits::default().with_failures_per_minute(5));
        let (here, there) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..5 {
            assert!(rates.log_in(here).is_ok());
            rates.failed(here);
        }
        assert!(rates.log_in(here).is_ok(), "that many are allowed");
        rates.failed(here);
        assert!(rates.log_in(here).is_err());
        assert!(rates.log_in(there).is_ok());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(rates.log_in(here).is_ok());
    }

    #[tokio::test]
    async fn only_so_many_are_tried_at_a_time_from_one_address() {
        let rates = Rates::new(RateLimits::default());
        let (here, there) = (address("10.0.0.1"), address("10.0.0.2"));
        let mut trying: Vec<_> = (0..AT_ONCE).map(|_| rates.log_in(here).ok().unwrap()).collect();
        assert!(rates.log_in(here).is_err() && rates.log_in(there).is_ok());
        trying.pop();
        assert!(rates.log_in(here).is_ok());
        drop(trying);
        assert!(lock(&rates.failures.as_ref().unwrap().trying).is_empty());
    }
}
