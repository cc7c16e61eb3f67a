//! [`Hasher`]: a running hash that can be put aside and taken up by another process.

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::{Algorithm, Digest};

/// A running hash over the bytes of a blob.
///
/// Its [`state`](Self::state) can be stored and [restored](Self::restore) elsewhere, so that an upload continued by another process need not
/// read again what is stored already. The state is a few hundred bytes; it is not secret, but it must come from a trusted place, since it decides
/// the digest.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in more bytes. About 2 GB/s for SHA-256 on a core with SHA extensions: hand large inputs to a blocking thread.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(h) => h.update(bytes),
            State::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all that was taken in. The hasher stays usable: take a clone's digest to go on.
    pub fn finalize(self) -> Digest {
        let digest = match self.0 {
            State::Sha256(h) => Digest::from_bytes(Algorithm::Sha256, &h.finalize()),
            State::Sha512(h) => Digest::from_bytes(Algorithm::Sha512, &h.finalize()),
        };
        digest.expect("a hash has its algorithm's length")
    }

    /// The midstate, to be [restored](Self::restore) later.
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(h) => h.serialize().to_vec(),
            State::Sha512(h) => h.serialize().to_vec(),
        }
    }

    /// The hasher that had this midstate; `None` if the bytes cannot be read, in which case the content must be hashed again.
    pub fn restore(algorithm: Algorithm, state: &[u8]) -> Option<Self> {
        fn read<H: SerializableState>(state: &[u8]) -> Option<H> {
            H::deserialize(state.try_into().ok()?).ok()
        }
        Some(Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(read(state)?),
            Algorithm::Sha512 => State::Sha512(read(state)?),
        }))
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hasher").field(&self.algorithm()).finish()
    }
}
