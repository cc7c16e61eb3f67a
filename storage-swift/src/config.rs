//! [`SwiftConfig`]: everything that can be set, and where it comes from.

use serde::Deserialize;
use storage_object::{ConfigError, Secret};

/// Which of a service's addresses in the catalogue is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Interface {
    /// For everybody.
    #[default]
    Public,
    /// For those in the same cloud.
    Internal,
    /// For operators.
    Admin,
}

impl Interface {
    /// As the catalogue calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }

    /// `public` or the older `publicURL`, and so on.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = text.trim().to_ascii_lowercase();
        [Self::Public, Self::Internal, Self::Admin].into_iter().find(|one| one.as_str() == name.strip_suffix("url").unwrap_or(&name))
    }
}

/// How to reach and use a container. All texts are as the OpenStack tools have them; what is empty counts as not given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SwiftConfig {
    /// 3 for Keystone (the default), 1 for TempAuth and RadosGW.
    pub auth_version: Option<u8>,
    /// Where to log in: Keystone's address, with or without `/v3`; or the `/auth/v1.0` of version 1.
    pub auth_url: Option<String>,
    /// The user's name; of version 1 often `account:user`.
    #[serde(alias = "user")]
    pub username: Option<String>,
    /// The user's id, instead of name and domain.
    pub user_id: Option<String>,
    /// The password; of version 1, the key.
    #[serde(alias = "key")]
    pub password: Option<Secret>,
    /// The domain of the user's name; `Default` if neither this nor the id is given.
    pub user_domain_name: Option<String>,
    /// The same by id.
    pub user_domain_id: Option<String>,
    /// The project, or tenant, by id.
    #[serde(alias = "tenant_id")]
    pub project_id: Option<String>,
    /// The same by name.
    #[serde(alias = "tenant_name")]
    pub project_name: Option<String>,
    /// The domain of the project's name; the user's if neither this nor the id is given.
    pub project_domain_name: Option<String>,
    /// The same by id.
    pub project_domain_id: Option<String>,
    /// An application credential instead of user and password, by id.
    pub application_credential_id: Option<String>,
    /// The same by name; needs the user too.
    pub application_credential_name: Option<String>,
    /// Its secret.
    pub application_credential_secret: Option<Secret>,
    /// A token that somebody else obtained. With `storage_url` it is used as it is; otherwise Keystone is asked for the catalogue with it. It is not renewed, and not
    /// used where there is a password or an application credential.
    pub token: Option<Secret>,
    /// The account's address, instead of the catalogue's.
    pub storage_url: Option<String>,
    /// The region in the catalogue; needed if there are several.
    pub region: Option<String>,
    /// The kind of address in the catalogue.
    pub interface: Interface,
    /// The container.
    pub container: String,
    /// The folder in the container under which everything is.
    pub storage_path: String,
    /// Make the container if it is not there.
    pub create_container: bool,
    /// The catalogue's name for the service; `object-store` by default.
    pub service_type: Option<String>,
    /// A PEM file with certificates that are trusted too.
    pub ca_file: Option<String>,
    /// A PEM file with the certificate to show to servers that ask for one; may have the key as well.
    pub client_cert_file: Option<String>,
    /// A PEM file with that certificate's key.
    pub client_key_file: Option<String>,
    /// A proxy for all requests: `http://host:port`, or with a user and a password.
    pub proxy: Option<Secret>,
    /// The key that temporary URLs are signed with; without one there are none.
    pub temp_url_key: Option<Secret>,
}

impl SwiftConfig {
    /// From the environment: the variables that the `openstack` and `swift` commands understand for a log-in by password, application credential or token.
    /// Container, storage path, and keys for temporary URLs are not among them; `OS_CLOUD`, which names an entry of a file, is not read.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same from whatever answers like an environment.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let first = |names: &[&str]| names.iter().find_map(|name| get(name).filter(|value| !value.trim().is_empty()));
        let secret = |names: &[&str]| first(names).map(Secret::from);
        // As the `swift` command does it: its own three variables, if all are there, count before those of OpenStack, and mean version 1.
        let its_own = ["ST_AUTH", "ST_USER", "ST_KEY"].iter().all(|name| first(&[name]).is_some());
        let auth_version = match first(&["ST_AUTH_VERSION", "OS_AUTH_VERSION", "OS_IDENTITY_API_VERSION"]) {
            // 3, 3.0, v3, 2.0 …
            Some(version) if !its_own || first(&["ST_AUTH_VERSION"]).is_some() => Some(parse_version(&version)?),
            _ => its_own.then_some(1),
        };
        let either = |of_swift, of_openstack| if its_own { first(&[of_swift]) } else { first(&[of_openstack, of_swift]) };
        let interface = match first(&["OS_INTERFACE", "OS_ENDPOINT_TYPE"]) {
            None => Interface::default(),
            Some(value) => Interface::parse(&value).ok_or_else(|| ConfigError::Invalid {
                setting: "OS_INTERFACE",
                why: "it is public, internal or admin".to_owned(),
                value,
            })?,
        };
        // The default domain is for what has none, by name or by id.
        let domain = |name: &str, id: &str| match (first(&[name]), first(&[id])) {
            (None, None) => (first(&["OS_DEFAULT_DOMAIN_NAME"]), first(&["OS_DEFAULT_DOMAIN_ID", "OS_DEFAULT_DOMAIN"])),
            given => given,
        };
        let (user_domain_name, user_domain_id) = domain("OS_USER_DOMAIN_NAME", "OS_USER_DOMAIN_ID");
        let (project_domain_name, project_domain_id) = domain("OS_PROJECT_DOMAIN_NAME", "OS_PROJECT_DOMAIN_ID");
        Ok(Self {
            auth_version,
            auth_url: either("ST_AUTH", "OS_AUTH_URL"),
            username: either("ST_USER", "OS_USERNAME"),
            user_id: first(&["OS_USER_ID"]),
            password: either("ST_KEY", "OS_PASSWORD").map(Secret::from),
            user_domain_name,
            user_domain_id,
            project_id: first(&["OS_PROJECT_ID", "OS_TENANT_ID"]),
            project_name: first(&["OS_PROJECT_NAME", "OS_TENANT_NAME"]),
            project_domain_name,
            project_domain_id,
            application_credential_id: first(&["OS_APPLICATION_CREDENTIAL_ID"]),
            application_credential_name: first(&["OS_APPLICATION_CREDENTIAL_NAME"]),
            application_credential_secret: secret(&["OS_APPLICATION_CREDENTIAL_SECRET"]),
            token: secret(&["OS_AUTH_TOKEN", "OS_TOKEN"]),
            storage_url: first(&["OS_STORAGE_URL"]),
            region: first(&["OS_REGION_NAME"]),
            interface,
            service_type: first(&["OS_SERVICE_TYPE"]),
            ca_file: first(&["OS_CACERT"]),
            client_cert_file: first(&["OS_CERT"]),
            client_key_file: first(&["OS_KEY"]),
            ..Self::default()
        })
    }
}

fn parse_version(text: &str) -> Result<u8, ConfigError> {
    let number = text.trim().trim_start_matches(['v', 'V']).split('.').next().unwrap_or_default();
    number.parse().map_err(|_| ConfigError::Invalid {
        setting: "auth_version",
        value: text.to_owned(),
        why: "it is 3 for Keystone, or 1".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Interface, SwiftConfig};

    fn from(variables: &[(&str, &str)]) -> SwiftConfig {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        SwiftConfig::from_variables(|name| variables.get(name).map(|value| (*value).to_owned())).unwrap()
    }

    #[test]
    fn a_keystone_rc_file_is_understood() {
        let config = from(&[
            ("OS_AUTH_URL", "http://keystone:5000/v3"),
            ("OS_IDENTITY_API_VERSION", "3"),
            ("OS_USERNAME", "admin"),
            ("OS_PASSWORD", "secret"),
            ("OS_TENANT_ID", "0a1b2c"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_REGION_NAME", ""),
            ("OS_ENDPOINT_TYPE", "internalURL"),
        ]);
        assert_eq!((config.auth_version, config.auth_url.as_deref()), (Some(3), Some("http://keystone:5000/v3")));
        assert_eq!((config.username.as_deref(), config.project_id.as_deref()), (Some("admin"), Some("0a1b2c")));
        assert_eq!((config.region, config.interface), (None, Interface::Internal));
        assert_eq!(config.password.unwrap().reveal(), "secret");
    }

    #[test]
    fn the_variables_of_the_swift_command_mean_version_1() {
        let config = from(&[("ST_AUTH", "http://rgw/auth/v1.0"), ("ST_USER", "tester:swift"), ("ST_KEY", "key")]);
        assert_eq!((config.auth_version, config.username.as_deref()), (Some(1), Some("tester:swift")));
        // Beside those of OpenStack too, if all three are there.
        let openstack =
            [("OS_AUTH_URL", "http://keystone:5000"), ("OS_AUTH_VERSION", "3.0"), ("OS_USERNAME", "admin"), ("OS_PASSWORD", "secret")];
        let config = from(&[&openstack[..], &[("ST_AUTH", "http://rgw/auth/v1.0")]].concat());
        assert_eq!((config.auth_version, config.auth_url.as_deref()), (Some(3), Some("http://keystone:5000")));
        let all = [("ST_AUTH", "http://rgw/auth/v1.0"), ("ST_USER", "tester:swift"), ("ST_KEY", "key")];
        let config = from(&[&openstack[..], &all].concat());
        assert_eq!((config.auth_version, config.auth_url.as_deref()), (Some(1), Some("http://rgw/auth/v1.0")));
        assert_eq!((config.username.as_deref(), config.password.unwrap().reveal()), (Some("tester:swift"), "key"));
    }

    #[test]
    fn each_variable_is_read_into_its_field() {
        type Field = fn(&SwiftConfig) -> Option<String>;
        let secret = |secret: &Option<super::Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
        let fields: [(&str, Field); 24] = [
            ("OS_AUTH_URL", |c| c.auth_url.clone()),
            ("OS_USERNAME", |c| c.username.clone()),
            ("OS_USER_ID", |c| c.user_id.clone()),
            ("OS_USER_DOMAIN_NAME", |c| c.user_domain_name.clone()),
            ("OS_USER_DOMAIN_ID", |c| c.user_domain_id.clone()),
            ("OS_PROJECT_ID", |c| c.project_id.clone()),
            ("OS_TENANT_ID", |c| c.project_id.clone()),
            ("OS_PROJECT_NAME", |c| c.project_name.clone()),
            ("OS_TENANT_NAME", |c| c.project_name.clone()),
            ("OS_PROJECT_DOMAIN_NAME", |c| c.project_domain_name.clone()),
            ("OS_PROJECT_DOMAIN_ID", |c| c.project_domain_id.clone()),
            ("OS_DEFAULT_DOMAIN_NAME", |c| c.user_domain_name.clone()),
            ("OS_DEFAULT_DOMAIN_ID", |c| c.project_domain_id.clone()),
            ("OS_DEFAULT_DOMAIN", |c| c.user_domain_id.clone()),
            ("OS_APPLICATION_CREDENTIAL_ID", |c| c.application_credential_id.clone()),
            ("OS_APPLICATION_CREDENTIAL_NAME", |c| c.application_credential_name.clone()),
            ("OS_STORAGE_URL", |c| c.storage_url.clone()),
            ("OS_REGION_NAME", |c| c.region.clone()),
            ("OS_SERVICE_TYPE", |c| c.service_type.clone()),
            ("OS_CACERT", |c| c.ca_file.clone()),
            ("OS_CERT", |c| c.client_cert_file.clone()),
            ("OS_KEY", |c| c.client_key_file.clone()),
            ("ST_USER", |c| c.username.clone()),
            ("ST_AUTH", |c| c.auth_url.clone()),
        ];
        for (name, field) in fields {
            assert_eq!(field(&from(&[(name, "value")])).as_deref(), Some("value"), "{name}");
        }
        let secrets: [(&str, fn(SwiftConfig) -> Option<super::Secret>); 5] = [
            ("OS_PASSWORD", |c| c.password),
            ("ST_KEY", |c| c.password),
            ("OS_APPLICATION_CREDENTIAL_SECRET", |c| c.application_credential_secret),
            ("OS_AUTH_TOKEN", |c| c.token),
            ("OS_TOKEN", |c| c.token),
        ];
        for (name, field) in secrets {
            assert_eq!(secret(&field(from(&[(name, "value")]))).as_deref(), Some("value"), "{name}");
        }
        assert_eq!(from(&[("OS_INTERFACE", "admin")]).interface, Interface::Admin);
        // What has a domain needs no default.
        let config = from(&[("OS_USER_DOMAIN_NAME", "mine"), ("OS_DEFAULT_DOMAIN_ID", "default")]);
        assert_eq!((config.user_domain_name.as_deref(), config.user_domain_id), (Some("mine"), None));
        assert_eq!(config.project_domain_id.as_deref(), Some("default"));
    }

    #[test]
    fn application_credentials_and_ready_tokens_are_taken() {
        let config = from(&[("OS_APPLICATION_CREDENTIAL_ID", "id"), ("OS_APPLICATION_CREDENTIAL_SECRET", "secret")]);
        assert_eq!(config.application_credential_id.as_deref(), Some("id"));
        let config = from(&[("OS_AUTH_TOKEN", "token"), ("OS_STORAGE_URL", "http://swift/v1/AUTH_x"), ("OS_CACERT", "/ca.pem")]);
        assert_eq!((config.storage_url.as_deref(), config.ca_file.as_deref()), (Some("http://swift/v1/AUTH_x"), Some("/ca.pem")));
        assert!(!format!("{config:?}").contains("\"token\""), "{config:?}");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let error = SwiftConfig::from_variables(|name| (name == "OS_AUTH_VERSION").then(|| "latest".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), r#"auth_version = "latest": it is 3 for Keystone, or 1"#);
    }
}
