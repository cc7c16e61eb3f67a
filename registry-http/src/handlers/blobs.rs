//! GET, HEAD and DELETE of a blob.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LOCATION, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use registry_core::blob::{ByteRange, DownloadOptions};
use registry_core::{Digest, ErrorKind, RepositoryName};

use super::{DOCKER_CONTENT_DIGEST, IMMUTABLE, empty, header};
use crate::body::BlobBody;
use crate::conditional::Tagged;
use crate::error::Failure;
use crate::range::parse_range;
use crate::request::Call;

fn describe(response: &mut Response, tagged: &Tagged) {
    let headers = response.headers_mut();
    headers.reserve(12);
    headers.insert(DOCKER_CONTENT_DIGEST, tagged.digest());
    headers.insert(ETAG, tagged.etag());
    headers.insert(CACHE_CONTROL, IMMUTABLE);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if response.status() != StatusCode::NOT_MODIFIED {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}

/// The range to honour. Several headers are several ranges.
fn asked_range(headers: &HeaderMap) -> Option<ByteRange> {
    let mut values = headers.get_all(RANGE).iter();
    let range = values.next()?.to_str().ok().and_then(parse_range)?;
    values.next().is_none().then_some(range)
}

pub(crate) async fn get(call: &mut Call<'_>, repository: &RepositoryName, digest: &Digest) -> Result<Response, Failure> {
    let registry = &call.app.registry;
    let tagged = Tagged::new(digest);
    if tagged.none_match(&call.parts.headers) {
        // Content that is not there is unknown, not unchanged.
        registry.blob_info(repository, digest).await?;
        let mut response = empty(StatusCode::NOT_MODIFIED);
        describe(&mut response, &tagged);
        return Ok(response);
    }
    if call.parts.method == Method::HEAD {
        let info = registry.blob_info(repository, digest).await?;
        let mut response = Response::new(Body::empty());
        describe(&mut response, &tagged);
        response.headers_mut().insert(CONTENT_LENGTH, info.size.into());
        return Ok(response);
    }
    if let Some(ttl) = call.app.options.redirect
        && registry.blobs().capabilities().presign
    {
        registry.blob_info(repository, digest).await?;
        let mut options = DownloadOptions::new(ttl);
        options.content_type = Some("application/octet-stream".to_owned());
        if let Some(url) = registry.blobs().download_url(&Method::GET, digest, options).await? {
            let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
            response.headers_mut().insert(LOCATION, header(url.to_string()));
            response.headers_mut().insert(DOCKER_CONTENT_DIGEST, tagged.digest());
            // The URL outlives neither its signature nor the choice of store.
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            return Ok(response);
        }
    }
    let range = asked_range(&call.parts.headers).filter(|_| tagged.range_applies(&call.parts.headers));
    let reader = match registry.blob(repository, digest, range).await {
        Err(error) if error.kind() == ErrorKind::RangeInvalid => {
            let size = error.offset();
            let failure = Failure::from(error);
            return Err(match size {
                Some(size) => failure.with_header(CONTENT_RANGE, header(format!("bytes */{size}"))),
                None => failure,
            });
        }
        other => other?,
    };
    let (part, size) = (reader.range.clone(), reader.info.size);
    let mut response = Response::new(Body::empty());
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        // A range that has no byte is never satisfied, so the end is behind the start.
        let value = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
        response.headers_mut().insert(CONTENT_RANGE, header(value));
    }
    describe(&mut response, &tagged);
    response.headers_mut().insert(CONTENT_LENGTH, reader.len().into());
    if let Some(mut report) = call.report.take() {
        report.status = Some(response.status());
        *response.body_mut() = Body::new(BlobBody::new(reader, report));
    }
    Ok(response)
}

pub(crate) async fn delete(call: &mut Call<'_>, repository: &RepositoryName, digest: &Digest) -> Result<Response, Failure> {
    call.app.registry.delete_blob(repository, digest).await?;
    Ok(empty(StatusCode::ACCEPTED))
}
