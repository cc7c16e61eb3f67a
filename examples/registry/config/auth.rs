//! `[[access]]`, `[[issuer]]` and what else there is about who asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use registry_core::RepositoryPattern;
use registry_http::auth::{AccessPolicy, AccessRule, Action, Issuer, KeySource, RateLimits, Subject, TokenOptions};

use super::keys::{Key, Keys, Table};
use super::origin::ConfigError;
use super::policy::words;
use super::settings::Kind;

const fn text(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, kind: Kind::Text, default, help }
}

const fn list(name: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, kind: Kind::List, default, help }
}

/// Who may do what.
pub(crate) const ACCESS: Table = Table {
    name: "access",
    example: "repositories=team/**,users=alice,actions=pull push",
    groups: &[&[
        list("repositories", "**", "The repositories it is for: * is anything within a part of a name, ** any number of parts."),
        list("users", "", "Who may, by name; [\"*\"] is everybody who has logged in. Users of an [[issuer]] are called NAME:USER."),
        list("groups", "", "Who may, by group. Groups of an [[issuer]] are called NAME:GROUP."),
        Key {
            name: "everybody",
            kind: Kind::Switch,
            default: "false",
            help: "Whether everybody may, those who have not logged in included.",
        },
        list("actions", "pull", "What: pull, push, delete, or admin, which is all of them. Who pushes has to be able to pull as well."),
    ]],
};

/// Whose tokens are accepted.
pub(crate) const ISSUER: Table = Table {
    name: "issuer",
    example: "name=corp,issuer=https://id.example.com,audience=registry,keys=https://id.example.com/jwks",
    groups: &[&[
        text("name", "", "A short word that its users and groups begin with here, before a colon."),
        text("issuer", "", "What it is called in its tokens (iss)."),
        list("audience", "", "What the registry is called in its tokens (aud); one of these has to be there."),
        text(
            "keys",
            "",
            "Where its public keys are: a file or an https:// address of a JSON Web Key Set, or an address that ends with /.well-known/openid-configuration.",
        ),
        text("user_claim", "sub", "The claim that has the user's name: one that nobody can choose."),
        text("groups_claim", "groups", "The claim that has the user's groups, if there is one."),
    ]],
};

/// All about who asks.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    /// The file of the users.
    pub(crate) users: PathBuf,
    /// Whether it was named: then it has to be there.
    pub(crate) users_are_named: bool,
    /// The directory of the keys of tokens.
    pub(crate) token_keys: PathBuf,
    /// How tokens are made.
    pub(crate) tokens: TokenOptions,
    /// Who may do what, if that is said.
    pub(crate) access: Option<AccessPolicy>,
    /// Whose tokens are accepted too.
    pub(crate) issuers: Vec<Arc<Issuer>>,
    /// How much one may ask for.
    pub(crate) limits: RateLimits,
    /// The file that audit events are appended to.
    pub(crate) audit: Option<PathBuf>,
}

/// A path as given, or this one in the data directory.
pub(super) fn path(given: &str, data: &Path, name: &str) -> PathBuf {
    if given.is_empty() { data.join(name) } else { PathBuf::from(given) }
}

/// All rules, if there are any.
pub(super) fn access(given: &[Keys]) -> Result<Option<AccessPolicy>, ConfigError> {
    if given.is_empty() {
        return Ok(None);
    }
    let rules = given.iter().map(rules).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(AccessPolicy::new(rules.into_iter().flatten())))
}

/// One rule for each of the patterns.
fn rules(keys: &Keys) -> Result<Vec<AccessRule>, ConfigError> {
    keys.check()?;
    let all = |name: &str| words(keys.get(name).0);
    let pattern =
        |text: String| text.parse::<RepositoryPattern>().map_err(|problem| keys.wrong("repositories", format!("{text:?}: {problem}")));
    let action = |text: String| text.parse::<Action>().map_err(|problem| keys.wrong("actions", format!("{text:?}: {problem}")));
    let patterns = all("repositories").into_iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
    let actions = all("actions").into_iter().map(action).collect::<Result<Vec<_>, _>>()?;
    let user = |name: String| if name == "*" { Subject::LoggedIn } else { Subject::User(name) };
    let everybody: bool = keys.read("everybody", "true or false", |text| text.parse().ok())?;
    let mut subjects: Vec<_> = all("users").into_iter().map(user).chain(all("groups").into_iter().map(Subject::Group)).collect();
    subjects.extend(everybody.then_some(Subject::Everybody));
    for (name, is_empty, problem) in [
        ("repositories", patterns.is_empty(), "it names none; [\"**\"] is all of them"),
        ("actions", actions.is_empty(), "it names none"),
        (
            "users",
            subjects.is_empty(),
            "it is for nobody: name users or groups, [\"*\"] for all who have logged in, or set everybody = true",
        ),
    ] {
        if is_empty {
            return Err(keys.wrong(name, problem));
        }
    }
    Ok(patterns.into_iter().map(|pattern| AccessRule::new(pattern, subjects.clone(), actions.clone())).collect())
}

/// All issuers. Fetches nothing.
pub(super) fn issuers(given: &[Keys], authorities: Option<&Arc<[u8]>>, has_rules: bool) -> Result<Vec<Arc<Issuer>>, ConfigError> {
    if let Some(first) = given.first().filter(|_| !has_rules) {
        // An issuer that everybody can log in at, as those of CI services are, would let everybody pull.
        return Err(ConfigError::value(&first.origin, "issuer", "there is no [[access]]: say what its users may do"));
    }
    let mut issuers: Vec<Arc<Issuer>> = Vec::new();
    for keys in given {
        let issuer = issuer(keys, authorities)?;
        if issuers.iter().any(|other| other.name() == issuer.name()) {
            return Err(keys.wrong("name", "another issuer has the same"));
        }
        issuers.push(Arc::new(issuer));
    }
    Ok(issuers)
}

fn issuer(keys: &Keys, authorities: Option<&Arc<[u8]>>) -> Result<Issuer, ConfigError> {
    keys.check()?;
    let get = |name| keys.get(name).0;
    let place = get("keys");
    if place.is_empty() {
        return Err(keys.wrong("keys", "it is missing: a file, or an address that begins with https://"));
    }
    let is_address = place.contains("://");
    let source = match place {
        place if !is_address => KeySource::JwksFile(PathBuf::from(place)),
        place if place.ends_with("/.well-known/openid-configuration") => KeySource::Discovery(place.to_owned()),
        place => KeySource::JwksUrl(place.to_owned()),
    };
    let mut builder =
        Issuer::builder(get("name"), get("issuer"), source).with_user_claim(get("user_claim")).with_groups_claim(get("groups_claim"));
    for audience in words(get("audience")) {
        builder = builder.with_audience(audience);
    }
    if let Some(pem) = authorities.filter(|_| is_address) {
        builder = builder.with_ca(pem.to_vec());
    }
    builder.build().map_err(|error| ConfigError::value(&keys.origin, "issuer", error))
}
