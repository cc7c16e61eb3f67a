//! [`GcsBuilder`].

use std::sync::Arc;
use std::time::Duration;

use object_store::gcp::{GcpCredentialProvider, GcpSigningCredentialProvider, GoogleCloudStorageBuilder};
use registry_core::Result;
use storage_object::http::HttpSettings;
use storage_object::settings::{given, secret};
use storage_object::{Budget, ConfigError, ObjectBlobStore};
use storage_s3::{Dialect, S3Builder, S3Config};

use crate::bearer::Bearer;
use crate::config::GcsConfig;

const ENDPOINT: &str = "https://storage.googleapis.com";

/// Makes stores of a [`GcsConfig`].
#[derive(Clone, Debug)]
pub struct GcsBuilder {
    config: GcsConfig,
    /// All that is the same as for S3.
    like_s3: S3Builder,
    authorities: Option<Arc<[u8]>>,
}

/// Who one is.
enum Who {
    /// One with interoperability keys.
    HasKeys,
    /// One who is given tokens, and whose URLs are signed.
    HasTokens(GcpCredentialProvider, GcpSigningCredentialProvider),
}

impl GcsBuilder {
    /// From what was read somewhere.
    pub fn new(config: GcsConfig) -> Self {
        let like_s3 = S3Builder::new(like_s3(&config)).with_dialect(Dialect::google());
        Self { config, like_s3, authorities: None }
    }

    /// From the environment: see [`GcsConfig::from_env`].
    pub fn from_env() -> Self {
        Self::new(GcsConfig::from_env())
    }

    /// The bucket.
    #[must_use]
    pub fn with_bucket(mut self, bucket: impl Into<String>) -> Self {
        self.config.bucket = bucket.into();
        self.like_s3 = self.like_s3.with_bucket(&self.config.bucket);
        self
    }

    /// The folder in the bucket under which all blobs are.
    #[must_use]
    pub fn with_storage_path(mut self, path: impl Into<String>) -> Self {
        self.config.storage_path = path.into();
        self.like_s3 = self.like_s3.with_storage_path(&self.config.storage_path);
        self
    }

    /// The bound on the memory of all uploads, 256 MiB of its own by default. Give a clone of one budget to all stores of a process.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.like_s3 = self.like_s3.with_budget(budget);
        self
    }

    /// The size of a blob's first parts in bytes, 8 MiB by default and 5 MiB at least; later ones are larger.
    #[must_use]
    pub fn with_part_size(mut self, bytes: u64) -> Self {
        self.like_s3 = self.like_s3.with_part_size(bytes);
        self
    }

    /// Certificates of authorities that are trusted besides the system's and those of `ca_file`, in PEM form.
    #[must_use]
    pub fn with_authorities(mut self, pem: Arc<[u8]>) -> Self {
        self.authorities = Some(Arc::clone(&pem));
        self.like_s3 = self.like_s3.with_authorities(pem);
        self
    }

    /// How long a connection may take to be made; 5 seconds by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.like_s3 = self.like_s3.with_connect_timeout(timeout);
        self
    }

    /// How long nothing may move on a connection that is waited for; 30 seconds by default, and 5 minutes at least where the service copies or puts together an
    /// object. There is no limit to how long a request may take in all.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.like_s3 = self.like_s3.with_idle_timeout(timeout);
        self
    }

    /// How often, and for how long in all, a request is sent again after a failure that may pass; by default 5 times within 60 seconds.
    #[must_use]
    pub fn with_retries(mut self, retries: u32, budget: Duration) -> Self {
        self.like_s3 = self.like_s3.with_retries(retries, budget);
        self
    }

    /// Looks through the configuration, and reads the files that it names; asks nothing of the service.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.who().map(drop)
    }

    /// The bucket as a blob store; looks whether the bucket is there.
    ///
    /// The error's message says in plain words what is wrong and which setting to change. [`ErrorKind::InvalidInput`](registry_core::ErrorKind::InvalidInput) if that is
    /// the configuration's fault for sure.
    pub async fn build_blob_store(&self) -> Result<ObjectBlobStore> {
        let (credentials, signing) = match self.who().map_err(ConfigError::told)? {
            Who::HasKeys => return self.like_s3.build_blob_store().await,
            Who::HasTokens(credentials, signing) => (credentials, signing),
        };
        let (endpoint, bucket) = (endpoint(&self.config), self.config.bucket.clone());
        let url = format!("{endpoint}/{bucket}");
        let bearer = Arc::new(Bearer(Arc::clone(&credentials)));
        let client = |connector, retry| {
            GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_base_url(&endpoint)
                .with_credentials(credentials)
                .with_signing_credentials(signing)
                // Tokens are added where requests are sent.
                .with_skip_signature(true)
                .with_retry(retry)
                .with_http_connector(connector)
                .build()
        };
        self.like_s3.build_over(&url, bearer, client).await
    }

    /// Who one is; what makes no sense in the configuration is found out.
    fn who(&self) -> Result<Who, ConfigError> {
        check_path(&self.config.storage_path)?;
        let has_account = secret(&self.config.service_account).is_some();
        match (given(&self.config.access_key), secret(&self.config.secret_key)) {
            (None, None) => {
                // Whoever one is, the bucket and the address are to make sense.
                let mut anybody = like_s3(&self.config);
                (anybody.access_key, anybody.secret_key) = (Some("x".to_owned()), Some("x".into()));
                S3Builder::new(anybody).with_dialect(Dialect::google()).build()?;
                self.credentials().map(|(credentials, signing)| Who::HasTokens(credentials, signing))
            }
            (Some(_), Some(_)) if has_account => Err(ConfigError::Invalid {
                setting: "service_account",
                value: "…".to_owned(),
                why: "there are access_key and secret_key too; leave one of the two".to_owned(),
            }),
            // One without the other is what it complains of.
            _ => self.like_s3.build().map(|_| Who::HasKeys),
        }
    }

    /// Who gets tokens, and who signs URLs.
    fn credentials(&self) -> Result<(GcpCredentialProvider, GcpSigningCredentialProvider), ConfigError> {
        let config = &self.config;
        let mut http = HttpSettings::default();
        (http.ca_file, http.proxy) = (config.ca_file.clone(), config.proxy.clone());
        http.authorities.clone_from(&self.authorities);
        // The client that only gets tokens: what a bucket needs is of no matter to it.
        let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name("unused").with_client_options(http.client_options()?);
        let setting = match (secret(&config.service_account), given(&config.application_credentials)) {
            (Some(key), _) => {
                builder = builder.with_service_account_key(service_account(key.reveal())?);
                "service_account"
            }
            (None, path) => {
                let path = path.or_else(|| std::env::var("GOOGLE_APPLICATION_CREDENTIALS").ok().filter(|path| !path.is_empty()));
                if let Some(path) = path {
                    builder = builder.with_application_credentials(path);
                }
                "application_credentials"
            }
        };
        let unusable = |error: object_store::Error| ConfigError::File { setting, path: "…".to_owned(), source: error.into() };
        let client = builder.build().map_err(unusable)?;
        Ok((Arc::clone(client.credentials()), Arc::clone(client.signing_credentials())))
    }
}

/// The text of a service account's key, which may be in a file.
fn service_account(given: &str) -> Result<String, ConfigError> {
    let is_text = given.trim_start().starts_with('{');
    let path = if is_text { "(text)" } else { given };
    let wrong =
        |source: Box<dyn std::error::Error + Send + Sync>| ConfigError::File { setting: "service_account", path: path.to_owned(), source };
    let text = if is_text { given.to_owned() } else { std::fs::read_to_string(given).map_err(|error| wrong(error.into()))? };
    // What is wrong with a key is not to be told with the key in it.
    let key: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("it is no JSON: line {}, column {}", error.line(), error.column()).into()))?;
    for field in ["private_key", "private_key_id", "client_email"] {
        if key[field].as_str().is_none_or(str::is_empty) {
            return Err(wrong(format!("it has no {field}: it is not the key of a service account").into()));
        }
    }
    Ok(text)
}

/// Keys that signed URLs would be for another object with.
fn check_path(storage_path: &str) -> Result<(), ConfigError> {
    match storage_path.contains(['%', '?', '#']) {
        true => {
            let why = "it may not have %, ? and # in it".to_owned();
            Err(ConfigError::Invalid { setting: "storage_path", value: storage_path.to_owned(), why })
        }
        false => Ok(()),
    }
}

fn endpoint(config: &GcsConfig) -> String {
    given(&config.endpoint).map_or_else(|| ENDPOINT.to_owned(), |endpoint| endpoint.trim_end_matches('/').to_owned())
}

fn like_s3(config: &GcsConfig) -> S3Config {
    let mut s3 = S3Config::default();
    s3.bucket.clone_from(&config.bucket);
    s3.storage_path.clone_from(&config.storage_path);
    s3.access_key.clone_from(&config.access_key);
    s3.secret_key.clone_from(&config.secret_key);
    s3.endpoint = Some(endpoint(config));
    // Google's own name for it: https://cloud.google.com/storage/docs/aws-simple-migration
    s3.region = Some("auto".to_owned());
    s3.path_style = Some(true);
    s3.ca_file.clone_from(&config.ca_file);
    s3.proxy.clone_from(&config.proxy);
    s3
}
