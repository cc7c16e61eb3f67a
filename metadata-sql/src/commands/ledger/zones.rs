//! The zones that are known.

use registry_core::{Digest, Error, ErrorKind, Result};
use replication::ledger::rules::removed;
use replication::ledger::{ZoneId, ZoneRecord, ZoneState};

use super::jobs::conclude;
use super::rows::Stored;
use crate::commands::rows;
use crate::driver::{Command, Query, Reader, Row, Transaction, params};

/// A zone's state goes by its position.
const STATES: [ZoneState; 4] = [ZoneState::Active, ZoneState::Cordoned, ZoneState::Draining, ZoneState::Removed];

/// The number of a state.
pub(super) fn number(state: ZoneState) -> Result<i64> {
    let position = STATES.iter().position(|known| *known == state).and_then(|position| i64::try_from(position).ok());
    position.ok_or_else(|| Error::new(ErrorKind::Internal, format!("there is no number for a zone that is {}", state.as_str())))
}

pub(super) fn state(row: &mut Row, column: usize) -> Result<ZoneState> {
    let number = row.unsigned(column)?;
    usize::try_from(number).ok().and_then(|number| STATES.get(number)).copied().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("a zone in the database is in the state {number}, which nobody has given it"))
    })
}

pub(super) async fn state_of<R: Reader>(reader: &mut R, zone: &ZoneId) -> Result<Option<ZoneState>> {
    let found =
        reader.query("SELECT state FROM zones WHERE identity = ?1 AND (name IS NOT NULL OR state = 3)", params![zone.as_str()]).await?;
    found.into_iter().next().map(|mut row| state(&mut row, 0)).transpose()
}

async fn is_draining<R: Reader>(reader: &mut R, zone: &ZoneId) -> Result<()> {
    if state_of(reader, zone).await? == Some(ZoneState::Draining) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, "the zone is not draining").with_key(zone))
}

/// [`register_zone`](replication::ledger::PlacementLedger::register_zone).
pub(crate) struct RegisterZone(pub(crate) ZoneRecord);

impl Command for RegisterZone {
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let ZoneRecord { id, name, .. } = &self.0;
        let conflict = |message: String| Err(Error::new(ErrorKind::Conflict, message).with_zone(name).with_key(id));
        let mut is_numbered = false;
        let sql = "SELECT identity, name, state FROM zones WHERE identity = ?1 OR name = ?2";
        for mut row in transaction.query(sql, params![id.as_str(), name]).await? {
            let (known_id, known_name) = (row.text(0)?, row.opt_text(1)?);
            match known_name {
                None if state(&mut row, 2)? == ZoneState::Removed => return Err(removed(&self.0)),
                None => is_numbered = true,
                Some(known_name) if known_id == id.as_str() && known_name == *name => return Ok(()),
                Some(known_name) if known_id == id.as_str() => return conflict(format!("this zone is known under the name {known_name}")),
                Some(_) => return conflict(format!("the zone of this name is known to have the id {known_id}")),
            }
        }
        let sql = if is_numbered {
            "UPDATE zones SET name = ?2, state = ?3 WHERE identity = ?1"
        } else {
            "INSERT INTO zones (identity, name, state) VALUES (?1, ?2, ?3)"
        };
        transaction.execute(sql, params![id.as_str(), name, number(self.0.state)?]).await.map(drop)
    }
}

/// [`zones`](replication::ledger::PlacementLedger::zones).
pub(crate) struct Zones;

impl Query for Zones {
    type Output = Vec<ZoneRecord>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<ZoneRecord>> {
        let rows = reader.query("SELECT identity, name, state FROM zones WHERE name IS NOT NULL ORDER BY name", &[]).await?;
        let record = |mut row: Row| Ok(ZoneRecord::new(ZoneId::new(row.text(0)?), row.text(1)?).with_state(state(&mut row, 2)?));
        rows.into_iter().map(record).collect()
    }
}

/// [`set_zone_state`](replication::ledger::PlacementLedger::set_zone_state).
pub(crate) struct SetZoneState {
    pub(crate) zone: ZoneId,
    pub(crate) from: Vec<ZoneState>,
    pub(crate) to: ZoneState,
}

impl Command for SetZoneState {
    type Output = ZoneState;

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<ZoneState> {
        let Self { zone, from, to } = self;
        if *to == ZoneState::Removed {
            return Err(Error::new(ErrorKind::InvalidInput, "a zone is not removed by changing its state").with_key(zone));
        }
        match state_of(transaction, zone).await? {
            None | Some(ZoneState::Removed) => Err(Error::new(ErrorKind::NotFound, "the zone is not known").with_key(zone)),
            Some(found) if from.contains(&found) => {
                let sql = "UPDATE zones SET state = ?2 WHERE identity = ?1";
                transaction.execute(sql, params![zone.as_str(), number(*to)?]).await?;
                if *to == ZoneState::Active {
                    let now = transaction.now().await?;
                    transaction.execute(HASTEN, params![zone.as_str(), now]).await?;
                }
                Ok(found)
            }
            Some(found) => Err(Error::new(ErrorKind::Conflict, format!("the zone is {}", found.as_str())).with_key(zone)),
        }
    }
}

/// `Row::hasten` of all rows of a zone: of those that are desired (0) and that nobody has; of those that somebody may be deleting (5), behind the fence.
const HASTEN: &str = "UPDATE placements SET due_at = CASE WHEN observed = 5 AND fence > ?2 THEN fence ELSE ?2 END
    WHERE zone = (SELECT id FROM zones WHERE identity = ?1) AND since IS NOT NULL AND due_at > ?2 AND desired = 0
        AND (lease_until IS NULL OR lease_until <= ?2)";

/// [`forget`](replication::ledger::PlacementLedger::forget).
pub(crate) struct Forget {
    pub(crate) zone: ZoneId,
    pub(crate) digests: Vec<Digest>,
}

impl Command for Forget {
    type Output = Vec<Digest>;

    fn weight(&self) -> usize {
        rows(self.digests.len())
    }

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<Vec<Digest>> {
        is_draining(transaction, &self.zone).await?;
        let now = transaction.now().await?;
        let mut stay = Vec::new();
        for digest in &self.digests {
            let mut stored = Stored::load(transaction, digest).await?;
            if stored.blob.forget(&self.zone, now) {
                stored.save(transaction).await?;
            } else {
                stay.push(*digest);
            }
        }
        Ok(stay)
    }
}

/// [`remove_zone`](replication::ledger::PlacementLedger::remove_zone).
pub(crate) struct RemoveZone(pub(crate) ZoneId);

impl Command for RemoveZone {
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let zone = &self.0;
        if state_of(transaction, zone).await? == Some(ZoneState::Removed) {
            return Ok(());
        }
        is_draining(transaction, zone).await?;
        let sql = "SELECT 1 FROM placements WHERE zone = (SELECT id FROM zones WHERE identity = ?1) LIMIT 1";
        if !transaction.query(sql, params![zone.as_str()]).await?.is_empty() {
            return Err(Error::new(ErrorKind::Conflict, "there are placements in the zone").with_key(zone));
        }
        let sql = "UPDATE zones SET state = ?2, name = NULL WHERE identity = ?1";
        transaction.execute(sql, params![zone.as_str(), number(ZoneState::Removed)?]).await?;
        conclude(transaction, zone).await
    }
}
