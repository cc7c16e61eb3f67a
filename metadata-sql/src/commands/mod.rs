//! The statements of the store: every command and query, once for both databases.

mod blobs;
mod collect;
mod events;
mod holders;
mod hot;
#[cfg(feature = "ledger")]
pub(crate) mod ledger;
mod lists;
mod manifests;
mod many;
mod repositories;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod uploads;

pub(crate) use self::blobs::{IntendBlob, Link, Mount, ObserveBlob, Reliance, RelyOnBlob, UnlinkBlob};
pub(crate) use self::collect::{
    ClaimDeletions, CompleteDeletion, Condemn, CondemnableBlobs, EmptyRepositories, ExpirableLinks, ExpireLinks, Preview, RenewDeletion,
    TidyEvents, TidyHistory, TidyRepositories,
};
pub(crate) use self::events::Events;
pub(crate) use self::holders::{HeldBlobs, Holders, UnknownBlobs};
pub(crate) use self::hot::{Hot, Served};
pub(crate) use self::lists::{ManifestsByUse, ReferrersOf, Repositories, Tags};
pub(crate) use self::manifests::{DeleteManifest, DeleteTag, NoteUses, Put};
pub(crate) use self::uploads::{CancelUpload, CreateUpload, ExpireUploads, OpenForWriting, SaveUpload, Upload};

use std::time::Duration;

use registry_core::{Result, Timestamp};

use crate::driver::{Query, Reader};

/// The states of a blob, as they stand in the database.
mod state {
    pub(super) const LIVE: i64 = 0;
    pub(super) const DELETING: i64 = 2;
}

/// About how many bytes it takes to write so many small rows, with their places in the indexes.
fn rows(count: usize) -> usize {
    count.saturating_mul(200)
}

/// The next generation of a blob: the time, so that it means something to people, but always above the last one.
fn raised(generation: i64, now: Timestamp) -> i64 {
    generation.saturating_add(1).max(now.as_millis())
}

/// The last moment that is more than `grace` ago. No grace at all includes this very moment: then everything goes that may.
fn before_grace(now: Timestamp, grace: Duration) -> Timestamp {
    if grace.is_zero() { now } else { now - grace - Duration::from_millis(1) }
}

/// Whether the database answers.
pub(crate) struct Ping;

impl Query for Ping {
    type Output = ();

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<()> {
        reader.query("SELECT value FROM meta WHERE name = 'schema_version'", &[]).await.map(drop)
    }
}
