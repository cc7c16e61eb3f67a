//! Buffers that go out as [`Bytes`] and come back when the last slice of them is dropped.
//!
//! A buffer of this size that is allocated for each read is given back to the system each time and zeroed anew. Where to free it is decided by
//! the connection that sends it, on another thread than the one that read: with per-thread allocators that costs memory without bound.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one size, shared by all stores of the process.
pub(crate) struct Pool {
    size: usize,
    /// How many are kept; those beyond are freed.
    keep: usize,
    free: Mutex<Vec<Box<[u8]>>>,
}

/// For reads on an async worker: small enough not to keep it from other tasks.
pub(crate) static INLINE: Pool = Pool::new(128 << 10, 64);
/// For reads on a blocking thread: large enough to be worth the way there.
pub(crate) static BLOCKING: Pool = Pool::new(256 << 10, 32);

impl Pool {
    const fn new(size: usize, keep: usize) -> Self {
        Self { size, keep, free: Mutex::new(Vec::new()) }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// A buffer of at least `want` bytes, up to the pool's size.
    pub(crate) fn take(&'static self, want: usize) -> Buffer {
        if want <= self.size / 2 {
            // A small blob: not worth a slot, and a small allocation is cheap.
            return Buffer { bytes: vec![0; want].into(), len: 0, pool: None };
        }
        let reused = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: reused.unwrap_or_else(|| vec![0; self.size].into()), len: 0, pool: Some(self) }
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(buffer);
        }
    }
}

/// A buffer, and how much of it is filled.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    pool: Option<&'static Pool>,
}

impl Buffer {
    /// Where to read to; at most `want` bytes.
    pub(crate) fn space(&mut self, want: usize) -> &mut [u8] {
        let len = self.bytes.len();
        &mut self.bytes[..want.min(len)]
    }

    /// The first `len` bytes. The buffer returns to its pool when they are dropped.
    pub(crate) fn filled(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TINY: Pool = Pool::new(64, 2);

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_and_only_so_many_are_kept() {
        let free = || TINY.free.lock().unwrap().len();
        let chunks: Vec<Bytes> = (0..3).map(|_| TINY.take(64).filled(64)).collect();
        let slice = chunks[0].slice(1..2);
        assert_eq!(free(), 0);
        drop(chunks);
        assert_eq!(free(), 2, "the third is in use");
        drop(slice);
        assert_eq!(free(), 2, "the third is one too many");
        let again = TINY.take(40);
        assert_eq!(free(), 1, "a buffer is used again");
        drop(again);
        drop(TINY.take(10).filled(10));
        assert_eq!(free(), 2, "small ones are not pooled");
    }

    #[test]
    fn only_what_was_filled_is_seen() {
        let mut buffer = TINY.take(64);
        buffer.space(64).fill(7);
        assert_eq!(buffer.filled(3), [7, 7, 7][..]);
    }
}
