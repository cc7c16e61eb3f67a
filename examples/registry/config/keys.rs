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
    /// Its keys, in groups that several kinds may share.
    pub(crate) groups: &'static [&'static [Key]],
}

impl Table {
    /// Its keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// The key of this name.
    fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// The secret that is in the file that this key names.
    fn secret_of(&self, file_key: &str) -> Option<&'static Key> {
        self.key(file_key.strip_suffix("_file")?).filter(|key| key.kind == Kind::Secret)
    }
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
        for (n, pair) in text.split(',').enumerate() {
            let Some((key, value)) = pair.split_once('=') else {
                // Not the part itself: it may be what a comma has cut off from a password.
                let problem = format!(
                    "part {} is not key=value; write for example {}, and a value that has a comma or a semicolon into a file",
                    n + 1,
                    table.example
                );
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

    /// The same, as a table of another kind.
    #[must_use]
    pub(crate) fn of(mut self, table: &'static Table) -> Self {
        self.table = table;
        self
    }

    /// The key's text, and where it came from.
    pub(crate) fn get(&self, name: &str) -> (&str, &Origin) {
        let default = self.table.key(name).map_or("", |key| key.default);
        self.given.get(name).map_or((default, &self.origin), |given| (given.text.as_str(), &given.origin))
    }

    /// Whether somebody has set it.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// A secret's text: given, or in the file that `<name>_file` names.
    pub(crate) fn secret(&self, name: &str) -> Result<String, ConfigError> {
        let file_key = format!("{name}_file");
        match (self.get(name).0, self.get(&file_key).0) {
            (text, "") => Ok(text.to_owned()),
            ("", path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(self.wrong(&file_key, format!("cannot read {path:?}: {error}"))),
            },
            _ => Err(self.wrong(&file_key, format!("{name} is given too; leave one of them"))),
        }
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
        let table = self.table;
        match self.given.iter().find(|(key, _)| table.key(key).or_else(|| table.secret_of(key)).is_none()) {
            Some((key, given)) => {
                let names: Vec<_> = table.keys().map(|key| key.name).collect();
                Err(ConfigError::value(&given.origin, &format!("{}.{key}", table.name), unknown(key, &names)))
            }
            None => Ok(()),
        }
    }
}
