//! The zones that are known.

use registry_core::{Error, ErrorKind, Result};
use replication::ledger::{ZoneId, ZoneRecord};

use crate::driver::{Command, Query, Reader, Transaction, params};

/// [`register_zone`](replication::ledger::PlacementLedger::register_zone).
pub(crate) struct RegisterZone(pub(crate) ZoneRecord);

impl Command for RegisterZone {
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &mut T) -> Result<()> {
        let ZoneRecord { id, name } = &self.0;
        let conflict = |message: String| Err(Error::new(ErrorKind::Conflict, message).with_zone(name).with_key(id));
        let mut is_numbered = false;
        for mut row in
            transaction.query("SELECT identity, name FROM zones WHERE identity = ?1 OR name = ?2", params![id.as_str(), name]).await?
        {
            let (known_id, known_name) = (row.text(0)?, row.opt_text(1)?);
            match known_name {
                None => is_numbered = true,
                Some(known_name) if known_id == id.as_str() && known_name == *name => return Ok(()),
                Some(known_name) if known_id == id.as_str() => return conflict(format!("this zone is known under the name {known_name}")),
                Some(_) => return conflict(format!("the zone of this name is known to have the id {known_id}")),
            }
        }
        let sql = if is_numbered {
            "UPDATE zones SET name = ?2 WHERE identity = ?1"
        } else {
            "INSERT INTO zones (identity, name) VALUES (?1, ?2)"
        };
        transaction.execute(sql, params![id.as_str(), name]).await.map(drop)
    }
}

/// [`zones`](replication::ledger::PlacementLedger::zones).
pub(crate) struct Zones;

impl Query for Zones {
    type Output = Vec<ZoneRecord>;

    async fn run<R: Reader>(&self, reader: &mut R) -> Result<Vec<ZoneRecord>> {
        let rows = reader.query("SELECT identity, name FROM zones WHERE name IS NOT NULL ORDER BY name", &[]).await?;
        rows.into_iter().map(|mut row| Ok(ZoneRecord { id: ZoneId::new(row.text(0)?), name: row.text(1)? })).collect()
    }
}
