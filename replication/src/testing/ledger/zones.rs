//! Which zones there are.

use registry_core::ErrorKind;

use super::Fixture;
use super::kit::fails;
use crate::ledger::{ZoneId, ZoneRecord};

fn record(id: &str, name: &str) -> ZoneRecord {
    ZoneRecord { id: ZoneId::new(id), name: name.to_owned() }
}

async fn known(f: &Fixture) -> Vec<ZoneRecord> {
    f.ledger.zones().await.expect("zones")
}

pub(super) async fn zones_are_registered_once_and_again(f: Fixture) {
    assert!(known(&f).await.is_empty());
    for zone in [record("2f", "leo"), record("9a", "boston"), record("2f", "leo")] {
        f.ledger.register_zone(&zone).await.expect("register_zone");
    }
    let other = f.other().await;
    other.register_zone(&record("00", "gce")).await.expect("register_zone");
    other.register_zone(&record("9a", "boston")).await.expect("the same again");
    let expected = [record("9a", "boston"), record("00", "gce"), record("2f", "leo")];
    assert_eq!(known(&f).await, expected, "by name");
    assert_eq!(other.zones().await.expect("zones"), expected);
    // A zone that only has placements was never registered.
    f.intend(&super::kit::blob("layer"), &["somewhere"]).await;
    assert_eq!(known(&f).await, expected);
    f.ledger.register_zone(&record("somewhere", "ait")).await.expect("register_zone");
    assert_eq!(known(&f).await.len(), 4);
}

pub(super) async fn a_zone_under_another_name_is_a_conflict(f: Fixture) {
    f.ledger.register_zone(&record("2f", "leo")).await.expect("register_zone");
    fails(f.ledger.register_zone(&record("2f", "boston")).await, ErrorKind::Conflict);
    assert_eq!(known(&f).await, [record("2f", "leo")], "nothing was changed");
    f.ledger.register_zone(&record("9a", "boston")).await.expect("the name is free");
    fails(f.ledger.register_zone(&record("2f", "boston")).await, ErrorKind::Conflict);
}

pub(super) async fn a_name_with_another_zone_is_a_conflict(f: Fixture) {
    f.ledger.register_zone(&record("2f", "leo")).await.expect("register_zone");
    fails(f.other().await.register_zone(&record("9a", "leo")).await, ErrorKind::Conflict);
    assert_eq!(known(&f).await, [record("2f", "leo")], "nothing was changed");
    f.ledger.register_zone(&record("9a", "boston")).await.expect("the zone is free");
    f.ledger.register_zone(&record("10", "Leo")).await.expect("names differ by case");
}
