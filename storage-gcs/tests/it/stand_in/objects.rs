//! Objects: <https://cloud.google.com/storage/docs/xml-api/reference-methods>.

use std::ops::Range;

use axum::body::Bytes;
use axum::response::Response;
use chrono::{DateTime, Utc};
use http::HeaderName;

use super::auth::Scheme;
use super::store::{Bucket, Object, Store};
use super::wire::{Answer, Ask, Refusal, decode, empty, escape, http_date, refuse, unknown, xml, xml_date};

pub(super) fn answer(ask: &Ask, scheme: &Scheme, store: &mut Store, now: DateTime<Utc>) -> Answer {
    let known = ["generation", "response-content-type", "response-content-disposition"];
    if ask.query.iter().any(|(name, _)| !known.contains(&name.as_str()) && !name.to_lowercase().starts_with("x-")) {
        return Err(unknown());
    }
    let copied = ask.header("x-goog-copy-source").or(ask.header("x-amz-copy-source"));
    match (ask.method.as_str(), copied) {
        ("GET" | "HEAD", _) => read(ask, scheme, store.bucket(&ask.bucket)?.0),
        ("PUT", Some(source)) => copy(ask, source, store, now),
        ("PUT", None) => write(ask, store, now),
        ("DELETE", _) => delete(ask, store.bucket(&ask.bucket)?.0),
        _ => Err(unknown()),
    }
}

pub(super) fn no_such_key() -> Refusal {
    refuse(404, "NoSuchKey", "The specified key does not exist.")
}

fn failed() -> Refusal {
    refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
}

fn read(ask: &Ask, scheme: &Scheme, bucket: &Bucket) -> Answer {
    let wanted = ask.param("generation");
    let object = bucket.objects.get(&ask.key).ok_or_else(no_such_key)?;
    if wanted.is_some_and(|generation| generation != object.generation.to_string()) {
        return Err(no_such_key());
    }
    check_generation(ask, Some(object))?;
    if !is_due(ask, object)? {
        let mut response = empty(304);
        object.describe(&mut response);
        return Ok(response);
    }
    let length = object.content.len();
    let range = ask.header("range").and_then(|range| parse_range(range, length)).transpose()?;
    let mut response = Response::new(body(ask, &object.content, range.clone().unwrap_or(0..length)).into());
    object.describe(&mut response);
    let headers = response.headers_mut();
    for (name, value) in &object.headers {
        // Who came with Amazon's headers gets Amazon's metadata back.
        let name = name.as_str().replace("x-goog-meta-", &format!("{}meta-", scheme.prefix));
        headers.append(HeaderName::try_from(name).unwrap(), value.clone());
    }
    // That it is this by default: https://cloud.google.com/storage/docs/xml-api/put-object-upload
    headers.entry("content-type").or_insert("application/octet-stream".parse().unwrap());
    headers.entry("x-goog-storage-class").or_insert("STANDARD".parse().unwrap());
    headers.insert("accept-ranges", "bytes".parse().unwrap());
    headers.insert("last-modified", http_date(object.updated).parse().unwrap());
    headers.insert("content-length", range.as_ref().map_or(length, ExactSizeIterator::len).into());
    for (param, header) in [("response-content-type", "content-type"), ("response-content-disposition", "content-disposition")] {
        if let Some(value) = ask.param(param) {
            headers.insert(header, value.parse().map_err(|_| refuse(400, "InvalidArgument", format!("{param} is no header.")))?);
        }
    }
    if let Some(range) = range {
        headers.insert("content-range", format!("bytes {}-{}/{length}", range.start, range.end - 1).parse().unwrap());
        *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn body(ask: &Ask, content: &Bytes, range: Range<usize>) -> Bytes {
    if ask.method == http::Method::HEAD { Bytes::new() } else { content.slice(range) }
}

/// One range of bytes. `None` if it is none: then it is ignored, as RFC 9110 has it.
fn parse_range(text: &str, length: usize) -> Option<Result<Range<usize>, Refusal>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => from..to.saturating_add(1).min(length),
        (Ok(from), Err(_)) if to.is_empty() => from..length,
        (Err(_), Ok(last)) if from.is_empty() => length.saturating_sub(last)..length,
        _ => return None,
    };
    let refusal = || refuse(416, "InvalidRange", "The requested range cannot be satisfied.");
    Some(if range.is_empty() { Err(refusal()) } else { Ok(range) })
}

/// The headers of HTTP's own, which count for reads alone. `false` if the client has it already.
fn is_due(ask: &Ask, object: &Object) -> Result<bool, Refusal> {
    let names = |header: &str| {
        let tags = ask.header(header)?;
        Some(tags.split(',').any(|tag| tag.trim() == "*" || tag.trim().trim_matches('"') == object.etag.trim_matches('"')))
    };
    let is_after = |header: &str| {
        let date = DateTime::parse_from_rfc2822(ask.header(header)?).ok()?;
        Some(object.updated.timestamp() > date.timestamp())
    };
    if !names("if-match").unwrap_or_else(|| !is_after("if-unmodified-since").unwrap_or(false)) {
        return Err(failed());
    }
    Ok(!names("if-none-match").unwrap_or_else(|| !is_after("if-modified-since").unwrap_or(true)))
}

/// <https://cloud.google.com/storage/docs/xml-api/reference-headers#xgoogifgenerationmatch>: 0 means that there must be none.
fn check_generation(ask: &Ask, current: Option<&Object>) -> Result<(), Refusal> {
    let Some(wanted) = ask.header("x-goog-if-generation-match") else { return Ok(()) };
    let wanted: i64 = wanted.parse().map_err(|_| refuse(400, "InvalidArgument", "The generation is no number."))?;
    if wanted == current.map_or(0, |object| object.generation) { Ok(()) } else { Err(failed()) }
}

/// `If-Match` and `If-None-Match` change nothing here: Google ignores them on writes (aws/aws-sdk-java-v2#6055, and tried by others).
fn write(ask: &Ask, store: &mut Store, now: DateTime<Utc>) -> Answer {
    let (bucket, generations) = store.bucket(&ask.bucket)?;
    check_generation(ask, bucket.objects.get(&ask.key))?;
    let object = Object::of(ask, generations.next(now), now)?;
    let mut response = empty(200);
    object.describe(&mut response);
    bucket.objects.insert(ask.key.clone(), object);
    Ok(response)
}

/// Content and metadata of another object, of any size.
fn copy(ask: &Ask, source: &str, store: &mut Store, now: DateTime<Utc>) -> Answer {
    let source = decode(source.trim_start_matches('/'))?;
    let (from, key) = source.split_once('/').ok_or_else(|| refuse(400, "InvalidArgument", "The copy source has no object."))?;
    let object = store.bucket(from)?.0.objects.get(key).ok_or_else(no_such_key)?.clone();
    let (bucket, generations) = store.bucket(&ask.bucket)?;
    check_generation(ask, bucket.objects.get(&ask.key))?;
    let object = Object { generation: generations.next(now), updated: now, ..object };
    let (updated, etag) = (xml_date(now), escape(&object.etag));
    let mut response = xml(&format!("<CopyObjectResult><LastModified>{updated}</LastModified><ETag>{etag}</ETag></CopyObjectResult>"));
    object.describe(&mut response);
    bucket.objects.insert(ask.key.clone(), object);
    Ok(response)
}

/// One that is not there is an error, unlike Amazon's: <https://cloud.google.com/storage/docs/xml-api/delete-object>.
fn delete(ask: &Ask, bucket: &mut Bucket) -> Answer {
    check_generation(ask, bucket.objects.get(&ask.key))?;
    bucket.objects.remove(&ask.key).map(|_| empty(204)).ok_or_else(no_such_key)
}
