//! Looking for abandoned uploads, and dropping them.
//!
//! Everything of an upload is in one folder. Where pieces become blobs by a manifest the folder stays as long as its blob; its markers say which blobs to
//! ask whether it is theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectMeta;
use registry_core::blob::{ItemStream, PendingUpload};
use registry_core::{Digest, Error, Result, Timestamp};

use crate::error::told;
use crate::layout::{is_upload_id, marked};
use crate::promote::{Manifests, Promote};
use crate::shared::{Shared, modified};

/// What a listing says of an upload's folder.
#[derive(Debug, Default)]
struct Folder {
    modified: Timestamp,
    size: u64,
    markers: Vec<Digest>,
}

impl Folder {
    fn add(&mut self, name: &str, meta: &ObjectMeta) {
        self.modified = self.modified.max(modified(meta));
        match marked(name) {
            Some(digest) => self.markers.push(digest),
            None if name.starts_with('_') => {}
            None => self.size += meta.size,
        }
    }
}

/// Folders that nobody wrote to since then, and that are no blob's.
pub(crate) fn list(shared: &Arc<Shared>, older_than: Timestamp) -> ItemStream<'static, PendingUpload> {
    let shared = Arc::clone(shared);
    let found = async move {
        let folder = shared.layout.uploads();
        let mut objects = shared.objects.list(Some(&folder));
        let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
        while let Some(meta) = objects.try_next().await.map_err(|error| told(error, &folder))? {
            if let Some((id, name)) = shared.layout.upload_of(&meta.location).filter(|(id, _)| is_upload_id(id)) {
                folders.entry(id.to_owned()).or_default().add(name, &meta);
            }
        }
        folders.retain(|_, folder| folder.modified < older_than);
        let pending = stream::iter(folders).map(Ok).try_filter_map(move |(id, folder)| {
            let shared = Arc::clone(&shared);
            async move {
                let is_blob = is_blob(&shared, &id, &folder.markers).await?;
                Ok((!is_blob).then(|| PendingUpload::new(id, folder.modified, Some(folder.size))))
            }
        });
        Ok::<_, Error>(pending)
    };
    Box::pin(stream::once(found).try_flatten())
}

/// Whether one of the blobs that the markers name is made of this upload's pieces.
async fn is_blob(shared: &Shared, id: &str, markers: &[Digest]) -> Result<bool> {
    let Promote::Manifest(manifests) = &shared.promote else { return Ok(false) };
    for digest in markers {
        let path = shared.layout.blob(digest);
        if manifests.upload_of(&path).await.map_err(|error| told(error, digest))?.as_deref() == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Drops an upload's folder, unless it is a blob's.
pub(crate) async fn discard(shared: &Shared, id: &str) -> Result<()> {
    if !is_upload_id(id) {
        // Not a name that anything of ours can have, so nothing of that name is there.
        return Ok(());
    }
    let objects = shared.folder(id).await?;
    let name = |meta: &ObjectMeta| shared.layout.upload_of(&meta.location).map(|(_, name)| name.to_owned());
    let markers: Vec<_> = objects.iter().filter_map(name).filter_map(|name| marked(&name)).collect();
    if is_blob(shared, id, &markers).await? {
        return Ok(());
    }
    shared.delete(objects.into_iter().map(|meta| meta.location).collect()).await
}

/// Deletes a blob that may be a manifest: it is gone at once, its pieces follow.
pub(crate) async fn delete(shared: &Shared, manifests: &dyn Manifests, digest: &Digest, upload: Option<String>) -> Result<()> {
    let path = shared.layout.blob(digest);
    match manifests.delete_manifest(&path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(told(error, digest)),
    }
    let Some(id) = upload else { return Ok(()) };
    // If that fails, the folder is one that belongs to no blob, and is found as such.
    if let Err(error) = discard_alone(shared, &id, digest).await {
        tracing::info!(%digest, upload = id, %error, "could not delete a blob's pieces; they are left for the clean-up of abandoned uploads");
    }
    Ok(())
}

/// Drops the folder of what was this blob. If it has the marker of another, some pieces are, or are about to be, that one's too: a late writer committed
/// what it had. Then it is left for the clean-up, which waits until nobody writes there any more.
async fn discard_alone(shared: &Shared, id: &str, digest: &Digest) -> Result<()> {
    let objects = shared.folder(id).await?;
    let name = |meta: &ObjectMeta| shared.layout.upload_of(&meta.location).map(|(_, name)| name.to_owned());
    if objects.iter().filter_map(name).filter_map(|name| marked(&name)).any(|other| other != *digest) {
        return Ok(());
    }
    shared.delete(objects.into_iter().map(|meta| meta.location).collect()).await
}
