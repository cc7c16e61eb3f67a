//! `[[zone]]`: a place that holds blobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use registry_core::VerifyReads;

use super::file::unknown;
use super::origin::{ConfigError, Given, Origin};
use super::units::{DURATION_HINT, format_duration, parse_duration};

/// A key of a zone.
#[derive(Debug)]
pub(crate) struct ZoneKey {
    /// Its name.
    pub(crate) name: &'static str,
    /// What holds when it is not given.
    pub(crate) default: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
}

/// The keys of a filesystem zone.
pub(crate) const ZONE_KEYS: &[ZoneKey] = &[
    ZoneKey { name: "name", default: "local", help: "What the zone is called. It is written into the zone and must not change." },
    ZoneKey { name: "type", default: "filesystem", help: "What it is: filesystem." },
    ZoneKey { name: "path", default: "", help: "Its directory; a folder of the zone's name in the data directory when empty." },
    ZoneKey {
        name: "durability",
        default: "power-loss",
        help: "What an acknowledged push survives: power-loss, or process-crash (faster: nothing waits for the disk).",
    },
    ZoneKey {
        name: "verify_reads",
        default: "stale",
        help: "When whole blobs are hashed once more on their way out: always, never, stale (not checked for 30 days), or as \"stale(7d)\".",
    },
];

/// The keys of one zone as they were given.
#[derive(Debug)]
pub(crate) struct ZoneKeys {
    /// Where the zone was named.
    pub(crate) origin: Origin,
    /// Its keys.
    pub(crate) keys: BTreeMap<String, Given>,
}

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
}

impl ZoneKeys {
    /// A zone of which nothing is said yet.
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, keys: BTreeMap::new() }
    }

    /// Reads `name=local,path=/srv/blobs`, as a flag or a variable gives it.
    pub(crate) fn parse(text: &str, origin: &Origin) -> Result<Self, ConfigError> {
        let mut zone = Self::new(origin.clone());
        for pair in text.split(',') {
            let Some((key, value)) = pair.split_once('=') else {
                let problem = format!("{pair:?} is not key=value; write for example name=local,path=/srv/registry");
                return Err(ConfigError::value(origin, "zone", problem));
            };
            zone.keys.insert(key.trim().to_owned(), Given { text: value.trim().to_owned(), origin: origin.clone() });
        }
        Ok(zone)
    }

    fn get(&self, name: &str) -> (&str, &Origin) {
        let default = ZONE_KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default);
        self.keys.get(name).map_or((default, &self.origin), |given| (given.text.as_str(), &given.origin))
    }

    fn resolve(&self, data: &Path) -> Result<Zone, ConfigError> {
        let (kind, origin) = self.get("type");
        if kind != "filesystem" {
            let problem = format!(
                "a zone of type {kind:?} needs the replication crate, which this server is built without; the type here is \"filesystem\""
            );
            return Err(ConfigError::value(origin, "zone.type", problem));
        }
        let names: Vec<_> = ZONE_KEYS.iter().map(|key| key.name).collect();
        if let Some((key, given)) = self.keys.iter().find(|(key, _)| !names.contains(&key.as_str())) {
            return Err(ConfigError::value(&given.origin, &format!("zone.{key}"), unknown(key, &names)));
        }
        let (name, origin) = self.get("name");
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(good) {
            return Err(ConfigError::value(origin, "zone.name", "must be 1 to 64 of a-z, 0-9, - _ and ., not beginning with a dot"));
        }
        let (path, _) = self.get("path");
        let path = if path.is_empty() { data.join(name) } else { PathBuf::from(path) };
        let (durability, origin) = self.get("durability");
        let durability = durability.parse().map_err(|problem: &str| ConfigError::value(origin, "zone.durability", problem))?;
        let (verify, origin) = self.get("verify_reads");
        let verify_reads = parse_verify(verify).ok_or_else(|| {
            let problem = format!("{verify:?} is none of always, never, stale and stale(TIME), where TIME is {DURATION_HINT}");
            ConfigError::value(origin, "zone.verify_reads", problem)
        })?;
        Ok(Zone { name: name.to_owned(), path, durability, verify_reads })
    }
}

/// The zone to use: the one that is given, or else a filesystem zone in the data directory.
pub(crate) fn only_zone(zones: &[ZoneKeys], data: &Path) -> Result<Zone, ConfigError> {
    match zones {
        [] => ZoneKeys::new(Origin::Default).resolve(data),
        [zone] => zone.resolve(data),
        [_, second, ..] => {
            let problem = "more than one zone needs the replication crate, which this server is built without; leave one [[zone]]";
            Err(ConfigError::value(&second.origin, "zone", problem))
        }
    }
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
