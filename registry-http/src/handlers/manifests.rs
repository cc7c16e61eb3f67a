//! GET, HEAD, PUT and DELETE of a manifest.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};
use registry_core::{Reference, RepositoryName, Tag};

use super::{DOCKER_CONTENT_DIGEST, IMMUTABLE, OCI_SUBJECT, OCI_TAG, empty, header};
use crate::conditional::Tagged;
use crate::error::{Code, Failure};
use crate::query::Query;
use crate::request::Call;

pub(crate) async fn get(call: &mut Call<'_>, repository: &RepositoryName, reference: &Reference) -> Result<Response, Failure> {
    let manifest = call.app.registry.manifest(repository, reference).await?;
    let tagged = Tagged::new(&manifest.digest);
    let mut response = if tagged.none_match(&call.parts.headers) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let length = manifest.bytes.len();
        let body = if call.parts.method == Method::HEAD { Body::empty() } else { Body::from(manifest.bytes) };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.reserve(12);
        headers.insert(CONTENT_LENGTH, length.into());
        // A media type that no header can carry was never sent in one; nothing else is known of the bytes then.
        let content_type = HeaderValue::try_from(manifest.media_type);
        headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(DOCKER_CONTENT_DIGEST, tagged.digest());
    headers.insert(ETAG, tagged.etag());
    let cache = match reference {
        Reference::Digest(_) => IMMUTABLE,
        // A tag moves: ask each time, which the ETag makes cheap.
        Reference::Tag(_) => HeaderValue::from_static("no-cache"),
    };
    headers.insert(CACHE_CONTROL, cache);
    Ok(response)
}

pub(crate) async fn put(call: &mut Call<'_>, repository: &RepositoryName, reference: &Reference) -> Result<Response, Failure> {
    let registry = &call.app.registry;
    let query = Query::parse(call.parts.uri.query())?;
    let tags = query.all("tag").map(str::parse::<Tag>).collect::<Result<Vec<_>, _>>().map_err(registry_core::Error::from)?;
    let limit = call.app.options.max_tags_per_push;
    if tags.len() > limit {
        let message = format!("more than {limit} tags in one request");
        return Err(Failure::new(Code::ManifestInvalid, message).with_status(StatusCode::URI_TOO_LONG));
    }
    let content_type = match call.parts.headers.get(CONTENT_TYPE) {
        Some(value) => {
            let text = value.to_str().map_err(|_| Failure::new(Code::ManifestInvalid, "the Content-Type is not text"))?;
            Some(text.to_owned())
        }
        None => None,
    };
    let (bytes, _room) = call.body()?.collect(registry.max_manifest_size(), &call.app.body_memory).await?;
    let pushed = registry.put_manifest(repository, reference, content_type.as_deref(), bytes, tags.clone()).await?;
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, header(format!("{}/v2/{repository}/manifests/{}", call.base(), pushed.digest)));
    headers.insert(DOCKER_CONTENT_DIGEST, Tagged::new(&pushed.digest).digest());
    if let Some(subject) = &pushed.subject {
        headers.insert(OCI_SUBJECT, header(subject.to_string()));
    }
    for tag in pushed.tags.iter().filter(|tag| tags.contains(tag)) {
        headers.append(OCI_TAG, header(tag.to_string()));
    }
    if let Some(warning) = pushed.warning.and_then(|text| call.app.options.warning(&text)) {
        headers.append(WARNING, warning);
    }
    Ok(response)
}

pub(crate) async fn delete(call: &mut Call<'_>, repository: &RepositoryName, reference: &Reference) -> Result<Response, Failure> {
    call.app.registry.delete_manifest(repository, reference).await?;
    Ok(empty(StatusCode::ACCEPTED))
}
