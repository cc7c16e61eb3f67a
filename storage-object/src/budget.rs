//! [`Budget`]: a bound on the memory of all uploads of a process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is lent at a time, in bytes: a semaphore counts to less than a machine may have bytes.
const UNIT: u64 = 4096;

/// How many bytes of parts all stores that share it may hold in memory. A clone is the same budget: give one to every zone of a process.
///
/// A part is accounted for before its first byte is taken in, and until the service has it. Who finds nothing left waits for others to be done, in the
/// order of asking; a client whose upload waits is not read from. Nobody holds more than one part that is not yet on its way, and that one is ended by
/// its client's time-out at the latest, so that those who wait get on.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

impl Budget {
    /// A budget of so many bytes, rounded to 4 KiB; at least 1 MiB.
    pub fn new(bytes: u64) -> Self {
        let most = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64);
        let all = u32::try_from((bytes.max(1 << 20) / UNIT).min(most)).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Bytes that nobody holds at the moment.
    pub fn available(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }

    /// Waits until so many bytes may be held. Who asks for more than there is gets all there is.
    pub(crate) async fn take(&self, bytes: u64) -> Share {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.all);
        // It is never closed.
        Share { _permit: Arc::clone(&self.units).acquire_many_owned(units).await.ok() }
    }
}

impl Default for Budget {
    /// 256 MiB.
    fn default() -> Self {
        Self::new(256 << 20)
    }
}

/// What one part holds of a [`Budget`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}
