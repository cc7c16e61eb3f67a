//! Whether a request is the principal's.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::identity::{Identity, hmac};
use super::store::hex;
use super::wire::{Ask, Refusal, refuse};

/// A way of signing. <https://cloud.google.com/storage/docs/authentication/signatures> has Google's, and
/// <https://cloud.google.com/storage/docs/aws-simple-migration> says that Amazon's does as well.
pub(super) struct Scheme {
    algorithm: &'static str,
    /// Of headers and parameters.
    pub(super) prefix: &'static str,
    /// The prefix of the secret; `None` if an RSA key signs.
    secret: Option<&'static str>,
    end: &'static str,
}

static SCHEMES: [Scheme; 3] = [
    Scheme { algorithm: "AWS4-HMAC-SHA256", prefix: "x-amz-", secret: Some("AWS4"), end: "aws4_request" },
    Scheme { algorithm: "GOOG4-HMAC-SHA256", prefix: "x-goog-", secret: Some("GOOG4"), end: "goog4_request" },
    Scheme { algorithm: "GOOG4-RSA-SHA256", prefix: "x-goog-", secret: None, end: "goog4_request" },
];

/// Headers that nobody may send, signed or not.
pub(super) fn refuse_headers(ask: &Ask) -> Result<(), Refusal> {
    let has = |prefix: &str| ask.headers.keys().any(|name| name.as_str().starts_with(prefix));
    // Undocumented; milvus-io/milvus-storage#480 reports it. Others report that Google ignores some of them since.
    if has("x-amz-checksum-") || has("x-amz-sdk-checksum-") {
        return Err(refuse(400, "ExcessHeaderValues", "Multiple HTTP header values where one was expected: x-amz-checksum-*."));
    }
    // Undocumented; carrierwaveuploader/carrierwave#2356 has the message.
    if has("x-amz-") && has("x-goog-") {
        return Err(refuse(400, "ExcessHeaderValues", "Requests cannot specify both x-amz and x-goog headers."));
    }
    // https://cloud.google.com/storage/docs/xml-api/put-object requires it, and copies without it have failed so: apache/arrow-rs#3921,
    // delta-io/delta-rs#2394. Google's front end answers with HTML.
    if ["PUT", "POST"].contains(&ask.method.as_str()) && !has("content-length") && !has("transfer-encoding") {
        return Err(refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header."));
    }
    Ok(())
}

/// By a bearer token, a signature in the header, or one in the query; the scheme says which extension headers it speaks.
pub(super) fn admit(ask: &Ask, identity: &Identity, now: DateTime<Utc>) -> Result<&'static Scheme, Refusal> {
    let authorization = ask.header("authorization").unwrap_or_default();
    if let Some(token) = authorization.strip_prefix("Bearer ") {
        // Google has been seen to honour no x-amz- header from such a client: milvus-io/milvus#52748.
        if ask.headers.contains_key("x-amz-copy-source") {
            return Err(refuse(400, "InvalidArgument", "Invalid argument."));
        }
        return if identity.knows_token(token, now) { Ok(&SCHEMES[2]) } else { Err(unauthenticated()) };
    }
    for scheme in &SCHEMES {
        if let Some(fields) = authorization.strip_prefix(scheme.algorithm) {
            in_header(ask, scheme, fields, now)?.verify(ask, identity)?;
            return Ok(scheme);
        }
        if ask.param(&format!("{}algorithm", scheme.prefix)) == Some(scheme.algorithm) {
            in_query(ask, scheme, now)?.verify(ask, identity)?;
            return Ok(scheme);
        }
    }
    Err(unauthenticated())
}

/// The status is in <https://cloud.google.com/storage/docs/xml-api/reference-methods>. Anonymous readers have been seen to get 403
/// AccessDenied from the real service.
fn unauthenticated() -> Refusal {
    refuse(401, "AuthenticationRequired", "Authentication required.")
}

fn malformed(what: &str) -> Refusal {
    refuse(400, "MalformedSecurityHeader", format!("Your request has a malformed header: {what}."))
}

struct Signature<'a> {
    scheme: &'static Scheme,
    date: &'a str,
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    payload: &'a str,
}

/// How far clocks may be apart.
const SKEW: TimeDelta = TimeDelta::minutes(15);

fn in_header<'a>(ask: &'a Ask, scheme: &'static Scheme, fields: &'a str, now: DateTime<Utc>) -> Result<Signature<'a>, Refusal> {
    let header = |name: &str| ask.header(&format!("{}{name}", scheme.prefix)).ok_or_else(|| malformed(name));
    let fields: BTreeMap<_, _> = fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().ok_or_else(|| malformed(name));
    let (date, payload) = (header("date")?, header("content-sha256")?);
    if (time(date)? - now).abs() > SKEW {
        let message = "The difference between the request time and the server's time is too large.";
        return Err(refuse(403, "RequestTimeTooSkewed", message));
    }
    if payload != "UNSIGNED-PAYLOAD" && payload != hex(&Sha256::digest(&ask.body)) {
        // Amazon's name for it; Google's is not known.
        return Err(refuse(400, "XAmzContentSHA256Mismatch", "The content-sha256 you specified did not match what we received."));
    }
    let (credential, signed_headers, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    Ok(Signature { scheme, date, credential, signed_headers, signature, payload })
}

/// <https://cloud.google.com/storage/docs/access-control/signed-urls>.
fn in_query<'a>(ask: &'a Ask, scheme: &'static Scheme, now: DateTime<Utc>) -> Result<Signature<'a>, Refusal> {
    let param = |name: &str| ask.param(&format!("{}{name}", scheme.prefix)).ok_or_else(|| malformed(name));
    let date = param("date")?;
    let expires = param("expires")?.parse().ok().filter(|seconds| (1..=604_800).contains(seconds)).ok_or_else(|| malformed("expires"))?;
    let age = now - time(date)?;
    // fog/fog-google#264 has the message, floci-io/floci-gcp#32 the status.
    if age > TimeDelta::seconds(expires) {
        return Err(refuse(400, "ExpiredToken", "The provided token has expired."));
    }
    if age < -SKEW {
        return Err(refuse(403, "RequestTimeTooSkewed", "The request's time is in the future."));
    }
    let (credential, signed_headers, signature) = (param("credential")?, param("signedheaders")?, param("signature")?);
    Ok(Signature { scheme, date, credential, signed_headers, signature, payload: "UNSIGNED-PAYLOAD" })
}

fn time(text: &str) -> Result<DateTime<Utc>, Refusal> {
    NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").map(|time| time.and_utc()).map_err(|_| malformed("date"))
}

impl Signature<'_> {
    fn verify(&self, ask: &Ask, identity: &Identity) -> Result<(), Refusal> {
        let (who, scope) = self.credential.split_once('/').ok_or_else(|| malformed("credential"))?;
        let [day, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else { return Err(malformed("credential")) };
        if day != &self.date[..8] || end != self.scheme.end {
            return Err(malformed("credential"));
        }
        let known = if self.scheme.secret.is_some() { &identity.access_key } else { &identity.email };
        if who != known {
            // Google has been seen to answer with this message, which an old list of its codes has beside this code.
            return Err(refuse(403, "InvalidAccessKeyId", "The User Id you provided does not exist in our records."));
        }
        let host = ask.header("host").unwrap_or_default();
        let good = |host| {
            let canonical = self.canonical_request(ask, host);
            let digest = hex(&Sha256::digest(canonical));
            let to_sign = format!("{}\n{}\n{scope}\n{digest}", self.scheme.algorithm, self.date);
            match self.scheme.secret {
                Some(prefix) => {
                    let key = format!("{prefix}{}", identity.secret_key).into_bytes();
                    let key = [day, region, service, end].iter().fold(key, |key, part| hmac(&key, part.as_bytes()).to_vec());
                    hex(&hmac(&key, to_sign.as_bytes())) == self.signature
                }
                None => unhex(self.signature).is_some_and(|signature| identity.has_signed(to_sign.as_bytes(), &signature)),
            }
        };
        // `object_store` signs URLs for the second, whatever its base URL is.
        if self.covers_all(ask) && (good(host) || self.scheme.secret.is_none() && good("storage.googleapis.com")) {
            return Ok(());
        }
        let canonical = self.canonical_request(ask, host);
        Err(refuse(403, "SignatureDoesNotMatch", format!("Access denied. The canonical request is:\n{canonical}")))
    }

    /// The host and all extension headers have to be signed: <https://cloud.google.com/storage/docs/authentication/canonical-requests>.
    /// What Google's front end rewrites must not be: siderolabs/talos-backup#64.
    fn covers_all(&self, ask: &Ask) -> bool {
        let signed: Vec<_> = self.signed_headers.split(';').collect();
        let extensions = ask.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with(self.scheme.prefix));
        signed.contains(&"host") && extensions.into_iter().all(|name| signed.contains(&name)) && !signed.contains(&"accept-encoding")
    }

    /// <https://cloud.google.com/storage/docs/authentication/canonical-requests>.
    fn canonical_request(&self, ask: &Ask, host: &str) -> String {
        let signature = format!("{}signature", self.scheme.prefix);
        let params = ask.query.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(&signature));
        let mut params: Vec<_> = params.map(|(name, value)| (encode(name), encode(value))).collect();
        params.sort();
        let params: Vec<_> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = String::new();
        for name in self.signed_headers.split(';') {
            let values = ask.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let values: Vec<_> = values.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            let values = if name == "host" { host.to_owned() } else { values.join(",") };
            headers += &format!("{name}:{values}\n");
        }
        let (path, query) = (&ask.path, params.join("&"));
        format!("{}\n{path}\n{query}\n{headers}\n{}\n{}", ask.method, self.signed_headers, self.payload)
    }
}

fn encode(text: &str) -> String {
    const SET: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, &SET).to_string()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect()
}
