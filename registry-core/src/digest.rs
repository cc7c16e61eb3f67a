//! [`Digest`]: the name of a blob, and the [`Algorithm`]s it may use.

use std::fmt;
use std::str::FromStr;

/// A hash algorithm that content may be named by (image-spec, `descriptor.md`, "Registered Algorithms").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, the one every client uses.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in order.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The registered name, as it stands before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes.
    pub const fn hash_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Self, DigestError> {
        Self::ALL.into_iter().find(|a| a.as_str() == s).ok_or(DigestError::UnsupportedAlgorithm)
    }
}

/// The digest of a blob: `sha256:` or `sha512:` and lower-case hex, nothing else.
///
/// It is parsed strictly (image-spec, `descriptor.md`, "Digests"), because it becomes part of file names and object keys:
/// whatever holds a `Digest` needs no further check against path traversal.
///
/// `Ord` is by algorithm, then by bytes, which is also the order of the textual form.
///
/// ```
/// use registry_core::Digest;
///
/// let digest = Digest::sha256(b"hello");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// assert!("sha256:BEEF".parse::<Digest>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// The hash in the first [`Algorithm::hash_len`] bytes, zeros behind.
    bytes: [u8; 64],
}

/// Why a text is no [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestError {
    /// The text has no colon, the hash has the wrong length, or it is not lower-case hex.
    Malformed,
    /// The part before the colon names an algorithm that is not supported.
    UnsupportedAlgorithm,
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a digest is sha256: and 64, or sha512: and 128 lower-case hex digits",
            Self::UnsupportedAlgorithm => "the digest algorithm is not supported; sha256 and sha512 are",
        })
    }
}

impl std::error::Error for DigestError {}

impl Digest {
    /// A digest from the bytes of a hash; `None` when their number is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        if hash.len() != algorithm.hash_len() {
            return None;
        }
        let mut bytes = [0; 64];
        bytes[..hash.len()].copy_from_slice(hash);
        Some(Self { algorithm, bytes })
    }

    /// The SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    /// The digest of `content`, which is hashed in one go on the calling thread.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = crate::Hasher::new(algorithm);
        hasher.update(content);
        hasher.finalize()
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.hash_len()]
    }

    /// The hash as lower-case hex, without the algorithm.
    pub fn hex(&self) -> String {
        let mut out = String::with_capacity(self.algorithm.hash_len() * 2);
        for byte in self.as_bytes() {
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
        out
    }

    /// The shard this digest is listed in: its first byte, two hex digits.
    pub const fn shard(&self) -> u8 {
        self.bytes[0]
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = s.split_once(':').ok_or(DigestError::Malformed)?;
        if algorithm.is_empty() {
            return Err(DigestError::Malformed);
        }
        let algorithm: Algorithm = algorithm.parse()?;
        if hex.len() != algorithm.hash_len() * 2 {
            return Err(DigestError::Malformed);
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let high = nibble(pair[0]).ok_or(DigestError::Malformed)?;
            let low = nibble(pair[1]).ok_or(DigestError::Malformed)?;
            *byte = high << 4 | low;
        }
        Ok(Self { algorithm, bytes })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "oci-spec")]
mod oci {
    use super::{Digest, DigestError};

    impl From<Digest> for oci_spec::image::Digest {
        fn from(digest: Digest) -> Self {
            digest.to_string().parse().expect("a digest of ours is a digest of theirs")
        }
    }

    impl TryFrom<&oci_spec::image::Digest> for Digest {
        type Error = DigestError;

        fn try_from(digest: &oci_spec::image::Digest) -> Result<Self, DigestError> {
            digest.as_ref().parse()
        }
    }
}
