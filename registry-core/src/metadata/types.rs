//! What is passed to a [`MetadataStore`](super::MetadataStore) and comes back from it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::{Algorithm, Digest, RepositoryName, Tag, Timestamp};

/// Leave to write the bytes of a blob, and the generation to link them under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The blob's generation.
    pub generation: u64,
}

/// A blob to link to a repository.
#[derive(Clone, Debug)]
pub struct LinkBlob {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// From [`Intent`].
    pub generation: u64,
    /// The upload it came by, and the writer epoch under which it was committed.
    pub upload: Option<(UploadKey, u64)>,
}

/// A blob to link from one repository to another.
#[derive(Clone, Debug)]
pub struct MountBlob {
    /// The repository that has it; any, if `None`.
    pub from: Option<RepositoryName>,
    /// The repository that gets it.
    pub to: RepositoryName,
    /// The blob.
    pub digest: Digest,
}

/// A repository's hold on a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobLink {
    /// The blob's length in bytes.
    pub size: u64,
    /// When its stored bytes were last hashed and found right.
    pub verified_at: Timestamp,
    /// Whether its stored bytes were last found wrong: it has to be pushed again.
    pub suspect: bool,
}

impl BlobLink {
    /// A link as a store tells it.
    pub fn new(size: u64, verified_at: Timestamp, suspect: bool) -> Self {
        Self { size, verified_at, suspect }
    }
}

/// A blob that some repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBlob {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Who holds it: at least one, in order, each once.
    pub repositories: Vec<RepositoryName>,
}

impl HeldBlob {
    /// A blob as a store tells it.
    pub fn new(digest: Digest, size: u64, repositories: Vec<RepositoryName>) -> Self {
        Self { digest, size, repositories }
    }
}

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The stored bytes have the blob's digest.
    Verified,
    /// They do not, or they are not there.
    Suspect,
}

/// Which upload, and on whose behalf it is asked for: a session is only ever seen by the repository and the identity that began it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadKey {
    /// The session's random id.
    pub id: String,
    /// The repository.
    pub repository: RepositoryName,
    /// The identity that began it; empty where there is none.
    pub owner: String,
}

/// A session to begin.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Its id and to whom it belongs.
    pub key: UploadKey,
    /// What to hash with.
    pub algorithm: Algorithm,
}

/// An upload taken over for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenUpload {
    /// The new writer's epoch.
    pub epoch: u64,
    /// The session, with [`UploadSession::finished`] set if there is nothing left to write.
    pub session: UploadSession,
}

impl OpenUpload {
    /// An upload as a store tells it.
    pub fn new(epoch: u64, session: UploadSession) -> Self {
        Self { epoch, session }
    }
}

/// An upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadSession {
    /// What it hashes with.
    pub algorithm: Algorithm,
    /// How many bytes it has.
    pub offset: u64,
    /// The encoded [`UploadToken`](crate::UploadToken); `None` before the first byte.
    pub token: Option<Bytes>,
    /// The blob it became, and that blob's length, once it has ended well. Kept a while so that a client that missed the answer can ask again.
    pub finished: Option<(Digest, u64)>,
}

impl UploadSession {
    /// A session as a store tells it.
    pub fn new(algorithm: Algorithm, offset: u64, token: Option<Bytes>, finished: Option<(Digest, u64)>) -> Self {
        Self { algorithm, offset, token, finished }
    }
}

/// A manifest to store.
#[derive(Clone, Debug)]
pub struct PutManifest {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type, as pushed.
    pub media_type: String,
    /// Its bytes, exactly as pushed.
    pub bytes: Bytes,
    /// From [`Intent`], taken before its bytes were put into the blob store.
    pub generation: u64,
    /// Blobs that the repository must hold.
    pub blobs: Vec<Digest>,
    /// Manifests that the repository must hold.
    pub manifests: Vec<Digest>,
    /// What it refers to without requiring it (layers that are not distributed, children of a sparse index): kept from collection where it is held.
    pub optional: Vec<Digest>,
    /// The manifest that this one is about, which need not exist.
    pub subject: Option<Digest>,
    /// The artifact type that referrers are filtered by.
    pub artifact_type: Option<String>,
    /// Annotations, copied into referrers' descriptors.
    pub annotations: BTreeMap<String, String>,
    /// Tags to point to it.
    pub tags: Vec<Tag>,
}

/// A manifest as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

impl StoredManifest {
    /// A manifest as a store tells it.
    pub fn new(digest: Digest, media_type: impl Into<String>, bytes: Bytes) -> Self {
        Self { digest, media_type: media_type.into(), bytes }
    }
}

/// Part of an ordered list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only names behind this one, which need not exist.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// Which referrers to list.
#[derive(Clone, Debug)]
pub struct ReferrersQuery {
    /// The repository.
    pub repository: RepositoryName,
    /// What they refer to.
    pub subject: Digest,
    /// Only of this type.
    pub artifact_type: Option<String>,
    /// Only digests behind this one.
    pub after: Option<Digest>,
    /// At most so many.
    pub limit: u32,
}

/// A manifest that refers to another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its artifact type.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Referrer {
    /// A referrer as a store tells it.
    pub fn new(
        digest: Digest,
        media_type: impl Into<String>,
        size: u64,
        artifact_type: Option<String>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        Self { digest, media_type: media_type.into(), size, artifact_type, annotations }
    }
}

/// One page of a sweep over all links or blobs. Each is visited once, at constant cost; there is no global mark phase.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// How long something is kept after it was last relied on.
    pub grace: Duration,
    /// Where the last page ended ([`SweepPage::next`]); `None` for the first.
    pub cursor: Option<String>,
    /// How many rows to look at.
    pub limit: u32,
}

/// What a page of a sweep removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepPage<T> {
    /// What was removed.
    pub removed: Vec<T>,
    /// Where to go on; `None` after the last page.
    pub next: Option<String>,
}

/// A blob to delete from the store, claimed by one process for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The blob.
    pub digest: Digest,
    /// Its length in bytes; zero if it was never linked.
    pub size: u64,
    /// The claim.
    pub generation: u64,
}

/// What a garbage collection would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcPreview {
    /// Links of repositories to blobs.
    pub links: u64,
    /// Blobs that no repository would hold any more.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// When a manifest of a repository was last used: pushed, or pulled as far as that was [noted](super::MetadataStore::note_uses).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestUse {
    /// When.
    pub used_at: Timestamp,
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
}

/// A manifest, when it was last used, and what it is no image without.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsedManifest {
    /// Which, and when it was used.
    pub last_use: ManifestUse,
    /// What it refers to, its subject excepted, in the order of digests.
    pub needs: Vec<Digest>,
}

impl UsedManifest {
    /// A manifest as a store tells of it.
    pub fn new(last_use: ManifestUse, needs: Vec<Digest>) -> Self {
        Self { last_use, needs }
    }
}

/// Something that happened, to tell others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Grows with every event; there may be gaps.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Where.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
    /// The tag, for events about tags.
    pub tag: Option<Tag>,
}

impl Event {
    /// An event as a store tells it.
    pub fn new(id: u64, at: Timestamp, kind: EventKind, repository: RepositoryName, digest: Digest, tag: Option<Tag>) -> Self {
        Self { id, at, kind, repository, digest, tag }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A manifest was pushed.
    ManifestPushed,
    /// A manifest was deleted.
    ManifestDeleted,
    /// A tag points to another manifest than before.
    TagMoved,
    /// A tag was deleted.
    TagDeleted,
}

impl EventKind {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ManifestPushed => "manifest-pushed",
            Self::ManifestDeleted => "manifest-deleted",
            Self::TagMoved => "tag-moved",
            Self::TagDeleted => "tag-deleted",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::ManifestPushed, Self::ManifestDeleted, Self::TagMoved, Self::TagDeleted].into_iter().find(|kind| kind.as_str() == name)
    }
}
