//! `[[policy]]`: which zones the images of which repositories belong in.

use std::collections::BTreeSet;

use registry_core::RepositoryPattern;
use replication::{Closest, PlacementPolicy, PolicyRule, TooFewCopies, ZoneSet};

use super::keys::{Key, Keys, Table};
use super::origin::{ConfigError, Given};
use super::settings::Kind;
use super::units::{DURATION_HINT, parse_duration};
use super::zone::Zone;

/// A policy.
pub(crate) const POLICY: Table = Table {
    name: "policy",
    example: "repositories=prod/**,zones=*,min_copies=2",
    groups: &[&[
        Key {
            name: "repositories",
            kind: Kind::Text,
            default: "**",
            help: "The repositories it is for: * is anything within a part of a name, ** any number of parts.",
        },
        Key {
            name: "zones",
            kind: Kind::List,
            default: "*",
            help: "The zones their images belong in, and nowhere else; [\"*\"] is all, those to come included.",
        },
        Key {
            name: "min_copies",
            kind: Kind::Count,
            default: "1",
            help: "How many zones must have all of an image before its push is acknowledged.",
        },
        Key { name: "min_copies_timeout", kind: Kind::Duration, default: "60s", help: "How long a push waits for that." },
        Key {
            name: "too_few_copies",
            kind: Kind::Choice(&["refuse", "warn"]),
            default: "refuse",
            help: "What then: refuse (503: the client may try again), or warn (201 with a Warning; the copies are made when they can be).",
        },
    ]],
};

/// Words divided by commas or spaces.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Complains of a name that no zone has.
fn known(zones: &[Zone], name: &str) -> Result<(), String> {
    if zones.iter().any(|zone| zone.name == name) {
        return Ok(());
    }
    let names: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
    Err(format!("there is no zone {name:?}; the zones are {}", names.join(", ")))
}

/// What is closest: by preference, or as measured.
pub(crate) fn closest(preference: &Given, measured: bool, zones: &[Zone]) -> Result<Closest, ConfigError> {
    let mut names = words(&preference.text);
    for name in &names {
        known(zones, name).map_err(|problem| ConfigError::value(&preference.origin, "storage_preference", problem))?;
    }
    // Zones that are not named come behind, in the order in which they were configured.
    let rest = zones.iter().filter(|zone| !names.contains(&zone.name)).map(|zone| zone.name.clone()).collect::<Vec<_>>();
    names.extend(rest);
    Ok(if measured { Closest::Measured } else { Closest::Preference(names) })
}

/// All policies.
pub(crate) fn policies(given: &[Keys], zones: &[Zone]) -> Result<PlacementPolicy, ConfigError> {
    given.iter().map(|keys| rule(keys, zones)).collect::<Result<_, _>>().map(PlacementPolicy::new)
}

fn rule(keys: &Keys, zones: &[Zone]) -> Result<PolicyRule, ConfigError> {
    keys.check()?;
    let (pattern, _) = keys.get("repositories");
    let pattern: RepositoryPattern = pattern.parse().map_err(|problem| keys.wrong("repositories", format!("{pattern:?}: {problem}")))?;
    let names: BTreeSet<_> = words(keys.get("zones").0).into_iter().collect();
    let (set, count) = if names.is_empty() {
        return Err(keys.wrong("zones", "it names no zone; [\"*\"] is all of them"));
    } else if names.contains("*") {
        if names.len() > 1 {
            return Err(keys.wrong("zones", "\"*\" is all zones: leave out the others"));
        }
        (ZoneSet::All, zones.len())
    } else {
        for name in &names {
            known(zones, name).map_err(|problem| keys.wrong("zones", problem))?;
        }
        let count = names.len();
        (ZoneSet::Named(names.into_iter().collect()), count)
    };
    let copies = |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0);
    let min_copies = keys.read("min_copies", "a whole number above 0", copies)?;
    if min_copies as usize > count {
        return Err(keys.wrong("min_copies", format!("{min_copies} copies cannot be in {count} zones")));
    }
    let timeout = keys.read("min_copies_timeout", DURATION_HINT, parse_duration)?;
    let too_few = keys.read("too_few_copies", "one of refuse, warn", |text| match text {
        "refuse" => Some(TooFewCopies::Refuse),
        "warn" => Some(TooFewCopies::Warn),
        _ => None,
    })?;
    Ok(PolicyRule::new(pattern, set).with_min_copies(min_copies).with_min_copies_timeout(timeout).with_too_few_copies(too_few))
}
