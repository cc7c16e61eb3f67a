//! What Quay's settings for storage are called here.
//!
//! `DISTRIBUTED_STORAGE_CONFIG` maps each location's name to `[engine, {parameters}]`; see the configuration fields in the documentation of Red Hat Quay and
//! the constructors of the engines in Quay's `storage` package. [`ENGINES`] is the one place that knows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};

/// How a parameter of Quay's is said here.
#[derive(Clone, Copy)]
enum Rule {
    /// By a key of a zone, as a text.
    Text(&'static str),
    /// By a key of a zone, as a whole number.
    Count(&'static str),
    /// The host, port or scheme of an endpoint.
    Endpoint,
    /// By nothing, and nothing is lost: why not.
    Needless(&'static str),
}

use Rule::{Count, Endpoint, Needless, Text};

/// An engine: what Quay calls it, the type of zone, and its parameters. `os_options.x` is the `x` in the table `os_options`.
struct Engine {
    names: &'static [&'static str],
    zone_type: &'static str,
    /// The type's keys that follow from which engine it is.
    fixed: &'static [(&'static str, &'static str)],
    rules: &'static [(&'static str, Rule)],
}

const PARTS: Rule = Needless("the sizes of parts follow from the blob's");

const ENGINES: &[Engine] = &[
    Engine { names: &["LocalStorage"], zone_type: "filesystem", fixed: &[], rules: &[("storage_path", Text("path"))] },
    Engine {
        names: &["SwiftStorage"],
        zone_type: "swift",
        fixed: &[],
        rules: &[
            ("auth_version", Count("auth_version")),
            ("auth_url", Text("auth_url")),
            ("swift_container", Text("container")),
            ("storage_path", Text("storage_path")),
            ("swift_user", Text("username")),
            ("swift_password", Text("password")),
            ("ca_cert_path", Text("ca_file")),
            ("temp_url_key", Text("temp_url_key")),
            ("connect_timeout", Needless("connect_timeout and idle_timeout have defaults here")),
            ("retry_count", Needless("what may pass is tried again")),
            ("retry_on_ratelimit", Needless("what may pass is tried again")),
            ("simple_path_concat", Needless("storage_path is a folder of the container")),
            ("os_options.tenant_id", Text("tenant_id")),
            ("os_options.tenant_name", Text("tenant_name")),
            ("os_options.project_id", Text("project_id")),
            ("os_options.project_name", Text("project_name")),
            ("os_options.project_domain_id", Text("project_domain_id")),
            ("os_options.project_domain_name", Text("project_domain_name")),
            ("os_options.user_id", Text("user_id")),
            ("os_options.user_domain_id", Text("user_domain_id")),
            ("os_options.user_domain_name", Text("user_domain_name")),
            ("os_options.region_name", Text("region")),
            ("os_options.service_type", Text("service_type")),
            ("os_options.endpoint_type", Text("interface")),
            ("os_options.object_storage_url", Text("storage_url")),
            ("os_options.auth_token", Text("token")),
        ],
    },
    Engine {
        names: &["S3Storage", "CloudFrontedS3Storage"],
        zone_type: "s3",
        fixed: &[],
        rules: &[
            ("s3_bucket", Text("bucket")),
            ("storage_path", Text("storage_path")),
            ("s3_access_key", Text("access_key")),
            ("s3_secret_key", Text("secret_key")),
            ("s3_region", Text("region")),
            ("endpoint_url", Text("endpoint")),
            ("host", Endpoint),
            ("port", Endpoint),
            ("minimum_chunk_size_mb", PARTS),
            ("maximum_chunk_size_mb", PARTS),
            ("server_side_assembly", PARTS),
            ("signature_version", Needless("all requests are signed by version 4")),
        ],
    },
    Engine {
        names: &["RadosGWStorage", "RHOCSStorage"],
        zone_type: "s3",
        fixed: &[("path_style", "true")],
        rules: &[
            ("bucket_name", Text("bucket")),
            ("storage_path", Text("storage_path")),
            ("access_key", Text("access_key")),
            ("secret_key", Text("secret_key")),
            ("hostname", Endpoint),
            ("port", Endpoint),
            ("is_secure", Endpoint),
            ("maximum_chunk_size_mb", PARTS),
            ("minimum_chunk_size_mb", PARTS),
            ("server_side_assembly", PARTS),
        ],
    },
    Engine {
        names: &["GoogleCloudStorage"],
        zone_type: "gcs",
        fixed: &[],
        rules: &[
            ("bucket_name", Text("bucket")),
            ("storage_path", Text("storage_path")),
            ("access_key", Text("access_key")),
            ("secret_key", Text("secret_key")),
            ("boto_timeout", Needless("time-outs have defaults here")),
        ],
    },
];

/// What Quay's configuration says of storage; the rest is not looked at.
#[derive(Debug, Deserialize)]
struct Quay {
    #[serde(rename = "DISTRIBUTED_STORAGE_CONFIG")]
    storage: Option<BTreeMap<String, (String, Option<Map<String, Value>>)>>,
    #[serde(rename = "DISTRIBUTED_STORAGE_PREFERENCE", default)]
    preference: Option<Vec<String>>,
    #[serde(rename = "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS", default)]
    default_locations: Option<Vec<String>>,
    #[serde(rename = "FEATURE_STORAGE_REPLICATION", default)]
    replication: bool,
    #[serde(rename = "FEATURE_PROXY_STORAGE", default)]
    proxy: bool,
}

/// The configuration as this program has it, or what is wrong with it.
pub(crate) fn convert(yaml: &str) -> Result<String, String> {
    let quay: Quay = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    let storage = quay.storage.unwrap_or_default();
    if storage.is_empty() {
        return Err("there is no DISTRIBUTED_STORAGE_CONFIG in it".to_owned());
    }
    let mut names = BTreeMap::new();
    for location in storage.keys() {
        let name = zone_name(location);
        if names.values().any(|other| *other == name) {
            return Err(format!("DISTRIBUTED_STORAGE_CONFIG: two locations would be called {name} here: rename one of them"));
        }
        names.insert(location.as_str(), name);
    }
    let named = |setting: &str, locations: Option<Vec<String>>| -> Result<Vec<String>, String> {
        let known = |location: &String| names.get(location.as_str()).cloned();
        let missing = |location: &String| format!("{setting}: there is no {location:?} in DISTRIBUTED_STORAGE_CONFIG");
        locations.unwrap_or_default().iter().map(|location| known(location).ok_or_else(|| missing(location))).collect()
    };
    let preference = named("DISTRIBUTED_STORAGE_PREFERENCE", quay.preference)?;
    let default_locations = named("DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS", quay.default_locations)?;

    let mut out = String::from(
        "# From Quay's configuration. It holds secrets: only the registry's user should be able to read it.\n\
         # What Quay stored there is not looked at; blobs of this registry lie beside it, in folders of their own.\n",
    );
    let preferred = if preference.is_empty() { &default_locations } else { &preference };
    if !preferred.is_empty() {
        let _ = writeln!(out, "storage_preference = {}", list(preferred));
    }
    if !quay.proxy {
        out.push_str("\n# Quay sends pulls to the storage itself unless FEATURE_PROXY_STORAGE is set.\n[http]\nredirect = \"10m\"\n");
    }
    for (location, (engine, parameters)) in &storage {
        zone(&mut out, location, &names[location.as_str()], engine, parameters.as_ref().unwrap_or(&Map::new()))?;
    }
    policies(&mut out, storage.len(), quay.replication, &default_locations);
    Ok(out)
}

fn zone(out: &mut String, location: &str, name: &str, engine: &str, parameters: &Map<String, Value>) -> Result<(), String> {
    let Some(known) = ENGINES.iter().find(|known| known.names.contains(&engine)) else {
        let names: Vec<_> = ENGINES.iter().flat_map(|known| known.names).copied().collect();
        return Err(format!(
            "DISTRIBUTED_STORAGE_CONFIG.{location}: {engine} has no counterpart here; those that have are {}",
            names.join(", ")
        ));
    };
    let _ = write!(out, "\n[[zone]]\nname = {}\ntype = {}\n", quoted(name), quoted(known.zone_type));
    let mut parameters = flat(parameters);
    for what in ["id", "name"] {
        // Two names of one thing.
        let (tenant, project) = (format!("os_options.tenant_{what}"), format!("os_options.project_{what}"));
        match (parameters.get(&tenant), parameters.get(&project)) {
            (Some(one), Some(other)) if one == other => drop(parameters.remove(&project)),
            (Some(_), Some(_)) => return Err(format!("DISTRIBUTED_STORAGE_CONFIG.{location}: {tenant} and {project} are not the same")),
            _ => {}
        }
    }
    for (parameter, rule) in known.rules {
        let Some(value) = parameters.remove(*parameter) else { continue };
        let key = format!("DISTRIBUTED_STORAGE_CONFIG.{location}.{parameter}");
        match rule {
            Text(_) if value.is_f64() => return Err(format!("{key}: write it in quotes, so that it is a text and no number")),
            Text("interface") => {
                let _ = writeln!(out, "interface = {}", quoted(text(&key, &value)?.trim_end_matches("URL")));
            }
            Text(ours) => {
                let _ = writeln!(out, "{ours} = {}", quoted(&text(&key, &value)?));
            }
            Count(ours) => {
                let text = text(&key, &value)?;
                // A version is often written as 3.0.
                let number = text.trim_end_matches(".0").parse::<u64>().map_err(|_| format!("{key}: {text:?} is not a whole number"))?;
                let _ = writeln!(out, "{ours} = {number}");
            }
            Endpoint => {
                // All of it at once, where the host is.
                parameters.insert((*parameter).to_owned(), value);
                if matches!(*parameter, "host" | "hostname") {
                    let _ = writeln!(out, "endpoint = {}", quoted(&endpoint(&key, parameter, &parameters)?));
                }
            }
            Needless(why) => {
                let _ = writeln!(out, "# Quay's {parameter} is not needed: {why}.");
            }
        }
    }
    for (ours, value) in known.fixed {
        let _ = writeln!(out, "{ours} = {value}");
    }
    let is_endpoint = |parameter: &str| known.rules.iter().any(|(name, rule)| *name == parameter && matches!(rule, Endpoint));
    for parameter in parameters.keys().filter(|parameter| !is_endpoint(parameter)) {
        let _ = writeln!(out, "# Quay's {parameter} was not taken over: there is nothing like it here.");
    }
    Ok(())
}

/// Parameters by their names, those in tables by `table.name`. What is not set is left out.
fn flat(parameters: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (name, value) in parameters {
        match value {
            Value::Object(table) => all.extend(table.iter().map(|(inner, value)| (format!("{name}.{inner}"), value.clone()))),
            value => drop(all.insert(name.clone(), value.clone())),
        }
    }
    all.retain(|_, value| !value.is_null());
    all
}

/// `http://rgw.example:8080`; Quay takes https unless `is_secure` is false.
fn endpoint(key: &str, host: &str, parameters: &BTreeMap<String, Value>) -> Result<String, String> {
    let part = |name: &str| parameters.get(name).map(|value| text(key, value)).transpose();
    let host = part(host)?.unwrap_or_default();
    // As Python sees it: whatever is not false is true.
    let is_secure = part("is_secure")?.is_none_or(|text| !matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | ""));
    let (scheme, rest) = host.split_once("://").unwrap_or((if is_secure { "https" } else { "http" }, &host));
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(authority, path)| (authority, format!("/{path}")));
    let port = part("port")?.filter(|_| !authority.contains(':')).map_or_else(String::new, |port| format!(":{port}"));
    Ok(format!("{scheme}://{authority}{port}{}", path.trim_end_matches('/')))
}

fn policies(out: &mut String, zones: usize, replication: bool, default_locations: &[String]) {
    if zones < 2 {
        return;
    }
    if !replication {
        out.push_str(
            "\n# Quay was not copying images from one location to another (FEATURE_STORAGE_REPLICATION). Here each image is copied to all zones\n\
             # unless a [[policy]] says otherwise.\n",
        );
    } else if !default_locations.is_empty() && default_locations.len() < zones {
        let zones = list(default_locations);
        let _ = write!(out, "\n# DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS\n[[policy]]\nrepositories = \"**\"\nzones = {zones}\n");
    }
}

/// A location's name as a zone may be called.
fn zone_name(location: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c.to_ascii_lowercase() } else { '-' };
    location.chars().map(good).collect::<String>().trim_start_matches('.').to_owned()
}

fn text(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(yes) => Ok(yes.to_string()),
        _ => Err(format!("{key}: is not a text")),
    }
}

/// As a text of our configuration, in which `${…}` stands for a variable.
fn quoted(text: &str) -> String {
    toml::Value::String(text.replace("${", "$${")).to_string()
}

fn list(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
}
