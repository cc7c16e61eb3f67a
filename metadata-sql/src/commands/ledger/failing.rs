//! What failed, and is to be tried again.

use registry_core::Result;
use replication::ledger::ZoneId;

use super::rows::by_number;
use crate::commands::rows;
use crate::driver::{Command, Query, Reader, Transaction, params};

/// Numbers of blobs of which something failed, in order.
pub(crate) struct Failing {
    pub(crate) after: i64,
    pub(crate) limit: u32,
}

pub(super) const FAILING: &str = "SELECT DISTINCT blob FROM placements WHERE attempts > 0 AND blob > ?1 ORDER BY blob LIMIT ?2";

impl Query for Failing {
    type Output = Vec<i64>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<i64>> {
        let rows = reader.query(FAILING, params![self.after, self.limit]).await?;
        rows.into_iter().map(|mut row| row.int(0)).collect()
    }
}

/// [`replay`](replication::ledger::PlacementLedger::replay) of these blobs.
pub(crate) struct Replay {
    pub(crate) zone: Option<ZoneId>,
    pub(crate) blobs: Vec<i64>,
}

impl Command for Replay {
    type Output = u64;

    fn weight(&self) -> usize {
        rows(self.blobs.len())
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<u64> {
        let now = transaction.now().await?;
        let mut count = 0;
        for mut stored in by_number(transaction, &self.blobs).await?.into_values() {
            count += stored.blob.replay(self.zone.as_ref(), now);
            stored.save(transaction).await?;
        }
        Ok(count)
    }
}
