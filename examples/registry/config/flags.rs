//! Settings as flags and environment variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use super::auth::{ACCESS, ISSUER};
use super::file::unknown;
use super::keys::{Keys, Table};
use super::origin::{ConfigError, Given, Origin};
use super::policy::POLICY;
use super::settings::{Kind, SETTINGS, Setting};
use super::zone::ZONE;

/// The settings that `-h` shows; `--help` shows all.
const ESSENTIAL: [&str; 4] = ["listen", "data", "admin", "read_only"];

/// Variables of others that mean a setting where its own is not set.
const OTHER_NAMES: [(&str, &str); 2] = [("log", "RUST_LOG"), ("storage_preference", "QUAY_DISTRIBUTED_STORAGE_PREFERENCE")];

/// What the command line and the environment say.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The configuration file to read.
    pub(crate) config: Option<PathBuf>,
    /// By flag.
    pub(crate) flags: BTreeMap<String, Given>,
    /// By environment variable.
    pub(crate) environment: BTreeMap<String, Given>,
    /// Zones, by flag or else by variable.
    pub(crate) zones: Vec<Keys>,
    /// Policies, in the same way.
    pub(crate) policies: Vec<Keys>,
    /// Who may do what, in the same way.
    pub(crate) access: Vec<Keys>,
    /// Whose tokens are accepted, in the same way.
    pub(crate) issuers: Vec<Keys>,
}

/// The flags of all settings.
pub(crate) fn args() -> Vec<Arg> {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("REGISTRY_CONFIG")
        .global(true)
        .help("The configuration file (TOML); `registry config example` prints one, and `registry --help` tells of every setting, which all commands take");
    let zone = table_arg(
        &ZONE,
        "REGISTRY_ZONE",
        "A place where blobs are kept, such as name=local,path=/srv/registry\n\n\
         May be given more than once; the keys are those of [[zone]] in the file. In the variable, several are divided by ;",
    );
    let policy = table_arg(
        &POLICY,
        "REGISTRY_POLICY",
        "Where the images of some repositories belong, such as repositories=prod/**,zones=boston leo,min_copies=2\n\n\
         May be given more than once; the keys are those of [[policy]] in the file. In the variable, several are divided by ;",
    );
    let access = table_arg(
        &ACCESS,
        "REGISTRY_ACCESS",
        "Who may do what, such as repositories=team/**,users=alice bob,actions=pull push\n\n\
         May be given more than once; the keys are those of [[access]] in the file. In the variable, several are divided by ;",
    );
    let issuer = table_arg(
        &ISSUER,
        "REGISTRY_ISSUER",
        "Whose tokens are accepted too, such as name=corp,issuer=https://id.example.com,audience=registry,keys=https://id.example.com/jwks\n\n\
         May be given more than once; the keys are those of [[issuer]] in the file. In the variable, several are divided by ;",
    );
    let [access, issuer] = [access, issuer].map(|arg| arg.help_heading("Log-in"));
    let settings = SETTINGS.iter().flat_map(|setting| {
        let (direct, file) = (arg(setting, ""), arg(setting, "_file"));
        std::iter::once(direct).chain((setting.kind == Kind::Secret).then_some(file))
    });
    [config].into_iter().chain(settings).chain([zone, policy, access, issuer]).collect()
}

/// The flag of a table that may be given many times.
fn table_arg(table: &Table, variable: &'static str, help: &'static str) -> Arg {
    Arg::new(table.name)
        .long(table.name)
        .value_name("KEY=VALUE,…")
        .env(variable)
        .global(true)
        .action(ArgAction::Append)
        .hide_short_help(true)
        .hide_env_values(true)
        .help_heading("Zones")
        .help(help)
}

/// The flag of the zones, for a command whose own --zone is something else. Before the command it is --zone as ever.
pub(crate) fn zone_beside_another() -> Arg {
    table_arg(&ZONE, "REGISTRY_ZONE", "").long("zone-setting").global(false).hide(true)
}

/// The flag of a setting, or of the file that holds it.
fn arg(setting: &Setting, suffix: &str) -> Arg {
    let default = if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
    let (short, rest) = setting.help.split_once('\n').unwrap_or((setting.help, ""));
    let (short, rest) = match suffix {
        "" => (short.to_owned(), rest),
        _ => (format!("A file that holds --{}", setting.flag()), ""),
    };
    let mut arg = Arg::new(format!("{}{suffix}", setting.key))
        .long(format!("{}{}", setting.flag(), suffix.replace('_', "-")))
        .value_name(if suffix.is_empty() { setting.value_name } else { "FILE" })
        .env(format!("{}{}", setting.variable(), suffix.to_uppercase()))
        .hide_env_values(true)
        .global(true)
        .allow_hyphen_values(false)
        .help_heading(setting.heading())
        .hide_short_help(!ESSENTIAL.contains(&setting.key))
        .help(format!("{}{default}", short.trim_end_matches('.')));
    if !rest.is_empty() {
        arg = arg.long_help(format!("{short}{default}\n{rest}"));
    }
    if setting.kind == Kind::Switch {
        arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    arg
}

/// Sorts what clap found by where it came from. An empty variable counts as none, as compose files and unit files leave them.
pub(crate) fn layers(matches: &ArgMatches) -> Result<Layers, ConfigError> {
    let mut layers = Layers::default();
    for setting in SETTINGS {
        let suffixes: &[&str] = if setting.kind == Kind::Secret { &["", "_file"] } else { &[""] };
        for suffix in suffixes {
            let id = format!("{}{suffix}", setting.key);
            let Some(text) = matches.get_one::<String>(&id) else { continue };
            let text = text.clone();
            if matches.value_source(&id) == Some(ValueSource::CommandLine) {
                let origin = Origin::Flag(format!("--{}{}", setting.flag(), suffix.replace('_', "-")));
                layers.flags.insert(id, Given { text, origin });
            } else if !text.is_empty() {
                let origin = Origin::Variable(format!("{}{}", setting.variable(), suffix.to_uppercase()));
                layers.environment.insert(id, Given { text, origin });
            }
        }
    }
    for (key, variable) in OTHER_NAMES {
        if !layers.environment.contains_key(key)
            && let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty())
        {
            layers.environment.insert(key.to_owned(), Given { text, origin: Origin::Variable(variable.to_owned()) });
        }
    }
    layers.config = matches.get_one::<String>("config").filter(|path| !path.is_empty()).map(PathBuf::from);
    layers.zones = tables(matches, &ZONE, "REGISTRY_ZONE")?;
    layers.policies = tables(matches, &POLICY, "REGISTRY_POLICY")?;
    layers.access = tables(matches, &ACCESS, "REGISTRY_ACCESS")?;
    layers.issuers = tables(matches, &ISSUER, "REGISTRY_ISSUER")?;
    Ok(layers)
}

/// What flags or else the variable say of a table.
fn tables(matches: &ArgMatches, table: &'static Table, variable: &str) -> Result<Vec<Keys>, ConfigError> {
    let by_flag = matches.value_source(table.name) == Some(ValueSource::CommandLine);
    let origin = if by_flag { Origin::Flag(format!("--{}", table.name)) } else { Origin::Variable(variable.to_owned()) };
    let texts = matches.get_many::<String>(table.name).into_iter().flatten();
    let each = texts.flat_map(|texts| texts.split(';')).filter(|text| !text.trim().is_empty());
    each.map(|text| Keys::parse(table, text, &origin)).collect()
}

/// Variables that look like settings and are none, each with what to say of it. Only worth a warning: Kubernetes and Docker set some of this form
/// (`REGISTRY_PORT_5000_TCP`) for a service that is called registry.
pub(crate) fn unknown_variables() -> Vec<(String, String)> {
    let known: Vec<_> = args().iter().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let of_others = |name: &str| ["REGISTRY_TEST_", "REGISTRY_PORT", "REGISTRY_SERVICE_"].iter().any(|prefix| name.starts_with(prefix));
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown_names = names.filter(|name| name.starts_with("REGISTRY_") && !of_others(name) && !known.contains(&name.as_str()));
    unknown_names.map(|name| (unknown(&name, &known), name)).map(|(problem, name)| (name, problem)).collect()
}
