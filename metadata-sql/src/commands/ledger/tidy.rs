//! Forgetting placements that are gone.

use std::time::Duration;

use registry_core::Result;

use super::rows::raise_floor;
use crate::commands::{many, rows};
use crate::driver::{Command, Query, Reader, Row, Transaction, params};

pub(super) const FIRST_GONE: &str =
    "SELECT settled_at FROM placements WHERE desired = 1 AND since IS NULL AND settled_at <= ?1 ORDER BY settled_at LIMIT 1";

/// Whether there is anything to forget: beside the writers, since mostly there is not.
pub(crate) struct HasGone(pub(crate) Duration);

impl Query for HasGone {
    type Output = bool;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<bool> {
        let bound = reader.now().await? - self.0;
        Ok(!reader.query(FIRST_GONE, params![bound]).await?.is_empty())
    }
}

/// [`tidy`](replication::ledger::PlacementLedger::tidy).
pub(crate) struct Tidy {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

pub(super) const DELETE: &str = "DELETE FROM placements WHERE (blob, zone) IN (SELECT blob, zone FROM placements
        WHERE desired = 1 AND since IS NULL AND settled_at <= ?1 ORDER BY settled_at LIMIT ?2)
    RETURNING blob, generation";

impl Command for Tidy {
    type Output = u32;

    fn weight(&self) -> usize {
        rows(self.limit as usize)
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<u32> {
        let bound = transaction.now().await? - self.keep;
        let dropped = transaction.returning(DELETE, params![bound, self.limit]).await?;
        let dropped = dropped.into_iter().map(|mut row: Row| Ok((row.int(0)?, row.int(1)?))).collect::<Result<Vec<_>>>()?;
        let Some(mut floor) = dropped.iter().map(|(_, generation)| *generation).max() else { return Ok(0) };
        // So that neither a generation nor a touch ever repeats: see `rules::Blob::floor_without`.
        let ids: Vec<_> = dropped.iter().map(|(blob, _)| blob.to_string()).collect();
        let sql = "SELECT MAX(touched_at) FROM placed_blobs WHERE id IN (SELECT CAST(value AS BIGINT) FROM {list})";
        for mut row in many::query_texts(transaction, sql, &[], ids).await? {
            floor = floor.max(row.opt_int(0)?.unwrap_or(0));
        }
        let sql = "DELETE FROM placed_blobs WHERE id IN (SELECT CAST(value AS BIGINT) FROM {list})
            AND NOT EXISTS (SELECT 1 FROM placements p WHERE p.blob = placed_blobs.id)";
        many::execute_ids(transaction, sql, &[], &dropped.iter().map(|(blob, _)| *blob).collect::<Vec<_>>()).await?;
        raise_floor(transaction, u64::try_from(floor).unwrap_or(0)).await?;
        Ok(u32::try_from(dropped.len()).unwrap_or(u32::MAX))
    }
}
