//! What the cases are written with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Fixture;
use crate::metadata::{BlobLink, Deletion, Event, LinkBlob, MountBlob, NewUpload, Page, PutManifest, Sweep, UploadKey};
use crate::{Algorithm, Digest, Error, ErrorKind, MetadataStore, RepositoryName, Result, Tag};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// How long links and blobs are kept.
pub(super) const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long a condemned blob can be brought back.
pub(super) const TRASH: Duration = Duration::from_secs(2 * 3600);
/// How long a deletion is claimed for.
pub(super) const LEASE: Duration = Duration::from_secs(600);
/// More sweep pages than any case can need: a sweep that does not end is a failure, not a hang.
const MOST_PAGES: usize = 200;

pub(super) fn repo(name: &str) -> RepositoryName {
    name.parse().expect("a repository name")
}

pub(super) fn tag(name: &str) -> Tag {
    name.parse().expect("a tag")
}

pub(super) fn blob(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

pub(super) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}

pub(super) fn page(after: Option<&str>, limit: u32) -> Page {
    Page { after: after.map(str::to_owned), limit }
}

pub(super) fn key(id: &str) -> UploadKey {
    UploadKey { id: id.to_owned(), repository: repo("team/app"), owner: "alice".to_owned() }
}

/// The failure, which has to be of this kind.
#[track_caller]
pub(super) fn fails<T: fmt::Debug>(result: Result<T>, kind: ErrorKind) -> Error {
    let error = result.expect_err(kind_name(kind));
    assert_eq!(error.kind(), kind, "{error}");
    error
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Conflict => "expected Conflict",
        ErrorKind::Unavailable => "expected Unavailable",
        ErrorKind::UploadUnknown => "expected UploadUnknown",
        ErrorKind::RangeInvalid => "expected RangeInvalid",
        ErrorKind::ManifestBlobUnknown => "expected ManifestBlobUnknown",
        _ => "expected a failure",
    }
}

/// All pages of a sweep, of so many rows each.
pub(super) async fn expire_in_pages(store: &dyn MetadataStore, grace: Duration, limit: u32) -> Vec<(RepositoryName, Digest)> {
    let mut removed = Vec::new();
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let page = store.expire_links(&Sweep { grace, cursor, limit }).await.expect("expire_links");
        assert!(page.removed.len() <= limit as usize, "a page of {limit} rows removed {}", page.removed.len());
        removed.extend(page.removed);
        cursor = page.next;
        if cursor.is_none() {
            return removed;
        }
    }
    panic!("the sweep of links does not end");
}

/// The same for blobs.
pub(super) async fn condemn_in_pages(store: &dyn MetadataStore, grace: Duration, limit: u32) -> Vec<Digest> {
    let mut removed = Vec::new();
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let page = store.condemn_blobs(&Sweep { grace, cursor, limit }).await.expect("condemn_blobs");
        assert!(page.removed.len() <= limit as usize, "a page of {limit} rows removed {}", page.removed.len());
        removed.extend(page.removed);
        cursor = page.next;
        if cursor.is_none() {
            return removed;
        }
    }
    panic!("the sweep of blobs does not end");
}

impl Fixture {
    /// Lets time pass.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// The database as another process has it open.
    pub(super) async fn other(&self) -> Arc<dyn MetadataStore> {
        match &self.reopen {
            Some(reopen) => reopen().await,
            None => Arc::clone(&self.store),
        }
    }

    pub(super) async fn intend(&self, digest: &Digest) -> u64 {
        self.store.intend_blob(digest).await.expect("intend_blob").generation
    }

    pub(super) fn link_of(repository: &str, digest: &Digest, generation: u64) -> LinkBlob {
        LinkBlob { repository: repo(repository), digest: *digest, size: 7, generation, upload: None }
    }

    /// Links a blob of 7 bytes, as a push does.
    pub(super) async fn link(&self, repository: &str, digest: &Digest) {
        let generation = self.intend(digest).await;
        self.store.link_blob(Self::link_of(repository, digest, generation)).await.expect("link_blob");
    }

    /// Links a blob named by its content.
    pub(super) async fn push(&self, repository: &str, content: &str) -> Digest {
        let digest = blob(content);
        self.link(repository, &digest).await;
        digest
    }

    pub(super) async fn unlink(&self, repository: &str, digest: &Digest) -> bool {
        self.store.unlink_blob(&repo(repository), digest).await.expect("unlink_blob")
    }

    pub(super) async fn blob_link(&self, repository: &str, digest: &Digest) -> Option<BlobLink> {
        self.store.blob_link(&repo(repository), digest).await.expect("blob_link")
    }

    pub(super) async fn has(&self, repository: &str, digest: &Digest) -> bool {
        self.blob_link(repository, digest).await.is_some()
    }

    pub(super) async fn mount(&self, from: Option<&str>, to: &str, digest: &Digest) -> Option<BlobLink> {
        let mount = MountBlob { from: from.map(repo), to: repo(to), digest: *digest };
        self.store.mount_blob(mount).await.expect("mount_blob")
    }

    /// A manifest of this content that refers to nothing, its bytes intended.
    pub(super) async fn manifest(&self, repository: &str, content: &str) -> PutManifest {
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        let digest = Digest::sha256(&bytes);
        PutManifest {
            repository: repo(repository),
            digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            bytes,
            generation: self.intend(&digest).await,
            blobs: Vec::new(),
            manifests: Vec::new(),
            optional: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            tags: Vec::new(),
        }
    }

    pub(super) async fn put(&self, manifest: PutManifest) -> Digest {
        let digest = manifest.digest;
        self.store.put_manifest(manifest).await.expect("put_manifest");
        digest
    }

    /// Pushes a manifest that refers to nothing, under these tags.
    pub(super) async fn put_tagged(&self, repository: &str, content: &str, tags: &[&str]) -> Digest {
        let mut manifest = self.manifest(repository, content).await;
        manifest.tags = tags.iter().copied().map(tag).collect();
        self.put(manifest).await
    }

    pub(super) async fn has_manifest(&self, repository: &str, digest: &Digest) -> bool {
        self.store.manifest(&repo(repository), &(*digest).into()).await.expect("manifest").is_some()
    }

    /// What a tag points to.
    pub(super) async fn tagged(&self, repository: &str, name: &str) -> Option<Digest> {
        self.store.manifest(&repo(repository), &tag(name).into()).await.expect("manifest").map(|manifest| manifest.digest)
    }

    pub(super) async fn delete_manifest(&self, repository: &str, digest: &Digest) -> bool {
        self.store.delete_manifest(&repo(repository), digest).await.expect("delete_manifest")
    }

    pub(super) async fn tags(&self, repository: &str, after: Option<&str>, limit: u32) -> Option<Vec<String>> {
        let tags = self.store.tags(&repo(repository), &page(after, limit)).await.expect("tags")?;
        Some(tags.iter().map(ToString::to_string).collect())
    }

    pub(super) async fn repositories(&self, after: Option<&str>, limit: u32) -> Vec<String> {
        let names = self.store.repositories(&page(after, limit)).await.expect("repositories");
        names.iter().map(ToString::to_string).collect()
    }

    /// Expires links to the end of the sweep.
    pub(super) async fn expire(&self) -> BTreeSet<(RepositoryName, Digest)> {
        set(expire_in_pages(&*self.store, GRACE, 100).await)
    }

    /// Condemns blobs to the end of the sweep.
    pub(super) async fn condemn(&self) -> BTreeSet<Digest> {
        set(condemn_in_pages(&*self.store, GRACE, 100).await)
    }

    pub(super) async fn claim(&self) -> Vec<Deletion> {
        self.store.claim_deletions(TRASH, LEASE, 100).await.expect("claim_deletions")
    }

    /// Brings a blob that nobody holds as far as being deleted.
    pub(super) async fn claim_one(&self, digest: &Digest) -> Deletion {
        self.pass(GRACE + SECOND);
        assert_eq!(self.condemn().await, set([*digest]));
        self.pass(TRASH + SECOND);
        let claimed = self.claim().await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        assert_eq!(claimed[0].digest, *digest);
        claimed[0]
    }

    pub(super) async fn create(&self, id: &str) -> UploadKey {
        let key = key(id);
        self.store.create_upload(NewUpload { key: key.clone(), algorithm: Algorithm::Sha256 }).await.expect("create_upload");
        key
    }

    pub(super) async fn events(&self) -> Vec<Event> {
        self.store.events(0, 1000).await.expect("events")
    }
}
