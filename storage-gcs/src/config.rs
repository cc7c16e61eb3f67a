//! [`GcsConfig`]: everything that can be set.

use serde::Deserialize;
use storage_object::Secret;

/// How to reach and use a bucket. What is empty counts as not given.
///
/// One is somebody by interoperability keys (`access_key` and `secret_key`), or by `service_account`, or else by application-default credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GcsConfig {
    /// The bucket.
    pub bucket: String,
    /// The folder in it under which everything is.
    pub storage_path: String,
    /// The access id of an interoperability key: `GOOG…`. <https://cloud.google.com/storage/docs/authentication/hmackeys>
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<Secret>,
    /// A service account's key: the path of its file, or the JSON text that is in it.
    pub service_account: Option<Secret>,
    /// Where application-default credentials are looked for first; by default what `GOOGLE_APPLICATION_CREDENTIALS` names. Then `gcloud`'s own file is, and the machine's metadata server.
    pub application_credentials: Option<String>,
    /// The service's address, `https://storage.googleapis.com` by default.
    pub endpoint: Option<String>,
    /// A PEM file with certificates that are trusted too.
    pub ca_file: Option<String>,
    /// A proxy for all requests: `http://host:port`, or with a user and a password.
    pub proxy: Option<Secret>,
}

impl GcsConfig {
    /// What the environment says, by the names that Google's tools use. The bucket is not among them.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same from whatever answers like an environment.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        Self { application_credentials: given("GOOGLE_APPLICATION_CREDENTIALS"), ..Self::default() }
    }
}
