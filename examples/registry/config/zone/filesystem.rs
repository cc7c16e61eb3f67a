//! A zone in a directory.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::super::keys::{Key, Keys, Table};
use super::super::origin::ConfigError;
use super::super::settings::Kind;
use super::{HEAD, TAIL, ZONE};

/// Its keys.
pub(super) const TABLE: Table = Table { groups: &[HEAD, KEYS, TAIL], ..ZONE };

const KEYS: &[Key] = &[
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
];

/// What an acknowledged push survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// The power going off.
    PowerLoss,
    /// The process being killed.
    ProcessCrash,
}

/// A directory.
#[derive(Clone, Debug)]
pub(crate) struct Filesystem {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What an acknowledged push survives.
    pub(crate) durability: Survives,
}

impl Filesystem {
    pub(super) fn read(keys: &Keys, data: &Path) -> Result<Self, ConfigError> {
        let (path, _) = keys.get("path");
        let path = if path.is_empty() { data.join(keys.get("name").0) } else { PathBuf::from(path) };
        let durability = keys.get("durability").0.parse().map_err(|problem: &str| keys.wrong("durability", problem))?;
        Ok(Self { path, durability })
    }
}

impl FromStr for Survives {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "power-loss" => Ok(Self::PowerLoss),
            "process-crash" => Ok(Self::ProcessCrash),
            _ => Err("must be \"power-loss\" or \"process-crash\""),
        }
    }
}
