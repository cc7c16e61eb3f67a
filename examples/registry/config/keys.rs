//! Tables that may be given many times, `[[zone]]` and `[[policy]]`: their keys as they were given.

use std::collections::BTreeMap;

use super::file::unknown;
use super::origin::{ConfigError, Given, Origin};
use super::settings::Kind;

/// A key of such a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it is read.
    pub(crate) kind: Kind,
    /// What holds when it is not given.
    pub(crate) default: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
}

/// A kind of table.
#[derive(Debug)]
pub(crate) struct Table {
    /// What it is called: `zone`.
    pub(crate) name: &'static str,
    /// What one looks like as a flag.
    pub(crate) example: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

/// One table.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// What it is.
    pub(crate) table: &'static Table,
    /// Where it was given.
    pub(crate) origin: Origin,
    /// Its keys.
    pub(crate) given: BTreeMap<String, Given>,
}

impl Keys {
    /// A table of which nothing is said yet.
    pub(crate) fn new(table: &'static Table, origin: Origin) -> Self {
        Self { table, origin, given: BTreeMap::new() }
    }

    /// Reads `name=local,path=/srv/blobs`, as a flag or a variable gives it. Several values of one key are divided by spaces.
    pub(crate) fn parse(table: &'static Table, text: &str, origin: &Origin) -> Result<Self, ConfigError> {
        let mut keys = Self::new(table, origin.clone());
        for pair in text.split(',') {
            let Some((key, value)) = pair.split_once('=') else {
                let problem = format!("{pair:?} is not key=value; write for example {}", table.example);
                return Err(ConfigError::value(origin, table.name, problem));
            };
            keys.given.insert(key.trim().to_owned(), Given { text: value.trim().to_owned(), origin: origin.clone() });
        }
        Ok(keys)
    }

    /// Sets a key as a default would.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, text: &str) -> Self {
        self.given.insert(name.to_owned(), Given { text: text.to_owned(), origin: self.origin.clone() });
        self
    }

    /// The key's text, and where it came from.
    pub(crate) fn get(&self, name: &str) -> (&str, &Origin) {
        let default = self.table.keys.iter().find(|key| key.name == name).map_or("", |key| key.default);
        self.given.get(name).map_or((default, &self.origin), |given| (given.text.as_str(), &given.origin))
    }

    /// The key's value; `wanted` says what it has to be.
    pub(crate) fn read<T>(&self, name: &str, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, ConfigError> {
        let (text, _) = self.get(name);
        parse(text).ok_or_else(|| self.wrong(name, format!("{text:?} is not {wanted}")))
    }

    /// Complains of a key's value.
    pub(crate) fn wrong(&self, name: &str, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::value(self.get(name).1, &format!("{}.{name}", self.table.name), problem)
    }

    /// Refuses keys that there are not.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let names: Vec<_> = self.table.keys.iter().map(|key| key.name).collect();
        match self.given.iter().find(|(key, _)| !names.contains(&key.as_str())) {
            Some((key, given)) => Err(ConfigError::value(&given.origin, &format!("{}.{key}", self.table.name), unknown(key, &names))),
            None => Ok(()),
        }
    }
}
