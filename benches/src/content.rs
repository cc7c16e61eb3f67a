//! Blobs that cost nothing to make: the same bytes each time but for the last 16.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// What one piece of a stream holds.
const PIECE: usize = 256 << 10;
/// No more of this stays in memory, however large the blob; longer ones repeat it.
const BASE: usize = 64 << 20;
const TRAILER: usize = 16;

/// A family of blobs of one size, each with a number.
#[derive(Clone, Debug)]
pub struct Content {
    base: Arc<[u8]>,
    size: u64,
    /// The hash of all but the trailer.
    hashed: Sha256,
}

impl Content {
    /// Blobs of `size` bytes, at least 16.
    pub fn new(size: u64) -> Self {
        let body = size.checked_sub(TRAILER as u64).expect("a blob has room for its number");
        let mut base = vec![0; usize::try_from(body).unwrap_or(BASE).min(BASE)];
        // Xorshift: nothing that a file system could store in less space.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in base.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        let mut hashed = Sha256::new();
        let mut left = body;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(BASE).min(base.len());
            hashed.update(&base[..n]);
            left -= n as u64;
        }
        Self { base: base.into(), size, hashed }
    }

    /// Bytes of each.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of blob `n`, as `sha256:…`.
    pub fn digest(&self, n: u64) -> String {
        let mut hash = self.hashed.clone();
        hash.update(trailer(n));
        digest(&hash.finalize())
    }

    /// Blob `n`, piece by piece.
    pub fn pieces(&self, n: u64) -> Pieces<'_> {
        Pieces { content: self, trailer: trailer(n), at: 0 }
    }

    /// Hands the pieces of blob `n` to `sink`.
    pub fn each(&self, n: u64, mut sink: impl FnMut(&[u8])) {
        let mut pieces = self.pieces(n);
        while let Some(piece) = pieces.next() {
            sink(piece);
        }
    }
}

/// The pieces of one blob; lends each in turn.
#[derive(Debug)]
pub struct Pieces<'a> {
    content: &'a Content,
    trailer: [u8; TRAILER],
    at: u64,
}

impl Pieces<'_> {
    /// The next piece; `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<&[u8]> {
        let body = self.content.size - TRAILER as u64;
        if self.at < body {
            let base = &self.content.base;
            let from = usize::try_from(self.at % base.len() as u64).expect("less than the base");
            let n = PIECE.min(base.len() - from).min(usize::try_from(body - self.at).unwrap_or(PIECE));
            self.at += n as u64;
            Some(&base[from..from + n])
        } else if self.at < self.content.size {
            self.at = self.content.size;
            Some(&self.trailer)
        } else {
            None
        }
    }
}

fn trailer(n: u64) -> [u8; TRAILER] {
    u128::from(n).to_be_bytes()
}

/// A sha256 as registries write it.
pub fn digest(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The digest of bytes at hand.
pub fn digest_of(bytes: &[u8]) -> String {
    digest(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_blob_have_its_size_and_its_digest() {
        for size in [16, 17, 4096, (256 << 10) + 16, (300 << 10) + 5, (64 << 20) + 4096] {
            let content = Content::new(size);
            for n in [0, 7] {
                let mut all = Vec::new();
                content.each(n, |piece| all.extend_from_slice(piece));
                assert_eq!((all.len() as u64, digest_of(&all)), (size, content.digest(n)));
            }
            assert_ne!(content.digest(0), content.digest(7));
        }
    }
}
