//! Small named objects, under `_meta/`.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use registry_core::blob::{ItemStream, NamedObjectInfo, NamedObjects, check_object_name};
use registry_core::{Error, ErrorKind, Result};

use crate::layout;
use crate::shared::{Shared, failed};
use crate::sys;

/// Bytes that an object may have.
const LIMIT: usize = 4 << 20;

/// The directory `_meta/`. Not the store itself, whose methods have the same names.
#[derive(Clone, Debug)]
pub(crate) struct NamedFiles {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl NamedObjects for NamedFiles {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        check_object_name(name)?;
        let name = name.to_owned();
        self.shared.hop(move |shared| get(shared, &name).map_err(|error| failed(&error, "reading an object").with_key(&name))).await
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<()> {
        check_object_name(name)?;
        if value.len() > LIMIT {
            let message = format!("an object of {} bytes; {LIMIT} are allowed", value.len());
            return Err(Error::new(ErrorKind::TooLarge, message).with_key(name));
        }
        let name = name.to_owned();
        self.shared.hop(move |shared| put(shared, &name, value).map_err(|error| failed(&error, "writing an object").with_key(&name))).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_object_name(name)?;
        let name = name.to_owned();
        self.shared
            .hop(move |shared| {
                // Synced also if it was gone: whoever removed it may not have come to that.
                let deleted = shared.sys.unlink(&layout::object(&name)).and_then(|_| shared.sys.sync_dir(layout::META));
                deleted.map_err(|error| failed(&error, "deleting an object").with_key(&name))
            })
            .await
    }

    fn list(&self, prefix: &str) -> ItemStream<'_, NamedObjectInfo> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_owned());
        let objects = async move {
            let objects = shared.hop(move |shared| list(shared, &prefix).map_err(|error| failed(&error, "listing objects")));
            Ok::<_, Error>(stream::iter(objects.await?.into_iter().map(Ok)))
        };
        Box::pin(stream::once(objects).try_flatten())
    }
}

fn get(shared: &Shared, name: &str) -> io::Result<Option<Bytes>> {
    let file = match shared.sys.open_read(&layout::object(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let size = sys::fstat(&file)?.size;
    let size = usize::try_from(size).ok().filter(|size| *size <= LIMIT).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut value = vec![0; size];
    // An object is replaced, never changed: the file has the bytes that it was opened with.
    if sys::read_full(&file, &mut value, 0)? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(value.into()))
}

fn put(shared: &Shared, name: &str, value: Bytes) -> io::Result<()> {
    let path = layout::upload(&layout::temporary("meta"));
    let file = shared.create_staged(&path)?;
    let sys = &shared.sys;
    let write = if value.is_empty() { Ok(()) } else { sys.write_at(&file, &path, &[value], 0) };
    let placed = write.and_then(|()| sys.sync_data(&file, &path)).and_then(|()| sys.rename(&path, &layout::object(name)));
    if placed.is_err() {
        drop(sys.unlink(&path));
    }
    placed?;
    sys.sync_dir(layout::META)
}

fn list(shared: &Shared, prefix: &str) -> io::Result<Vec<NamedObjectInfo>> {
    let mut objects = Vec::new();
    for name in shared.sys.names(layout::META)?.iter().filter_map(|file| layout::object_of(file)).filter(|name| name.starts_with(prefix)) {
        if let Some(meta) = shared.sys.stat(&layout::object(&name))?.filter(|meta| meta.is_file) {
            objects.push(NamedObjectInfo::new(name, meta.size, Some(meta.modified)));
        }
    }
    objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(objects)
}
