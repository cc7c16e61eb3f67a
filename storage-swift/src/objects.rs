//! Objects: put, get, head, delete, copy.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Method};
use md5::{Digest as _, Md5};
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, PutPayload, PutResult};
use registry_core::ErrorKind;
use storage_object::http::{Chunks, HttpBody, resuming};

use crate::client::{Call, Client, e_tag, transaction};
use crate::failure::{Failure, told_of};

/// What begins the headers that keep a caller's own metadata.
const META: &str = "x-object-meta-";

/// From here on a hash is not made on the threads that serve everybody.
const LONG: usize = 256 << 10;

/// The MD5 of a payload in hex: what Swift compares what arrived with. <https://docs.openstack.org/api-ref/object-store/#create-or-replace-object>
pub(crate) async fn md5_of(payload: &PutPayload) -> Result<String, Failure> {
    fn hash(payload: &PutPayload) -> String {
        let mut hasher = Md5::new();
        payload.iter().for_each(|chunk| hasher.update(chunk));
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
    if payload.content_length() < LONG {
        return Ok(hash(payload));
    }
    let payload = payload.clone();
    let hashed = tokio::task::spawn_blocking(move || hash(&payload)).await;
    hashed.map_err(|error| Failure::new(ErrorKind::Internal, format!("hashing ended early: {error}")))
}

/// Puts an object whole. Swift refuses it if another MD5 arrived, and what it says it has is compared too.
pub(crate) async fn put(client: &Client, path: &Path, payload: PutPayload, attributes: &Attributes) -> Result<PutResult, Failure> {
    let md5 = md5_of(&payload).await?;
    let mut call = Call::object(Method::PUT, path).header(ETAG, &md5).body(payload);
    call.headers.extend(headers_of(attributes)?);
    let answer = client.send(&call).await?;
    let stored = e_tag(answer.headers());
    if stored.as_ref().is_some_and(|stored| *stored != md5) {
        let message = told_of(format!("PUT {path}: the service has other bytes than were sent"), transaction(answer.headers()).as_deref());
        return Err(Failure::new(ErrorKind::Unavailable, message));
    }
    Ok(PutResult { e_tag: stored.or(Some(md5)), version: None, extensions: Default::default() })
}

/// The headers that keep these attributes.
pub(crate) fn headers_of(attributes: &Attributes) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (attribute, value) in attributes {
        let name = match attribute {
            Attribute::ContentType => CONTENT_TYPE,
            Attribute::ContentDisposition => CONTENT_DISPOSITION,
            Attribute::ContentEncoding => CONTENT_ENCODING,
            Attribute::ContentLanguage => CONTENT_LANGUAGE,
            Attribute::CacheControl => CACHE_CONTROL,
            Attribute::Metadata(key) => {
                let name = format!("{META}{}", key.replace('_', "-"));
                HeaderName::try_from(name).map_err(|_| Failure::new(ErrorKind::InvalidInput, format!("{key:?} is no name for metadata")))?
            }
            other => return Err(Failure::new(ErrorKind::Unsupported, format!("Swift does not keep {other:?}"))),
        };
        let value =
            value.as_ref().try_into().map_err(|_| Failure::new(ErrorKind::InvalidInput, format!("{value:?} is no value for {name}")))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn attributes_of(headers: &HeaderMap) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let attribute = match name {
            name if *name == CONTENT_TYPE => Attribute::ContentType,
            name if *name == CONTENT_DISPOSITION => Attribute::ContentDisposition,
            name if *name == CONTENT_ENCODING => Attribute::ContentEncoding,
            name if *name == CONTENT_LANGUAGE => Attribute::ContentLanguage,
            name if *name == CACHE_CONTROL => Attribute::CacheControl,
            name if *name == crate::large::UPLOAD => continue,
            // Swift turns underscores into hyphens, or refuses them.
            name => match name.as_str().strip_prefix(META) {
                Some(key) => Attribute::Metadata(key.replace('-', "_").into()),
                None => continue,
            },
        };
        attributes.insert(attribute, value.to_owned().into());
    }
    attributes
}

/// When it was written, in whole seconds: conditions by time are compared with just that.
fn http_date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(headers.get(LAST_MODIFIED)?.to_str().ok()?).ok().map(Into::into)
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// First and last byte, and the size of all, of `bytes 0-9/100`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let (range, size) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, size.parse().ok()?))
}

/// What the headers of an answer say of an object, and which of its bytes the answer has.
fn meta_of(path: &Path, headers: &HeaderMap) -> Result<(ObjectMeta, Range<u64>), Failure> {
    let length = number(headers, CONTENT_LENGTH);
    let (size, range) = match (content_range(headers), length) {
        (Some((first, last, size)), _) => (size, first..last.saturating_add(1)),
        (None, Some(length)) => (length, 0..length),
        (None, None) => return Err(Failure::new(ErrorKind::Unavailable, format!("{path}: the answer does not tell its length"))),
    };
    let meta = ObjectMeta {
        location: path.clone(),
        last_modified: http_date(headers).unwrap_or_default(),
        size,
        e_tag: e_tag(headers),
        version: None,
    };
    Ok((meta, range))
}

/// ETags as a condition has them. Our own have no quotes; those of somebody who writes headers have.
fn quoted(tags: &str) -> String {
    if tags == "*" || tags.contains('"') {
        tags.to_owned()
    } else {
        tags.split(',').map(|tag| format!("\"{}\"", tag.trim())).collect::<Vec<_>>().join(", ")
    }
}

fn conditions<'a>(call: Call<'a>, options: &GetOptions) -> Call<'a> {
    let date = |date: DateTime<Utc>| date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = [
        (IF_MATCH, options.if_match.as_deref().map(quoted)),
        (IF_NONE_MATCH, options.if_none_match.as_deref().map(quoted)),
        (IF_MODIFIED_SINCE, options.if_modified_since.map(date)),
        (IF_UNMODIFIED_SINCE, options.if_unmodified_since.map(date)),
    ];
    headers.into_iter().fold(call, |call, (name, value)| match value {
        Some(value) => call.header(name, &value),
        None => call,
    })
}

/// Gets an object, or a part of it, or only what is known of it.
pub(crate) async fn get(client: &Arc<Client>, path: &Path, options: GetOptions) -> Result<GetResult, Failure> {
    if options.version.is_some() {
        return Err(Failure::new(ErrorKind::Unsupported, "objects are not read by version here"));
    }
    let method = if options.head { Method::HEAD } else { Method::GET };
    let mut call = conditions(Call::object(method, path), &options);
    if let (Some(range), false) = (&options.range, options.head) {
        let range = match range {
            GetRange::Bounded(range) if range.start >= range.end => {
                return Err(Failure::new(ErrorKind::RangeInvalid, format!("{path}: a range of no bytes")));
            }
            GetRange::Bounded(range) => format!("bytes={}-{}", range.start, range.end - 1),
            GetRange::Offset(first) => format!("bytes={first}-"),
            GetRange::Suffix(count) => format!("bytes=-{count}"),
        };
        call = call.header(RANGE, &range);
    }
    let answer = match client.send(&call).await {
        // A server that opens an object just when it is replaced finds the old one's file gone, and says 404.
        Err(failure) if failure.is_missing() => client.send(&call).await,
        answer => answer,
    };
    let (head, body) = answer.map_err(of_read)?.into_parts();
    let (meta, range) = meta_of(path, &head.headers)?;
    let attributes = attributes_of(&head.headers);
    let stream =
        if options.head { stream::empty().boxed() } else { whole(client, &meta, range.clone(), chunks(path, &head.headers, body)) };
    Ok(GetResult { payload: GetResultPayload::Stream(stream), meta, range, attributes, extensions: Default::default() })
}

/// A read that found a conflict is one of a large object that lacks a segment, or has one that is not the manifest's.
fn of_read(failure: Failure) -> Failure {
    if failure.status != Some(http::StatusCode::CONFLICT) {
        return failure;
    }
    let message = format!("{}: a segment of it is missing, or is another than it was", failure.error.message());
    Failure { status: failure.status, error: registry_core::Error::new(ErrorKind::Corrupt, message) }
}

/// The bytes of one answer.
fn chunks(path: &Path, headers: &HeaderMap, body: HttpBody) -> Chunks {
    let what = told_of(format!("GET {path}"), transaction(headers).as_deref());
    body.chunks(move |why| Failure::transport(&what, &why).error)
}

/// The bytes in `range` of an object: of the answer that is there, and, if its connection breaks or stalls, of others for the rest of the same object. Ends with
/// an error if not all of them come: Swift can answer 200 and then break off, when a segment of a large object is missing.
fn whole(client: &Arc<Client>, meta: &ObjectMeta, range: Range<u64>, first: Chunks) -> BoxStream<'static, object_store::Result<Bytes>> {
    let (client, path, e_tag) = (Arc::clone(client), meta.location.clone(), meta.e_tag.clone());
    let told = {
        let path = path.clone();
        move |error| Failure::in_a_read(error).told(path.as_ref())
    };
    let what = format!("GET {path}");
    let reopen = move |range| {
        let (client, path, e_tag) = (Arc::clone(&client), path.clone(), e_tag.clone());
        async move { rest(&client, &path, e_tag.as_deref(), range).await.map_err(|failure| failure.error) }.boxed()
    };
    resuming(what, first, range, reopen).map_err(told).boxed()
}

/// What is yet to be read.
async fn rest(client: &Client, path: &Path, e_tag: Option<&str>, range: Range<u64>) -> Result<Chunks, Failure> {
    let mut call = Call::object(Method::GET, path).header(RANGE, &format!("bytes={}-{}", range.start, range.end - 1));
    if let Some(e_tag) = e_tag {
        call = call.header(IF_MATCH, &quoted(e_tag));
    }
    let (head, body) = client.send(&call).await.map_err(of_read)?.into_parts();
    if meta_of(path, &head.headers)?.1 != range {
        return Err(Failure::new(ErrorKind::Internal, format!("{path}: another range came than was asked for")));
    }
    Ok(chunks(path, &head.headers, body))
}

/// Copies an object on the service's side. A large object becomes a plain one, which Swift does only up to its limit.
pub(crate) async fn copy(client: &Client, from: &Path, to: &Path) -> Result<(), Failure> {
    let source = crate::client::encoded(&client.container, Some(from.as_ref()));
    let call = Call::object(Method::PUT, to).header(HeaderName::from_static("x-copy-from"), &format!("/{source}"));
    match client.send(&call).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.error.kind() == ErrorKind::TooLarge => {
            Err(Failure::new(ErrorKind::Unsupported, format!("{from} is larger than what the service copies")))
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_md5_is_that_of_all_chunks() {
        let payload: PutPayload = [Bytes::from_static(b"mess"), Bytes::from_static(b"age digest")].into_iter().collect();
        assert_eq!(md5_of(&payload).await.unwrap(), "f96b697d7cb7938d525a2f31aaf161d0");
        let long: PutPayload = PutPayload::from(vec![0; LONG + 1]);
        assert_eq!(md5_of(&long).await.unwrap().len(), 32);
    }

    #[test]
    fn a_content_range_tells_the_size_of_all() {
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, "bytes 5-9/100".parse().unwrap())]);
        assert_eq!(content_range(&headers), Some((5, 9, 100)));
        let (meta, range) = meta_of(&Path::from("x"), &headers).unwrap();
        assert_eq!((meta.size, range), (100, 5..10));
        assert!(meta_of(&Path::from("x"), &HeaderMap::new()).is_err());
    }
}
