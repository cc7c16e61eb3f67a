//! The rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::metadata::{Event, EventKind, UploadKey, UploadSession};
use crate::{Algorithm, Digest, Error, ErrorKind, RepositoryName, Result, Tag, Timestamp};

/// Everything the store knows.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) blobs: BTreeMap<Digest, BlobRow>,
    pub(super) repositories: BTreeMap<RepositoryName, Repository>,
    pub(super) uploads: BTreeMap<String, UploadRow>,
    pub(super) events: BTreeMap<u64, Event>,
    /// The last that was given out: ids are never used twice, even after a tidying.
    last_event: u64,
    /// The highest that was given out to any blob: with it, a row made anew cannot repeat one of a row that is gone, even if the clock steps back.
    last_generation: u64,
}

/// A blob, whoever holds it.
#[derive(Debug)]
pub(super) struct BlobRow {
    pub(super) life: Life,
    pub(super) generation: u64,
    /// Zero until it was linked or was a manifest.
    pub(super) size: u64,
    /// When somebody last meant to write it, or got hold of it.
    pub(super) touched_at: Timestamp,
    pub(super) verified_at: Timestamp,
    pub(super) suspect: bool,
}

/// How far a blob is from being gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Live,
    Condemned {
        at: Timestamp,
    },
    Deleting {
        /// When nobody can be deleting any more.
        until: Timestamp,
    },
}

/// What a repository holds. It is known from its first link or manifest until it is tidied away.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// Blobs, and when somebody last relied on each.
    pub(super) links: BTreeMap<Digest, Timestamp>,
    pub(super) manifests: BTreeMap<Digest, ManifestRow>,
    /// What is referred to, and the manifest that does: the edges, by their ends.
    pub(super) needs: BTreeSet<(Digest, Digest)>,
    pub(super) tags: BTreeMap<Tag, Digest>,
}

#[derive(Debug)]
pub(super) struct ManifestRow {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
    /// The edges, by their beginnings.
    pub(super) edges: BTreeSet<Digest>,
    pub(super) subject: Option<Digest>,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) used_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct UploadRow {
    pub(super) key: UploadKey,
    pub(super) epoch: u64,
    pub(super) session: UploadSession,
    pub(super) touched_at: Timestamp,
}

/// Whether something last touched at `touched_at` was left alone for `grace`: longer than that, or with no grace at all, up to now.
pub(super) fn is_idle(touched_at: Timestamp, grace: Duration, now: Timestamp) -> bool {
    let deadline = now - grace;
    if grace.is_zero() { touched_at <= deadline } else { touched_at < deadline }
}

pub(super) fn conflict(message: &str, key: &Digest) -> Error {
    Error::new(ErrorKind::Conflict, message).with_key(key)
}

/// The digest before all others.
fn least_digest() -> Digest {
    Digest::from_bytes(Algorithm::Sha256, &[0; 32]).expect("32 bytes are a SHA-256")
}

impl Repository {
    /// Whether a manifest here refers to this.
    pub(super) fn needs(&self, digest: &Digest) -> bool {
        // In the order of pairs, all edges to one digest are beside each other, none of them before the pair with the least of all digests.
        self.needs.range((*digest, least_digest())..).next().is_some_and(|(needed, _)| needed == digest)
    }

    /// Whether this is linked here, or is a manifest here.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.links.contains_key(digest) || self.manifests.contains_key(digest)
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.links.is_empty() && self.manifests.is_empty() && self.tags.is_empty()
    }

    /// Takes out a manifest and its edges.
    pub(super) fn remove_manifest(&mut self, digest: &Digest) -> Option<ManifestRow> {
        let row = self.manifests.remove(digest)?;
        for edge in &row.edges {
            self.needs.remove(&(*edge, *digest));
        }
        Some(row)
    }
}

impl State {
    /// A generation that no blob ever had, and that no blob will have.
    pub(super) fn next_generation(&mut self, now: Timestamp) -> u64 {
        let clock = u64::try_from(now.as_millis()).unwrap_or(0);
        self.last_generation = clock.max(self.last_generation + 1);
        self.last_generation
    }

    /// The row to be written under `generation`, or a conflict if it moved on.
    pub(super) fn row_at(&mut self, digest: &Digest, generation: u64) -> Result<&mut BlobRow> {
        self.blobs
            .get_mut(digest)
            .filter(|row| row.life == Life::Live && row.generation == generation)
            .ok_or_else(|| conflict("the blob was collected, or is being: write it again", digest))
    }

    /// Whether a repository links this, or has it as a manifest.
    pub(super) fn is_held(&self, digest: &Digest) -> bool {
        self.repositories.values().any(|repository| repository.holds(digest))
    }

    pub(super) fn tell(&mut self, kind: EventKind, repository: &RepositoryName, digest: Digest, tag: Option<Tag>, now: Timestamp) {
        self.last_event += 1;
        self.events.insert(self.last_event, Event::new(self.last_event, now, kind, repository.clone(), digest, tag));
    }

    pub(super) fn events_after(&self, after: u64, limit: u32) -> Vec<Event> {
        let Some(first) = after.checked_add(1) else { return Vec::new() };
        self.events.range(first..).take(limit as usize).map(|(_, event)| event.clone()).collect()
    }
}
