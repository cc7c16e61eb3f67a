//! [`Uses`]: which manifests were noted lately to be used, so that not every pull is a write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Inner;
use crate::{Digest, RepositoryName, Timestamp};

/// How long a noted use is good for.
const GOOD_FOR: Duration = Duration::from_secs(3600);

/// How many may be on their way to the metadata at once; what is used meanwhile is noted the next time.
const AT_ONCE: usize = 16;

/// How many are remembered; those of more are noted more often.
const REMEMBERED: usize = 10_000;

/// What this process has noted, and when.
#[derive(Debug)]
pub(super) struct Uses {
    noted: Mutex<HashMap<(RepositoryName, Digest), Timestamp>>,
    slots: Arc<Semaphore>,
}

impl Default for Uses {
    fn default() -> Self {
        Self { noted: Mutex::default(), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Uses {
    /// Whether a use is to be noted; if so, it is taken to be from now on.
    fn is_news(&self, repository: &RepositoryName, digest: &Digest, now: Timestamp) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = |at: Timestamp| now.since(at) < GOOD_FOR;
        let key = (repository.clone(), *digest);
        if noted.get(&key).is_some_and(|at| is_good(*at)) {
            return false;
        }
        if noted.len() >= REMEMBERED {
            noted.retain(|_, at| is_good(*at));
            if noted.len() >= REMEMBERED {
                noted.clear();
            }
        }
        noted.insert(key, now);
        true
    }
}

impl Inner {
    /// A client was given this manifest. Nobody waits for that to be noted, and if it is not, nothing is lost but the order in which images come to a new zone.
    pub(super) fn used(self: &Arc<Self>, repository: &RepositoryName, digest: &Digest) {
        if self.options.read_only {
            return;
        }
        let Ok(slot) = Arc::clone(&self.uses.slots).try_acquire_owned() else { return };
        if !self.uses.is_news(repository, digest, self.clock.now()) {
            return;
        }
        let (inner, used) = (Arc::clone(self), [(repository.clone(), *digest)]);
        drop(tokio::spawn(async move {
            if let Err(error) = inner.metadata.note_uses(&used).await {
                tracing::debug!(%error, "could not note that a manifest is used");
            }
            drop(slot);
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_an_hour_and_few_are_remembered() {
        let uses = Uses::default();
        let (one, other): (RepositoryName, RepositoryName) = ("one".parse().unwrap(), "other".parse().unwrap());
        let digest = Digest::sha256(b"image");
        let start = Timestamp::from_millis(1_790_000_000_000);
        let is_news = |name: &RepositoryName, after: u64| uses.is_news(name, &digest, start + Duration::from_secs(after));
        assert!(is_news(&one, 0) && is_news(&other, 0));
        assert!(!is_news(&one, 3599) && !is_news(&other, 3599));
        assert!(is_news(&one, 3600) && !is_news(&one, 3601));
        for number in 0..3 * REMEMBERED as u64 {
            assert!(uses.is_news(&one, &Digest::sha256(&number.to_be_bytes()), start + Duration::from_secs(5000)));
            assert!(uses.noted.lock().unwrap().len() <= REMEMBERED);
        }
    }
}
