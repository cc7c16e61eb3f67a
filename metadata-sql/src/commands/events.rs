//! The outbox.

use registry_core::metadata::{Event, EventKind};
use registry_core::{Digest, Error, ErrorKind, RepositoryName, Result, Tag, Timestamp};

use crate::driver::{Query, Reader, Transaction, params};

/// Notes what the command at hand does. Since writers take turns, numbers become visible in their order: whoever read up to one missed none before it.
pub(super) async fn record<T: Transaction>(
    transaction: &mut T,
    at: Timestamp,
    kind: EventKind,
    repository: &RepositoryName,
    digest: &Digest,
    tag: Option<&Tag>,
) -> Result<()> {
    let sql = "INSERT INTO events (at, kind, repository, digest, tag) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.execute(sql, params![at, kind.as_str(), repository, digest, tag]).await.map(drop)
}

/// [`events`](registry_core::MetadataStore::events).
pub(crate) struct Events {
    pub(crate) after: u64,
    pub(crate) limit: u32,
}

impl Query for Events {
    type Output = Vec<Event>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Event>> {
        let sql = "SELECT id, at, kind, repository, digest, tag FROM events WHERE id > ?1 ORDER BY id LIMIT ?2";
        let rows = reader.query(sql, params![self.after, self.limit]).await?;
        let event = |mut row: crate::driver::Row| {
            let kind = row.text(2)?;
            let kind = EventKind::from_name(&kind)
                .ok_or_else(|| Error::new(ErrorKind::Corrupt, "the database has an event of an unknown kind").with_key(kind))?;
            Ok(Event::new(row.unsigned(0)?, row.time(1)?, kind, row.parsed(3)?, row.parsed(4)?, row.opt_parsed(5)?))
        };
        rows.into_iter().map(event).collect()
    }
}
