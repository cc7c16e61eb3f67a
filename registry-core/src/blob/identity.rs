//! [`StoreIdentity`]: what tells one store from another that was configured in its place.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamedObjects;
use crate::{Error, ErrorKind, Result};

/// The named object that holds a store's identity.
pub const ZONE_OBJECT: &str = "zone";

const VERSION: u32 = 1;

/// Who a store is: written into it once, and compared ever after.
///
/// An empty bucket under a mistyped name answers every question with "not found", as a store that lost everything would; two zones pasted with one
/// bucket look like two copies. Both are seen by the identity: nothing is deleted from a store, or counted as a copy, before it said who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreIdentity {
    /// The version of this record.
    version: u32,
    /// 128 random bits as hex.
    pub id: String,
    /// The zone's name when it was added.
    pub name: String,
    /// How blobs are laid out in it.
    pub layout: String,
}

impl StoreIdentity {
    /// A new identity with a random id.
    pub fn generate(name: impl Into<String>, layout: impl Into<String>) -> Self {
        Self { version: VERSION, id: crate::random_id(), name: name.into(), layout: layout.into() }
    }

    /// The identity that the store has; `None` if it has none yet.
    ///
    /// [`ErrorKind::Unsupported`] if a newer version wrote it, [`ErrorKind::Corrupt`] if it cannot be read.
    pub async fn read(objects: &dyn NamedObjects) -> Result<Option<Self>> {
        let Some(bytes) = objects.get(ZONE_OBJECT).await? else { return Ok(None) };
        let identity: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "the store's identity cannot be read").with_key(ZONE_OBJECT).with_source(error)
        })?;
        if identity.version > VERSION {
            let message = format!("the store was written by a newer release (identity version {}, known is {VERSION})", identity.version);
            return Err(Error::new(ErrorKind::Unsupported, message).with_key(ZONE_OBJECT));
        }
        Ok(Some(identity))
    }

    /// The store's identity, written now if it has none, and then read back.
    ///
    /// Of two that write at once the later one's stays: confirm it at the next [`read`](Self::read) before anything is deleted on its strength.
    pub async fn read_or_write(objects: &dyn NamedObjects, name: &str, layout: &str) -> Result<Self> {
        if let Some(identity) = Self::read(objects).await? {
            return Ok(identity);
        }
        let identity = Self::generate(name, layout);
        let json =
            serde_json::to_vec(&identity).map_err(|error| Error::new(ErrorKind::Internal, "encoding an identity").with_source(error))?;
        objects.put(ZONE_OBJECT, Bytes::from(json)).await?;
        Self::read(objects).await?.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the store forgot its identity").with_key(ZONE_OBJECT))
    }
}
