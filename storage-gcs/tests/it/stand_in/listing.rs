//! What a bucket has.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::store::{Bucket, Object};
use super::wire::{Answer, Ask, empty, escape, refuse, unknown, xml, xml_date};

pub(super) fn answer(ask: &Ask, bucket: &Bucket) -> Answer {
    match (ask.method.as_str(), ask.param("uploads"), ask.param("list-type")) {
        ("HEAD", ..) => Ok(empty(200)),
        ("GET", Some(_), _) => list_uploads(ask, bucket),
        ("GET", None, Some("2")) => list_objects(ask, &bucket.objects),
        // Google has had none for many years, and answered so (minio/mc#4778). By 2026 some have seen it work.
        ("POST", ..) if ask.param("delete").is_some() => {
            Err(refuse(400, "NotImplemented", "A header or query you provided requested a function that is not implemented."))
        }
        _ => Err(unknown()),
    }
}

/// <https://cloud.google.com/storage/docs/xml-api/get-bucket-list>.
fn list_objects(ask: &Ask, objects: &BTreeMap<String, Object>) -> Answer {
    let (prefix, delimiter) = (ask.param("prefix").unwrap_or_default(), ask.param("delimiter").unwrap_or_default());
    let most = ask.number("max-keys", 1000)?.min(1000);
    // A token is the last that was listed, which is a prefix of keys if it begins so.
    let token = ask.param("continuation-token").map(|token| {
        let token = URL_SAFE_NO_PAD.decode(token).ok().and_then(|token| String::from_utf8(token).ok());
        token.ok_or_else(|| refuse(400, "InvalidArgument", "The continuation token is none of this service's."))
    });
    let token = token.transpose()?.unwrap_or_default();
    let is_listed = |key: &str| match token.split_at_checked(1) {
        Some(("p", prefix)) => key.starts_with(prefix) || key < prefix,
        Some((_, last)) => key <= last,
        None => false,
    };
    let after = ask.param("start-after").map_or(Bound::Unbounded, Bound::Excluded);
    let (mut list, mut count, mut last, mut next) = (String::new(), 0, String::new(), String::new());
    for (key, object) in objects.range::<str, _>((after, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        let rolled_up = if delimiter.is_empty() { None } else { rest.find(delimiter) };
        let item = match rolled_up {
            Some(at) => format!("p{}", &key[..prefix.len() + at + delimiter.len()]),
            None => format!("k{key}"),
        };
        if is_listed(key) || item == last {
            continue;
        }
        if count == most {
            next = format!("<NextContinuationToken>{}</NextContinuationToken>", URL_SAFE_NO_PAD.encode(&last));
            break;
        }
        let name = escape(&item[1..]);
        list += &match rolled_up {
            Some(_) => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            None => describe(&name, object),
        };
        (count, last) = (count + 1, item);
    }
    let (bucket, prefix, more) = (escape(&ask.bucket), escape(prefix), !next.is_empty());
    let head = format!("<Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{most}</MaxKeys>");
    Ok(xml(&format!("<ListBucketResult>{head}<IsTruncated>{more}</IsTruncated>{next}{list}</ListBucketResult>")))
}

fn describe(name: &str, object: &Object) -> String {
    let (generation, updated, etag) = (object.generation, xml_date(object.updated), escape(&object.etag));
    let versions = format!("<Generation>{generation}</Generation><MetaGeneration>1</MetaGeneration>");
    let times = format!("<LastModified>{updated}</LastModified><ETag>{etag}</ETag>");
    format!("<Contents><Key>{name}</Key>{versions}{times}<Size>{}</Size></Contents>", object.content.len())
}

/// <https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads>.
fn list_uploads(ask: &Ask, bucket: &Bucket) -> Answer {
    let param = |name: &str| ask.param(name).unwrap_or_default();
    let (prefix, after, after_id) = (param("prefix"), param("key-marker"), param("upload-id-marker"));
    let most = ask.number("max-uploads", 1000)?.min(1000);
    if ask.param("delimiter").is_some() {
        return Err(unknown());
    }
    // Without an ID, all of the marker's own are left out.
    let is_due = |key: &str, id: &str| key > after || key == after && !after_id.is_empty() && id > after_id;
    let mut uploads = bucket.uploads.iter().filter(|((key, id), _)| key.starts_with(prefix) && is_due(key, id));
    let (mut list, mut next) = (String::new(), String::new());
    for ((key, id), upload) in uploads.by_ref().take(most) {
        let (key, initiated) = (escape(key), xml_date(upload.initiated));
        list += &format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId>");
        list += &format!("<StorageClass>STANDARD</StorageClass><Initiated>{initiated}</Initiated></Upload>");
        next = format!("<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>");
    }
    let more = uploads.next().is_some();
    let next = if more { next } else { String::new() };
    let marker = format!("<KeyMarker>{}</KeyMarker><UploadIdMarker>{}</UploadIdMarker>", escape(after), escape(after_id));
    let head = format!("<Bucket>{}</Bucket>{marker}<Prefix>{}</Prefix>{next}", escape(&ask.bucket), escape(prefix));
    let paging = format!("<MaxUploads>{most}</MaxUploads><IsTruncated>{more}</IsTruncated>");
    Ok(xml(&format!("<ListMultipartUploadsResult>{head}{paging}{list}</ListMultipartUploadsResult>")))
}
