//! The contract of the database: [`MetadataStore`].
//!
//! Writes are commands (plain values), never open transactions, so that a store may commit the commands of many callers as one. Each command is one
//! transaction: all of it or nothing.

mod types;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::types::{
    BlobLink, Deletion, Event, EventKind, GcPreview, HeldBlob, Intent, LinkBlob, ManifestUse, MountBlob, NewUpload, Observation,
    OpenUpload, Page, PutManifest, Referrer, ReferrersQuery, StoredManifest, Sweep, SweepPage, UploadKey, UploadSession, UsedManifest,
};
use crate::{Digest, Reference, RepositoryName, Result, Tag};

/// The registry's database: which repository holds what, which uploads are in progress, and what is being collected.
///
/// # Blobs, links, and the fence
///
/// A *link* (repository, digest) lets a repository's users read a blob. It has a `relied_at`: when somebody was last told that the blob is there.
/// Besides, there is one row per blob, with a state and a *generation*:
///
/// ```text
///            intend                    no link, no manifest,
///   (none) ─────────> live ───────────────────────────────────> condemned ──> deleting ──> (none)
///                      ^        not touched during grace            │   trash delay │  ^ bytes are gone
///                      └──────────────── intend, link, mount ───────┘               │
///                      ^                                                            │
///                      └── intend, once nobody can be deleting any more ────────────┘
/// ```
///
/// Whoever writes bytes first [intends](Self::intend_blob) to, then writes, then [links](Self::link_blob) under the generation it was given. Every
/// step towards deletion raises the generation, so that a link made on bytes that may be gone is refused with
/// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict), and the writer starts over. While a blob is *deleting*, nobody may write it: no lease can
/// recall a DELETE that is on its way, and it would take the new bytes with it.
///
/// # Durability
///
/// Commands that end in an acknowledgement to a client are durable when answered: `link_blob`, `mount_blob`, `unlink_blob`, `put_manifest`,
/// `delete_manifest`, `delete_tag`, and those of garbage collection. So is an `intend_blob` that makes a row or takes one back from collection: bytes
/// follow it that outlive the power, and without the row nobody would ever find and delete them. One that only touches a live row, `rely_on_blob`,
/// `observe_blob`, `note_uses`, `tidy` and everything about uploads must be seen by all processes when answered, but may be lost with the power: they are
/// ordered before any durable command that follows.
///
/// # Time
///
/// Times are the store's own clock's, never the caller's, so that processes whose clocks disagree cannot collect each other's work.
///
/// Implementations are checked by [`testing::metadata_store`](crate::testing::metadata_store).
#[async_trait]
pub trait MetadataStore: fmt::Debug + Send + Sync + 'static {
    // ---- blobs ----

    /// Says that bytes of this blob are about to be written: makes its row live.
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) with a `retry_after` while it is being deleted.
    async fn intend_blob(&self, digest: &Digest) -> Result<Intent>;

    /// Links a blob whose bytes are now in the store, ends the upload they came by, and notes that they were verified.
    ///
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the generation moved on, or the upload has a newer writer;
    /// [`ErrorKind::UploadUnknown`](crate::ErrorKind::UploadUnknown) if the upload was cancelled meanwhile. Nothing is changed then.
    async fn link_blob(&self, link: LinkBlob) -> Result<()>;

    /// Links a blob that another repository holds; `None` if it does not, or if the blob is suspect. Counts as relying on the blob.
    async fn mount_blob(&self, mount: MountBlob) -> Result<Option<BlobLink>>;

    /// Takes a blob out of a repository; whether it was there.
    async fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool>;

    /// The link, if the repository has it.
    async fn blob_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<BlobLink>>;

    /// The link, if the repository has it, and from now on somebody relies on it: its `relied_at` becomes now, unless it is younger than `at_most_every`.
    async fn rely_on_blob(&self, repository: &RepositoryName, digest: &Digest, at_most_every: Duration) -> Result<Option<BlobLink>>;

    /// The repositories that hold the blob, by a link or because it is a manifest there: in lexical (byte) order, each once. Empty if none does.
    ///
    /// What was held and is no longer may still be told while it goes, and the other way round: who acts on it looks again later.
    async fn holders(&self, digest: &Digest) -> Result<Vec<RepositoryName>>;

    /// The blobs that some repository holds, and [which](Self::holders): in the order of their digests, behind `after`, at most `limit`. Fewer than
    /// `limit` are on the last page only.
    ///
    /// For whoever has to work out anew where each blob belongs. It walks an index, so that a page costs the same wherever it begins, and writers go on
    /// beside it: a blob that is held all the while is on exactly one of the pages.
    async fn held_blobs(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<HeldBlob>>;

    /// Those of these blobs that the store has no row of, in the order in which they were asked for: nobody means to write them, holds them, or is collecting
    /// them.
    async fn unknown_blobs(&self, digests: &[Digest]) -> Result<Vec<Digest>>;

    /// Notes what a reader found when it hashed a blob. A blob without a row is passed over.
    async fn observe_blob(&self, digest: &Digest, observation: Observation) -> Result<()>;

    // ---- uploads ----

    /// Begins an upload session.
    async fn create_upload(&self, upload: NewUpload) -> Result<()>;

    /// Takes the upload over for writing at `offset` (wherever it stands, if `None`): a compare-and-set that raises the writer epoch, so that whoever
    /// had it before can neither save nor commit.
    ///
    /// [`ErrorKind::RangeInvalid`](crate::ErrorKind::RangeInvalid) with the right offset if it stands elsewhere, and nothing is changed;
    /// [`ErrorKind::UploadUnknown`](crate::ErrorKind::UploadUnknown) if there is no such session of this repository and owner.
    async fn open_upload(&self, key: &UploadKey, offset: Option<u64>) -> Result<OpenUpload>;

    /// Stores where the upload stands. [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if it has a newer writer than `epoch`.
    async fn save_upload(&self, key: &UploadKey, epoch: u64, offset: u64, token: Bytes) -> Result<()>;

    /// The session as it stands, without taking it over.
    async fn upload(&self, key: &UploadKey) -> Result<UploadSession>;

    /// Ends a session unfinished, and returns where it stood, with the epoch raised. [`ErrorKind::UploadUnknown`](crate::ErrorKind::UploadUnknown) if
    /// there is none.
    async fn cancel_upload(&self, key: &UploadKey) -> Result<OpenUpload>;

    /// Drops up to `limit` sessions that nobody touched for `idle`, and finished ones after `keep_finished`; returns how many.
    async fn expire_uploads(&self, idle: Duration, keep_finished: Duration, limit: u32) -> Result<u32>;

    // ---- manifests and tags ----

    /// Stores a manifest, what it refers to, its tags and the events, and relies on every blob it refers to.
    ///
    /// [`ErrorKind::ManifestBlobUnknown`](crate::ErrorKind::ManifestBlobUnknown), naming what is missing, if its repository does not hold everything
    /// it requires; [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the generation of its own bytes moved on. Nothing is changed then.
    async fn put_manifest(&self, manifest: PutManifest) -> Result<()>;

    /// A manifest by digest or by tag.
    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<StoredManifest>>;

    /// Deletes a manifest and every tag that points to it; whether it was there.
    async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool>;

    /// Deletes a tag; whether it was there.
    async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool>;

    /// The tags of a repository in lexical (byte) order; `None` if the repository is not known.
    async fn tags(&self, repository: &RepositoryName, page: &Page) -> Result<Option<Vec<Tag>>>;

    /// The repositories that hold a manifest, in lexical (byte) order.
    async fn repositories(&self, page: &Page) -> Result<Vec<RepositoryName>>;

    /// The manifests whose subject is this digest, in the order of their digests. Empty if there is no such repository or subject.
    async fn referrers(&self, query: &ReferrersQuery) -> Result<Vec<Referrer>>;

    /// Notes that these manifests were used now: pulled. One that the repository does not have is passed over. May be lost with the power.
    async fn note_uses(&self, uses: &[(RepositoryName, Digest)]) -> Result<()>;

    /// The manifests of all repositories, those that were used last first, behind `after`, at most `limit`; a manifest of several repositories once for each.
    /// Those of one moment come in any order. One that is used while pages are read may be passed over: it is among the first from then on.
    async fn manifests_by_use(&self, after: Option<&ManifestUse>, limit: u32) -> Result<Vec<UsedManifest>>;

    // ---- garbage collection ----

    /// Removes links that no manifest of their repository needs and nobody relied on during [`Sweep::grace`]; returns those removed.
    async fn expire_links(&self, sweep: &Sweep) -> Result<SweepPage<(RepositoryName, Digest)>>;

    /// Condemns blobs that no repository links and no manifest is, and that nobody touched during [`Sweep::grace`]; returns those condemned.
    async fn condemn_blobs(&self, sweep: &Sweep) -> Result<SweepPage<Digest>>;

    /// The same for these blobs alone: those that just lost a link.
    async fn condemn(&self, digests: &[Digest], grace: Duration) -> Result<Vec<Digest>>;

    /// Takes up to `limit` blobs that were condemned at least `trash_delay` ago, or whose deletion another process began and never finished, and marks
    /// them as being deleted for `lease` and half of it, for a request that is on its way. The caller must send each delete within half the lease, and
    /// [renew](Self::renew_deletion) the claim as long as one has not ended.
    async fn claim_deletions(&self, trash_delay: Duration, lease: Duration, limit: u32) -> Result<Vec<Deletion>>;

    /// Keeps a claim whose delete is still on its way: nobody may write the blob for another `lease` and half of it.
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the claim is no longer the caller's.
    async fn renew_deletion(&self, deletion: &Deletion, lease: Duration) -> Result<()>;

    /// Says that the bytes are gone. [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if the claim is no longer the caller's.
    async fn complete_deletion(&self, deletion: &Deletion) -> Result<()>;

    /// What would go if links were expired, blobs condemned and deleted now, with no trash delay. Changes nothing.
    async fn preview_collection(&self, grace: Duration) -> Result<GcPreview>;

    /// Forgets events older than `keep_events` and repositories that hold nothing.
    async fn tidy(&self, keep_events: Duration) -> Result<()>;

    // ---- events ----

    /// Up to `limit` events behind `after` (0: from the first), oldest first. Written with the change they tell of, so none is ever missing; a consumer
    /// remembers the last [`Event::id`] it handled.
    async fn events(&self, after: u64, limit: u32) -> Result<Vec<Event>>;

    // ---- the store itself ----

    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;
}
