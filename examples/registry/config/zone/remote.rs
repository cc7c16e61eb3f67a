//! What zones in a service have in common, whichever it is: how their keys become the configuration of its client, and how that client behaves.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::super::keys::{Key, Keys};
use super::super::origin::ConfigError;
use super::super::settings::Kind;
use super::super::units::{DURATION_HINT, SIZE_HINT, parse_duration, parse_size};

pub(super) const fn text(name: &'static str, help: &'static str) -> Key {
    Key { name, kind: Kind::Text, default: "", help }
}

pub(super) const fn secret(name: &'static str, help: &'static str) -> Key {
    Key { name, kind: Kind::Secret, default: "", help }
}

/// How a client behaves.
pub(super) const CONNECTION: &[Key] = &[
    Key { name: "connect_timeout", kind: Kind::Duration, default: "5s", help: "How long a connection may take to be made." },
    Key {
        name: "idle_timeout",
        kind: Kind::Duration,
        default: "30s",
        help: "How long nothing may move on a connection. There is no limit to how long all of a blob takes.",
    },
    Key {
        name: "verify_reads",
        kind: Kind::Text,
        default: "always",
        help: "When whole blobs are hashed once more on their way out: always, never, stale (not checked for 30 days), or as \"stale(7d)\".",
    },
];

/// How a client behaves, as it is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    /// How long a connection may take.
    pub(crate) connect_timeout: Duration,
    /// How long nothing may move.
    pub(crate) idle_timeout: Duration,
}

impl Connection {
    pub(super) fn read(keys: &Keys) -> Result<Self, ConfigError> {
        let above_zero = |name| {
            let wanted = format!("a time above 0: {DURATION_HINT}");
            keys.read(name, &wanted, |text| parse_duration(text).filter(|time| *time > Duration::ZERO))
        };
        Ok(Self { connect_timeout: above_zero("connect_timeout")?, idle_timeout: above_zero("idle_timeout")? })
    }
}

/// What is wrong with a zone as a whole.
pub(super) fn wrong(keys: &Keys, error: impl std::fmt::Display) -> ConfigError {
    ConfigError::value(&keys.origin, "zone", error)
}

/// The configuration of a client, by the keys that it has.
pub(super) fn read<T: DeserializeOwned>(keys: &Keys, service: &[Key]) -> Result<T, ConfigError> {
    let mut table = toml::Table::new();
    for key in service {
        let text = if key.kind == Kind::Secret { keys.secret(key.name)? } else { keys.get(key.name).0.to_owned() };
        if text.is_empty() {
            continue;
        }
        let value = match key.kind {
            Kind::Count => keys.read(key.name, "a whole number", |text| text.parse().ok().map(toml::Value::Integer))?,
            Kind::Size => keys.read(key.name, SIZE_HINT, |text| toml::Value::try_from(parse_size(text)?).ok())?,
            Kind::Switch => keys.read(key.name, "true or false", |text| text.parse().ok().map(toml::Value::Boolean))?,
            _ => toml::Value::String(text),
        };
        table.insert(key.name.to_owned(), value);
    }
    // Two names of one thing, say, or a word that there is not.
    T::deserialize(table).map_err(|error: toml::de::Error| wrong(keys, error.message()))
}

/// `bucket quay/folder at https://rgw.example`, say.
pub(super) fn place(what: &str, name: &str, storage_path: &str, url: &str) -> String {
    let folder = storage_path.trim_matches('/');
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{what} {name}{slash}{folder} at {url}")
}
