//! `[[zone]]`: a place that holds blobs. What each type of zone has of its own is in a file of its own.

mod filesystem;
mod gcs;
mod remote;
mod s3;
mod swift;

use std::path::Path;
use std::time::Duration;

use registry_core::VerifyReads;
use replication::{Bandwidth, Hours};

pub(crate) use self::filesystem::{Filesystem, Survives};
pub(crate) use self::gcs::Gcs;

pub(crate) use self::s3::S3;
pub(crate) use self::swift::Swift;
use super::keys::{Key, Keys, Table};
use super::origin::{ConfigError, Origin};
use super::settings::Kind;
use super::units::{DURATION_HINT, SIZE_HINT, parse_duration, parse_size};

/// A zone of which nobody has asked the type yet.
pub(crate) const ZONE: Table = Table { name: "zone", example: "name=local,path=/srv/registry", groups: &[HEAD] };

/// The types of zones: what each is called, and its keys.
pub(crate) const TYPES: &[(&str, &Table)] =
    &[("filesystem", &filesystem::TABLE), ("swift", &swift::TABLE), ("s3", &s3::TABLE), ("gcs", &gcs::TABLE)];

/// What every zone begins with.
const HEAD: &[Key] = &[
    Key {
        name: "name",
        kind: Kind::Text,
        default: "local",
        help: "What the zone is called. It is written into the zone and must not change.",
    },
    Key { name: "type", kind: Kind::Text, default: "filesystem", help: "What it is: filesystem, swift, s3 (Ceph RadosGW too) or gcs." },
];

/// What every zone ends with.
const TAIL: &[Key] = &[
    Key {
        name: "concurrency",
        kind: Kind::Count,
        default: "4",
        help: "How many blobs one server copies into it, verifies or deletes at once; of use where there is more than one zone.",
    },
    Key {
        name: "read_limit",
        kind: Kind::Size,
        default: "0",
        help: "How much one server reads from it in a second, pulls and work in the background together, such as 50MiB. 0: no limit.",
    },
    Key {
        name: "write_limit",
        kind: Kind::Size,
        default: "0",
        help: "How much one server writes into it in a second, pushes and copies together. 0: no limit.",
    },
    Key {
        name: "background_share",
        kind: Kind::Text,
        default: "0.5",
        help: "Which share of both limits work in the background may take, above 0 and up to 1. Copies go before scrubs.",
    },
    Key {
        name: "background_hours",
        kind: Kind::Text,
        default: "always",
        help: "When copies into it and from it, comparisons and scrubs may be begun, in UTC, such as \"22:00-06:00 12:00-13:00\". Outside of them, copies that a policy's min_copies asks for are waited for in vain.",
    },
];

/// The names of the zones when none is configured: two, so that whoever pushes a first image sees it copied.
pub(crate) const DEFAULT_ZONES: [&str; 2] = ["local", "remote"];

/// A zone to open.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// Its name.
    pub(crate) name: String,
    /// What keeps its blobs.
    pub(crate) storage: Storage,
    /// When to verify what is read.
    pub(crate) verify_reads: VerifyReads,
    /// How many pieces of work one process does there at once.
    pub(crate) concurrency: usize,
    /// What may go to and from it.
    pub(crate) bandwidth: Bandwidth,
    /// All of it as it was given.
    pub(super) keys: Keys,
}

/// What keeps a zone's blobs.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// A directory.
    Filesystem(Filesystem),
    /// A container in OpenStack Swift.
    Swift(Box<Swift>),
    /// A bucket of S3's kind.
    S3(Box<S3>),
    /// A bucket in Google Cloud Storage.
    Gcs(Box<Gcs>),
}

impl Zone {
    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match &self.storage {
            Storage::Filesystem(filesystem) => filesystem.path.display().to_string(),
            Storage::Swift(swift) => swift.place(),
            Storage::S3(s3) => s3.place(),
            Storage::Gcs(gcs) => gcs.place(),
        }
    }

    /// Where it is, in a form that two zones in one place share.
    fn exact_place(&self) -> String {
        match &self.storage {
            Storage::Filesystem(Filesystem { path, .. }) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                // Without a slash at its end.
                path.components().collect::<std::path::PathBuf>().display().to_string()
            }
            Storage::Swift(swift) => swift.exact_place(),
            Storage::S3(_) | Storage::Gcs(_) => self.place(),
        }
    }

    /// The key that says where it is.
    fn place_key(&self) -> &'static str {
        match &self.storage {
            Storage::Filesystem(_) => "path",
            Storage::Swift(_) | Storage::S3(_) | Storage::Gcs(_) => "storage_path",
        }
    }
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
        if let Some(other) = zones.iter().find(|other| other.exact_place() == zone.exact_place()) {
            let problem = format!("the zones {} and {} are the same place: two copies there would be one", other.name, zone.name);
            return Err(keys.wrong(zone.place_key(), problem));
        }
        zones.push(zone);
    }
    Ok(zones)
}

fn zone(keys: &Keys, data: &Path) -> Result<Zone, ConfigError> {
    let (kind, _) = keys.get("type");
    let Some((_, table)) = TYPES.iter().find(|(name, _)| *name == kind) else {
        let types: Vec<_> = TYPES.iter().map(|(name, _)| format!("{name:?}")).collect();
        let problem = format!("there are no zones of type {kind:?}; the types are {}", types.join(", "));
        return Err(keys.wrong("type", problem));
    };
    let mut keys = keys.clone().of(table);
    keys.check()?;
    let name = keys.get("name").0.to_owned();
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(good) {
        return Err(keys.wrong("name", "must be 1 to 64 of a-z, 0-9, - _ and ., not beginning with a dot"));
    }
    let wanted = format!("one of always, never, stale and stale(TIME), where TIME is {DURATION_HINT}");
    let verify_reads = keys.read("verify_reads", &wanted, parse_verify)?;
    let concurrency = keys.read("concurrency", "a whole number above 0", |text| text.parse().ok().filter(|n| *n > 0))?;
    let bandwidth = bandwidth(&keys)?;
    let storage = match kind {
        "swift" => Storage::Swift(Box::new(Swift::read(&keys)?)),
        "s3" => {
            let s3 = S3::read(&keys)?;
            let path_style = s3.config.path_style.unwrap_or(s3.config.endpoint.is_some());
            keys = keys.with(s3::PATH_STYLE, &path_style.to_string());
            Storage::S3(Box::new(s3))
        }
        "gcs" => Storage::Gcs(Box::new(Gcs::read(&keys)?)),
        _ => {
            let filesystem = Filesystem::read(&keys, data)?;
            keys = keys.with("path", &filesystem.path.display().to_string());
            Storage::Filesystem(filesystem)
        }
    };
    Ok(Zone { name, storage, verify_reads, concurrency, bandwidth, keys })
}

fn bandwidth(keys: &Keys) -> Result<Bandwidth, ConfigError> {
    let limit = |name| Ok(Some(keys.read(name, SIZE_HINT, parse_size)?).filter(|bytes| *bytes > 0));
    let mut bandwidth = Bandwidth::default();
    (bandwidth.read, bandwidth.write) = (limit("read_limit")?, limit("write_limit")?);
    bandwidth.background = keys.read("background_share", "a number above 0 and up to 1, such as 0.25", |text| {
        text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0)
    })?;
    bandwidth.hours = keys.read("background_hours", "always, or hours of the day, such as \"22:00-06:00\", divided by spaces", |text| {
        if text == "always" { Some(Vec::new()) } else { text.split_whitespace().map(parse_hours).collect() }
    })?;
    Ok(bandwidth)
}

/// Reads `22:00-06:00`.
fn parse_hours(text: &str) -> Option<Hours> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() <= 2 && minute.len() == 2)?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok().filter(|minute| *minute < 60)?);
        hour.checked_mul(60)?.checked_add(minute)
    };
    let (from, until) = text.split_once('-')?;
    Hours::new(minute(from)?, minute(until)?)
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
