//! Giving out work.

use registry_core::Result;
use replication::ledger::{Claim, Task, ZoneId};

use super::rows::by_number;
use crate::commands::rows;
use crate::driver::{Command, Query, Reader, Row, Transaction, params};

/// What is to be done in a zone, as one walk along the index of that.
macro_rules! to_do {
    ($columns:literal, $bound:literal, $limit:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM placements WHERE zone = (SELECT id FROM zones WHERE identity = ?1) AND since IS NOT NULL AND due_at ",
            $bound,
            " ORDER BY due_at LIMIT ",
            $limit
        )
    };
}

pub(super) const FIRST_DUE: &str = to_do!("due_at", ">= ?2", "1");
pub(super) const DUE: &str = to_do!("blob", "<= ?2", "?3");

/// Whether anything is due in a zone: for the many times when nothing is, beside the writers.
pub(crate) struct IsDue(pub(crate) ZoneId);

impl Query for IsDue {
    type Output = bool;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<bool> {
        // Any time; but no time at all, which comes first on one of the databases, is passed over.
        let (first, now) = reader.query_now(FIRST_DUE, params![self.0.as_str(), i64::MIN]).await?;
        first.into_iter().next().map_or(Ok(false), |mut row| Ok(row.time(0)? <= now))
    }
}

/// A part of a [`claim`](replication::ledger::PlacementLedger::claim).
pub(crate) struct Take {
    pub(crate) claim: Claim,
    /// How many placements to look at.
    pub(crate) page: usize,
}

/// What came of it.
pub(crate) struct Taken {
    pub(crate) tasks: Vec<Task>,
    /// Whether there may be more that is due.
    pub(crate) more: bool,
}

impl Command for Take {
    type Output = Taken;

    fn weight(&self) -> usize {
        rows(self.page)
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Taken> {
        let Self { claim, page } = self;
        let now = transaction.now().await?;
        let due = transaction.query(DUE, params![claim.zone.as_str(), now, *page as u64]).await?;
        let more = due.len() == *page;
        let due = due.into_iter().map(|mut row: Row| row.int(0)).collect::<Result<Vec<_>>>()?;
        let mut blobs = by_number(transaction, &due).await?;
        let mut tasks = Vec::new();
        for id in due {
            if tasks.len() >= claim.limit as usize {
                break;
            }
            let Some(mut stored) = blobs.remove(&id) else { continue };
            tasks.extend(stored.blob.take(claim, now));
            stored.save(transaction).await?;
        }
        Ok(Taken { tasks, more })
    }
}
