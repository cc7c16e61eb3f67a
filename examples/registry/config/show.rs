//! `config example` and `config show`: the table of settings, written out.

use super::auth::{ACCESS, ISSUER};
use super::keys::Key;
use super::policy::{POLICY, words};
use super::settings::{Kind, SETTINGS, Setting};
use super::zone::{DEFAULT_ZONES, TYPES, Zone};
use super::{ConfigError, Origin, Values};

/// A complete file with every setting at its default, explained.
pub(crate) fn example() -> String {
    let mut out = String::from(
        "# The configuration of the registry. Every setting is at its default here, so this file does what no file does.\n\
         #\n\
         # Each can also be set by environment variable (gc.interval: REGISTRY_GC_INTERVAL) and by flag (--gc-interval).\n\
         # A flag counts before a variable, a variable before this file.\n\
         # ${NAME} in a text stands for the environment variable NAME; write $${ for ${ itself.\n",
    );
    let mut table = "";
    for setting in SETTINGS {
        enter(&mut out, &mut table, setting);
        let (_, name) = setting.table_and_name();
        let more = match setting.kind {
            Kind::Choice(words) => format!("\nOne of: {}.", words.join(", ")),
            Kind::Secret => format!("\nInstead of {name}, {name}_file may name a file that holds it."),
            _ => String::new(),
        };
        comment(&mut out, &format!("{}{more}", setting.help));
        out.push_str(&format!("{name} = {}\n", literal(setting.kind, setting.default)));
    }
    out.push_str(
        "\n# The places where blobs are kept: each is copied to all, unless a policy says otherwise. With one zone nothing is copied.\n",
    );
    let (by_default, others) = TYPES.split_at(1);
    for (n, name) in DEFAULT_ZONES.iter().enumerate() {
        out.push_str(if n == 0 { "[[zone]]\n" } else { "\n[[zone]]\n" });
        for key in by_default.iter().flat_map(|(_, table)| table.keys()) {
            // Once is enough.
            if n == 0 {
                comment(&mut out, key.help);
            }
            let value = if key.name == "name" { name } else { key.default };
            out.push_str(&format!("{} = {}\n", key.name, literal(key.kind, value)));
        }
    }
    for (kind, table) in others {
        out.push_str(&format!("\n# A zone of type {kind} has these.\n# [[zone]]\n"));
        for key in table.keys() {
            let value = match key.name {
                "name" | "type" => kind,
                _ => key.default,
            };
            out.push_str(&in_comment(key, value));
        }
    }
    out.push_str(
        "\n# Which images belong in which zones: the first policy that matches a repository is its policy, and what none matches belongs in all\n\
         # zones. A blob of several repositories belongs in the zones of each.\n# [[policy]]\n",
    );
    out.extend(POLICY.keys().map(|key| in_comment(key, key.default)));
    out.push_str(
        "\n# Who may do what, once anybody has to log in. What no rule allows is refused. Without a rule: who has logged in may pull, the group writers\n\
         # may push too, and the group admins may do everything.\n# [[access]]\n",
    );
    out.extend(ACCESS.keys().map(|key| in_comment(key, key.default)));
    out.push_str("\n# Somebody else whose tokens log in: as they are, or as the password of any user name.\n# [[issuer]]\n");
    out.extend(ISSUER.keys().map(|key| in_comment(key, key.default)));
    out
}

/// A key that is not in effect.
fn in_comment(key: &Key, value: &str) -> String {
    let more = if key.kind == Kind::Secret { format!(" {}_file may name a file that holds it.", key.name) } else { String::new() };
    format!("# {}{more}\n# {} = {}\n", key.help, key.name, literal(key.kind, value))
}

/// The configuration as it is in effect, each setting with where it came from, secrets hidden; a file that can be read again, but for the secrets.
pub(crate) fn show(values: &Values) -> Result<String, ConfigError> {
    let config = values.resolve()?;
    let (mut out, mut table) = (String::new(), "");
    for setting in SETTINGS {
        enter(&mut out, &mut table, setting);
        let given = values.get(setting.key);
        let text = if setting.kind == Kind::Secret { redact(&given.text) } else { given.text.clone() };
        let text = match setting.kind {
            Kind::Switch => values.switch(setting.key)?.to_string(),
            _ => text,
        };
        let (_, name) = setting.table_and_name();
        out.push_str(&format!("{name} = {} # {}\n", literal(setting.kind, &text), given.origin));
    }
    for (n, shown) in config.zones.iter().enumerate() {
        zone(&mut out, shown, values.zones.get(n).map_or(&Origin::Default, |zone| &zone.origin));
    }
    for keys in [&values.policies, &values.access, &values.issuers].into_iter().flatten() {
        out.push_str(&format!("\n[[{}]] # {}\n", keys.table.name, keys.origin));
        for key in keys.table.keys() {
            out.push_str(&format!("{} = {}\n", key.name, literal(key.kind, keys.get(key.name).0)));
        }
    }
    Ok(out)
}

fn zone(out: &mut String, zone: &Zone, origin: &Origin) {
    out.push_str(&format!("\n[[zone]] # {origin}\n"));
    for key in zone.keys.table.keys() {
        let (text, _) = zone.keys.get(key.name);
        // A secret that is in a file is not printed either: the file's name is.
        let file = format!("{}_file", key.name);
        if key.kind == Kind::Secret && !zone.keys.get(&file).0.is_empty() {
            out.push_str(&format!("{file} = {}\n", literal(Kind::Text, zone.keys.get(&file).0)));
        } else if !text.is_empty() {
            let text = if key.kind == Kind::Secret { "[redacted]" } else { text };
            out.push_str(&format!("{} = {}\n", key.name, literal(key.kind, text)));
        }
    }
}

/// Begins a setting's table where the last one was in another.
fn enter(out: &mut String, table: &mut &'static str, setting: &Setting) {
    let (new, _) = setting.table_and_name();
    if new != *table {
        out.push_str(&format!("\n[{new}]\n"));
        *table = new;
    }
}

fn comment(out: &mut String, text: &str) {
    let mut lines = text.lines();
    if let Some(first) = lines.next() {
        let gap = if out.ends_with("]\n") { "" } else { "\n" };
        out.push_str(&format!("{gap}# {first}\n"));
    }
    for line in lines {
        out.push_str(&format!("# {line}\n"));
    }
}

fn literal(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Switch | Kind::Count => text.to_owned(),
        Kind::List => format!("[{}]", words(text).iter().map(|word| literal(Kind::Text, word)).collect::<Vec<_>>().join(", ")),
        // A basic string of TOML: its escapes are those of Rust's for the characters that need any.
        _ => toml::Value::String(text.to_owned()).to_string(),
    }
}

/// What may be shown of a secret: a URL without its password, of anything else nothing.
fn redact(text: &str) -> String {
    if text.is_empty() || text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let parts = text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    match parts {
        Some((scheme, (_, host))) if !host.contains("password") => format!("{scheme}://[redacted]@{host}"),
        _ => "[redacted]".to_owned(),
    }
}
