//! Looking for abandoned uploads, and dropping them.
//!
//! Everything of an upload is in one folder. Where pieces become blobs by a manifest the folder stays as long as its blob; its markers say which blobs to
//! ask whether it is theirs. A commit that could not tidy up leaves pieces in it that are not the blob's: those go by themselves.
//!
//! A process that is killed also leaves multipart uploads, of pieces and of blobs, which no list of objects shows: they are found where the client can list them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{MultipartId, ObjectMeta};
use registry_core::blob::{ItemStream, PendingUpload};
use registry_core::{Algorithm, Digest, Error, ErrorKind, Result, Timestamp};

use crate::error::{is_missing, told};
use crate::layout::{Layout, WRITER, is_upload_id, marked};
use crate::multiparts::{OpenMultipart, StoredParts, pending_id, pending_multipart};
use crate::promote::{Manifests, Promote};
use crate::shared::{Shared, modified};

/// Later than anything.
const END_OF_TIME: Timestamp = Timestamp::from_millis(i64::MAX);

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
    /// Pieces that are not complete.
    multiparts: Vec<OpenMultipart>,
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

    /// Adds what there is of its open multipart uploads. Nothing is left of a folder that had nothing else, if they are gone by now.
    async fn with_multiparts(mut self, shared: &Shared) -> Result<Option<Self>> {
        let mut is_there = self.modified > Timestamp::default();
        for multipart in std::mem::take(&mut self.multiparts) {
            if let Some(stored) = stored_parts(shared, &multipart).await? {
                is_there = true;
                self.size += stored.size;
                self.modified = self.modified.max(multipart.begun).max(stored.modified.unwrap_or_default());
            }
        }
        Ok(is_there.then_some(self))
    }
}

async fn stored_parts(shared: &Shared, multipart: &OpenMultipart) -> Result<Option<StoredParts>> {
    let Some(listing) = &shared.listing else { return Ok(None) };
    listing.stored_parts(&multipart.path, &multipart.id).await.map_err(|error| told(error, &multipart.path))
}

/// The open multipart uploads in a folder that were begun before then: nothing of others can be that old.
async fn multiparts(shared: &Shared, folder: &Path, older_than: Timestamp) -> Result<Vec<OpenMultipart>> {
    let Some(listing) = &shared.listing else { return Ok(Vec::new()) };
    let found = listing.list_multiparts(folder).map_err(|error| told(error, folder));
    let found: Result<Vec<_>> = found.try_filter(|multipart| std::future::ready(multipart.begun < older_than)).try_collect().await;
    match found {
        // The rest is to be cleaned up all the same.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => {
            tracing::warn!(%error, "multipart uploads that were abandoned are not found here");
            Ok(Vec::new())
        }
        found => found,
    }
}

/// Folders that nobody wrote to since then, and that are no blob's, or have more in them than the blob; and blobs whose writing was broken off.
pub(crate) fn list(shared: &Arc<Shared>, older_than: Timestamp) -> ItemStream<'static, PendingUpload> {
    let blobs = stream::once(of_blobs(Arc::clone(shared), older_than)).try_flatten();
    Box::pin(stream::once(in_folders(Arc::clone(shared), older_than)).try_flatten().chain(blobs))
}

async fn in_folders(shared: Arc<Shared>, older_than: Timestamp) -> Result<ItemStream<'static, PendingUpload>> {
    let folder = shared.layout.uploads();
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    // Before the objects: what is completed in the meantime is seen twice, and not never.
    for multipart in multiparts(&shared, &folder, END_OF_TIME).await? {
        if let Some((id, _)) = shared.layout.upload_of(&multipart.path).filter(|(id, _)| is_upload_id(id)) {
            folders.entry(id.to_owned()).or_default().multiparts.push(multipart);
        }
    }
    let mut objects = shared.objects.list(Some(&folder));
    while let Some(meta) = objects.try_next().await.map_err(|error| told(error, &folder))? {
        if let Some((id, name)) = shared.layout.upload_of(&meta.location).filter(|(id, _)| is_upload_id(id)) {
            folders.entry(id.to_owned()).or_default().add(name, &meta);
        }
    }
    let is_old = move |folder: &Folder| folder.modified < older_than && folder.multiparts.iter().all(|one| one.begun < older_than);
    folders.retain(|_, folder| is_old(folder));
    // Those of blobs are asked about, and there may be many.
    let judged = stream::iter(folders).map(move |(id, folder)| {
        let shared = Arc::clone(&shared);
        async move {
            let Some(folder) = folder.with_multiparts(&shared).await?.filter(is_old) else { return Ok(None) };
            let blobs = blobs(&shared, &id, &folder.markers).await?;
            if blobs.is_empty() {
                return Ok(Some(PendingUpload::new(id, folder.modified, Some(folder.size))));
            }
            let segments = if folder.has_writer { segments(&shared, &blobs).await? } else { None };
            let has_more = segments.is_some_and(|segments| segments.len() < folder.pieces);
            Ok::<_, Error>(has_more.then(|| PendingUpload::new(id, folder.modified, None)))
        }
    });
    Ok(Box::pin(judged.buffered(AT_ONCE).try_filter_map(|pending| std::future::ready(Ok(pending)))))
}

/// Multipart uploads that were to become blobs without being staged.
async fn of_blobs(shared: Arc<Shared>, older_than: Timestamp) -> Result<ItemStream<'static, PendingUpload>> {
    let open = multiparts(&shared, &shared.layout.all_blobs(), older_than).await?;
    let judged = stream::iter(open).map(move |multipart| {
        let shared = Arc::clone(&shared);
        async move {
            let digest = Algorithm::ALL.into_iter().find_map(|algorithm| Layout::digest(algorithm, &multipart.path));
            // Not of something else that somebody keeps there.
            let Some(digest) = digest.filter(|digest| shared.layout.blob(digest) == multipart.path) else { return Ok(None) };
            let Some(stored) = stored_parts(&shared, &multipart).await? else { return Ok(None) };
            let modified = multipart.begun.max(stored.modified.unwrap_or_default());
            let pending = PendingUpload::new(pending_id(&digest, &multipart.id), modified, Some(stored.size));
            Ok::<_, Error>((modified < older_than).then_some(pending))
        }
    });
    Ok(Box::pin(judged.buffered(AT_ONCE).try_filter_map(|pending| std::future::ready(Ok(pending)))))
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
    if let Some((path, multipart)) = pending_multipart(&shared.layout, id) {
        return abort(shared, &path, &multipart).await;
    }
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
    for multipart in multiparts(shared, &shared.layout.upload(id), END_OF_TIME).await? {
        abort(shared, &multipart.path, &multipart.id).await?;
    }
    shared.delete(objects).await
}

async fn abort(shared: &Shared, path: &Path, id: &MultipartId) -> Result<()> {
    match shared.multiparts.abort_multipart(path, id).await {
        Err(error) if !is_missing(&error) => Err(told(error, path)),
        _ => Ok(()),
    }
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
