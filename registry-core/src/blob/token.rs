//! [`UploadToken`]: an upload put aside.

use bytes::Bytes;

use crate::{Algorithm, Error, ErrorKind, Hasher, Result};

/// Where a suspended upload stands: the hash so far, and the store's own note of where the bytes are.
///
/// Kept by the registry with the session, at most 64 KiB; never shown to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadToken {
    /// How many bytes are staged.
    pub offset: u64,
    /// What they were hashed with.
    pub algorithm: Algorithm,
    /// The hasher's midstate. If it cannot be [restored](Self::hasher), the store reads the staged bytes again.
    pub midstate: Bytes,
    /// The zone that holds the bytes; a plain store leaves it empty.
    pub zone: String,
    /// The store's own part.
    pub backend: Bytes,
}

const VERSION: u8 = 1;

impl UploadToken {
    /// The longest encoded token, in bytes.
    pub const MAX_LEN: usize = 64 << 10;

    /// An upload of `offset` bytes that `hasher` has seen.
    pub fn new(offset: u64, hasher: &Hasher, backend: impl Into<Bytes>) -> Self {
        Self { offset, algorithm: hasher.algorithm(), midstate: hasher.state().into(), zone: String::new(), backend: backend.into() }
    }

    /// Names the zone.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// The hasher as it stood; `None` if the midstate cannot be read (another library wrote it), so that the staged bytes must be read again.
    pub fn hasher(&self) -> Option<Hasher> {
        Hasher::restore(self.algorithm, &self.midstate)
    }

    /// The token as bytes. [`ErrorKind::TooLarge`] above 64 KiB.
    pub fn encode(&self) -> Result<Bytes> {
        let mut out = Vec::with_capacity(64 + self.midstate.len() + self.zone.len() + self.backend.len());
        out.push(VERSION);
        out.push(match self.algorithm {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => 1,
        });
        out.extend_from_slice(&self.offset.to_be_bytes());
        for part in [&self.midstate[..], self.zone.as_bytes(), &self.backend[..]] {
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
        if out.len() > Self::MAX_LEN {
            return Err(Error::new(ErrorKind::TooLarge, format!("an upload token of {} bytes", out.len())));
        }
        Ok(out.into())
    }

    /// Reads a token. [`ErrorKind::UploadUnknown`] if it is none, or of a newer version: the client has to begin again.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| Error::new(ErrorKind::UploadUnknown, "the upload's token cannot be read"))
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
            let (head, tail) = bytes.split_at_checked(n)?;
            *bytes = tail;
            Some(head)
        }
        fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
            let len = u32::from_be_bytes(take(bytes, 4)?.try_into().ok()?);
            take(bytes, usize::try_from(len).ok()?)
        }
        let [VERSION, algorithm] = *take(&mut bytes, 2)? else { return None };
        let algorithm = *Algorithm::ALL.get(usize::from(algorithm))?;
        let offset = u64::from_be_bytes(take(&mut bytes, 8)?.try_into().ok()?);
        let midstate = Bytes::copy_from_slice(part(&mut bytes)?);
        let zone = std::str::from_utf8(part(&mut bytes)?).ok()?.to_owned();
        let backend = Bytes::copy_from_slice(part(&mut bytes)?);
        bytes.is_empty().then_some(Self { offset, algorithm, midstate, zone, backend })
    }
}
