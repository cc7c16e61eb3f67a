//! The configuration: flags before environment before file before defaults.
//!
//! | file | what it has |
//! |---|---|
//! | `settings` | the table of all settings, from which everything else is made |
//! | `origin` | where a value came from, and what to say when it is wrong |
//! | `flags` | settings as flags and environment variables |
//! | `file` | settings as TOML |
//! | `keys` | tables that may be given many times |
//! | `zone`, `policy`, `auth` | `[[zone]]`, `[[policy]]`; `[[access]]`, `[[issuer]]` and who asks |
//! | `units` | `24h`, `4MiB` |
//! | `show` | `config example` and `config show` |

mod auth;
mod file;
mod flags;
mod keys;
mod origin;
mod policy;
mod settings;
mod show;
mod units;
mod zone;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use registry_http::auth::{RateLimits, TokenOptions};
use replication::{Closest, PlacementPolicy};

pub(crate) use self::auth::Auth;
pub(crate) use self::flags::{args, unknown_variables, zone_beside_another};
pub(crate) use self::origin::{ConfigError, Given, Origin};
use self::settings::{Kind, SETTINGS, Setting};
pub(crate) use self::show::{example, show};
pub(crate) use self::units::duration;
pub(crate) use self::zone::{Filesystem, Gcs, S3, Storage, Survives, Swift, Zone};

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server, and the schema there if not the connection's own.
    Postgres(Secret, Option<String>),
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that it is from.
    pub(crate) file: Option<PathBuf>,
    /// Where to serve.
    pub(crate) listen: String,
    /// The directory of everything.
    pub(crate) data: PathBuf,
    /// Where the admin listener is, if anywhere.
    pub(crate) admin: Option<String>,
    /// Whether pushes and deletes are refused.
    pub(crate) read_only: bool,
    /// Whether other machines may be served without TLS.
    pub(crate) allow_plain_http: bool,
    /// The files of the server's certificate and its key, if it has any.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Certificates of authorities that are trusted for whatever is connected to, in PEM form.
    pub(crate) authorities: Option<Arc<[u8]>>,
    /// The largest manifest in bytes.
    pub(crate) max_manifest_size: u64,
    /// Whether indexes may lack manifests.
    pub(crate) sparse_indexes: bool,
    /// How long a stop may take.
    pub(crate) shutdown_timeout: Duration,
    /// Threads of the runtime; `None`: one per CPU.
    pub(crate) worker_threads: Option<usize>,
    /// What a server logs.
    pub(crate) log: String,
    /// What a command beside it logs: warnings, unless its flags or the environment ask for more.
    pub(crate) command_log: String,
    /// Whether logs are JSON.
    pub(crate) log_json: bool,
    /// The database.
    pub(crate) database: Database,
    /// How many queries may read from it at once.
    pub(crate) connections: usize,
    /// What an acknowledged change of it survives.
    pub(crate) database_durability: Survives,
    /// How many bytes of uploads to zones in object stores may be in memory.
    pub(crate) upload_memory: u64,
    /// Who asks, and what they may do.
    pub(crate) auth: Auth,
    /// How HTTP is served.
    pub(crate) http: Http,
    /// Garbage collection.
    pub(crate) gc: Gc,
    /// The places of the blobs: at least one.
    pub(crate) zones: Vec<Zone>,
    /// Which of them is the closest.
    pub(crate) closest: Closest,
    /// Which images belong in which of them.
    pub(crate) policy: PlacementPolicy,
    /// The times of replication.
    pub(crate) replication: replication::Options,
    /// The file that events are appended to.
    pub(crate) events: Option<PathBuf>,
}

/// How HTTP is served.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    /// Whether to believe a proxy's headers.
    pub(crate) trust_forwarded_headers: bool,
    /// How long a pushing client may send nothing.
    pub(crate) body_idle_timeout: Duration,
    /// How long a pulling client may take in nothing.
    pub(crate) write_idle_timeout: Duration,
    /// How long a connection may idle.
    pub(crate) keep_alive: Duration,
    /// What clients call the registry, if that is said.
    pub(crate) public_url: Option<http::Uri>,
    /// Whether HTTP/2 is spoken with whoever speaks both.
    pub(crate) prefer_http2: bool,
    /// The most connections at once.
    pub(crate) max_connections: usize,
    /// The most requests at once, if there is a limit.
    pub(crate) max_in_flight: Option<usize>,
    /// How long an address of the storage's own is good that pulls are sent to, if they are.
    pub(crate) redirect: Option<Duration>,
}

/// Garbage collection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gc {
    /// How often, if ever.
    pub(crate) interval: Option<Duration>,
    /// How long unneeded blobs stay.
    pub(crate) grace: Duration,
    /// How long unheld bytes stay.
    pub(crate) trash_delay: Duration,
    /// How long idle uploads stay.
    pub(crate) upload_expiry: Duration,
}

/// All settings as they were given, each with its origin: what [`Config`] is read from and what `config show` prints.
#[derive(Debug)]
pub(crate) struct Values {
    file: Option<PathBuf>,
    settings: BTreeMap<&'static str, Given>,
    zones: Vec<keys::Keys>,
    policies: Vec<keys::Keys>,
    access: Vec<keys::Keys>,
    issuers: Vec<keys::Keys>,
}

impl Values {
    /// Gathers the settings from the command line, the environment, and the file that either names.
    pub(crate) fn gather(matches: &ArgMatches) -> Result<Self, ConfigError> {
        let given = flags::layers(matches)?;
        let file = given.config.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let mut settings = BTreeMap::new();
        for setting in SETTINGS {
            let layers = [&given.flags, &given.environment, &file.settings];
            let value = layers.into_iter().find_map(|layer| pick(setting, layer).transpose()).transpose()?;
            let value = value.unwrap_or_else(|| Given { text: setting.default.to_owned(), origin: Origin::Default });
            settings.insert(setting.key, value);
        }
        let zones = if given.zones.is_empty() { file.zones } else { given.zones };
        let policies = if given.policies.is_empty() { file.policies } else { given.policies };
        let access = if given.access.is_empty() { file.access } else { given.access };
        let issuers = if given.issuers.is_empty() { file.issuers } else { given.issuers };
        Ok(Self { file: given.config, settings, zones, policies, access, issuers })
    }

    fn get(&self, key: &str) -> &Given {
        self.settings.get(key).expect("every setting of the table was gathered")
    }

    fn parse<T>(&self, key: &str, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, ConfigError> {
        let given = self.get(key);
        parse(&given.text).ok_or_else(|| ConfigError::value(&given.origin, key, format!("{:?} is not {wanted}", given.text)))
    }

    fn duration(&self, key: &str) -> Result<Duration, ConfigError> {
        self.parse(key, units::DURATION_HINT, units::parse_duration)
    }

    fn duration_above_zero(&self, key: &str) -> Result<Duration, ConfigError> {
        let wanted = "a time above 0, such as \"30s\" or \"5m\"";
        self.parse(key, wanted, |text| units::parse_duration(text).filter(|time| *time > Duration::ZERO))
    }

    fn count(&self, key: &str) -> Result<usize, ConfigError> {
        self.parse(key, "a whole number", |text| text.parse().ok())
    }

    fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        self.parse(key, "true or false", |text| match text {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    fn choice<T: FromStr>(&self, key: &str) -> Result<T, ConfigError> {
        let words = settings::find(key).map_or(&[][..], |setting| if let Kind::Choice(words) = setting.kind { words } else { &[] });
        self.parse(key, &format!("one of {}", words.join(", ")), |text| words.contains(&text).then(|| text.parse().ok()).flatten())
    }

    fn address(&self, key: &str) -> Result<String, ConfigError> {
        self.parse(key, "an address and a port, such as \"127.0.0.1:5000\" or \"[::1]:5000\"", |text| {
            let (host, port) = text.rsplit_once(':')?;
            let bracketed = host.starts_with('[') && host.ends_with(']');
            (!host.is_empty() && (bracketed || !host.contains(':')) && port.parse::<u16>().is_ok()).then(|| text.to_owned())
        })
    }

    /// Reads and checks them all.
    pub(crate) fn resolve(&self) -> Result<Config, ConfigError> {
        let data = self.parse("data", "a directory", |text| (!text.is_empty()).then(|| PathBuf::from(text)))?;
        let interval = self.duration("gc.interval")?;
        let threads = self.count("worker_threads")?;
        let zones = zone::zones(&self.zones, &data)?;
        let measured = self.choice::<String>("closest")? == "measured";
        Ok(Config {
            listen: self.address("listen")?,
            admin: if self.get("admin").text.is_empty() { None } else { Some(self.address("admin")?) },
            read_only: self.switch("read_only")?,
            allow_plain_http: self.switch("allow_plain_http")?,
            tls: self.tls()?,
            authorities: self.authorities()?,
            max_manifest_size: self.parse("max_manifest_size", units::SIZE_HINT, units::parse_size)?,
            sparse_indexes: self.switch("sparse_indexes")?,
            shutdown_timeout: self.duration("shutdown_timeout")?,
            worker_threads: (threads > 0).then_some(threads),
            log: self.log()?,
            command_log: match self.get("log").origin {
                Origin::Flag(_) | Origin::Variable(_) => self.log()?,
                _ => "warn".to_owned(),
            },
            file: self.file.clone(),
            log_json: self.choice::<String>("log_format")? == "json",
            database: self.database(&data)?,
            connections: self.count("metadata.connections")?.max(1),
            database_durability: self.choice("metadata.durability")?,
            upload_memory: self.parse("upload_memory", units::SIZE_HINT, |text| units::parse_size(text).filter(|size| *size > 0))?,
            auth: self.auth(&data)?,
            http: Http {
                trust_forwarded_headers: self.switch("http.trust_forwarded_headers")?,
                body_idle_timeout: self.duration_above_zero("http.body_idle_timeout")?,
                write_idle_timeout: self.duration_above_zero("http.write_idle_timeout")?,
                keep_alive: self.duration_above_zero("http.keep_alive")?,
                prefer_http2: self.switch("http.prefer_http2")?,
                public_url: self.public_url()?,
                max_connections: self
                    .parse("http.max_connections", "a whole number above 0", |text| text.parse().ok().filter(|n| *n > 0))?,
                max_in_flight: Some(self.count("http.max_in_flight")?).filter(|n| *n > 0),
                redirect: Some(self.duration("http.redirect")?).filter(|time| *time > Duration::ZERO),
            },
            gc: Gc {
                interval: (interval > Duration::ZERO).then_some(interval),
                grace: self.duration("gc.grace")?,
                trash_delay: self.duration("gc.trash_delay")?,
                upload_expiry: self.duration("gc.upload_expiry")?,
            },
            closest: policy::closest(self.get("storage_preference"), measured, &zones)?,
            policy: policy::policies(&self.policies, &zones)?,
            replication: self.replication()?,
            events: Some(self.get("replication.events").text.as_str()).filter(|path| !path.is_empty()).map(PathBuf::from),
            zones,
            data,
        })
    }

    fn tls(&self) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        let [certificate, key] = ["tls.certificate", "tls.key"].map(|key| self.get(key));
        match (certificate.text.as_str(), key.text.as_str()) {
            ("", "") => Ok(None),
            (_, "") => Err(ConfigError::value(&certificate.origin, "tls.certificate", "tls.key is missing: the file of its private key")),
            ("", _) => {
                Err(ConfigError::value(&key.origin, "tls.key", "tls.certificate is missing: the file of the certificate that it is of"))
            }
            (certificate, key) => Ok(Some((PathBuf::from(certificate), PathBuf::from(key)))),
        }
    }

    fn public_url(&self) -> Result<Option<http::Uri>, ConfigError> {
        if self.get("http.public_url").text.is_empty() {
            return Ok(None);
        }
        let url = |text: &str| {
            text.parse().ok().filter(|url: &http::Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.query().is_none())
        };
        self.parse("http.public_url", "an address such as \"https://registry.example.com\"", url).map(Some)
    }

    fn auth(&self, data: &Path) -> Result<Auth, ConfigError> {
        let text = |key| self.get(key).text.as_str();
        let count = |key| self.parse(key, "a whole number", |text| text.parse().ok());
        let limits = RateLimits::default()
            .with_requests_per_second(count("auth.requests_per_second")?)
            .with_failures_per_minute(count("auth.failures_per_minute")?);
        let is_word = |c: u8| c.is_ascii_alphanumeric() || b".-_:/".contains(&c);
        let word = |text: &str| (!text.is_empty() && text.bytes().all(is_word)).then(|| text.to_owned());
        let minutes = |text: &str| units::parse_duration(text).filter(|time| (60..=3600).contains(&time.as_secs()));
        let tokens = TokenOptions::default()
            .with_service(self.parse("auth.service", "a word of letters, digits and . - _ : /", word)?)
            .with_lifetime(self.parse("auth.token_lifetime", "a time from \"1m\" to \"1h\"", minutes)?)
            .with_rotation(Some(self.duration("auth.key_lifetime")?).filter(|time| *time > Duration::ZERO));
        Ok(Auth {
            users: auth::path(text("auth.users"), data, "users"),
            token_keys: auth::path(text("auth.token_keys"), data, "token-keys"),
            tokens,
            users_are_named: !text("auth.users").is_empty(),
            access: auth::access(&self.access)?,
            issuers: auth::issuers(&self.issuers, self.authorities()?.as_ref(), !self.access.is_empty())?,
            limits,
            audit: Some(text("auth.audit")).filter(|path| !path.is_empty()).map(PathBuf::from),
        })
    }

    fn authorities(&self) -> Result<Option<Arc<[u8]>>, ConfigError> {
        let given = self.get("ca_file");
        if given.text.is_empty() {
            return Ok(None);
        }
        let wrong = |problem: String| ConfigError::value(&given.origin, "ca_file", problem);
        let pem = std::fs::read(&given.text).map_err(|error| wrong(format!("cannot read {:?}: {error}", given.text)))?;
        Ok(Some(pem.into()))
    }

    fn replication(&self) -> Result<replication::Options, ConfigError> {
        let mut options = replication::Options::default();
        options.hedge_after = Some(self.duration("hedge_after")?).filter(|time| *time > Duration::ZERO);
        options.request_timeout = self.duration_above_zero("replication.request_timeout")?;
        options.stall_timeout = self.duration_above_zero("replication.stall_timeout")?;
        options.probe_interval = self.duration_above_zero("replication.probe_interval")?;
        options.reprobe_interval = options.reprobe_interval.min(options.probe_interval);
        options.poll_interval = self.duration_above_zero("replication.poll_interval")?;
        options.lease = self.duration_above_zero("replication.lease")?;
        options.reconcile_interval = self.duration_above_zero("replication.reconcile_interval")?;
        options.narrow_after = self.duration("replication.narrow_after")?;
        options.trash_delay = self.duration("replication.trash_delay")?;
        options.keep_unknown = self.duration("replication.keep_unknown")?;
        options.lag_alert = self.duration("replication.lag_alert")?;
        options.background_share = self.parse("replication.background_share", "a number above 0 and up to 1, such as 0.25", |text| {
            text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0)
        })?;
        options.compare_interval = self.duration("replication.compare_interval")?;
        options.scrub_interval = self.duration("replication.scrub_interval")?;
        Ok(options)
    }

    fn log(&self) -> Result<String, ConfigError> {
        let given = self.get("log");
        match given.text.parse::<tracing_subscriber::EnvFilter>() {
            Ok(_) => Ok(given.text.clone()),
            Err(error) => Err(ConfigError::value(
                &given.origin,
                "log",
                format!("{error}; write for example \"info\" or \"info,registry_http=debug\""),
            )),
        }
    }

    fn database(&self, data: &std::path::Path) -> Result<Database, ConfigError> {
        let given = self.get("metadata.url");
        let url = given.text.as_str();
        if url.is_empty() {
            return Ok(Database::Sqlite(data.join("registry.db")));
        }
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.is_empty() {
                return Ok(Database::Sqlite(PathBuf::from(path)));
            }
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let schema = self.get("metadata.schema").text.clone();
            return Ok(Database::Postgres(Secret(url.to_owned()), Some(schema).filter(|schema| !schema.is_empty())));
        }
        // The text itself may hold a password: it is not repeated.
        Err(ConfigError::value(&given.origin, "metadata.url", "must be sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE"))
    }
}

/// What one layer says of a setting; of a secret, possibly by naming a file.
fn pick(setting: &'static Setting, layer: &BTreeMap<String, Given>) -> Result<Option<Given>, ConfigError> {
    let direct = layer.get(setting.key);
    if setting.kind != Kind::Secret {
        return Ok(direct.cloned());
    }
    let key = format!("{}_file", setting.key);
    match (direct, layer.get(&key)) {
        (direct, None) => Ok(direct.cloned()),
        (Some(_), Some(file)) => Err(ConfigError::value(&file.origin, &key, format!("{} is given too; leave one of them", setting.key))),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(&file.text)
                .map_err(|error| ConfigError::value(&file.origin, &key, format!("cannot read {:?}: {error}", file.text)))?;
            Ok(Some(Given { text: text.trim_end_matches(['\r', '\n']).to_owned(), origin: file.origin.clone() }))
        }
    }
}

/// Whatever a file, a flag of a table, a duration and a size can be.
#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    let _ = file::parse(Path::new("registry.toml"), text, &|name| Some(name.to_lowercase())).is_ok();
    for table in [&zone::ZONE, &policy::POLICY, &auth::ACCESS, &auth::ISSUER] {
        if let Ok(keys) = keys::Keys::parse(table, text, &Origin::Default) {
            let _ = keys.check().is_ok();
        }
    }
    let _ = (units::parse_duration(text), units::parse_size(text));
}
