//! [`SwiftStore`]: Swift as an [`ObjectStore`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
    UploadPart,
};
use registry_core::ErrorKind;
use tokio::sync::OnceCell;

use crate::client::{Call, Client, Target};
use crate::failure::Failure;
use crate::info::Info;
use crate::{large, listing, objects};

/// Where the segments of large objects are that were written by this interface. Lists show it only to who asks for it.
const SEGMENTS: &str = "_multipart";

/// A container in Swift, as an [`ObjectStore`].
///
/// - Writes are compared by MD5, reads by their length; a read whose connection breaks goes on where it was.
/// - Large objects are static large objects: segments under `_multipart/`, which `delete` takes along. Writing over one leaves its segments: delete it first.
/// - [`PutMode::Create`] and [`PutMode::Update`] are not supported: real Swift lets two of ten writers win. Copies of large objects become plain ones, and
///   above the service's limit are not supported. Tags are not supported.
///
/// Made by [`SwiftBuilder`](crate::SwiftBuilder). Cheap to clone.
#[derive(Clone)]
pub struct SwiftStore {
    pub(crate) client: Arc<Client>,
    info: Arc<OnceCell<Info>>,
    pub(crate) temp_url_key: Option<storage_object::Secret>,
    /// Deletes take objects as they are.
    plain_deletes: bool,
}

impl SwiftStore {
    pub(crate) fn new(client: Client, temp_url_key: Option<storage_object::Secret>) -> Self {
        Self { client: Arc::new(client), info: Arc::default(), temp_url_key, plain_deletes: false }
    }

    /// The same for who has no large objects of this interface's, and sees to segments itself.
    pub(crate) fn with_plain_deletes(mut self) -> Self {
        self.plain_deletes = true;
        self
    }

    /// What the cluster says of itself. One that says nothing has the usual limits.
    pub(crate) async fn info(&self) -> Result<&Info, Failure> {
        self.info
            .get_or_try_init(|| async {
                let call = Call::new(Method::GET, Target::Info);
                match self.client.fetch(&call, "GET /info").await {
                    Ok((body, _)) => Ok(Info::parse(&body).unwrap_or_default()),
                    Err(failure) if failure.status.is_some() && !failure.is_passing() => Ok(Info::default()),
                    Err(failure) => Err(failure),
                }
            })
            .await
    }

    async fn delete_some(&self, paths: Vec<Path>) -> Vec<Result<Path>> {
        if self.plain_deletes {
            let max_bulk = self.info().await.map_or(0, |info| info.max_bulk_deletes);
            return match listing::delete_plain(&self.client, &paths, max_bulk).await {
                Ok(()) => paths.into_iter().map(Ok).collect(),
                Err(failure) => vec![Err(failure.told("deleting objects"))],
            };
        }
        let deletes = stream::iter(paths).map(|path| async move {
            large::delete_whole(&self.client, &path).await.map_err(|failure| failure.told(path.as_ref()))?;
            Ok(path)
        });
        deletes.buffered(8).collect().await
    }

    fn listed(&self, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // Who asks for just that folder is shown it.
        let all = prefix.is_some_and(is_hidden);
        let (store, prefix, after) = (self.clone(), prefix.cloned(), after.cloned());
        let listed = async move {
            let full_page = store.info().await.map_err(|failure| failure.told("GET /info"))?.list_page;
            Ok::<_, object_store::Error>(listing::list(&store.client, prefix.as_ref(), after.as_ref(), full_page))
        };
        let is_shown = move |meta: &ObjectMeta| std::future::ready(all || !is_hidden(&meta.location));
        listed.into_stream().try_flatten().try_filter(is_shown).boxed()
    }
}

fn is_hidden(path: &Path) -> bool {
    path.parts().next().is_some_and(|part| part.as_ref() == SEGMENTS)
}

fn segment(id: &str, number: usize) -> Path {
    Path::from(format!("{SEGMENTS}/{id}/{number:06}"))
}

impl fmt::Display for SwiftStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Swift({})", self.client.container)
    }
}

impl fmt::Debug for SwiftStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwiftStore").field("container", &self.client.container).finish_non_exhaustive()
    }
}

fn unsupported(path: &Path, what: &str) -> object_store::Error {
    object_store::Error::NotSupported { source: format!("{path}: {what}").into() }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for SwiftStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            return Err(unsupported(location, "Swift's conditional writes let several writers win"));
        }
        if !options.tags.encoded().is_empty() {
            return Err(unsupported(location, "Swift has no tags"));
        }
        objects::put(&self.client, location, payload, &options.attributes).await.map_err(|failure| failure.told(location.as_ref()))
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if !options.tags.encoded().is_empty() {
            return Err(unsupported(location, "Swift has no tags"));
        }
        let id = registry_core::random_id();
        Ok(Box::new(Upload { store: self.clone(), path: location.clone(), id, attributes: options.attributes, parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        objects::get(&self.client, location, options).await.map_err(|failure| failure.told(location.as_ref()))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let ranges = ranges.to_vec();
        stream::iter(ranges).map(|range| self.get_range(location, range)).buffered(8).try_collect().await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = locations.ready_chunks(1000).then(move |paths| {
            let store = store.clone();
            async move {
                let (mut known, mut outcome) = (Vec::new(), Vec::new());
                for path in paths {
                    match path {
                        Ok(path) => known.push(path),
                        Err(error) => outcome.push(Err(error)),
                    }
                }
                outcome.splice(0..0, store.delete_some(known).await);
                stream::iter(outcome)
            }
        });
        deleted.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let told = |failure: Failure| failure.told(prefix.map_or("", |prefix| prefix.as_ref()));
        let full_page = self.info().await.map_err(told)?.list_page;
        let mut result = listing::list_folder(&self.client, prefix, full_page).await.map_err(told)?;
        result.common_prefixes.retain(|path| !is_hidden(path));
        result.objects.retain(|meta| !is_hidden(&meta.location));
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if options.mode != CopyMode::Overwrite {
            return Err(unsupported(to, "Swift cannot copy only to where nothing is"));
        }
        objects::copy(&self.client, from, to).await.map_err(|failure| match failure.error.kind() {
            ErrorKind::Unsupported => unsupported(from, failure.error.message()),
            _ => failure.told(from.as_ref()),
        })
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if options.target_mode != RenameTargetMode::Overwrite {
            return Err(unsupported(to, "Swift cannot rename only to where nothing is"));
        }
        self.copy_opts(from, to, CopyOptions::default()).await?;
        self.delete(from).await
    }
}

#[async_trait]
impl MultipartStore for SwiftStore {
    async fn create_multipart(&self, _path: &Path) -> Result<MultipartId> {
        Ok(registry_core::random_id())
    }

    async fn put_part(&self, _path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        let (path, size) = (segment(id, part), data.content_length());
        let put = objects::put(&self.client, &path, data, &Attributes::new()).await.map_err(|failure| failure.told(path.as_ref()))?;
        Ok(PartId { content_id: format!("{size}-{}", put.e_tag.unwrap_or_default()) })
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.complete(path, id, &parts, &Attributes::new()).await
    }

    async fn abort_multipart(&self, _path: &Path, id: &MultipartId) -> Result<()> {
        let folder = Path::from(format!("{SEGMENTS}/{id}"));
        let told = |failure: Failure| failure.told(folder.as_ref());
        let info = self.info().await.map_err(told)?;
        let segments: Vec<_> =
            listing::list(&self.client, Some(&folder), None, info.list_page).map_ok(|meta| meta.location).try_collect().await?;
        listing::delete_plain(&self.client, &segments, info.max_bulk_deletes).await.map_err(told)
    }
}

impl SwiftStore {
    async fn complete(&self, path: &Path, id: &str, parts: &[PartId], attributes: &Attributes) -> Result<PutResult> {
        let told = |failure: Failure| failure.told(path.as_ref());
        if parts.is_empty() {
            // Swift has large objects of no segments; others do not.
            return objects::put(&self.client, path, PutPayload::new(), attributes).await.map_err(told);
        }
        let not_ours = || Failure::new(ErrorKind::InvalidInput, "not the id of a part").told(path.as_ref());
        let mut segments = Vec::with_capacity(parts.len());
        for (number, part) in parts.iter().enumerate() {
            let (size, e_tag) = part.content_id.split_once('-').ok_or_else(not_ours)?;
            segments.push((segment(id, number), size.parse().map_err(|_| not_ours())?, e_tag));
        }
        let segments: Vec<_> = segments.iter().map(|(path, size, e_tag)| (path, *size, *e_tag)).collect();
        let headers = objects::headers_of(attributes).map_err(told)?;
        let is_compared = self.info().await.map_err(told)?.compares_manifests;
        large::put_manifest(&self.client, path, &segments, id, headers, is_compared).await.map_err(told)
    }
}

/// A multipart upload by `object_store`'s own interface.
#[derive(Debug)]
struct Upload {
    store: SwiftStore,
    path: Path,
    id: String,
    attributes: Attributes,
    parts: Vec<Arc<OnceCell<PartId>>>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path, id, number) = (self.store.clone(), self.path.clone(), self.id.clone(), self.parts.len());
        let done = Arc::new(OnceCell::new());
        self.parts.push(Arc::clone(&done));
        Box::pin(async move {
            let part = MultipartStore::put_part(&store, &path, &id, number, data).await?;
            let _ = done.set(part);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = self.parts.iter().enumerate().map(|(number, part)| {
            let missing = || Failure::new(ErrorKind::InvalidInput, format!("part {number} was not uploaded")).told(self.path.as_ref());
            part.get().cloned().ok_or_else(missing)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        self.store.complete(&self.path, &self.id, &parts, &self.attributes).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.abort_multipart(&self.path, &self.id).await
    }
}
