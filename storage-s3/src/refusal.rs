//! [`Failure`]: what went wrong with a request, and what to say of it.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use registry_core::{Error, ErrorKind};
use serde::Deserialize;
use storage_object::http::NoAnswer;

use crate::dialect::Dialect;

/// A request that did not do what it was to do.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The service said no.
    Refused(Box<Refusal>),
    /// No answer came, or not all of it.
    Lost {
        /// The request.
        what: String,
        /// Why.
        why: NoAnswer,
    },
    /// It could not be signed.
    Unsigned(String),
    /// It was answered, and not in the way of such a service.
    Strange {
        /// The request.
        what: String,
    },
}

/// What a service said instead of doing what it was asked for. <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    message: String,
    request_id: Option<String>,
    /// Where the bucket is.
    region: Option<String>,
    retry_after: Option<Duration>,
    /// The request.
    what: String,
    /// What one needs to be allowed for it.
    permission: &'static str,
    /// Whether there was something that is no answer of such a service.
    is_foreign: bool,
    dialect: Dialect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Document {
    code: String,
    message: String,
    request_id: Option<String>,
    region: Option<String>,
}

/// What is said of many deletes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Deleted {
    error: Vec<Document>,
}

/// What is the root of an error's document.
fn is_error(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let root = text.trim_start_matches('\u{feff}').trim_start();
    let root = if root.starts_with("<?xml") { root.split_once("?>").map_or("", |(_, rest)| rest.trim_start()) } else { root };
    root.starts_with("<Error>") || root.starts_with("<Error ")
}

impl Refusal {
    /// What a status above 399, or a redirect, says with its body.
    pub(crate) fn new(dialect: Dialect, request: &Asked, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let is_document = is_error(body);
        let document: Document = if is_document { quick_xml::de::from_reader(body).unwrap_or_default() } else { Document::default() };
        Self {
            status,
            code: document.code,
            message: document.message,
            request_id: document
                .request_id
                .filter(|id| !id.is_empty())
                .or_else(|| header("x-amz-request-id"))
                .or_else(|| header("x-guploader-uploadid")),
            region: document.region.or_else(|| header("x-amz-bucket-region")),
            retry_after: header("retry-after").and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs),
            what: request.what.clone(),
            permission: request.permission(dialect),
            is_foreign: !body.is_empty() && !is_document,
            dialect,
        }
    }

    /// What an answer of 200 may say all the same, where a service begins to answer before it is done.
    pub(crate) fn in_success(dialect: Dialect, request: &Asked, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        if is_error(body) {
            return Some(Self::new(dialect, request, status, headers, body));
        }
        if !request.is_bulk_delete() {
            return None;
        }
        // The first of those that were not deleted.
        let deleted: Deleted = quick_xml::de::from_reader(body).ok()?;
        let error = deleted.error.into_iter().find(|error| error.code != "NoSuchKey")?;
        let refusal = Self::new(dialect, request, status, headers, &[]);
        Some(Self { code: error.code, message: error.message, ..refusal })
    }

    fn is_code(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }

    /// Whether trying the same once more may help.
    pub(crate) fn is_passing(&self) -> bool {
        const PASSING: &[&str] = &[
            "RequestTimeout",
            "SlowDown",
            "InternalError",
            "ServiceUnavailable",
            "OperationAborted",
            // What arrived is not what was sent.
            "BadDigest",
            "IncompleteBody",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
        ];
        matches!(self.status.as_u16(), 408 | 429 | 500 | 502..=504) && !self.is_about_space() || self.is_code(PASSING)
    }

    /// Whether it is the configuration's fault for sure.
    pub(crate) fn is_of_the_configuration(&self) -> bool {
        self.is_about_region() || (self.is_foreign && self.status.is_client_error())
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn is_missing_bucket(&self) -> bool {
        self.code == "NoSuchBucket"
    }

    /// Whether it is about the region, and not about who one is.
    fn is_about_region(&self) -> bool {
        // AWS says 400 to a HEAD with another region in its signature, and names the right one.
        self.is_code(&["PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", "AuthorizationHeaderMalformed"])
            || self.status == StatusCode::MOVED_PERMANENTLY
            || (self.status == StatusCode::BAD_REQUEST && self.code.is_empty() && self.region.is_some())
    }

    fn is_about_space(&self) -> bool {
        self.is_code(&["QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "InsufficientStorage"])
            || self.status == StatusCode::INSUFFICIENT_STORAGE
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self.status.as_u16() {
            _ if self.is_about_space() => ErrorKind::StorageFull,
            // Of the zone as a whole, and not of what was asked for.
            _ if self.is_missing_bucket() || self.is_about_region() => ErrorKind::Unavailable,
            // Whatever is not there, it is not the object: who answers is none of the service's.
            404 if self.is_foreign => ErrorKind::Unavailable,
            _ if self.is_passing() => ErrorKind::Unavailable,
            _ if self.is_code(&["EntityTooLarge", "MaxMessageLengthExceeded"]) => ErrorKind::TooLarge,
            _ if self.is_code(&["ExpiredToken", "InvalidToken", "TokenRefreshRequired"]) => ErrorKind::Denied,
            _ if self.is_code(&["AccessDenied"]) => ErrorKind::Denied,
            _ if self.is_code(&["NoSuchKey", "NoSuchUpload"]) => ErrorKind::NotFound,
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            405 | 501 => ErrorKind::Unsupported,
            409 | 412 => ErrorKind::Conflict,
            416 => ErrorKind::RangeInvalid,
            // An error that comes with a success too.
            200..=499 => ErrorKind::Internal,
            _ => ErrorKind::Unavailable,
        }
    }

    /// What to do about it.
    fn advice(&self) -> Option<String> {
        let advice = match self.code.as_str() {
            "NoSuchBucket" if self.dialect.is_google() => "there is no such bucket there: check bucket".to_owned(),
            "NoSuchBucket" => "there is no such bucket there: check bucket and endpoint, or set create_bucket = true".to_owned(),
            "InvalidBucketName" => "check bucket".to_owned(),
            "InvalidAccessKeyId" | "InvalidAccessKey" | "NotSignedUp" => {
                "that access key is not known there: check access_key, and whether endpoint is the right service".to_owned()
            }
            "SignatureDoesNotMatch" => "check secret_key; a wrong region, or a proxy that changes headers, has the same effect".to_owned(),
            "RequestTimeTooSkewed" => "the clock of this machine, or the service's, is wrong: set both by a time server".to_owned(),
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                "the session token is not, or no longer, good: leave access_key out to have it renewed, or give new ones".to_owned()
            }
            code if code.starts_with("KMS.") => "check sse_kms_key_id, and whether these keys may use it".to_owned(),
            _ if self.is_about_region() => match &self.region {
                Some(region) => format!("the bucket is in region {region}: set region to that"),
                None => "the bucket is in another region: check region and endpoint".to_owned(),
            },
            _ if self.is_about_space() => return None,
            _ if self.status == StatusCode::UNAUTHORIZED && self.dialect.is_google() => {
                "check service_account, or access_key and secret_key".to_owned()
            }
            _ if self.status == StatusCode::UNAUTHORIZED => "check access_key and secret_key".to_owned(),
            _ if self.status == StatusCode::FORBIDDEN || self.code == "AccessDenied" => {
                format!("whoever has these keys may not do that; it needs the permission {}", self.permission)
            }
            _ if self.is_foreign && self.status.is_client_error() => {
                format!("that is no answer of {}: check endpoint", self.dialect.service())
            }
            _ => return None,
        };
        Some(advice)
    }

    pub(crate) fn told(&self) -> Error {
        let mut error = Error::new(self.kind(), self.to_string());
        if let Some(retry_after) = self.retry_after {
            error = error.with_retry_after(retry_after);
        }
        error
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        match self.advice() {
            Some(advice) => write!(f, ": {advice}")?,
            None if !self.message.is_empty() => {
                let message: String = self.message.chars().take(300).collect();
                write!(f, ": {message}")?;
            }
            None => {}
        }
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// As it is told to a registry. `setting` has the service's address.
    pub(crate) fn told(&self) -> Error {
        match self {
            Self::Refused(refusal) => refusal.told(),
            Self::Lost { what, why } => why.told(what, "endpoint"),
            Self::Unsigned(why) => Error::new(ErrorKind::Unavailable, why.clone()),
            Self::Strange { what } => Error::new(ErrorKind::Unavailable, format!("{what}: the answer says nothing of what was done")),
        }
    }

    /// Whether trying the same once more may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            // A certificate that is not trusted is not trusted the next time.
            Self::Lost { why, .. } => why.tls_trouble("").is_none(),
            Self::Unsigned(_) => false,
            Self::Strange { .. } => true,
        }
    }

    fn in_chain<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lost { what, why } => write!(f, "{what}: {why}"),
            Self::Unsigned(why) => f.write_str(why),
            Self::Strange { what } => write!(f, "{what}: the answer says nothing of what was done"),
        }
    }
}

impl std::error::Error for Failure {}

/// What was asked for, as far as it matters for what is said of its failure.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `PUT /bucket/key`
    what: String,
    method: Method,
    of_parts: bool,
    of_bucket: bool,
}

impl Asked {
    /// `bucket` is the path of the bucket, empty if it is in the host's name.
    pub(crate) fn new(method: &Method, uri: &http::Uri, bucket: &str) -> Self {
        let query = uri.query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let of_bucket = uri.path().trim_end_matches('/') == bucket.trim_end_matches('/');
        let path = percent_encoding::percent_decode_str(uri.path()).decode_utf8_lossy();
        Self { what: format!("{method} {path}"), method: method.clone(), of_parts: has("uploadId") || has("uploads"), of_bucket }
    }

    /// Names of permissions: of AWS by its documentation of policies, of Google by its of IAM.
    fn permission(&self, dialect: Dialect) -> &'static str {
        let is_google = dialect.is_google();
        match (self.method.as_str(), self.of_bucket, self.of_parts) {
            ("GET" | "HEAD", true, true) if is_google => "storage.multipartUploads.list",
            ("GET" | "HEAD", true, true) => "s3:ListBucketMultipartUploads",
            ("GET" | "HEAD", true, false) if is_google => "storage.objects.list",
            ("GET" | "HEAD", true, false) => "s3:ListBucket",
            ("PUT", true, _) if is_google => "storage.buckets.create",
            ("PUT", true, _) => "s3:CreateBucket",
            ("GET", false, true) if is_google => "storage.multipartUploads.listParts",
            ("GET", false, true) => "s3:ListMultipartUploadParts",
            ("GET" | "HEAD", ..) if is_google => "storage.objects.get",
            ("GET" | "HEAD", ..) => "s3:GetObject",
            ("DELETE", _, true) if is_google => "storage.multipartUploads.abort",
            ("DELETE", _, true) => "s3:AbortMultipartUpload",
            ("DELETE", ..) if is_google => "storage.objects.delete",
            ("DELETE", ..) | ("POST", true, _) => "s3:DeleteObject",
            _ if is_google => "storage.objects.create",
            _ => "s3:PutObject",
        }
    }

    /// Whether it deletes objects.
    pub(crate) fn is_delete(&self) -> bool {
        (self.method == Method::DELETE && !self.of_parts) || self.is_bulk_delete()
    }

    /// Whether it deletes many.
    pub(crate) fn is_bulk_delete(&self) -> bool {
        self.method == Method::POST && self.of_bucket
    }

    /// Whether it is for an object's bytes.
    pub(crate) fn is_read(&self) -> bool {
        self.method == Method::GET && !self.of_bucket && !self.of_parts
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

/// An error of `object_store`'s client, with what this one knows of it as its source.
pub(crate) fn told(error: object_store::Error) -> object_store::Error {
    use object_store::Error as Told;
    let failure = match Failure::in_chain(&error) {
        Some(failure) => failure.clone(),
        None => match NoAnswer::in_chain(&error) {
            Some(why) => Failure::Lost { what: "reading an answer".to_owned(), why: why.clone() },
            None => return error,
        },
    };
    let status = match &failure {
        Failure::Refused(refusal) => refusal.status.as_u16(),
        _ => 0,
    };
    let (error, path) = (failure.told(), String::new());
    let (kind, source) = (error.kind(), Box::new(error));
    match (kind, status) {
        (ErrorKind::NotFound, _) => Told::NotFound { path, source },
        (ErrorKind::Conflict, 412) => Told::Precondition { path, source },
        (ErrorKind::Conflict, _) => Told::AlreadyExists { path, source },
        (ErrorKind::Denied, 401) => Told::Unauthenticated { path, source },
        (ErrorKind::Denied, _) => Told::PermissionDenied { path, source },
        (ErrorKind::Unsupported, _) => Told::NotSupported { source },
        _ => Told::Generic { store: "S3", source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        let asked = Asked::new(&Method::PUT, &"http://s3.example/bucket/a%20key?partNumber=1&uploadId=x".parse().unwrap(), "/bucket");
        Refusal::new(Dialect::amazon(), &asked, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn a_bucket_in_another_region_is_told_of_with_the_region() {
        // As AWS answers: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region><RequestId>1</RequestId></Error>";
        let refusal = refusal(400, body);
        assert!(refusal.kind() == ErrorKind::Unavailable && refusal.is_of_the_configuration());
        assert_eq!(
            refusal.to_string(),
            "PUT /bucket/a key: 400 Bad Request AuthorizationHeaderMalformed: the bucket is in region eu-west-1: set region to that (request 1)"
        );
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (status, code, passes) in [
            (503, "SlowDown", true),
            (400, "RequestTimeout", true),
            (400, "BadDigest", true),
            (403, "SignatureDoesNotMatch", false),
            (403, "QuotaExceeded", false),
            (507, "XMinioStorageFull", false),
            (409, "OperationAborted", true),
            (404, "NoSuchKey", false),
        ] {
            let refusal = refusal(status, &format!("<Error><Code>{code}</Code></Error>"));
            assert_eq!(refusal.is_passing(), passes, "{code}");
        }
        assert_eq!(refusal(403, "<Error><Code>QuotaExceeded</Code></Error>").kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn what_may_not_be_done_is_told_of_with_the_permission_for_it() {
        let denied = refusal(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>");
        assert_eq!(denied.kind(), ErrorKind::Denied);
        assert_eq!(
            denied.to_string(),
            "PUT /bucket/a key: 403 Forbidden AccessDenied: whoever has these keys may not do that; it needs the permission s3:PutObject"
        );
    }

    #[test]
    fn an_error_in_a_success_is_one() {
        let asked = Asked::new(&Method::POST, &"http://s3.example/bucket/key?uploadId=x".parse().unwrap(), "/bucket");
        let in_success = |body: &str| Refusal::in_success(Dialect::amazon(), &asked, StatusCode::OK, &HeaderMap::new(), body.as_bytes());
        let late = in_success("<?xml version=\"1.0\"?>\n  <Error><Code>InternalError</Code></Error>").unwrap();
        assert!(late.is_passing());
        let denied = in_success("<Error><Code>AccessDenied</Code></Error>").unwrap();
        assert!(!denied.is_passing() && denied.kind() == ErrorKind::Denied);
        assert!(in_success("<CompleteMultipartUploadResult><Key>an <Error></Key></CompleteMultipartUploadResult>").is_none());
        // White space that kept the connection alive.
        assert!(in_success("      \n   <Error><Code>SlowDown</Code></Error>").is_some());
    }

    #[test]
    fn what_is_no_answer_of_s3_is_said_to_be_none() {
        let html = refusal(404, "<html><body>Not Found</body></html>");
        assert_eq!(html.to_string(), "PUT /bucket/a key: 404 Not Found: that is no answer of S3: check endpoint");
    }
}
