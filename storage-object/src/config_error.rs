//! [`ConfigError`].

/// A service's configuration that cannot be used, in words for who wrote it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Something that is needed is not there.
    #[error("{setting} is missing: {why}")]
    Missing {
        /// The setting.
        setting: &'static str,
        /// What it is needed for.
        why: &'static str,
    },
    /// A value that makes no sense.
    #[error("{setting} = {value:?}: {why}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A client cannot be made of what is configured: certificates and keys that do not fit, or none to trust on this machine.
    #[error(
        "no HTTPS client can be made: {why}; look at ca_file, client_cert_file and client_key_file, and at the certificates of this system"
    )]
    Client {
        /// What TLS says.
        why: String,
    },
    /// A file that cannot be used.
    #[error("{setting} = {path:?}: {source}")]
    File {
        /// The setting.
        setting: &'static str,
        /// Its value.
        path: String,
        /// What is wrong with the file.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ConfigError {
    /// As the error of a store that could not be opened for it.
    pub fn told(self) -> registry_core::Error {
        registry_core::Error::new(registry_core::ErrorKind::InvalidInput, self.to_string()).with_source(self)
    }
}
