//! [`HttpSettings`].

use std::sync::Arc;
use std::time::Duration;

use object_store::{Certificate, ClientOptions};

use super::client::Http;
use super::no_answer::innermost;
use crate::config_error::ConfigError;
use crate::secret::Secret;
use crate::settings::{given, secret};

/// How to reach a service: what its client needs beyond an address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpSettings {
    /// A PEM file with certificates of authorities that are trusted too.
    pub ca_file: Option<String>,
    /// Certificates of more such authorities, in PEM form.
    pub authorities: Option<Arc<[u8]>>,
    /// A PEM file with the certificate to show to servers that ask for one; may have the key as well.
    pub client_cert_file: Option<String>,
    /// A PEM file with that certificate's key.
    pub client_key_file: Option<String>,
    /// A proxy for all requests: `http://host:port`, or with a user and a password.
    pub proxy: Option<Secret>,
    /// How long a connection may take to be made; 5 seconds by default.
    pub connect_timeout: Duration,
    /// How long nothing may move on a connection that is waited for; 30 seconds by default.
    pub idle_timeout: Duration,
    /// What the client calls itself.
    pub user_agent: &'static str,
}

/// Where machines in clouds ask who they are.
const METADATA: &str = "169.254.169.254,169.254.170.2,169.254.170.23,metadata.google.internal,localhost,127.0.0.1";

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            ca_file: None,
            authorities: None,
            client_cert_file: None,
            client_key_file: None,
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            user_agent: concat!("storage-object/", env!("CARGO_PKG_VERSION")),
        }
    }
}

fn file(setting: &'static str, path: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConfigError {
    ConfigError::File { setting, path: path.to_owned(), source: source.into() }
}

fn read(setting: &'static str, path: &str) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| file(setting, path, error))
}

impl HttpSettings {
    /// What is trusted besides the system's authorities: where each comes from, and its certificates in PEM form. Reads the file.
    fn trusted(&self) -> Result<Vec<(String, Vec<u8>)>, ConfigError> {
        let of_file = given(&self.ca_file).map(|path| read("ca_file", &path).map(|pem| (path, pem))).transpose()?;
        let given = self.authorities.as_ref().map(|pem| ("authorities".to_owned(), pem.to_vec()));
        Ok(of_file.into_iter().chain(given).collect())
    }

    /// The settings of one of `object_store`'s own clients: of use where it only gets credentials. Certificates to show are not among what it knows.
    ///
    /// Reads the file.
    pub fn client_options(&self) -> Result<ClientOptions, ConfigError> {
        let mut options = ClientOptions::new().with_connect_timeout(self.connect_timeout).with_timeout(self.idle_timeout);
        for (path, pem) in self.trusted()? {
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| file("ca_file", &path, error))?;
            options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
        }
        if let Some(proxy) = secret(&self.proxy) {
            // A machine's own metadata are not behind it.
            options = options.with_proxy_url(proxy.reveal()).with_proxy_excludes(METADATA);
        }
        Ok(options)
    }

    /// A client. Reads the files.
    pub fn client(&self) -> Result<Http, ConfigError> {
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // Of HTTP/2 all requests would share one connection and its window: a few slow readers would stop everybody.
            .http1_only()
            .tls_info(true)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(64)
            .user_agent(self.user_agent);
        for (path, pem) in self.trusted()? {
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| file("ca_file", &path, error))?;
            if certificates.is_empty() {
                return Err(file("ca_file", &path, "there is no certificate in PEM form in it"));
            }
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        if let Some(path) = given(&self.client_cert_file) {
            let mut pem = read("client_cert_file", &path)?;
            if let Some(key) = given(&self.client_key_file) {
                pem.extend_from_slice(&read("client_key_file", &key)?);
            }
            http = http.identity(reqwest::Identity::from_pem(&pem).map_err(|error| file("client_cert_file", &path, error))?);
        }
        if let Some(proxy) = secret(&self.proxy) {
            let why = "it is no address of a proxy, such as http://proxy.example:3128".to_owned();
            let invalid = |_| ConfigError::Invalid { setting: "proxy", value: "[redacted]".to_owned(), why };
            http = http.proxy(reqwest::Proxy::all(proxy.reveal()).map_err(invalid)?);
        }
        let client = http.build().map_err(|error| ConfigError::Client { why: innermost(&error) })?;
        Ok(Http::new(client, self.idle_timeout))
    }
}
