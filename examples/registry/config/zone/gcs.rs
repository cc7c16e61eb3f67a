//! A zone in Google Cloud Storage.

use storage_gcs::GcsConfig;

use super::super::keys::{Key, Keys, Table};
use super::super::origin::ConfigError;
use super::remote::{self, CONNECTION, Connection, secret, text};
use super::{HEAD, TAIL, ZONE};

/// Its keys.
pub(super) const TABLE: Table = Table { groups: &[HEAD, SERVICE, CONNECTION, TAIL], ..ZONE };

/// What [`GcsConfig`] has.
const SERVICE: &[Key] = &[
    text("bucket", "The bucket that holds the blobs."),
    text("storage_path", "The folder in it under which everything of this zone is."),
    text("access_key", "The access id of an interoperability (HMAC) key, GOOG…."),
    secret("secret_key", "Its secret."),
    secret("service_account", "A service account's key, instead: the path of its JSON file, or its text."),
    text(
        "application_credentials",
        "Where application-default credentials are, if there are no keys; otherwise they are looked for as Google's tools do.",
    ),
    text("endpoint", "The service's address, https://storage.googleapis.com when empty."),
    text("ca_file", "A PEM file with certificates of authorities to trust too."),
    secret("proxy", "A proxy for all requests, such as http://proxy.example:3128."),
];

/// A bucket at Google.
#[derive(Clone, Debug)]
pub(crate) struct Gcs {
    /// Where it is and who may use it.
    pub(crate) config: GcsConfig,
    /// How its client behaves.
    pub(crate) connection: Connection,
}

impl Gcs {
    pub(super) fn read(keys: &Keys) -> Result<Self, ConfigError> {
        let config: GcsConfig = remote::read(keys, SERVICE)?;
        storage_gcs::GcsBuilder::new(config.clone()).check().map_err(|error| remote::wrong(keys, error))?;
        Ok(Self { config, connection: Connection::read(keys)? })
    }

    /// `bucket quay/folder at Google Cloud Storage`
    pub(super) fn place(&self) -> String {
        let address = self.config.endpoint.as_deref().unwrap_or("Google Cloud Storage");
        remote::place("bucket", &self.config.bucket, &self.config.storage_path, address.trim_end_matches('/'))
    }
}
