//! What is stored.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::response::Response;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName};
use md5::{Digest as _, Md5};

use super::wire::{Answer, Ask, Refusal, empty, refuse};

#[derive(Default)]
pub(super) struct Store {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) generations: Generations,
}

#[derive(Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, Object>,
    /// By key and upload ID.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

#[derive(Clone)]
pub(super) struct Object {
    pub(super) content: Bytes,
    pub(super) etag: String,
    /// Objects that were uploaded in parts have none.
    pub(super) md5: Option<[u8; 16]>,
    pub(super) generation: i64,
    pub(super) updated: DateTime<Utc>,
    /// Those it is served with.
    pub(super) headers: HeaderMap,
}

pub(super) struct Upload {
    pub(super) headers: HeaderMap,
    pub(super) initiated: DateTime<Utc>,
    pub(super) parts: BTreeMap<usize, Object>,
}

/// Each is greater than all before. Google's are microseconds, too, but that is not documented.
#[derive(Clone, Copy, Default)]
pub(super) struct Generations(i64);

impl Generations {
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> i64 {
        self.0 = (self.0 + 1).max(now.timestamp_micros());
        self.0
    }
}

impl Store {
    pub(super) fn with_bucket(name: &str) -> Self {
        Self { buckets: BTreeMap::from([(name.to_owned(), Bucket::default())]), ..Self::default() }
    }

    pub(super) fn create_bucket(&mut self, name: &str) -> Answer {
        if self.buckets.contains_key(name) {
            return Err(refuse(409, "BucketAlreadyOwnedByYou", "You already own this bucket."));
        }
        self.buckets.insert(name.to_owned(), Bucket::default());
        Ok(empty(200))
    }

    pub(super) fn bucket(&mut self, name: &str) -> Result<(&mut Bucket, &mut Generations), Refusal> {
        let bucket = self.buckets.get_mut(name).ok_or_else(|| refuse(404, "NoSuchBucket", "The specified bucket does not exist."))?;
        Ok((bucket, &mut self.generations))
    }
}

impl Object {
    /// The body of a request, which is its Content-MD5 if there is one.
    pub(super) fn of(ask: &Ask, generation: i64, updated: DateTime<Utc>) -> Result<Self, Refusal> {
        let md5: [u8; 16] = Md5::digest(&ask.body).into();
        if ask.header("content-md5").is_some_and(|expected| expected != super::identity::base64(&md5)) {
            return Err(refuse(400, "BadDigest", "The Content-MD5 you specified did not match what we received."));
        }
        // Google's has been seen to be this, but no document promises it.
        let etag = format!("\"{}\"", hex(&md5));
        Ok(Self { content: ask.body.clone(), etag, md5: Some(md5), generation, updated, headers: kept_headers(ask) })
    }

    /// What each answer about an object says of it.
    pub(super) fn describe(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert("etag", self.etag.parse().unwrap());
        headers.insert("x-goog-generation", self.generation.into());
        headers.insert("x-goog-metageneration", 1.into());
        headers.insert("x-goog-stored-content-length", self.content.len().into());
        // https://cloud.google.com/storage/docs/multipart-uploads: "MD5 hashes don't exist for objects uploaded using this method".
        if let Some(md5) = &self.md5 {
            headers.insert("x-goog-hash", format!("md5={}", super::identity::base64(md5)).parse().unwrap());
        }
    }
}

/// Those of a request that its object is served with. `x-amz-` and `x-goog-` mean the same:
/// <https://cloud.google.com/storage/docs/aws-simple-migration>.
pub(super) fn kept_headers(ask: &Ask) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in &ask.headers {
        let name = name.as_str().replace("x-amz-", "x-goog-");
        let plain =
            ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "x-goog-storage-class"];
        if plain.contains(&name.as_str()) || name.starts_with("x-goog-meta-") {
            kept.append(HeaderName::try_from(name).unwrap(), value.clone());
        }
    }
    kept
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
