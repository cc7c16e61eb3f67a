//! A zone in OpenStack Swift, or in another service that speaks its protocol.

use storage_swift::SwiftConfig;

use super::super::keys::{Key, Keys, Table};
use super::super::origin::ConfigError;
use super::super::settings::Kind;
use super::remote::{self, CONNECTION, Connection, secret, text};
use super::{HEAD, TAIL, ZONE};

/// Its keys.
pub(super) const TABLE: Table = Table { groups: &[HEAD, SERVICE, CONNECTION, TAIL], ..ZONE };

/// What [`SwiftConfig`] has.
const SERVICE: &[Key] = &[
    Key { name: "auth_version", kind: Kind::Count, default: "3", help: "3 to log in to Keystone, 1 for TempAuth and RadosGW." },
    text("auth_url", "Where to log in, such as https://keystone.example:5000/v3, or of version 1 https://swift.example/auth/v1.0."),
    text("container", "The container that holds the blobs."),
    text("storage_path", "The folder in it under which everything of this zone is."),
    Key {
        name: "create_container",
        kind: Kind::Switch,
        default: "false",
        help: "Make the container if it is not there and this zone is used for the first time.",
    },
    text("username", "The user; of version 1 often ACCOUNT:USER."),
    secret("password", "The password; of version 1 the key."),
    text("user_domain_name", "The user's domain; Default when empty."),
    text("user_domain_id", "The same by id."),
    text("user_id", "The user by id, instead of by name and domain."),
    text("tenant_id", "The project, or tenant, by id; project_id means the same."),
    text("tenant_name", "The project by name; project_name means the same."),
    text("project_id", "See tenant_id."),
    text("project_name", "See tenant_name."),
    text("project_domain_name", "The project's domain; the user's when empty."),
    text("project_domain_id", "The same by id."),
    text("application_credential_id", "An application credential, instead of user, password and project."),
    text("application_credential_name", "The same by name; with the user."),
    secret("application_credential_secret", "Its secret."),
    secret("token", "A token that somebody else obtained, where there is no password. It is not renewed."),
    text("region", "The region in Keystone's catalogue; may be empty if there is only one."),
    Key { name: "interface", kind: Kind::Text, default: "public", help: "Which address of the catalogue: public, internal or admin." },
    text("service_type", "What the service is called in the catalogue; object-store when empty."),
    text("storage_url", "The account's address, instead of the catalogue's."),
    secret("temp_url_key", "The account's or the container's key for temporary URLs; see http.redirect."),
    text("ca_file", "A PEM file with certificates of authorities to trust too."),
    text("client_cert_file", "A PEM file with a certificate to show to servers that want one."),
    text("client_key_file", "A PEM file with its key, if that is not in the same file."),
    secret("proxy", "A proxy for all requests, such as http://proxy.example:3128."),
];

/// A container in Swift.
#[derive(Clone, Debug)]
pub(crate) struct Swift {
    /// Where it is and who may use it.
    pub(crate) config: SwiftConfig,
    /// How its client behaves.
    pub(crate) connection: Connection,
}

impl Swift {
    pub(super) fn read(keys: &Keys) -> Result<Self, ConfigError> {
        let config: SwiftConfig = remote::read(keys, SERVICE)?;
        // What is missing, and files that are not there, are known without asking anybody.
        storage_swift::SwiftBuilder::new(config.clone()).build().map_err(|error| remote::wrong(keys, error))?;
        Ok(Self { config, connection: Connection::read(keys)? })
    }

    /// `container quay at https://keystone.example:5000/v3`
    pub(super) fn place(&self) -> String {
        let config = &self.config;
        let url = config.storage_url.as_ref().or(config.auth_url.as_ref()).map_or("", String::as_str);
        remote::place("container", &config.container, &config.storage_path, url)
    }

    pub(super) fn exact_place(&self) -> String {
        let config = &self.config;
        let project = (&config.project_id, &config.project_name, &config.project_domain_id, &config.project_domain_name);
        let user = (config.auth_version, &config.username, &config.user_id, &config.user_domain_id, &config.user_domain_name);
        let credential = (&config.application_credential_id, &config.application_credential_name);
        format!("{} {:?} {project:?} {user:?} {credential:?}", self.place(), config.region)
    }
}
