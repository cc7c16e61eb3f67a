//! Reading the configuration file: TOML in, keys with their line numbers out.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::auth::{ACCESS, ISSUER};
use super::keys::{Keys, Table};
use super::origin::{ConfigError, Given, Origin};
use super::policy::POLICY;
use super::settings::{Kind, SETTINGS, find};
use super::zone::ZONE;

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct FileLayer {
    /// Settings by key; `<secret>_file` among them.
    pub(crate) settings: BTreeMap<String, Given>,
    /// The `[[zone]]` tables in order.
    pub(crate) zones: Vec<Keys>,
    /// The `[[policy]]` tables in order.
    pub(crate) policies: Vec<Keys>,
    /// The `[[access]]` tables.
    pub(crate) access: Vec<Keys>,
    /// The `[[issuer]]` tables.
    pub(crate) issuers: Vec<Keys>,
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<FileLayer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("cannot read the configuration file {}: {error}", path.display())))?;
    parse(path, &text, &|name| std::env::var(name).ok())
}

/// Reads a file's text; `variable` looks up what `${…}` refers to.
pub(crate) fn parse(path: &Path, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<FileLayer, ConfigError> {
    let reader = Reader { path, text, variable };
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| reader.line(span.start));
        ConfigError(format!("{}:{line}: not valid TOML: {}", path.display(), error.message()))
    })?;
    let mut layer = FileLayer::default();
    reader.table("", document.get_ref(), &mut layer)?;
    Ok(layer)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
    }

    fn origin<T>(&self, at: &Spanned<T>) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.line(at.span().start) }
    }

    fn table(&self, prefix: &str, table: &DeTable<'_>, layer: &mut FileLayer) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let origin = self.origin(name);
            match value.get_ref() {
                _ if key == "zone" => self.tables(&ZONE, &origin, value.get_ref(), &mut layer.zones)?,
                _ if key == "policy" => self.tables(&POLICY, &origin, value.get_ref(), &mut layer.policies)?,
                _ if key == "access" => self.tables(&ACCESS, &origin, value.get_ref(), &mut layer.access)?,
                _ if key == "issuer" => self.tables(&ISSUER, &origin, value.get_ref(), &mut layer.issuers)?,
                DeValue::Table(inner) if SETTINGS.iter().any(|setting| setting.table_and_name().0 == key) => {
                    self.table(&format!("{key}."), inner, layer)?;
                }
                _ => {
                    let kind = known(&key).ok_or_else(|| ConfigError::value(&origin, &key, unknown(&key, &known_keys())))?;
                    let text = self.text_of(&origin, &key, kind, value.get_ref())?;
                    layer.settings.insert(key, Given { text, origin });
                }
            }
        }
        Ok(())
    }

    /// Reads all tables of this kind.
    fn tables(&self, of: &'static Table, origin: &Origin, value: &DeValue<'_>, into: &mut Vec<Keys>) -> Result<(), ConfigError> {
        let name = of.name;
        let problem = format!("a {name} begins with [[{name}]], with two brackets");
        let DeValue::Array(tables) = value else { return Err(ConfigError::value(origin, name, problem)) };
        if tables.is_empty() {
            return Err(ConfigError::value(origin, name, problem));
        }
        for table in tables {
            let origin = self.origin(table);
            let DeValue::Table(table) = table.get_ref() else { return Err(ConfigError::value(&origin, name, problem)) };
            let mut keys = Keys::new(of, origin.clone());
            for (key, value) in table {
                let (key, origin) = (key.get_ref().as_ref(), self.origin(key));
                // Which keys there are, and of which kind, is for the type of zone to say.
                let kind = match value.get_ref() {
                    DeValue::Boolean(_) => Kind::Switch,
                    DeValue::Array(_) => Kind::List,
                    _ => Kind::Size,
                };
                let text = self.text_of(&origin, &format!("{name}.{key}"), kind, value.get_ref())?;
                keys.given.insert(key.to_owned(), Given { text, origin });
            }
            into.push(keys);
        }
        Ok(())
    }

    /// The value as text, of the TOML type that its kind wants.
    fn text_of(&self, origin: &Origin, key: &str, kind: Kind, value: &DeValue<'_>) -> Result<String, ConfigError> {
        match (kind, value) {
            (Kind::Switch, DeValue::Boolean(yes)) => Ok(yes.to_string()),
            (Kind::Switch, _) => Err(ConfigError::value(origin, key, "must be true or false, without quotes")),
            (_, DeValue::String(text)) => self.expand(origin, key, text),
            (Kind::List, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| {
                    let origin = self.origin(item);
                    let text = self.text_of(&origin, key, Kind::Text, item.get_ref())?;
                    // It would be read as several.
                    match text.contains(|c: char| c == ',' || c.is_whitespace()) {
                        true => {
                            Err(ConfigError::value(&origin, key, format!("{text:?} has a comma or a space in it; write one text for each")))
                        }
                        false => Ok(text),
                    }
                });
                Ok(texts.collect::<Result<Vec<_>, _>>()?.join(" "))
            }
            (Kind::List, _) => Err(ConfigError::value(origin, key, "must be texts in quotes, in brackets")),
            (Kind::Size | Kind::Count | Kind::Duration, DeValue::Integer(number)) if number.radix() == 10 => {
                Ok(number.as_str().replace('_', ""))
            }
            (Kind::Count, _) => Err(ConfigError::value(origin, key, "must be a whole number")),
            _ => Err(ConfigError::value(origin, key, "must be a text in quotes")),
        }
    }

    /// Fills in `${NAME}`; `$${` stands for `${` itself.
    fn expand(&self, origin: &Origin, key: &str, text: &str) -> Result<String, ConfigError> {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find("${") {
            if let Some(head) = rest[..at].strip_suffix('$') {
                out.push_str(head);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some((name, tail)) = rest[at + 2..].split_once('}') else {
                return Err(ConfigError::value(origin, key, "a ${ without its }; write $${ if no variable is meant"));
            };
            let Some(value) = (self.variable)(name) else {
                let problem = format!("the environment variable {name} is not set; set it, or write $${{ if no variable is meant");
                return Err(ConfigError::value(origin, key, problem));
            };
            out.push_str(&value);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The kind of a key of the file.
fn known(key: &str) -> Option<Kind> {
    find(key).map(|setting| setting.kind).or_else(|| secret_file(key).map(|_| Kind::Text))
}

/// The secret whose `_file` this is.
fn secret_file(key: &str) -> Option<&str> {
    let secret = key.strip_suffix("_file")?;
    find(secret).filter(|setting| setting.kind == Kind::Secret).map(|_| secret)
}

fn known_keys() -> Vec<&'static str> {
    SETTINGS.iter().map(|setting| setting.key).chain(["zone", "policy", "access", "issuer"]).collect()
}

/// What to say of a key that nobody knows.
pub(crate) fn unknown(key: &str, known: &[&str]) -> String {
    let best = known.iter().map(|known| (strsim::damerau_levenshtein(key, known), known)).min();
    match best {
        Some((distance, known)) if distance <= 3 && distance < key.len() => format!("there is no such setting; did you mean {known}?"),
        _ => "there is no such setting; `registry config example` shows all there are".to_owned(),
    }
}
