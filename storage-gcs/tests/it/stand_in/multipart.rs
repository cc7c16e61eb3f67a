//! Uploads in parts: <https://cloud.google.com/storage/docs/multipart-uploads>.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use http::Method;
use md5::{Digest as _, Md5};

use super::store::{Bucket, Generations, Object, Upload, hex, kept_headers};
use super::wire::{Answer, Ask, Refusal, empty, escape, refuse, unknown, xml, xml_date};

/// Of all parts but the last: <https://cloud.google.com/storage/quotas>, and others have seen the error.
const SMALLEST: usize = 5 << 20;

/// <https://cloud.google.com/storage/docs/xml-api/post-object-multipart>.
pub(super) fn initiate(ask: &Ask, bucket: &mut Bucket, generations: &mut Generations, now: DateTime<Utc>) -> Answer {
    refuse_conditions(ask)?;
    if ask.method != Method::POST {
        return Err(unknown());
    }
    let id = URL_SAFE_NO_PAD.encode(format!("upload {}", generations.next(now)));
    let upload = Upload { headers: kept_headers(ask), initiated: now, parts: BTreeMap::new() };
    bucket.uploads.insert((ask.key.clone(), id.clone()), upload);
    let names = names(ask);
    Ok(xml(&format!("<InitiateMultipartUploadResult>{names}<UploadId>{id}</UploadId></InitiateMultipartUploadResult>")))
}

/// About an upload that there should be.
pub(super) fn answer(ask: &Ask, id: &str, bucket: &mut Bucket, generations: &mut Generations, now: DateTime<Utc>) -> Answer {
    refuse_conditions(ask)?;
    let name = (ask.key.clone(), id.to_owned());
    let upload = bucket.uploads.get_mut(&name).ok_or_else(|| refuse(404, "NoSuchUpload", "The requested upload was not found."))?;
    match ask.method.as_str() {
        "PUT" => put_part(ask, upload, now),
        "GET" => list_parts(ask, id, upload),
        // https://cloud.google.com/storage/docs/xml-api/delete-multipart
        "DELETE" => {
            bucket.uploads.remove(&name);
            Ok(empty(204))
        }
        "POST" => {
            let object = complete(ask, upload, generations.next(now), now)?;
            let etag = escape(&object.etag);
            let names = names(ask);
            let mut response = xml(&format!("<CompleteMultipartUploadResult>{names}<ETag>{etag}</ETag></CompleteMultipartUploadResult>"));
            object.describe(&mut response);
            bucket.objects.insert(ask.key.clone(), object);
            bucket.uploads.remove(&name);
            Ok(response)
        }
        _ => Err(unknown()),
    }
}

/// "Preconditions are not supported in the requests." Google has been seen to refuse them so when an upload is initiated, and to
/// ignore them when it is completed; here they are refused always, since nobody who sends one wants it ignored.
fn refuse_conditions(ask: &Ask) -> Result<(), Refusal> {
    if ask.headers.keys().any(|name| name.as_str().starts_with("x-goog-if-")) {
        return Err(refuse(400, "NotImplemented", "Preconditions are not supported in multipart uploads."));
    }
    Ok(())
}

fn names(ask: &Ask) -> String {
    format!("<Bucket>{}</Bucket><Key>{}</Key>", escape(&ask.bucket), escape(&ask.key))
}

/// <https://cloud.google.com/storage/docs/xml-api/put-object-multipart>. There is no copying of parts: the headers table of
/// aws-simple-migration has no x-amz-copy-source-range, and others have seen 400 NotImplemented.
fn put_part(ask: &Ask, upload: &mut Upload, now: DateTime<Utc>) -> Answer {
    let copied = ["x-amz-copy-source", "x-amz-copy-source-range", "x-goog-copy-source"];
    if copied.iter().any(|name| ask.headers.contains_key(*name)) {
        return Err(refuse(400, "NotImplemented", "A header or query you provided requested a function that is not implemented."));
    }
    let number = ask.number("partNumber", 0)?;
    if !(1..=10_000).contains(&number) {
        return Err(refuse(400, "InvalidArgument", "The part number is not between 1 and 10000."));
    }
    let part = Object::of(ask, 0, now)?;
    let mut response = empty(200);
    response.headers_mut().insert("etag", part.etag.parse().unwrap());
    upload.parts.insert(number, part);
    Ok(response)
}

/// <https://cloud.google.com/storage/docs/xml-api/get-object-multipart>.
fn list_parts(ask: &Ask, id: &str, upload: &Upload) -> Answer {
    let (marker, most) = (ask.number("part-number-marker", 0)?, ask.number("max-parts", 1000)?.min(1000));
    let mut parts = upload.parts.range(marker + 1..);
    let (mut list, mut last) = (String::new(), marker);
    for (number, part) in parts.by_ref().take(most) {
        let (etag, updated, size) = (escape(&part.etag), xml_date(part.updated), part.content.len());
        list += &format!("<Part><PartNumber>{number}</PartNumber><LastModified>{updated}</LastModified>");
        list += &format!("<ETag>{etag}</ETag><Size>{size}</Size></Part>");
        last = *number;
    }
    let (names, more) = (names(ask), parts.next().is_some());
    let markers = format!("<PartNumberMarker>{marker}</PartNumberMarker><NextPartNumberMarker>{last}</NextPartNumberMarker>");
    let paging = format!("{markers}<MaxParts>{most}</MaxParts><IsTruncated>{more}</IsTruncated>");
    Ok(xml(&format!("<ListPartsResult>{names}<UploadId>{id}</UploadId>{paging}{list}</ListPartsResult>")))
}

/// <https://cloud.google.com/storage/docs/xml-api/post-object-complete>.
fn complete(ask: &Ask, upload: &Upload, generation: i64, now: DateTime<Utc>) -> Result<Object, Refusal> {
    let wanted = parse_parts(&String::from_utf8_lossy(&ask.body))
        .filter(|parts| !parts.is_empty())
        .ok_or_else(|| refuse(400, "MalformedXML", "The XML you provided was not well-formed, or has no parts."))?;
    if !wanted.is_sorted_by(|one, other| one.0 < other.0) {
        return Err(refuse(400, "InvalidPartOrder", "The list of parts was not in ascending order."));
    }
    let (mut content, mut digests) = (Vec::new(), Md5::new());
    for (at, (number, etag)) in wanted.iter().enumerate() {
        let part = upload.parts.get(number).filter(|part| part.etag.trim_matches('"') == etag);
        let part = part.ok_or_else(|| refuse(400, "InvalidPart", "One or more of the specified parts could not be found."))?;
        if part.content.len() < SMALLEST && at + 1 < wanted.len() {
            return Err(refuse(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size."));
        }
        content.extend_from_slice(&part.content);
        digests.update(part.md5.unwrap_or_default());
    }
    // "The object's ETag is not based on an MD5 hash", says the page. This form is Amazon's.
    let etag = format!("\"{}-{}\"", hex(&digests.finalize()), wanted.len());
    Ok(Object { content: content.into(), etag, md5: None, generation, updated: now, headers: upload.headers.clone() })
}

/// Numbers and ETags, without their quotes.
fn parse_parts(xml: &str) -> Option<Vec<(usize, String)>> {
    let element = |part: &str, name: &str| {
        let (_, rest) = part.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
    };
    let part = |part: &str| {
        let etag = element(part, "ETag")?.replace("&quot;", "\"").replace("&#34;", "\"");
        Some((element(part, "PartNumber")?.parse().ok()?, etag.trim_matches('"').to_owned()))
    };
    xml.split("<Part>").skip(1).map(part).collect()
}
