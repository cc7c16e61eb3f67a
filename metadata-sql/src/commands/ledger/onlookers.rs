//! Questions about placements.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_core::{Digest, Result, Timestamp};
use replication::ledger::{Backlog, ListPlacements, Placement, Totals, ZoneId};

use super::rows::{blobs, select};
use super::shard;
use crate::commands::many;
use crate::driver::{Query, Reader, Row, params};

fn placements(rows: Vec<Row>, now: Timestamp) -> Result<Vec<Placement>> {
    let mut placements: Vec<_> = blobs(rows)?.into_values().flat_map(|stored| stored.blob.placements(now).collect::<Vec<_>>()).collect();
    placements.sort_unstable_by(|one, other| (one.digest, &one.zone).cmp(&(other.digest, &other.zone)));
    Ok(placements)
}

/// [`placements`](replication::ledger::PlacementLedger::placements).
pub(crate) struct Placements(pub(crate) Vec<Digest>);

pub(super) const OF_ONE: &str = concat!(select!("NULL"), "WHERE b.shard = ?1 AND b.digest = ?2");
pub(super) const OF_MANY: &str = concat!(select!("NULL"), "JOIN {list} ON b.shard = substr(item.value, 8, 2) AND b.digest = item.value");

impl Query for Placements {
    type Output = Vec<Placement>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Placement>> {
        if let [digest] = &self.0[..] {
            // Every read of a blob comes by here.
            let (rows, now) = reader.query_now(OF_ONE, params![shard(digest), digest]).await?;
            return placements(rows, now);
        }
        let mut digests = self.0.clone();
        digests.sort_unstable();
        digests.dedup();
        let rows = many::query(reader, OF_MANY, &[], &digests).await?;
        placements(rows, reader.now().await?)
    }
}

/// [`backlog`](replication::ledger::PlacementLedger::backlog).
pub(crate) struct BacklogOf;

/// The zone, the kind of work (0 a copy, 1 to be verified, 2 to be deleted, 3 a copy that nobody can make), how many, of how many bytes, how many of
/// them fail, since when the oldest waits, and how many are put off, of how many bytes.
pub(super) const BACKLOG: &str = "SELECT z.identity,
        CASE WHEN p.desired = 1 THEN 2 WHEN p.observed IN (2, 3) THEN 1
            WHEN EXISTS (SELECT 1 FROM placements s WHERE s.blob = p.blob AND s.zone <> p.zone AND s.observed = 1) THEN 0 ELSE 3 END,
        COUNT(*), CAST(COALESCE(SUM(b.size), 0) AS BIGINT), CAST(SUM(CASE WHEN p.attempts > 0 THEN 1 ELSE 0 END) AS BIGINT),
        MIN(CASE WHEN p.desired = 1 AND p.keep_until > p.since THEN CASE WHEN p.keep_until <= ?1 THEN p.keep_until END
            WHEN p.since <= ?1 THEN p.since END),
        CAST(SUM(CASE WHEN p.due_at > ?1 AND (p.lease_until IS NULL OR p.lease_until <= ?1) THEN 1 ELSE 0 END) AS BIGINT),
        CAST(SUM(CASE WHEN p.due_at > ?1 AND (p.lease_until IS NULL OR p.lease_until <= ?1) THEN COALESCE(b.size, 0) ELSE 0 END) AS BIGINT)
    FROM placements p JOIN placed_blobs b ON b.id = p.blob JOIN zones z ON z.id = p.zone
    WHERE p.since IS NOT NULL GROUP BY 1, 2";

pub(super) const LAST_ERROR: &str = "SELECT b.digest, p.last_error FROM placements p JOIN placed_blobs b ON b.id = p.blob
    WHERE p.attempts > 0 AND p.last_error IS NOT NULL AND p.zone = (SELECT id FROM zones WHERE identity = ?1) ORDER BY p.failed_at DESC LIMIT 1";

impl Query for BacklogOf {
    type Output = Vec<Backlog>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Backlog>> {
        let now = reader.now().await?;
        let mut zones: BTreeMap<ZoneId, Backlog> = BTreeMap::new();
        for mut row in reader.query(BACKLOG, params![now]).await? {
            let zone = ZoneId::new(row.text(0)?);
            let backlog = zones.entry(zone.clone()).or_insert_with(|| Backlog::new(zone));
            let count = row.unsigned(2)?;
            let mut waits_since = row.opt_int(5)?.map(Timestamp::from_millis);
            match row.int(1)? {
                0 => {
                    (backlog.copies, backlog.copy_bytes) = (count, row.unsigned(3)?);
                    (backlog.put_off, backlog.put_off_bytes) = (row.unsigned(6)?, row.unsigned(7)?);
                    backlog.copy_lag = waits_since.map_or(Duration::ZERO, |since| now.since(since));
                }
                1 => backlog.suspects = count,
                2 => backlog.deletes = count,
                _ => (backlog.sourceless, waits_since) = (count, None),
            }
            backlog.failing += row.unsigned(4)?;
            backlog.oldest = [backlog.oldest, waits_since].into_iter().flatten().min();
        }
        for backlog in zones.values_mut() {
            backlog.lag = backlog.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
            if backlog.failing > 0
                && let Some(mut row) = reader.query(LAST_ERROR, params![backlog.zone.as_str()]).await?.pop()
            {
                backlog.last_error = Some((row.parsed(0)?, row.text(1)?));
            }
        }
        Ok(zones.into_values().collect())
    }
}

/// [`totals`](replication::ledger::PlacementLedger::totals).
pub(crate) struct TotalsOf;

impl Query for TotalsOf {
    type Output = Vec<Totals>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Totals>> {
        let sql = "SELECT z.identity, COUNT(*), CAST(COALESCE(SUM(b.size), 0) AS BIGINT)
            FROM placements p JOIN placed_blobs b ON b.id = p.blob JOIN zones z ON z.id = p.zone
            WHERE p.desired = 0 AND p.observed = 1 GROUP BY z.identity ORDER BY z.identity";
        let rows = reader.query(sql, &[]).await?;
        rows.into_iter().map(|mut row| Ok(Totals::new(ZoneId::new(row.text(0)?), row.unsigned(1)?, row.unsigned(2)?))).collect()
    }
}

/// [`list`](replication::ledger::PlacementLedger::list).
pub(crate) struct List(pub(crate) ListPlacements);

/// The numbers of blobs from a place on, in the order of the list.
pub(super) const FROM_ALL: &str =
    "SELECT id FROM placed_blobs b WHERE (shard, digest) >= (?1, ?2) AND shard <= ?3 ORDER BY shard, digest LIMIT ?4";
pub(super) const FROM_ZONE: &str = "SELECT b.id FROM placed_blobs b WHERE (b.shard, b.digest) >= (?1, ?2) AND b.shard <= ?3
    AND EXISTS (SELECT 1 FROM placements p WHERE p.blob = b.id AND p.zone = (SELECT id FROM zones WHERE identity = ?5))
    ORDER BY b.shard, b.digest LIMIT ?4";
/// The same of those that fail: however few those are, nothing else is looked at. `CROSS JOIN` tells SQLite to begin with what stands left of it.
pub(super) const FROM_FAILING: &str = "SELECT DISTINCT b.id, b.shard, b.digest FROM placements p CROSS JOIN placed_blobs b
    WHERE b.id = p.blob AND p.attempts > 0 AND (b.shard, b.digest) >= (?1, ?2) AND b.shard <= ?3 ORDER BY b.shard, b.digest LIMIT ?4";
pub(super) const FROM_FAILING_ZONE: &str = "SELECT b.id FROM placements p CROSS JOIN placed_blobs b
    WHERE b.id = p.blob AND p.attempts > 0 AND p.zone = (SELECT id FROM zones WHERE identity = ?5)
    AND (b.shard, b.digest) >= (?1, ?2) AND b.shard <= ?3 ORDER BY b.shard, b.digest LIMIT ?4";

pub(super) const OF_NUMBERS: &str = concat!(select!("NULL"), "WHERE b.id IN (SELECT CAST(value AS BIGINT) FROM {list})");

impl List {
    /// The numbers of as many blobs as it takes: each has one placement at least, but the first may be behind us.
    async fn blobs<R: Reader>(&self, reader: &mut R) -> Result<Vec<String>> {
        let list = &self.0;
        let only = list.shard.map(|shard| format!("{shard:02x}"));
        let (from, digest) = list.after.as_ref().map_or_else(Default::default, |(digest, _)| (shard(digest), digest.to_string()));
        // A shard behind the place where the list is to go on begins at its own beginning.
        let (from, digest) = match &only {
            Some(only) if *only > from => (only.clone(), String::new()),
            _ => (from, digest),
        };
        let to = only.unwrap_or_else(|| "ff".to_owned());
        let limit = u64::from(list.limit) + 1;
        let rows = match (&list.zone, list.failing) {
            (None, false) => reader.query(FROM_ALL, params![from, digest, to, limit]).await?,
            (Some(zone), false) => reader.query(FROM_ZONE, params![from, digest, to, limit, zone.as_str()]).await?,
            (None, true) => reader.query(FROM_FAILING, params![from, digest, to, limit]).await?,
            (Some(zone), true) => reader.query(FROM_FAILING_ZONE, params![from, digest, to, limit, zone.as_str()]).await?,
        };
        rows.into_iter().map(|mut row| Ok(row.int(0)?.to_string())).collect()
    }
}

impl Query for List {
    type Output = Vec<Placement>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<Placement>> {
        let list = &self.0;
        if list.limit == 0 {
            return Ok(Vec::new());
        }
        let blobs = self.blobs(reader).await?;
        let rows = many::query_texts(reader, OF_NUMBERS, &[], blobs).await?;
        let mut found = placements(rows, reader.now().await?)?;
        found.retain(|row| {
            list.after.as_ref().is_none_or(|(digest, zone)| row.digest != *digest || row.zone > *zone)
                && list.zone.as_ref().is_none_or(|only| *only == row.zone)
                && (!list.failing || row.attempts > 0)
        });
        found.sort_by_key(|row| row.digest.shard());
        found.truncate(list.limit as usize);
        Ok(found)
    }
}
