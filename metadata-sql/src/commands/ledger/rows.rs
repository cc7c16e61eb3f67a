//! A blob and its placements in the tables.

use std::collections::BTreeMap;

use registry_core::{Digest, Error, ErrorKind, Result, Timestamp};
use replication::ledger::rules::{Blob, Lease, Row as Placed};
use replication::ledger::{Desired, Observed, ZoneId, ZoneState};

use super::{shard, zones};
use crate::commands::many;
use crate::driver::{Reader, Row, Transaction, Value, params};

/// What is observed goes by its position.
const OBSERVED: [Observed; 7] = [
    Observed::Unknown,
    Observed::Present,
    Observed::Suspect,
    Observed::Damaged,
    Observed::Quarantined,
    Observed::Deleting,
    Observed::Absent,
];

/// Rows of placements, with their blobs and zones, as [`blobs`] reads them. `$progress` is what a worker noted, which may be long, or `NULL`.
macro_rules! select {
    ($progress:literal) => {
        concat!(
            "SELECT b.id, b.digest, b.size, b.touched_at, p.zone, z.identity, p.desired, p.observed, p.generation, p.verified_at, p.since, p.due_at,
                p.lease, p.lease_until, p.fence, p.old_fence, p.keep_until, p.epoch, p.attempts, p.failed_at, p.settled_at, p.last_error, ",
            $progress,
            ", (SELECT value FROM meta WHERE name = 'placement_floor')
            FROM placed_blobs b JOIN placements p ON p.blob = b.id JOIN zones z ON z.id = p.zone "
        )
    };
}
pub(super) use select;

/// A blob as it was found, and as it is to be.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its number; `None` if it has no row yet.
    id: Option<i64>,
    /// Those of the zones that it has placements in.
    zones: BTreeMap<ZoneId, i64>,
    was: Blob,
    pub(super) blob: Blob,
}

/// The blobs of which these are the placements, by their numbers.
pub(super) fn blobs(rows: Vec<Row>) -> Result<BTreeMap<i64, Stored>> {
    let mut blobs = BTreeMap::new();
    for mut row in rows {
        let id = row.int(0)?;
        let (zone, number) = (ZoneId::new(row.text(5)?), row.int(4)?);
        let placed = placed(&mut row)?;
        let stored = match blobs.entry(id) {
            std::collections::btree_map::Entry::Occupied(stored) => stored.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let mut blob = Blob::new(row.parsed(1)?, row.unsigned(23)?);
                blob.size = row.opt_int(2)?.map(|size| u64::try_from(size).unwrap_or(0));
                blob.touched_at = row.time(3)?;
                vacant.insert(Stored { id: Some(id), zones: BTreeMap::new(), was: blob.clone(), blob })
            }
        };
        stored.zones.insert(zone.clone(), number);
        stored.was.rows.insert(zone.clone(), placed.clone());
        stored.blob.rows.insert(zone, placed);
    }
    Ok(blobs)
}

fn placed(row: &mut Row) -> Result<Placed> {
    let desired = if row.flag(6)? { Desired::Absent } else { Desired::Present };
    let mut placed = Placed::new(desired, row.unsigned(8)?, Timestamp::default());
    let observed = row.unsigned(7)?;
    placed.observed = usize::try_from(observed).ok().and_then(|observed| OBSERVED.get(observed)).copied().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("a placement in the database is in the state {observed}, which nobody has given it"))
    })?;
    placed.verified_at = row.opt_int(9)?.map(Timestamp::from_millis);
    placed.since = row.opt_int(10)?.map(Timestamp::from_millis);
    placed.due_at = row.opt_int(11)?.map(Timestamp::from_millis);
    placed.lease = match row.opt_text(12)? {
        Some(id) => Some(Lease { id, until: row.time(13)? }),
        None => None,
    };
    placed.fence = row.time(14)?;
    placed.old_fence = row.time(15)?;
    placed.keep_until = row.time(16)?;
    placed.epoch = row.unsigned(17)?;
    placed.attempts = u32::try_from(row.unsigned(18)?).unwrap_or(u32::MAX);
    placed.failed_at = row.time(19)?;
    placed.settled_at = row.time(20)?;
    placed.last_error = row.opt_text(21)?;
    placed.progress = row.opt_bytes(22)?;
    Ok(placed)
}

/// The columns of a placement behind its blob and its zone, in the order of [`INSERT`] and [`UPDATE`].
fn cells<'a>(blob: i64, zone: i64, row: &'a Placed) -> Result<[Value<'a>; 19]> {
    let observed = OBSERVED
        .iter()
        .position(|observed| *observed == row.observed)
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("there is no number for a placement that is {}", row.observed.as_str())))?;
    let last_error = row.last_error.as_ref().map(|error| text(error));
    Ok([
        blob.into(),
        zone.into(),
        u32::from(row.desired == Desired::Absent).into(),
        (observed as u64).into(),
        row.generation.into(),
        row.verified_at.into(),
        row.since.into(),
        row.due_at.into(),
        row.lease.as_ref().map(|lease| &lease.id).into(),
        row.lease.as_ref().map(|lease| lease.until).into(),
        row.fence.into(),
        row.old_fence.into(),
        row.keep_until.into(),
        row.epoch.into(),
        row.attempts.into(),
        row.failed_at.into(),
        row.settled_at.into(),
        last_error.unwrap_or(Value::Null),
        row.progress.as_ref().into(),
    ])
}

/// PostgreSQL has no text with a zero in it, and what a store says may be anything.
pub(super) fn text(said: &str) -> Value<'_> {
    if said.contains('\0') { said.replace('\0', "\u{fffd}").into() } else { said.into() }
}

const INSERT: &str =
    "INSERT INTO placements (blob, zone, desired, observed, generation, verified_at, since, due_at, lease, lease_until, fence, old_fence,
        keep_until, epoch, attempts, failed_at, settled_at, last_error, progress)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";

const UPDATE: &str = "UPDATE placements SET desired = ?3, observed = ?4, generation = ?5, verified_at = ?6, since = ?7, due_at = ?8, lease = ?9,
        lease_until = ?10, fence = ?11, old_fence = ?12, keep_until = ?13, epoch = ?14, attempts = ?15, failed_at = ?16, settled_at = ?17, last_error = ?18,
        progress = ?19
    WHERE blob = ?1 AND zone = ?2";

pub(super) const BY_DIGEST: &str = concat!(select!("p.progress"), "WHERE b.shard = ?1 AND b.digest = ?2");
pub(super) const BY_NUMBER: &str = concat!(select!("p.progress"), "WHERE b.id IN (SELECT CAST(value AS BIGINT) FROM {list})");

/// Blobs by their numbers.
pub(super) async fn by_number<R: Reader>(reader: &mut R, ids: &[i64]) -> Result<BTreeMap<i64, Stored>> {
    let ids = ids.iter().map(ToString::to_string).collect();
    blobs(many::query_texts(reader, BY_NUMBER, &[], ids).await?)
}

impl Stored {
    /// The blob, known or not.
    pub(super) async fn load<R: Reader>(reader: &mut R, digest: &Digest) -> Result<Self> {
        let found = blobs(reader.query(BY_DIGEST, params![shard(digest), digest]).await?)?;
        if let Some((_, stored)) = found.into_iter().next() {
            return Ok(stored);
        }
        let floor = reader.query("SELECT value FROM meta WHERE name = 'placement_floor'", &[]).await?.pop();
        let blob = Blob::new(*digest, floor.map_or(Ok(0), |mut row| row.unsigned(0))?);
        Ok(Self { id: None, zones: BTreeMap::new(), was: blob.clone(), blob })
    }

    /// Whether a rule has touched the blob, or not even that.
    pub(super) fn is_merely_touched(&self) -> bool {
        self.id.is_some() && self.was.size == self.blob.size && self.was.rows == self.blob.rows
    }

    /// Writes what a rule has changed.
    pub(super) async fn save<T: Transaction>(mut self, transaction: &mut T) -> Result<()> {
        if self.was == self.blob {
            return Ok(());
        }
        self.number_zones(transaction).await?;
        if self.id.is_none() && self.blob.rows.is_empty() {
            return Ok(());
        }
        let id = self.save_blob(transaction).await?;
        for (zone, was) in self.was.rows.iter().filter(|(zone, _)| !self.blob.rows.contains_key(*zone)) {
            self.drop_row(transaction, id, zone, was).await?;
        }
        for (zone, row) in &self.blob.rows {
            let was = self.was.rows.get(zone);
            if was != Some(row) {
                let number = *self.zones.get(zone).ok_or_else(|| Error::new(ErrorKind::Internal, "a zone has no number").with_key(zone))?;
                transaction.execute(if was.is_some() { UPDATE } else { INSERT }, &cells(id, number, row)?).await?;
            }
        }
        Ok(())
    }

    /// Drops a placement, and the blob with its last one.
    async fn drop_row<T: Transaction>(&self, transaction: &mut T, id: i64, zone: &ZoneId, was: &Placed) -> Result<()> {
        let number = *self.zones.get(zone).ok_or_else(|| Error::new(ErrorKind::Internal, "a zone has no number").with_key(zone))?;
        transaction.execute("DELETE FROM placements WHERE blob = ?1 AND zone = ?2", params![id, number]).await?;
        raise_floor(transaction, self.was.floor_without(was)).await?;
        if self.blob.rows.is_empty() {
            transaction.execute("DELETE FROM placed_blobs WHERE id = ?1", params![id]).await?;
        }
        Ok(())
    }

    async fn save_blob<T: Transaction>(&self, transaction: &mut T) -> Result<i64> {
        let Blob { digest, size, touched_at, .. } = &self.blob;
        let Some(id) = self.id else {
            let sql = "INSERT INTO placed_blobs (shard, digest, size, touched_at) VALUES (?1, ?2, ?3, ?4) RETURNING id";
            let row = transaction.returning(sql, params![shard(digest), digest, *size, *touched_at]).await?.pop();
            return row.ok_or_else(|| Error::new(ErrorKind::Internal, "the database gave no number"))?.int(0);
        };
        if (self.was.size, self.was.touched_at) != (*size, *touched_at) {
            let sql = "UPDATE placed_blobs SET size = ?2, touched_at = ?3 WHERE id = ?1";
            transaction.execute(sql, params![id, *size, *touched_at]).await?;
        }
        Ok(id)
    }

    /// Finds the numbers of zones that the blob comes to, and gives one to each that has none. It does not come to a zone that was removed.
    async fn number_zones<T: Transaction>(&mut self, transaction: &mut T) -> Result<()> {
        let new: Vec<_> = self.blob.rows.keys().filter(|zone| !self.zones.contains_key(zone)).cloned().collect();
        let sql = "SELECT id, identity, state FROM zones WHERE identity IN (SELECT value FROM {list})";
        let mut numbers = BTreeMap::new();
        for mut row in many::query_texts(transaction, sql, &[], new.iter().map(ToString::to_string).collect()).await? {
            let zone = ZoneId::new(row.text(1)?);
            if zones::state(&mut row, 2)? == ZoneState::Removed {
                self.blob.rows.remove(&zone);
            }
            numbers.insert(zone, row.int(0)?);
        }
        for zone in new.into_iter().filter(|zone| !numbers.contains_key(zone)) {
            let sql = "INSERT INTO zones (identity) VALUES (?1) RETURNING id";
            let row = transaction.returning(sql, params![zone.as_str()]).await?.pop();
            let number = row.ok_or_else(|| Error::new(ErrorKind::Internal, "the database gave no number"))?.int(0)?;
            self.zones.insert(zone, number);
        }
        self.zones.append(&mut numbers);
        Ok(())
    }
}

/// No generation or touch up to this one is given again: see `rules::Blob::floor_without`.
pub(super) async fn raise_floor<T: Transaction>(transaction: &mut T, floor: u64) -> Result<()> {
    transaction.execute("UPDATE meta SET value = ?1 WHERE name = 'placement_floor' AND value < ?1", params![floor]).await.map(drop)
}
