//! [`Link`]: the network between one process and one of the places it talks to.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_core::testing::Rng;
use registry_core::{Error, ErrorKind, Result};

/// How long it takes until a connection that nothing comes through is given up by the system underneath.
const RESET: Duration = Duration::from_secs(6);

/// The longest that a request is on its way: what was sent has arrived by then, or never does. Less than a lease, as the fence supposes.
pub(super) const LATEST: Duration = Duration::from_millis(1_700);

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Trouble {
    #[default]
    None,
    /// Every request is refused.
    Down,
    /// Nothing comes through, and nobody says so.
    BlackHole,
    /// Everything takes up to so long.
    Slow(Duration),
    /// Requests, or the answers to them, get lost.
    Lossy { before: f64, after: f64 },
}

/// The random numbers of a run.
pub(super) type Chance = Arc<Mutex<Rng>>;

/// A link in one direction and back.
#[derive(Debug)]
pub(super) struct Link {
    name: String,
    chance: Chance,
    latency: Duration,
    /// How often what was sent arrives quite late.
    late: Mutex<f64>,
    trouble: Mutex<Trouble>,
}

impl Link {
    pub(super) fn new(name: String, chance: &Chance, latency: Duration, late: f64) -> Self {
        Self { name, chance: Arc::clone(chance), latency, late: Mutex::new(late), trouble: Mutex::default() }
    }

    pub(super) fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(super) fn trouble(&self) -> Trouble {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is late any more.
    pub(super) fn calm(&self) {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = 0.0;
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn pass(&self, longest: Duration) {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let pause = self.draw(|rng| rng.below(longest + 1));
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    async fn cross(&self, lost: impl FnOnce(f64, f64) -> f64) -> Result<()> {
        let error = |kind, what: &str| Err(Error::new(kind, what).with_key(&self.name));
        match self.trouble() {
            Trouble::None => self.pass(self.latency).await,
            Trouble::Slow(longest) => self.pass(longest).await,
            Trouble::Down => {
                self.pass(self.latency).await;
                return error(ErrorKind::Unavailable, "the connection is refused");
            }
            Trouble::BlackHole => {
                tokio::time::sleep(RESET).await;
                return error(ErrorKind::Interrupted, "the connection is dead");
            }
            Trouble::Lossy { before, after } => {
                self.pass(self.latency).await;
                if self.draw(|rng| rng.chance(lost(before, after))) {
                    return error(ErrorKind::Unavailable, "the connection broke");
                }
            }
        }
        Ok(())
    }

    /// A request goes out; an error means that it never arrives.
    pub(super) async fn out(&self) -> Result<()> {
        self.cross(|before, _| before).await
    }

    /// The answer comes back; an error means that it is lost.
    pub(super) async fn back(&self) -> Result<()> {
        self.cross(|_, after| after).await
    }

    /// True now and then.
    pub(super) fn seldom(&self) -> bool {
        self.draw(|rng| rng.chance(0.05))
    }

    /// A request that was sent and takes effect whatever becomes of its sender, now and then quite late.
    pub(super) async fn arrive<T: Send + 'static>(&self, effect: impl Future<Output = T> + Send + 'static) -> T {
        let often = *self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = u64::try_from(LATEST.as_millis()).unwrap_or(0);
        let late = self.draw(|rng| if rng.chance(often) { rng.below(latest) } else { rng.below(5) });
        let on_the_wire = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(late)).await;
            effect.await
        });
        on_the_wire.await.unwrap_or_else(|error| panic!("what was sent panicked: {error}"))
    }
}
