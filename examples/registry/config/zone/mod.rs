//! `[[zone]]`: a place that holds blobs.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use registry_core::VerifyReads;

use super::keys::{Key, Keys, Table};
use super::origin::{ConfigError, Origin};
use super::settings::Kind;
use super::units::{DURATION_HINT, format_duration, parse_duration};

/// A filesystem zone.
pub(crate) const ZONE: Table = Table {
    name: "zone",
    example: "name=local,path=/srv/registry",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            default: "local",
            help: "What the zone is called. It is written into the zone and must not change.",
        },
        Key { name: "type", kind: Kind::Text, default: "filesystem", help: "What it is: filesystem." },
        Key {
            name: "path",
            kind: Kind::Text,
            default: "",
            help: "Its directory; a folder of the zone's name in the data directory when empty.",
        },
        Key {
            name: "durability",
            kind: Kind::Text,
            default: "power-loss",
            help: "What an acknowledged push survives: power-loss, or process-crash (faster: nothing waits for the disk).",
        },
        Key {
            name: "verify_reads",
            kind: Kind::Text,
            default: "stale",
            help: "When whole blobs are hashed once more on their way out: always, never, stale (not checked for 30 days), or as \"stale(7d)\".",
        },
        Key {
            name: "concurrency",
            kind: Kind::Count,
            default: "4",
            help: "How many blobs one server copies into it, verifies or deletes at once; of use where there is more than one zone.",
        },
    ],
};

/// The names of the zones when none is configured: two, so that whoever pushes a first image sees it copied.
pub(crate) const DEFAULT_ZONES: [&str; 2] = ["local", "remote"];

/// What an acknowledged push survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// The power going off.
    PowerLoss,
    /// The process being killed.
    ProcessCrash,
}

/// A zone to open.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// Its name.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) path: PathBuf,
    /// What an acknowledged push survives.
    pub(crate) durability: Survives,
    /// When to verify what is read.
    pub(crate) verify_reads: VerifyReads,
    /// How many pieces of work one process does there at once.
    pub(crate) concurrency: usize,
}

/// The zones: those that are given, or else two in the data directory.
pub(crate) fn zones(given: &[Keys], data: &Path) -> Result<Vec<Zone>, ConfigError> {
    let by_default: Vec<_> = DEFAULT_ZONES.iter().map(|name| Keys::new(&ZONE, Origin::Default).with("name", name)).collect();
    let given = if given.is_empty() { &by_default[..] } else { given };
    let mut zones: Vec<Zone> = Vec::new();
    for keys in given {
        let zone = zone(keys, data)?;
        if zones.iter().any(|other| other.name == zone.name) {
            return Err(keys.wrong("name", format!("there is another zone called {}", zone.name)));
        }
        let place = |zone: &Zone| std::path::absolute(&zone.path).unwrap_or_else(|_| zone.path.clone());
        if let Some(other) = zones.iter().find(|other| place(other) == place(&zone)) {
            let problem = format!("the zones {} and {} are the same place: two copies there would be one", other.name, zone.name);
            return Err(keys.wrong("path", problem));
        }
        zones.push(zone);
    }
    Ok(zones)
}

fn zone(keys: &Keys, data: &Path) -> Result<Zone, ConfigError> {
    let (kind, _) = keys.get("type");
    if kind != "filesystem" {
        let problem = format!("there are no zones of type {kind:?} in this release; the type here is \"filesystem\"");
        return Err(keys.wrong("type", problem));
    }
    keys.check()?;
    let (name, _) = keys.get("name");
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(good) {
        return Err(keys.wrong("name", "must be 1 to 64 of a-z, 0-9, - _ and ., not beginning with a dot"));
    }
    let (path, _) = keys.get("path");
    let path = if path.is_empty() { data.join(name) } else { PathBuf::from(path) };
    let durability = keys.get("durability").0.parse().map_err(|problem: &str| keys.wrong("durability", problem))?;
    let wanted = format!("one of always, never, stale and stale(TIME), where TIME is {DURATION_HINT}");
    let verify_reads = keys.read("verify_reads", &wanted, parse_verify)?;
    let concurrency = keys.read("concurrency", "a whole number above 0", |text| text.parse().ok().filter(|n| *n > 0))?;
    Ok(Zone { name: name.to_owned(), path, durability, verify_reads, concurrency })
}

fn parse_verify(text: &str) -> Option<VerifyReads> {
    match text {
        "always" => Some(VerifyReads::Always),
        "never" => Some(VerifyReads::Never),
        "stale" => Some(VerifyReads::default()),
        other => {
            let age = other.strip_prefix("stale(")?.strip_suffix(')')?;
            parse_duration(age).filter(|age| *age > Duration::ZERO).map(VerifyReads::Stale)
        }
    }
}

/// As the file would say it.
pub(crate) fn show_verify(verify: VerifyReads) -> String {
    match verify {
        VerifyReads::Always => "always".to_owned(),
        VerifyReads::Never => "never".to_owned(),
        stale if stale == VerifyReads::default() => "stale".to_owned(),
        VerifyReads::Stale(age) => format!("stale({})", format_duration(age)),
    }
}

impl FromStr for Survives {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::PowerLoss, Self::ProcessCrash]
            .into_iter()
            .find(|word| word.as_str() == text)
            .ok_or("must be \"power-loss\" or \"process-crash\"")
    }
}

impl Survives {
    /// As the file would say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PowerLoss => "power-loss",
            Self::ProcessCrash => "process-crash",
        }
    }
}
