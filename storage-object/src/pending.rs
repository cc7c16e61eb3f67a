//! Looking for abandoned uploads, and dropping them.
//!
//! Everything of an upload is in one folder. Where pieces become blobs by a manifest the folder stays as long as its blob; its markers say which blobs to
//! ask whether it is theirs. A commit that could not tidy up leaves pieces in it that are not the blob's: those go by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use registry_core::blob::{ItemStream, PendingUpload};
use registry_core::{Digest, Error, Result, Timestamp};

use crate::error::told;
use crate::layout::{WRITER, is_upload_id, marked};
use crate::promote::{Manifests, Promote};
use crate::shared::{Shared, modified};

/// Folders judged at a time.
const AT_ONCE: usize = 16;

/// What a listing says of an upload's folder.
#[derive(Debug, Default)]
struct Folder {
    modified: Timestamp,
    size: u64,
    pieces: usize,
    markers: Vec<Digest>,
    /// Only who can be taken up has pieces that others replace.
    has_writer: bool,
}

impl Folder {
    fn add(&mut self, name: &str, meta: &ObjectMeta) {
        self.modified = self.modified.max(modified(meta));
        match marked(name) {
            Some(digest) => self.markers.push(digest),
            None if name == WRITER => self.has_writer = true,
            None if name.starts_with('_') => {}
            None => {
                self.size += meta.size;
                self.pieces += 1;
            }
        }
    }
}

/// Folders that nobody wrote to since then, and that are no blob's, or have more in them than the blob.
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
        // Those of blobs are asked about, and there may be many.
        let judged = stream::iter(folders).map(move |(id, folder)| {
            let shared = Arc::clone(&shared);
            async move {
                let blobs = blobs(&shared, &id, &folder.markers).await?;
                if blobs.is_empty() {
                    return Ok(Some(PendingUpload::new(id, folder.modified, Some(folder.size))));
                }
                let segments = if folder.has_writer { segments(&shared, &blobs).await? } else { None };
                let has_more = segments.is_some_and(|segments| segments.len() < folder.pieces);
                Ok::<_, Error>(has_more.then(|| PendingUpload::new(id, folder.modified, None)))
            }
        });
        Ok::<_, Error>(judged.buffered(AT_ONCE).try_filter_map(|pending| std::future::ready(Ok(pending))))
    };
    Box::pin(stream::once(found).try_flatten())
}

/// Of the blobs that the markers name, those that are made of this upload's pieces.
async fn blobs(shared: &Shared, id: &str, markers: &[Digest]) -> Result<Vec<Digest>> {
    let Promote::Manifest(manifests) = &shared.promote else { return Ok(Vec::new()) };
    let mut blobs = Vec::new();
    for digest in markers {
        let path = shared.layout.blob(digest);
        if manifests.upload_of(&path).await.map_err(|error| told(error, digest))?.as_deref() == Some(id) {
            blobs.push(*digest);
        }
    }
    Ok(blobs)
}

/// All that these blobs are made of, by their manifests; `None` if one does not say.
async fn segments(shared: &Shared, blobs: &[Digest]) -> Result<Option<BTreeSet<Path>>> {
    let Promote::Manifest(manifests) = &shared.promote else { return Ok(None) };
    let mut all = BTreeSet::new();
    for digest in blobs {
        let segments = manifests.segments_of(&shared.layout.blob(digest)).await.map_err(|error| told(error, digest))?;
        match segments {
            Some(segments) if !segments.is_empty() => all.extend(segments),
            _ => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Drops an upload's folder; if it is a blob's, only the pieces that the blob is not made of.
pub(crate) async fn discard(shared: &Shared, id: &str) -> Result<()> {
    if !is_upload_id(id) {
        // Not a name that anything of ours can have, so nothing of that name is there.
        return Ok(());
    }
    let mut objects: Vec<_> = shared.folder(id).await?.into_iter().map(|meta| meta.location).collect();
    let name = |path: &Path| shared.layout.upload_of(path).map(|(_, name)| name.to_owned());
    let markers: Vec<_> = objects.iter().filter_map(name).filter_map(|name| marked(&name)).collect();
    let blobs = blobs(shared, id, &markers).await?;
    if !blobs.is_empty() {
        let Some(segments) = segments(shared, &blobs).await? else { return Ok(()) };
        objects.retain(|path| !segments.contains(path) && name(path).is_some_and(|name| !name.starts_with('_')));
    }
    shared.delete(objects).await
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
