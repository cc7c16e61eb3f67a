//! [`Verified`]: who logged in a short while ago, so that bcrypt's time is not spent for each request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::time::Instant;

use super::hash::Bcrypt;

/// How long a log-in is remembered.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// How many are; the oldest goes for another.
const MOST: usize = 1024;

/// Stands for a name with a password. Made with a key that is this process's own: it tells nothing to who sees memory of it, and cannot be aimed at.
pub(super) type Credentials = [u8; 32];

/// Log-ins that succeeded, each with the hash that it was verified against: one that is not in the file any more counts no more.
pub(super) struct Verified {
    mac: Hmac<Sha256>,
    entries: Mutex<HashMap<Credentials, Entry>>,
}

struct Entry {
    hash: Bcrypt,
    since: Instant,
}

impl Verified {
    /// Remembers nobody, under a new key.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes.
    pub(super) fn new() -> Self {
        let mut key = [0; 64];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        // HMAC takes keys of every length.
        let mac = Hmac::new_from_slice(&key).expect("the length suits");
        Self { mac, entries: Mutex::default() }
    }

    /// What stands for this name with this password. The name's length goes before it: `ab` with `c` is not `a` with `bc`.
    pub(super) fn credentials(&self, name: &str, password: &str) -> Credentials {
        let mut mac = self.mac.clone();
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether these were verified against this hash a short while ago. Looking them up tells nothing by its time: nobody outside can choose what they are.
    pub(super) fn has(&self, credentials: &Credentials, hash: &Bcrypt) -> bool {
        self.entries().get(credentials).is_some_and(|entry| entry.hash == *hash && entry.since.elapsed() < KEPT)
    }

    /// Remembers that these were.
    pub(super) fn insert(&self, credentials: Credentials, hash: Bcrypt) {
        let mut entries = self.entries();
        if entries.len() >= MOST && !entries.contains_key(&credentials) {
            entries.retain(|_, entry| entry.since.elapsed() < KEPT);
        }
        if entries.len() >= MOST && !entries.contains_key(&credentials) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.since).map(|(credentials, _)| *credentials);
            oldest.and_then(|oldest| entries.remove(&oldest));
        }
        entries.insert(credentials, Entry { hash, since: Instant::now() });
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Credentials, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_do_not_run_into_each_other() {
        let verified = Verified::new();
        assert_ne!(verified.credentials("ab", "c"), verified.credentials("a", "bc"));
        assert_ne!(verified.credentials("a", ""), verified.credentials("", "a"));
        assert_eq!(verified.credentials("a", "b"), verified.credentials("a", "b"));
        assert_ne!(verified.credentials("a", "b"), Verified::new().credentials("a", "b"), "each has a key of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_in_counts_for_five_minutes_and_against_its_hash_alone() {
        let verified = Verified::new();
        let (hash, other) = (Bcrypt::nobody(4), Bcrypt::nobody(5));
        let credentials = verified.credentials("alice", "password");
        assert!(!verified.has(&credentials, &hash));
        verified.insert(credentials, hash.clone());
        tokio::time::advance(KEPT - Duration::from_millis(1)).await;
        assert!(verified.has(&credentials, &hash) && !verified.has(&credentials, &other));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!verified.has(&credentials, &hash));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_the_oldest_goes() {
        let verified = Verified::new();
        let hash = Bcrypt::nobody(4);
        let credentials = |n: usize| verified.credentials(&n.to_string(), "password");
        for n in 0..MOST {
            verified.insert(credentials(n), hash.clone());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // One who logs in again takes nobody's place, and is young again.
        verified.insert(credentials(0), hash.clone());
        assert_eq!((0..MOST).filter(|n| verified.has(&credentials(*n), &hash)).count(), MOST);
        verified.insert(credentials(MOST), hash.clone());
        assert_eq!(verified.entries().len(), MOST);
        assert!(verified.has(&credentials(0), &hash) && !verified.has(&credentials(1), &hash) && verified.has(&credentials(2), &hash));
    }
}
