//! Small named objects, under `_meta/`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use object_store::{ObjectStoreExt as _, PutPayload};
use registry_core::blob::{ItemStream, NamedObjectInfo, NamedObjects, check_object_name};
use registry_core::{Error, ErrorKind, Result};

use crate::error::{is_missing, told};
use crate::shared::{Shared, modified};

/// Bytes that an object may have.
const LIMIT: usize = 4 << 20;

/// The folder `_meta/`. Not the store itself, whose methods have the same names.
#[derive(Clone, Debug)]
pub(crate) struct NamedKeys {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl NamedObjects for NamedKeys {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        check_object_name(name)?;
        let path = self.shared.layout.object(name);
        match self.shared.objects.get(&path).await {
            Ok(got) if got.meta.size > LIMIT as u64 => Err(too_large(name, got.meta.size)),
            Ok(got) => {
                let size = got.meta.size;
                let bytes = got.bytes().await.map_err(|error| told(error, name))?;
                if bytes.len() as u64 != size {
                    return Err(Error::new(ErrorKind::Interrupted, "the service's answer was cut short").with_key(name));
                }
                Ok(Some(bytes))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(told(error, name)),
        }
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        check_object_name(name)?;
        if value.len() > LIMIT {
            return Err(too_large(name, value.len() as u64));
        }
        self.shared.put(&self.shared.layout.object(name), PutPayload::from_bytes(value)).await.map(drop)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_object_name(name)?;
        match self.shared.objects.delete(&self.shared.layout.object(name)).await {
            Err(error) if !is_missing(&error) => Err(told(error, name)),
            _ => Ok(()),
        }
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_owned());
        let objects = async move {
            let folder = shared.layout.objects();
            let mut found = Vec::new();
            let mut objects = shared.objects.list(Some(&folder));
            while let Some(meta) = objects.try_next().await.map_err(|error| told(error, &folder))? {
                if let Some(name) = shared.layout.object_of(&meta.location).filter(|name| name.starts_with(&prefix)) {
                    found.push(NamedObjectInfo::new(name, meta.size, Some(modified(&meta))));
                }
            }
            found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok::<_, Error>(stream::iter(found.into_iter().map(Ok)))
        };
        Box::pin(stream::once(objects).try_flatten())
    }
}

fn too_large(name: &str, size: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("an object of {size} bytes; {LIMIT} are allowed")).with_key(name)
}
