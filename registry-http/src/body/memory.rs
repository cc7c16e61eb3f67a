//! [`BodyMemory`]: how much all requests together keep in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Failure;

/// What is taken at a time, in bytes: ordinary manifests need one, and the largest do not come back for every frame.
const STEP: usize = 64 << 10;

/// How long a request waits for others to give back what they took.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that may be in memory, shared by all requests.
///
/// They are taken as bytes really arrive. Rejected: taking the declared length at once, with which a few clients that declare much and send nothing would
/// keep out all others.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    free: Arc<Semaphore>,
    total: usize,
}

/// What one request took; given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// How many bytes it is for.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }
}

impl BodyMemory {
    pub(crate) fn new(bytes: u64) -> Self {
        let total = usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(total)), total }
    }

    /// Sees to it that `room` is for `bytes` at least, and asks for `limit` at most in the end.
    pub(crate) async fn grow(&self, room: &mut Room, bytes: usize, limit: u64) -> Result<(), Failure> {
        if bytes <= room.taken {
            return Ok(());
        }
        // One request alone always finds room, whatever the steps.
        let most = usize::try_from(limit).unwrap_or(usize::MAX).min(self.total).max(bytes);
        let more = bytes.next_multiple_of(STEP).min(most) - room.taken;
        let busy = || Failure::busy("too many manifests are being pushed; try again");
        let more = u32::try_from(more).map_err(|_| busy())?;
        let acquired = tokio::time::timeout(PATIENCE, Arc::clone(&self.free).acquire_many_owned(more)).await;
        // The semaphore is never closed.
        let Ok(Ok(permit)) = acquired else {
            tracing::warn!(total = self.total, "no memory is left for the manifests that are being pushed");
            return Err(busy());
        };
        match &mut room.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        room.taken += more as usize;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_one_request_took_another_gets_only_when_it_is_given_back() {
        let memory = BodyMemory::new(100_000);
        let (mut first, mut second) = (Room::default(), Room::default());
        assert!(memory.grow(&mut first, 100, 100_000).await.is_ok());
        assert!(memory.grow(&mut first, 99_000, 100_000).await.is_ok());
        assert!(memory.grow(&mut second, 1, 100_000).await.is_err());
        let waiting = memory.grow(&mut second, 100_000, 100_000);
        let giving_back = async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(first);
        };
        assert!(tokio::join!(waiting, giving_back).0.is_ok());
        drop(second);
        assert_eq!(memory.free.available_permits(), 100_000);
    }
}
