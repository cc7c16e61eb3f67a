//! [`S3Store`]: a bucket as an `object_store`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use http::Method;
use md5::{Digest as _, Md5};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use storage_object::http::{Chunks, resuming};
use storage_object::{ListMultiparts, OpenMultipart, StoredParts};

use crate::dialect::Dialect;
use crate::refusal::told;
use crate::requests::Requests;

/// An error that says all there is to say.
pub(crate) fn generic(error: registry_core::Error) -> Error {
    Error::Generic { store: "S3", source: Box::new(error) }
}

/// As the registry has it.
pub(crate) fn known(error: Error) -> registry_core::Error {
    let message = error.to_string();
    let source = match error {
        Error::Generic { source, .. }
        | Error::NotFound { source, .. }
        | Error::PermissionDenied { source, .. }
        | Error::Unauthenticated { source, .. }
        | Error::NotSupported { source } => source,
        _ => return registry_core::Error::new(registry_core::ErrorKind::Unavailable, message),
    };
    source.downcast().map_or_else(|_| registry_core::Error::new(registry_core::ErrorKind::Unavailable, message), |error| *error)
}

/// A client of `object_store`'s.
trait Client: ObjectStore + MultipartStore + Signer {}

impl<T: ObjectStore + MultipartStore + Signer> Client for T {}

/// A bucket of S3's kind. Cheap to clone.
///
/// What `object_store`'s own client does, and what it lacks: reads go on when a connection breaks, as often as it takes; a copy that fails after it was answered with 200
/// has failed; the answer to a `CompleteMultipartUpload` may be lost, or have no ETag; objects are put together by part copies; open multipart uploads are listed; errors
/// say what to do. Conditional writes are not supported: of the services that speak this protocol, some ignore the condition.
///
/// Made by [`S3Builder`](crate::S3Builder).
#[derive(Clone)]
pub struct S3Store {
    client: Arc<dyn Client>,
    requests: Requests,
    dialect: Dialect,
}

impl S3Store {
    pub(crate) fn new(client: impl ObjectStore + MultipartStore + Signer, requests: Requests, dialect: Dialect) -> Self {
        Self { client: Arc::new(client), requests, dialect }
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// After a multipart upload was said not to be there: whether it is the object by now, because the answer to an earlier attempt was lost.
    async fn was_completed(&self, path: &Path, parts: &[PartId]) -> Option<PutResult> {
        let meta = self.head(path).await.ok()?;
        let e_tag = meta.e_tag?;
        (expected_e_tag(parts)? == e_tag.trim_matches('"')).then(|| PutResult {
            e_tag: Some(e_tag),
            version: meta.version,
            extensions: Default::default(),
        })
    }
}

/// The ETag of an object that is made of these parts, where ETags of parts are their MD5s, as S3, RadosGW and SeaweedFS have it.
fn expected_e_tag(parts: &[PartId]) -> Option<String> {
    let mut all = Md5::new();
    for part in parts {
        all.update(md5_of(&part.content_id)?);
    }
    let hash: [u8; 16] = all.finalize().into();
    Some(format!("{}-{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), parts.len()))
}

/// The MD5 in an ETag as the client keeps it: alone, or in a list with checksums.
fn md5_of(content_id: &str) -> Option<[u8; 16]> {
    let e_tag = content_id.split_once("<e_tag>").map_or(content_id, |(_, rest)| rest.split('<').next().unwrap_or_default());
    let e_tag = e_tag.replace("&quot;", "");
    let hex = e_tag.trim_matches('"');
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}

fn unsupported(path: &Path, what: &str) -> Error {
    Error::NotSupported { source: format!("{path}: {what}").into() }
}

/// Of what is read: what the registry is to know of it.
fn of_read(error: Error) -> registry_core::Error {
    known(told(error))
}

fn chunks(got: GetResult) -> Chunks {
    got.into_stream().map_err(of_read).boxed()
}

impl fmt::Display for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.dialect.service(), self.requests.bucket)
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("bucket_url", &self.requests.bucket_url).field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for S3Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            return Err(unsupported(location, "conditional writes are not the same everywhere"));
        }
        self.client.put_opts(location, payload, options).await.map_err(told)
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.client.put_multipart_opts(location, options).await.map_err(told)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let mut got = self.client.get_opts(location, options).await.map_err(told)?;
        if is_head {
            return Ok(got);
        }
        let (client, path, range) = (Arc::clone(&self.client), location.clone(), got.range.clone());
        let size = got.meta.size;
        let first = std::mem::replace(&mut got.payload, GetResultPayload::Stream(futures_util::stream::empty().boxed()));
        let first = chunks(GetResult {
            payload: first,
            meta: got.meta.clone(),
            range: range.clone(),
            attributes: Default::default(),
            extensions: Default::default(),
        });
        let reopen = move |range: Range<u64>| {
            let (client, path) = (Arc::clone(&client), path.clone());
            let rest = async move {
                let options = GetOptions { range: Some(range.clone().into()), ..GetOptions::default() };
                let got = client.get_opts(&path, options).await.map_err(of_read)?;
                if got.range != range || got.meta.size != size {
                    let message = format!("{path} is another than it was when its reading began");
                    return Err(registry_core::Error::new(registry_core::ErrorKind::Interrupted, message));
                }
                Ok(chunks(got))
            };
            Box::pin(rest) as _
        };
        let all = resuming(format!("GET {location}"), first, range, reopen);
        got.payload = GetResultPayload::Stream(all.map_err(generic).boxed());
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.client.get_ranges(location, ranges).await.map_err(told)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        // One by one where they come so, as a blob does: that has an answer of its own.
        let deleted = locations.ready_chunks(1000).then(move |paths| {
            let store = store.clone();
            async move {
                match <[_; 1]>::try_from(paths) {
                    Ok([path]) => match path {
                        Ok(path) => {
                            let deleted = store.requests.delete(&path).await.map_err(told);
                            stream::iter(vec![deleted.map(|()| path)]).boxed()
                        }
                        Err(error) => stream::iter(vec![Err(error)]).boxed(),
                    },
                    Err(paths) => store.client.delete_stream(stream::iter(paths).boxed()).map_err(told).boxed(),
                }
            }
        });
        deleted.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.client.list(prefix).map_err(told).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.client.list_with_offset(prefix, offset).map_err(told).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.client.list_with_delimiter(prefix).await.map_err(told)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if options.mode != CopyMode::Overwrite {
            return Err(unsupported(to, "conditional copies are not the same everywhere"));
        }
        self.client.copy_opts(from, to, options).await.map_err(told)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.client.rename_opts(from, to, options).await.map_err(told)
    }
}

#[async_trait]
impl MultipartStore for S3Store {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.client.create_multipart(path).await.map_err(told)
    }

    async fn create_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<MultipartId> {
        self.client.create_multipart_opts(path, options).await.map_err(told)
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.client.put_part(path, id, part, data).await.map_err(told)
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        match self.client.complete_multipart(path, id, parts.clone()).await.map_err(told) {
            // RadosGW tells none the first time.
            Ok(put) if put.e_tag.as_deref().is_none_or(|e_tag| e_tag.trim_matches('"').is_empty()) => {
                let meta = self.head(path).await?;
                Ok(PutResult { e_tag: meta.e_tag, version: meta.version, extensions: put.extensions })
            }
            Err(error @ Error::NotFound { .. }) => self.was_completed(path, &parts).await.ok_or(error),
            outcome => outcome,
        }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        match self.client.abort_multipart(path, id).await.map_err(told) {
            Err(Error::NotFound { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}

#[async_trait]
impl Signer for S3Store {
    async fn signed_url(&self, method: Method, path: &Path, expires_in: Duration) -> Result<url::Url> {
        self.client.signed_url(method, path, expires_in).await.map_err(told)
    }

    async fn signed_url_opts(&self, method: Method, path: &Path, expires_in: Duration, options: &SignedUrlOptions) -> Result<url::Url> {
        self.client.signed_url_opts(method, path, expires_in, options).await.map_err(told)
    }
}

#[async_trait]
impl ListMultiparts for S3Store {
    fn list_multiparts(&self, folder: &Path) -> BoxStream<'static, Result<OpenMultipart>> {
        self.requests.multiparts(folder).map_err(generic).boxed()
    }

    async fn stored_parts(&self, path: &Path, id: &MultipartId) -> Result<Option<StoredParts>> {
        self.requests.parts(path, id).await.map_err(generic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_e_tag_of_an_object_of_parts_is_known_before_it_is_there() {
        let part = |content_id: &str| PartId { content_id: content_id.to_owned() };
        let plain = [part("\"0cc175b9c0f1b6a831c399e269772661\""), part("92eb5ffee6ae2fec3ad71c777531578f")];
        let expected = expected_e_tag(&plain).unwrap();
        assert!(expected.len() == 34 && expected.ends_with("-2"), "{expected}");
        let with_checksums = [
            part(
                "<PartMetadata><e_tag>&quot;0cc175b9c0f1b6a831c399e269772661&quot;</e_tag><checksum_crc64nvme>x</checksum_crc64nvme></PartMetadata>",
            ),
            part("<PartMetadata><e_tag>\"92eb5ffee6ae2fec3ad71c777531578f\"</e_tag></PartMetadata>"),
        ];
        assert_eq!(expected_e_tag(&with_checksums), Some(expected));
        // An encrypted object's is no MD5.
        assert_eq!(expected_e_tag(&[part("abc")]), None);
    }
}
