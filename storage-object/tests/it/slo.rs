//! [`Slo`]: an object store in memory that has static large objects, as Swift does.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use registry_core::ErrorKind;
use storage_object::{Manifests, Segment};

/// The attribute by which a manifest is one; its value is the upload.
const UPLOAD: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("upload"));

/// Without manifests it is an object store in memory like any other. A manifest is an object of lines: size and key of a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slo {
    inner: InMemory,
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "Slo", source: source.into() }
}

impl Slo {
    /// What is known of a manifest, and its segments; `None` if it is none.
    async fn manifest(&self, path: &Path) -> Result<Option<(ObjectMeta, Attributes, Vec<Path>)>> {
        let got = self.inner.get(path).await?;
        if got.attributes.get(&UPLOAD).is_none() {
            return Ok(None);
        }
        let (mut meta, attributes) = (got.meta.clone(), got.attributes.clone());
        let lines = String::from_utf8(got.bytes().await?.into()).unwrap();
        let segments = lines.lines().map(|line| line.split_once(' ').unwrap());
        let (sizes, paths): (Vec<u64>, Vec<_>) = segments.map(|(size, path)| (size.parse::<u64>().unwrap(), Path::from(path))).unzip();
        meta.size = sizes.into_iter().sum();
        Ok(Some((meta, attributes, paths)))
    }

    /// What lists say: a large object's size is that of all of it.
    fn listed(&self, metas: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let with_size = move |meta: ObjectMeta| {
            let store = store.clone();
            async move { Ok(store.manifest(&meta.location).await?.map_or(meta, |(meta, ..)| meta)) }
        };
        metas.and_then(with_size).boxed()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Manifests for Slo {
    async fn put_manifest(&self, path: &Path, segments: &[Segment], upload: &str) -> Result<()> {
        for segment in segments {
            let found = self.inner.head(&segment.path).await.ok();
            if found.is_none_or(|meta| meta.size != segment.size || meta.e_tag.as_deref() != Some(&segment.e_tag)) {
                return Err(generic(registry_core::Error::new(ErrorKind::UploadUnknown, format!("{} is not the segment", segment.path))));
            }
        }
        let attributes = Attributes::from_iter([(UPLOAD, upload.to_owned())]);
        let lines: String = segments.iter().map(|segment| format!("{} {}\n", segment.size, segment.path)).collect();
        self.inner.put_opts(path, lines.into(), PutOptions { attributes, ..PutOptions::default() }).await.map(drop)
    }

    async fn upload_of(&self, path: &Path) -> Result<Option<String>> {
        match self.inner.get(path).await {
            Ok(got) => Ok(got.attributes.get(&UPLOAD).map(|upload| upload.to_string())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn segments_of(&self, path: &Path) -> Result<Option<Vec<Path>>> {
        match self.manifest(path).await {
            Ok(manifest) => Ok(manifest.map(|(_, _, paths)| paths)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete_manifest(&self, path: &Path) -> Result<()> {
        self.inner.delete(path).await
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slo")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Slo {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some((meta, attributes, paths)) = self.manifest(location).await? else {
            return self.inner.get_opts(location, options).await;
        };
        let size = meta.size;
        let is_part = options.range.is_some();
        let range = match options.range {
            None => 0..size,
            Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
            Some(GetRange::Offset(first)) => first..size,
            Some(GetRange::Suffix(last)) => size.saturating_sub(last)..size,
        };
        if is_part && range.start >= range.end {
            return Err(generic("no such range"));
        }
        let mut bytes = Vec::new();
        if !options.head {
            for path in paths {
                // What is not there is a segment, and not what was asked for.
                let segment = self.inner.get(&path).await.map_err(|_| generic(format!("{location} lacks its segment {path}")))?;
                bytes.extend_from_slice(&segment.bytes().await?);
            }
            assert_eq!(bytes.len() as u64, size, "a segment was changed");
            bytes = bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec();
        }
        let payload = GetResultPayload::Stream(stream::iter([Ok(Bytes::from(bytes))]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut all = Vec::new();
        for range in ranges {
            all.push(self.get_range(location, range.clone()).await?);
        }
        Ok(all)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Slo {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.inner.create_multipart(path).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.inner.put_part(path, id, part, data).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.inner.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.inner.abort_multipart(path, id).await
    }
}
