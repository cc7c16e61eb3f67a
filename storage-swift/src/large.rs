//! Large objects: a manifest that lists segments ("static large objects", SLO). Never dynamic ones, whose segments are whatever a list shows at the moment.
//!
//! <https://docs.openstack.org/swift/latest/overview_large_objects.html#static-large-objects>

use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HeaderName};
use http::{HeaderMap, Method};
use md5::{Digest as _, Md5};
use object_store::path::Path;
use object_store::{PutPayload, PutResult};
use registry_core::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::client::{Call, Client, body, e_tag};
use crate::failure::Failure;
use crate::listing::Verdict;

/// The header that names the upload whose segments a manifest lists.
pub(crate) const UPLOAD: HeaderName = HeaderName::from_static("x-object-meta-registry-upload");
const IS_MANIFEST: &str = "x-static-large-object";

/// A segment in a manifest.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    path: String,
    size_bytes: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    etag: &'a str,
}

/// A segment's key, length and MD5 (or nothing).
pub(crate) type Segment<'a> = (&'a Path, u64, &'a str);

/// Writes the manifest. Swift looks at every segment, and refuses a manifest of which one is missing or another than it says.
pub(crate) async fn put_manifest(
    client: &Client,
    path: &Path,
    segments: &[Segment<'_>],
    upload: &str,
    headers: HeaderMap,
    is_compared: bool,
) -> Result<PutResult, Failure> {
    let entries: Vec<_> = segments
        .iter()
        .map(|(path, size_bytes, etag)| Entry {
            path: format!("/{}/{path}", client.container),
            size_bytes: *size_bytes,
            etag: etag.trim_matches('"'),
        })
        .collect();
    let json = serde_json::to_vec(&entries);
    let json = json.map_err(|error| Failure::new(ErrorKind::Internal, format!("encoding a manifest: {error}")))?;
    let mut call = Call::object(Method::PUT, path).query("multipart-manifest", "put").body(PutPayload::from_bytes(Bytes::from(json)));
    call.headers = headers;
    let mut call = call.header(UPLOAD, upload).header(ACCEPT, "application/json");
    // Swift compares it with what it finds: all segments are those that were sent, in this order. RadosGW takes it for that of the list itself.
    if is_compared && segments.iter().all(|(_, _, e_tag)| e_tag.trim_matches('"').len() == 32) {
        let mut hasher = Md5::new();
        segments.iter().for_each(|(_, _, e_tag)| hasher.update(e_tag.trim_matches('"')));
        let e_tag: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        call = call.header(ETAG, &e_tag);
    }
    match client.send(&call).await {
        Ok(answer) => Ok(PutResult { e_tag: e_tag(answer.headers()), version: None, extensions: Default::default() }),
        // A segment is not there, or not the same any more.
        Err(failure) if failure.status == Some(http::StatusCode::BAD_REQUEST) => {
            Err(Failure { status: None, error: failure.error.with_kind(ErrorKind::UploadUnknown) })
        }
        Err(failure) => Err(failure),
    }
}

/// The upload that a large object was made of; `None` if it is no large object, or not there.
pub(crate) async fn upload_of(client: &Client, path: &Path) -> Result<Option<String>, Failure> {
    match client.send(&Call::object(Method::HEAD, path)).await {
        Ok(answer) if is_manifest(answer.headers()) => {
            Ok(answer.headers().get(UPLOAD).and_then(|id| id.to_str().ok()).map(ToOwned::to_owned))
        }
        Ok(_) => Ok(None),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The segments that a large object is made of; `None` if it is no large object, or not there, or has some of another container.
///
/// <https://docs.openstack.org/api-ref/object-store/#get-object-content-and-metadata>: asked for it, the manifest itself is the answer.
pub(crate) async fn segments_of(client: &Client, path: &Path) -> Result<Option<Vec<Path>>, Failure> {
    #[derive(Deserialize)]
    struct Listed {
        name: String,
    }
    let answer = match client.send(&Call::object(Method::GET, path).query("multipart-manifest", "get")).await {
        Ok(answer) if is_manifest(answer.headers()) => answer,
        Ok(_) => return Ok(None),
        Err(failure) if failure.is_missing() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let json = body(answer, &format!("GET the manifest {path}")).await?;
    let unreadable = |error| Failure::new(ErrorKind::Internal, format!("the manifest {path} cannot be read: {error}"));
    let listed: Vec<Listed> = serde_json::from_slice(&json).map_err(unreadable)?;
    let own = format!("/{}/", client.container);
    Ok(listed.iter().map(|segment| Path::parse(segment.name.strip_prefix(&own)?).ok()).collect())
}

pub(crate) fn is_manifest(headers: &HeaderMap) -> bool {
    headers.get(IS_MANIFEST).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Deletes an object, and the segments of a large one.
pub(crate) async fn delete_whole(client: &Client, path: &Path) -> Result<(), Failure> {
    let head = client.send(&Call::object(Method::HEAD, path)).await?;
    let what = format!("DELETE {path}");
    if !is_manifest(head.headers()) {
        return client.send(&Call::object(Method::DELETE, path)).await.map(drop);
    }
    let call = Call::object(Method::DELETE, path).query("multipart-manifest", "delete").header(ACCEPT, "application/json");
    let (body, what) = client.fetch(&call, &what).await?;
    Verdict::read(&body, &what)
}
