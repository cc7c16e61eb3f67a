//! [`Requests`]: what `object_store` has no way to ask for.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use object_store::MultipartId;
use object_store::client::HttpRequestBody;
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::{Error, ErrorKind, Result, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use storage_object::{OpenMultipart, StoredParts};

use crate::refusal::Failure;
use crate::service::Service;

/// As signatures have it.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');

/// Requests to one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) service: Service,
    pub(crate) bucket: String,
    pub(crate) bucket_url: String,
}

/// A request.
#[derive(Debug)]
struct Call<'a> {
    method: Method,
    path: Option<&'a Path>,
    query: &'a [(&'a str, &'a str)],
    headers: HeaderMap,
    body: Bytes,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: Option<&'a Path>, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { method, path, query, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// What came back.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Uploads {
    upload: Vec<Upload>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Parts {
    part: Vec<Part>,
    is_truncated: bool,
    next_part_number_marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    part_number: u32,
    size: u64,
    last_modified: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
struct CopiedPart {
    #[serde(rename = "ETag")]
    e_tag: String,
}

fn timestamp(date: Option<DateTime<Utc>>) -> Option<Timestamp> {
    date.map(|date| Timestamp::from_millis(date.timestamp_millis()))
}

fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    quick_xml::de::from_reader(body)
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("{what}: the answer makes no sense: {error}")))
}

impl Requests {
    async fn send(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let mut url = match call.path {
            None => self.bucket_url.clone(),
            Some(path) => format!("{}/{}", self.bucket_url, utf8_percent_encode(path.as_ref(), IN_PATH)),
        };
        for (n, (name, value)) in call.query.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.extend([name, "="]);
            url.extend(utf8_percent_encode(value, IN_QUERY));
        }
        let mut request = http::Request::builder().method(call.method.clone()).uri(url);
        if let Some(headers) = request.headers_mut() {
            headers.extend(call.headers.clone());
            if !call.body.is_empty() {
                headers.insert(CONTENT_LENGTH, call.body.len().into());
            }
        }
        let request = request.body(HttpRequestBody::from(call.body.clone()));
        let request =
            request.map_err(|error| Failure::Unsigned(format!("the request makes no sense: {error}; check endpoint and bucket")))?;
        let asked = self.service.asked(&request);
        let (head, body) = self.service.send(request).await?.into_parts();
        // What it passes on has been read, or is short.
        let body = body.bytes().await.map_err(|error| match storage_object::http::NoAnswer::in_chain(&error) {
            Some(why) => Failure::Lost { what: asked.what().to_owned(), why: why.clone() },
            None => Failure::Unsigned(error.to_string()),
        })?;
        Ok(Answer { headers: head.headers, body })
    }

    /// Looks whether the bucket is there and may be listed; its answer's headers. `Ok(None)` if there is no such bucket.
    pub(crate) async fn look(&self) -> Result<Option<HeaderMap>> {
        let query = [("list-type", "2"), ("max-keys", "1")];
        match self.send(&Call::new(Method::GET, None, &query)).await {
            Ok(Answer { headers, body }) => {
                // Anything may answer 200.
                if !String::from_utf8_lossy(&body).contains("<ListBucketResult") {
                    let message = "listing the bucket: that is no answer of an S3 service: check endpoint";
                    return Err(Error::new(ErrorKind::InvalidInput, message));
                }
                Ok(Some(headers))
            }
            Err(Failure::Refused(refusal)) if refusal.is_missing_bucket() => Ok(None),
            Err(Failure::Refused(refusal)) if refusal.is_of_the_configuration() => {
                Err(Error::new(ErrorKind::InvalidInput, refusal.to_string()))
            }
            Err(Failure::Refused(refusal)) if refusal.kind() == ErrorKind::NotFound => {
                // Nothing that has a list says that.
                Err(Error::new(ErrorKind::InvalidInput, format!("{refusal}; is endpoint the address of an S3 service?")))
            }
            Err(failure) => Err(failure.told()),
        }
    }

    /// Makes the bucket. One that is there and one's own is no failure.
    pub(crate) async fn create_bucket(&self, region: &str) -> Result<()> {
        let mut call = Call::new(Method::PUT, None, &[]);
        // Others have no regions, or call them otherwise.
        if self.bucket_url.contains(".amazonaws.com") && region != "us-east-1" {
            call.body = format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            )
            .into();
        }
        match self.send(&call).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused(refusal)) if refusal.code == "BucketAlreadyOwnedByYou" => Ok(()),
            Err(Failure::Refused(refusal)) => {
                let message = format!("the bucket {} is not there, and cannot be made: {refusal}", self.bucket);
                let kind = if refusal.is_passing() { ErrorKind::Unavailable } else { ErrorKind::InvalidInput };
                Err(Error::new(kind, message))
            }
            Err(failure) => Err(failure.told()),
        }
    }

    /// Deletes an object. One that is not there is no failure to S3, and is one to Google.
    pub(crate) async fn delete(&self, path: &Path) -> object_store::Result<()> {
        let deleted = self.send(&Call::new(Method::DELETE, Some(path), &[])).await;
        deleted.map(drop).map_err(|failure| object_store::Error::Generic { store: "S3", source: failure.into() })
    }

    /// The multipart uploads in a folder that are neither completed nor aborted. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>
    pub(crate) fn multiparts(&self, folder: &Path) -> BoxStream<'static, Result<OpenMultipart>> {
        let (this, prefix) = (self.clone(), format!("{folder}/"));
        let first = Some((String::new(), String::new()));
        let pages = stream::try_unfold(first, move |marker| {
            let (this, prefix) = (this.clone(), prefix.clone());
            async move {
                let Some((key, id)) = marker else { return Ok::<_, Error>(None) };
                let mut query = vec![("uploads", ""), ("prefix", prefix.as_str())];
                if !key.is_empty() {
                    query.push(("key-marker", &key));
                }
                if !id.is_empty() {
                    query.push(("upload-id-marker", &id));
                }
                let answer = this.send(&Call::new(Method::GET, None, &query)).await.map_err(|failure| failure.told())?;
                let page: Uploads = parse("listing multipart uploads", &answer.body)?;
                let next = (page.next_key_marker, page.next_upload_id_marker);
                // A service that forgets where it was would go on for ever.
                let next = (page.is_truncated && next != (key, id)).then_some(next);
                Ok(Some((stream::iter(page.upload.into_iter().map(Ok)), next)))
            }
        });
        let open = pages.try_flatten().try_filter_map(|upload: Upload| async move {
            // Not one of ours, if it is none.
            let Ok(path) = Path::parse(&upload.key) else { return Ok(None) };
            let begun = timestamp(upload.initiated).unwrap_or_default();
            Ok(Some(OpenMultipart::new(path, upload.upload_id, begun)))
        });
        open.boxed()
    }

    /// What there is of a multipart upload; `None` if it is gone, for which there are several ways to say so.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>
    pub(crate) async fn parts(&self, path: &Path, id: &MultipartId) -> Result<Option<StoredParts>> {
        // By their numbers: some list a part twice that was sent twice, the last one last.
        let mut parts = std::collections::BTreeMap::new();
        let mut marker = String::new();
        loop {
            let mut query = vec![("uploadId", id.as_str())];
            if !marker.is_empty() {
                query.push(("part-number-marker", &marker));
            }
            let answer = match self.send(&Call::new(Method::GET, Some(path), &query)).await {
                Err(Failure::Refused(refusal)) if refusal.kind() == ErrorKind::NotFound => return Ok(None),
                answer => answer.map_err(|failure| failure.told())?,
            };
            let page: Parts = parse("listing parts", &answer.body)?;
            parts.extend(page.part.into_iter().map(|part| (part.part_number, part)));
            if !page.is_truncated || page.next_part_number_marker == marker {
                break;
            }
            marker = page.next_part_number_marker;
        }
        let size = parts.values().map(|part| part.size).sum();
        Ok(Some(StoredParts::new(size, parts.values().filter_map(|part| timestamp(part.last_modified)).max())))
    }

    /// Copies a range of an object to a part of a multipart upload; the part's ETag. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>
    pub(crate) async fn copy_part(
        &self,
        from: (&Path, std::ops::Range<u64>),
        to: &Path,
        id: &MultipartId,
        number: usize,
    ) -> Result<String> {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", id.as_str())];
        let mut call = Call::new(Method::PUT, Some(to), &query);
        let source = format!("{}/{}", self.bucket, utf8_percent_encode(from.0.as_ref(), IN_PATH));
        for (name, value) in
            [("x-amz-copy-source", source), ("x-amz-copy-source-range", format!("bytes={}-{}", from.1.start, from.1.end - 1))]
        {
            let value = value.parse().map_err(|_| Error::new(ErrorKind::Internal, "a key that no header can have"))?;
            call.headers.insert(name, value);
        }
        let answer = self.send(&call).await.map_err(|failure| failure.told())?;
        parse::<CopiedPart>("copying a part", &answer.body).map(|part| part.e_tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_with_and_without_entries_are_read() {
        let empty: Uploads =
            parse("", b"<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
                .unwrap();
        assert!(empty.upload.is_empty() && !empty.is_truncated);
        let one = b"<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>2~x</NextUploadIdMarker><IsTruncated>true</IsTruncated><Upload><Key>k</Key><UploadId>2~x</UploadId><Initiator><ID>i</ID></Initiator><Initiated>2026-11-28T11:06:12.000Z</Initiated></Upload></ListMultipartUploadsResult>";
        let one: Uploads = parse("", one).unwrap();
        assert_eq!((one.upload[0].key.as_str(), one.upload[0].upload_id.as_str(), one.next_key_marker.as_str()), ("k", "2~x", "k"));
        assert_eq!(timestamp(one.upload[0].initiated), Some(Timestamp::from_millis(1_795_863_972_000)));
        let parts: Parts = parse("", b"<ListPartsResult><Part><PartNumber>1</PartNumber><LastModified>2026-11-28T11:06:12Z</LastModified><ETag>\"x\"</ETag><Size>5</Size></Part></ListPartsResult>").unwrap();
        assert_eq!((parts.part[0].size, parts.is_truncated), (5, false));
        assert!(parse::<Parts>("", b"not at all").is_err());
    }
}
