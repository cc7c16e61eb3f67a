//! What a cluster says of itself: `GET /info`. <https://docs.openstack.org/swift/latest/api/discoverability.html>

use serde::Deserialize;

/// Limits and features. What the cluster does not tell is Swift's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// Bytes of an object, segments included.
    pub(crate) max_file_size: u64,
    /// Whether an object may be a list of others.
    pub(crate) has_large_objects: bool,
    /// Segments of a manifest.
    pub(crate) max_segments: usize,
    /// Names in one list, if that is known.
    pub(crate) list_page: Option<usize>,
    /// Names in one bulk delete; 0 if there is none.
    pub(crate) max_bulk_deletes: usize,
    /// What temporary URLs may be signed with.
    pub(crate) temp_url_digests: Vec<String>,
    /// Whether it compares the ETag that comes with a manifest with those of the segments. RadosGW does not, and is known by saying less of itself.
    pub(crate) compares_manifests: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    swift: Swift,
    slo: Option<Slo>,
    bulk_delete: Option<BulkDelete>,
    tempurl: Option<TempUrl>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Swift {
    max_file_size: Option<u64>,
    container_listing_limit: Option<usize>,
    version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Slo {
    max_manifest_segments: Option<usize>,
    max_manifest_size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BulkDelete {
    max_deletes_per_request: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TempUrl {
    allowed_digests: Vec<String>,
}

impl Default for Info {
    fn default() -> Self {
        Self::from(Told::default())
    }
}

impl From<Told> for Info {
    fn from(told: Told) -> Self {
        Self {
            max_file_size: told.swift.max_file_size.unwrap_or(5 << 30),
            // Who says nothing at all may have them.
            has_large_objects: told.slo.is_some() || told.swift.version.is_none(),
            compares_manifests: told.slo.as_ref().is_some_and(|slo| slo.max_manifest_size.is_some()),
            max_segments: told.slo.and_then(|slo| slo.max_manifest_segments).unwrap_or(1000),
            list_page: told.swift.container_listing_limit,
            max_bulk_deletes: told.bulk_delete.map_or(0, |bulk| bulk.max_deletes_per_request.unwrap_or(1000)),
            temp_url_digests: told.tempurl.map(|tempurl| tempurl.allowed_digests).unwrap_or_default(),
        }
    }
}

impl Info {
    /// From the answer's JSON.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().map(|told: Told| told.into())
    }

    /// The best that temporary URLs may be signed with. RadosGW does not tell, and knows SHA-1 only.
    pub(crate) fn temp_url_digest(&self) -> Digest {
        let allows = |name: &str| self.temp_url_digests.iter().any(|digest| digest == name);
        if allows("sha256") {
            Digest::Sha256
        } else if allows("sha512") {
            Digest::Sha512
        } else {
            Digest::Sha1
        }
    }
}

/// What a temporary URL is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

#[cfg(test)]
mod tests {
    use super::{Digest, Info};

    #[test]
    fn limits_are_read_and_what_is_missing_is_the_default() {
        let json = br#"{"swift":{"version":"2.30.1","max_file_size":1048576},"slo":{"max_manifest_segments":7,"max_manifest_size":8388608},
            "bulk_delete":{"max_deletes_per_request":10000},"tempurl":{"allowed_digests":["sha1","sha256"]},"other":{}}"#;
        let info = Info::parse(json).unwrap();
        assert_eq!((info.max_file_size, info.max_segments, info.max_bulk_deletes, info.compares_manifests), (1 << 20, 7, 10_000, true));
        assert_eq!(info.temp_url_digest(), Digest::Sha256);
        let info = Info::parse(
            br#"{"bulk_delete":{},"tempurl":{"methods":["GET"]},"swift":{"max_file_size":5368709120,"version":"16.2.15"},"slo":{"max_manifest_segments":1000}}"#,
        ).unwrap();
        assert_eq!((info.max_bulk_deletes, info.compares_manifests, info.temp_url_digest()), (1000, false, Digest::Sha1));
        assert!(info.has_large_objects);
        assert!(!Info::parse(br#"{"swift":{"version":"2.30.1"}}"#).unwrap().has_large_objects);
        assert_eq!(Info::parse(b"<html>"), None);
    }
}
