//! Where things are.

use object_store::path::Path;
use registry_core::{Algorithm, Digest};

/// The keys under a storage path.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// What all keys begin with, without slashes around it; may be empty.
    root: String,
    /// The folder of uploads.
    staging: &'static str,
}

impl Layout {
    /// `by_manifest`: staged pieces stay where they are when they become a blob.
    pub(crate) fn new(storage_path: &str, by_manifest: bool) -> Self {
        let root = storage_path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Self { root, staging: if by_manifest { "_segments" } else { "_uploads" } }
    }

    fn path(&self, name: &str) -> Path {
        let path = if self.root.is_empty() { name.to_owned() } else { format!("{}/{name}", self.root) };
        // As it is, so that it is recognised in lists; what no path can have is escaped.
        Path::parse(&path).unwrap_or_else(|_| Path::from(path))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Path {
        self.path(&format!("blobs/{}/{:02x}/{}", digest.algorithm(), digest.shard(), digest.hex()))
    }

    pub(crate) fn blobs(&self, algorithm: Algorithm) -> Path {
        self.path(&format!("blobs/{algorithm}"))
    }

    /// Where all blobs are.
    pub(crate) fn all_blobs(&self) -> Path {
        self.path("blobs")
    }

    pub(crate) fn shard(&self, algorithm: Algorithm, shard: u8) -> Path {
        self.path(&format!("blobs/{algorithm}/{shard:02x}"))
    }

    /// A key behind all of the earlier shards and before all of this one. Not the shard's folder itself: SeaweedFS goes on behind all that is in it.
    pub(crate) fn before_shard(&self, algorithm: Algorithm, shard: u8) -> Path {
        self.path(&format!("blobs/{algorithm}/{shard:02x}/{shard:02x}"))
    }

    /// The digest whose blob has this key.
    pub(crate) fn digest(algorithm: Algorithm, path: &Path) -> Option<Digest> {
        format!("{algorithm}:{}", path.filename()?).parse().ok()
    }

    /// Where all uploads have their folders.
    pub(crate) fn uploads(&self) -> Path {
        self.path(self.staging)
    }

    pub(crate) fn upload(&self, id: &str) -> Path {
        self.path(&format!("{}/{id}", self.staging))
    }

    /// One of the things in an upload's folder.
    pub(crate) fn staged(&self, id: &str, name: &str) -> Path {
        self.path(&format!("{}/{id}/{name}", self.staging))
    }

    /// The id of the upload in whose folder this is, and its name there.
    pub(crate) fn upload_of<'a>(&self, path: &'a Path) -> Option<(&'a str, &'a str)> {
        let path = path.as_ref();
        let path = if self.root.is_empty() { path } else { path.strip_prefix(&self.root)?.strip_prefix('/')? };
        path.strip_prefix(self.staging)?.strip_prefix('/')?.split_once('/')
    }

    pub(crate) fn object(&self, name: &str) -> Path {
        self.path(&format!("_meta/{name}"))
    }

    pub(crate) fn objects(&self) -> Path {
        self.path("_meta")
    }

    /// The name of a named object by its key.
    pub(crate) fn object_of<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let path = path.as_ref();
        let path = if self.root.is_empty() { path } else { path.strip_prefix(&self.root)?.strip_prefix('/')? };
        path.strip_prefix("_meta/")
    }
}

/// The name of a piece in its upload's folder: its writer's epoch, and which of that writer's it is.
pub(crate) fn piece(epoch: u64, number: u32) -> String {
    format!("{epoch}-{number:06}")
}

/// The epoch of a piece's writer; `None` of what is no piece.
pub(crate) fn epoch_of(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

/// Who last took up the upload: an epoch, or [`COMMITTED`].
pub(crate) const WRITER: &str = "_writer";

/// What [`WRITER`] says of an upload whose pieces are a blob's.
pub(crate) const COMMITTED: &str = "committed";

/// The name of the marker that an upload's pieces become, or are, the blob of this digest.
pub(crate) fn marker(digest: &Digest) -> String {
    format!("_commit-{}-{}", digest.algorithm(), digest.hex())
}

/// The digest that a marker names.
pub(crate) fn marked(name: &str) -> Option<Digest> {
    name.strip_prefix("_commit-")?.replacen('-', ":", 1).parse().ok()
}

/// Whether it can be an upload's id.
pub(crate) fn is_upload_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn what_is_stored_under_any_storage_path_is_recognised() {
        for root in ["", "/quay/", "a b/~c", "büro/100%/[x]*?"] {
            let layout = Layout::new(root, true);
            assert_eq!(layout.upload_of(&layout.staged("id", "1-000002")), Some(("id", "1-000002")), "{root:?}");
            assert_eq!(layout.object_of(&layout.object("zone")), Some("zone"), "{root:?}");
        }
    }
}
