//! Uploads: begin (or push in one request, or mount), append, finish, status, cancel.

use axum::response::Response;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderValue, StatusCode};
use registry_core::metadata::UploadKey;
use registry_core::{Algorithm, Digest, ErrorKind, RepositoryName};

use super::{DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, empty, header};
use crate::conditional::Tagged;
use crate::error::{Code, Failure, stalled};
use crate::query::Query;
use crate::range::{Chunk, parse_content_range};
use crate::request::Call;

/// Where an upload stands, as clients read it: the first and the last byte that are there.
///
/// With nothing there it is `0-0` too. That is what Docker's registry says, what its client parses (it takes an end before the start for an error), and
/// what the conformance suite accepts; that it could be one byte does no harm, since a chunk that begins elsewhere is told so.
fn range(offset: u64) -> HeaderValue {
    header(format!("0-{}", offset.saturating_sub(1)))
}

fn describe(response: &mut Response, call: &Call<'_>, key: &UploadKey, offset: u64) {
    let headers = response.headers_mut();
    headers.insert(LOCATION, header(location(call, key)));
    headers.insert(RANGE, range(offset));
    headers.insert(DOCKER_UPLOAD_UUID, header(key.id.clone()));
}

fn location(call: &Call<'_>, key: &UploadKey) -> String {
    format!("{}/v2/{}/blobs/uploads/{}", call.base(), key.repository, key.id)
}

/// Adds to an out-of-order chunk's 416 where to go on.
fn failed(call: &Call<'_>, key: &UploadKey, error: registry_core::Error) -> Failure {
    match (error.kind(), error.offset()) {
        (ErrorKind::RangeInvalid, Some(offset)) => Failure::from(error)
            .with_header(LOCATION, header(location(call, key)))
            .with_header(RANGE, range(offset))
            .with_header(DOCKER_UPLOAD_UUID, header(key.id.clone())),
        _ => error.into(),
    }
}

fn created(call: &Call<'_>, repository: &RepositoryName, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, header(format!("{}/v2/{repository}/blobs/{digest}", call.base())));
    headers.insert(DOCKER_CONTENT_DIGEST, Tagged::new(digest).digest());
    response
}

fn digest_of(query: &Query<'_>, name: &str) -> Result<Option<Digest>, Failure> {
    let parse = |text: &str| text.parse::<Digest>().map_err(registry_core::Error::from);
    Ok(query.one(name, Code::DigestInvalid)?.map(parse).transpose()?)
}

/// An upload is its owner's alone: to others it is not there.
fn key_of(call: &Call<'_>, repository: &RepositoryName, id: &str) -> UploadKey {
    UploadKey { id: id.to_owned(), repository: repository.clone(), owner: call.caller.name().to_owned() }
}

/// `POST …/blobs/uploads/`, with `mount` and `from`, with `digest` and the whole content, with `digest-algorithm`, or with nothing.
pub(crate) async fn start(call: &mut Call<'_>, repository: &RepositoryName) -> Result<Response, Failure> {
    let registry = &call.app.registry;
    let query = Query::parse(call.parts.uri.query())?;
    let algorithm = match query.one("digest-algorithm", Code::DigestInvalid)? {
        Some(name) => name.parse::<Algorithm>().map_err(registry_core::Error::from)?,
        None => Algorithm::default(),
    };
    if let Some(digest) = digest_of(&query, "mount")? {
        let from = query.one("from", Code::NameInvalid)?;
        let from = from.map(str::parse::<RepositoryName>).transpose().map_err(registry_core::Error::from)?;
        // What may not be pulled there is as if it were not there.
        let may = from.as_ref().map_or_else(|| call.caller.may_pull_everywhere(), |from| call.caller.may_pull(from));
        if may && registry.mount_blob(repository, &digest, from.as_ref()).await?.is_some() {
            return Ok(created(call, repository, &digest));
        }
        // Cannot be mounted: an upload is begun instead, as if nothing had been asked.
        return begin(call, repository, digest.algorithm()).await;
    }
    if let Some(digest) = digest_of(&query, "digest")? {
        let body = call.body()?;
        let size = body.declared();
        registry.push_blob(repository, &digest, size, Box::pin(body)).await?;
        return Ok(created(call, repository, &digest));
    }
    begin(call, repository, algorithm).await
}

async fn begin(call: &mut Call<'_>, repository: &RepositoryName, algorithm: Algorithm) -> Result<Response, Failure> {
    let key = call.app.registry.start_upload(repository, call.caller.name(), algorithm).await?;
    let mut response = empty(StatusCode::ACCEPTED);
    describe(&mut response, call, &key, 0);
    Ok(response)
}

/// The announced place of the body, checked against its announced length before a byte is read.
fn chunk_of(call: &Call<'_>, declared: Option<u64>) -> Result<Option<Chunk>, Failure> {
    let mut values = call.parts.headers.get_all(CONTENT_RANGE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let chunk = value.to_str().ok().and_then(parse_content_range).filter(|_| values.next().is_none());
    let chunk = chunk.ok_or_else(|| Failure::new(Code::BlobUploadInvalid, "the Content-Range is not <start>-<end>"))?;
    if declared.is_some_and(|length| length != chunk.len) {
        return Err(Failure::new(Code::SizeInvalid, "Content-Range and Content-Length contradict each other"));
    }
    Ok(Some(chunk))
}

/// `PATCH <location>`.
pub(crate) async fn append(call: &mut Call<'_>, repository: &RepositoryName, id: &str) -> Result<Response, Failure> {
    let key = key_of(call, repository, id);
    let mut body = call.body()?;
    let chunk = chunk_of(call, body.declared())?;
    if let Some(chunk) = chunk {
        body = body.exactly(chunk.len);
    }
    let appended = call.app.registry.append(&key, chunk.map(|chunk| chunk.start), Box::pin(body)).await;
    let status = appended.map_err(|error| {
        // Only here is it sure that what arrived is kept: a PUT may have written straight to the blob.
        if stalled(&error) {
            let failure = Failure::new(Code::BlobUploadInvalid, "the body stalled; what arrived is kept");
            return failure.with_status(StatusCode::REQUEST_TIMEOUT);
        }
        failed(call, &key, error)
    })?;
    let mut response = empty(StatusCode::ACCEPTED);
    describe(&mut response, call, &key, status.offset);
    Ok(response)
}

/// `PUT <location>?digest=`, with the last bytes or without.
pub(crate) async fn finish(call: &mut Call<'_>, repository: &RepositoryName, id: &str) -> Result<Response, Failure> {
    let key = key_of(call, repository, id);
    let query = Query::parse(call.parts.uri.query())?;
    let digest = digest_of(&query, "digest")?.ok_or_else(|| Failure::new(Code::DigestInvalid, "the digest parameter is missing"))?;
    let mut body = call.body()?;
    let chunk = chunk_of(call, body.declared())?;
    if let Some(chunk) = chunk {
        body = body.exactly(chunk.len);
    }
    let size = body.declared();
    let content = (!body.is_empty()).then(|| Box::pin(body) as registry_core::blob::ByteStream);
    let size = size.filter(|_| content.is_some());
    let finished = call.app.registry.finish_sized(&key, &digest, chunk.map(|chunk| chunk.start), size, content).await;
    finished.map_err(|error| failed(call, &key, error))?;
    Ok(created(call, repository, &digest))
}

/// `GET <location>`.
pub(crate) async fn status(call: &mut Call<'_>, repository: &RepositoryName, id: &str) -> Result<Response, Failure> {
    let key = key_of(call, repository, id);
    let status = call.app.registry.upload_status(&key).await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    describe(&mut response, call, &key, status.offset);
    Ok(response)
}

/// `DELETE <location>`.
pub(crate) async fn cancel(call: &mut Call<'_>, repository: &RepositoryName, id: &str) -> Result<Response, Failure> {
    call.app.registry.cancel_upload(&key_of(call, repository, id)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
