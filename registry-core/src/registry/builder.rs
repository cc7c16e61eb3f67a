//! Configuring a [`Registry`].

use std::sync::Arc;
use std::time::Duration;

use super::{Inner, Registry};
use crate::{BlobStore, Clock, MetadataStore, SystemClock};

/// When bytes on their way to a client are hashed once more.
///
/// Only whole blobs are verified; a range is not. On a mismatch the stream ends with an error before its last chunk, so that no client takes the blob for
/// complete, and the blob is offered to be pushed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyReads {
    /// On every read: about 0.5 s of CPU per GB.
    Always,
    /// When the stored bytes were not verified for so long.
    Stale(Duration),
    /// Not at all: for a store that verifies by itself, and keeps its own book of what is damaged or missing. What it gives is taken at its word, and what
    /// it says it does not have is unknown; nothing of either is noted in the metadata, and what was noted there earlier puts no reader off. Only a
    /// mount of a blob that is noted as suspect remains refused, until somebody pushes it.
    Never,
}

impl Default for VerifyReads {
    /// Every 30 days.
    fn default() -> Self {
        Self::Stale(Duration::from_secs(30 * 24 * 3600))
    }
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) read_only: bool,
    pub(super) max_manifest_size: u64,
    pub(super) sparse_indexes: bool,
    pub(super) verify_reads: VerifyReads,
    pub(super) grace: Duration,
    pub(super) trash_delay: Duration,
    pub(super) delete_lease: Duration,
    pub(super) upload_expiry: Duration,
    pub(super) deletion_patience: Duration,
    pub(super) keep_events: Duration,
}

/// Builds a [`Registry`].
#[derive(Debug)]
#[must_use]
pub struct RegistryBuilder {
    blobs: Arc<dyn BlobStore>,
    metadata: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    options: Options,
}

impl RegistryBuilder {
    pub(super) fn new(blobs: Arc<dyn BlobStore>, metadata: Arc<dyn MetadataStore>) -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let options = Options {
            read_only: false,
            max_manifest_size: 4 << 20,
            sparse_indexes: false,
            verify_reads: VerifyReads::default(),
            grace: hours(24),
            trash_delay: hours(1),
            delete_lease: Duration::from_secs(120),
            upload_expiry: hours(24),
            deletion_patience: Duration::from_secs(20),
            keep_events: hours(7 * 24),
        };
        Self { blobs, metadata, clock: Arc::new(SystemClock), options }
    }

    /// Takes the time from here; the machine's clock by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Refuses pushes and deletes with [`ErrorKind::Denied`](crate::ErrorKind::Denied).
    pub fn read_only(mut self, yes: bool) -> Self {
        self.options.read_only = yes;
        self
    }

    /// The largest manifest to accept, in bytes: 4 MiB by default, which is what clients may count on (distribution-spec, "Pushing Manifests").
    pub fn max_manifest_size(mut self, bytes: u64) -> Self {
        self.options.max_manifest_size = bytes;
        self
    }

    /// Accepts indexes some of whose manifests are not in the repository, as made by copying one platform of many. Refused by default.
    pub fn sparse_indexes(mut self, yes: bool) -> Self {
        self.options.sparse_indexes = yes;
        self
    }

    /// When to verify what is read.
    pub fn verify_reads(mut self, verify: VerifyReads) -> Self {
        self.options.verify_reads = verify;
        self
    }

    /// How long a blob that no manifest needs stays in its repository after a client was last told that it is there; 24 hours by default.
    ///
    /// It has to be longer than any push takes, and the same in all processes over one database.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How long a blob that no repository holds is kept before its bytes are deleted; an hour by default.
    pub fn trash_delay(mut self, delay: Duration) -> Self {
        self.options.trash_delay = delay;
        self
    }

    /// How long a process may take over deleting one blob before another takes over; two minutes by default. A delete that
    /// has not been sent after half of it is not sent any more; one that has is waited for.
    pub fn delete_lease(mut self, lease: Duration) -> Self {
        self.options.delete_lease = lease;
        self
    }

    /// How long an idle upload is kept; 24 hours by default.
    pub fn upload_expiry(mut self, expiry: Duration) -> Self {
        self.options.upload_expiry = expiry;
        self
    }

    /// How long a push waits for a deletion of the same blob before it fails as [`Unavailable`](crate::ErrorKind::Unavailable); 20 seconds by default.
    pub fn deletion_patience(mut self, patience: Duration) -> Self {
        self.options.deletion_patience = patience;
        self
    }

    /// How long [events](crate::MetadataStore::events) are kept; a week by default.
    pub fn keep_events(mut self, keep: Duration) -> Self {
        self.options.keep_events = keep;
        self
    }

    /// The registry.
    pub fn build(self) -> Registry {
        Registry {
            inner: Arc::new(Inner {
                blobs: self.blobs,
                metadata: self.metadata,
                clock: self.clock,
                options: self.options,
                uses: Default::default(),
            }),
        }
    }
}
