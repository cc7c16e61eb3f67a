//! [`S3Builder`].

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::multipart::MultipartStore;
use object_store::signer::Signer;
use object_store::{ObjectStore, RetryConfig};
use registry_core::{ErrorKind, Result};
use storage_object::http::{HttpSettings, Patience};
use storage_object::settings::given;
use storage_object::{Budget, ConfigError, ObjectBlobStore, Promote};

use crate::config::S3Config;
use crate::credentials;
use crate::dialect::Dialect;
use crate::probe::Probes;
use crate::requests::Requests;
use crate::service::{Authorize, Service};
use crate::sigv4::SigV4;
use crate::store::S3Store;

/// The fewest bytes that a part may have which is not the last. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const LEAST_PART: u64 = 5 << 20;

/// Makes stores of an [`S3Config`].
#[derive(Clone, Debug)]
pub struct S3Builder {
    config: S3Config,
    dialect: Option<Dialect>,
    settings: Settings,
}

/// What is not particular to a bucket.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    budget: Budget,
    part_size: u64,
    authorities: Option<Arc<[u8]>>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    patience: Patience,
}

impl S3Builder {
    /// From what was read somewhere.
    pub fn new(config: S3Config) -> Self {
        let http = HttpSettings::default();
        let settings = Settings {
            budget: Budget::default(),
            part_size: 8 << 20,
            authorities: None,
            connect_timeout: http.connect_timeout,
            idle_timeout: http.idle_timeout,
            patience: Patience::default(),
        };
        Self { config, dialect: None, settings }
    }

    /// From the environment: see [`S3Config::from_env`].
    pub fn from_env() -> Self {
        Self::new(S3Config::from_env())
    }

    /// The bucket.
    #[must_use]
    pub fn with_bucket(mut self, bucket: impl Into<String>) -> Self {
        self.config.bucket = bucket.into();
        self
    }

    /// The folder in the bucket under which all blobs are.
    #[must_use]
    pub fn with_storage_path(mut self, path: impl Into<String>) -> Self {
        self.config.storage_path = path.into();
        self
    }

    /// Makes the bucket if it is not there.
    #[must_use]
    pub fn with_create_bucket(mut self, yes: bool) -> Self {
        self.config.create_bucket = yes;
        self
    }

    /// What the service has of S3's protocol; by default [`Dialect::amazon`] where there is no endpoint, and [`Dialect::compatible`] where there is one.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// The bound on the memory of all uploads, 256 MiB of its own by default. Give a clone of one budget to all stores of a process.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.settings.budget = budget;
        self
    }

    /// The size of a blob's first parts in bytes, 8 MiB by default and 5 MiB at least; later ones are larger.
    #[must_use]
    pub fn with_part_size(mut self, bytes: u64) -> Self {
        self.settings.part_size = bytes.max(LEAST_PART);
        self
    }

    /// Certificates of authorities that are trusted besides the system's and those of `ca_file`, in PEM form.
    #[must_use]
    pub fn with_authorities(mut self, pem: Arc<[u8]>) -> Self {
        self.settings.authorities = Some(pem);
        self
    }

    /// How long a connection may take to be made; 5 seconds by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long nothing may move on a connection that is waited for; 30 seconds by default, and 5 minutes at least where the service copies or puts together an
    /// object. There is no limit to how long a request may take in all.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// How often, and for how long in all, a request is sent again after a failure that may pass; by default 5 times within 60 seconds.
    #[must_use]
    pub fn with_retries(mut self, retries: u32, budget: Duration) -> Self {
        self.settings.patience = Patience::new(retries, budget);
        self
    }

    fn dialect(&self) -> Dialect {
        let is_amazon = given(&self.config.endpoint).is_none_or(|endpoint| credentials::amazon_region(&endpoint).is_some());
        let by_default = if is_amazon { Dialect::amazon() } else { Dialect::compatible() };
        let mut dialect = self.dialect.unwrap_or(by_default);
        dialect.copy_limit = self.config.copy_limit.unwrap_or(dialect.copy_limit);
        dialect
    }

    /// The bucket as an [`ObjectStore`]. Reads the files that the configuration and the environment name; asks nothing of the service yet.
    pub fn build(&self) -> Result<S3Store, ConfigError> {
        self.build_with(&|name| std::env::var(name).ok()).map(|(store, _)| store)
    }

    fn build_with(&self, get: &dyn Fn(&str) -> Option<String>) -> Result<(S3Store, String), ConfigError> {
        let (config, settings, dialect) = (&self.config, &self.settings, self.dialect());
        check_bucket(&config.bucket)?;
        let http = self.http_settings();
        let (credentials, region) = credentials::find(config, &http, get)?;
        let bucket_url = bucket_url(config, &region)?;
        let signs_bodies = !bucket_url.starts_with("https://");
        let authorize = Arc::new(SigV4 { credentials: Arc::clone(&credentials), region: region.clone(), signs_bodies });
        let service = Service::new(http.client()?, authorize, settings.patience, dialect, &bucket_url);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&region)
            .with_credentials(credentials)
            .with_endpoint(&bucket_url)
            // The bucket is in the endpoint, whichever style it is.
            .with_virtual_hosted_style_request(true)
            // It is this crate that signs, and sends again.
            .with_skip_signature(true)
            .with_retry(no_retries())
            .with_conditional_put(S3ConditionalPut::Disabled)
            .with_disable_bulk_delete(!dialect.bulk_deletes)
            .with_http_connector(service.clone());
        if dialect.checksums {
            builder = builder.with_checksum_algorithm(Checksum::CRC64NVME);
        }
        if config.sse.is_none() && given(&config.sse_kms_key_id).is_some() {
            return Err(ConfigError::Missing { setting: "sse", why: "sse_kms_key_id is the key for it: aws:kms or aws:kms:dsse" });
        }
        let unusable = |error: object_store::Error| ConfigError::Client { why: error.to_string() };
        let encryption = [
            ("aws_server_side_encryption", config.sse.map(|sse| sse.as_str().to_owned())),
            ("aws_sse_kms_key_id", given(&config.sse_kms_key_id)),
        ];
        for (key, value) in encryption {
            if let Some(value) = value {
                builder = builder.with_config(key.parse().map_err(unusable)?, value);
            }
        }
        let client = builder.build().map_err(unusable)?;
        let requests = Requests { service, bucket: config.bucket.clone(), bucket_url };
        Ok((S3Store::new(client, requests, dialect), region))
    }

    /// The bucket as a blob store: looks whether the bucket is there, or makes it if that is configured.
    ///
    /// The error's message says in plain words what is wrong and which setting to change. [`ErrorKind::InvalidInput`] if that is the configuration's fault for sure.
    pub async fn build_blob_store(&self) -> Result<ObjectBlobStore> {
        let (store, region) = self.build_with(&|name| std::env::var(name).ok()).map_err(ConfigError::told)?;
        if store.requests().look().await?.is_none() {
            if !self.config.create_bucket {
                let remedy =
                    if self.dialect().is_google() { "check bucket" } else { "check bucket and endpoint, or set create_bucket = true" };
                let message = format!("there is no bucket {} at {}: {remedy}", self.config.bucket, store.requests().bucket_url);
                return Err(registry_core::Error::new(ErrorKind::InvalidInput, message));
            }
            store.requests().create_bucket(&region).await?;
        }
        Ok(self.over(store))
    }

    fn over(&self, store: S3Store) -> ObjectBlobStore {
        let (settings, dialect) = (&self.settings, store.dialect());
        let store = Arc::new(store);
        let promote = if dialect.part_copies {
            Promote::PartCopy { limit: dialect.copy_limit, parts: Arc::clone(&store) as _ }
        } else {
            Promote::Copy { limit: dialect.copy_limit }
        };
        let probes = Probes { store: (*store).clone(), storage_path: self.config.storage_path.clone() };
        ObjectBlobStore::builder(Arc::clone(&store))
            .with_storage_path(self.config.storage_path.clone())
            .with_promote(promote)
            .with_part_size(settings.part_size)
            .with_budget(settings.budget.clone())
            .with_signer(Arc::clone(&store) as _)
            .with_multiparts(Arc::clone(&store) as _)
            .with_probes(Arc::new(probes))
            .build()
    }

    fn http_settings(&self) -> HttpSettings {
        let mut http = HttpSettings::default();
        http.ca_file.clone_from(&self.config.ca_file);
        http.client_cert_file.clone_from(&self.config.client_cert_file);
        http.client_key_file.clone_from(&self.config.client_key_file);
        http.proxy.clone_from(&self.config.proxy);
        http.authorities.clone_from(&self.settings.authorities);
        http.connect_timeout = self.settings.connect_timeout;
        http.idle_timeout = self.settings.idle_timeout;
        http.user_agent = concat!("storage-s3/", env!("CARGO_PKG_VERSION"));
        http
    }

    /// A blob store over another client of the same protocol, which is given the connector: for a service that is like S3 but for who one is.
    ///
    /// `bucket_url` has no slash at its end. The client is to sign nothing, and to send nothing again.
    pub async fn build_over<C>(
        &self,
        bucket_url: &str,
        authorize: Arc<dyn Authorize>,
        client: impl FnOnce(Connector, RetryConfig) -> object_store::Result<C>,
    ) -> Result<ObjectBlobStore>
    where
        C: ObjectStore + MultipartStore + Signer,
    {
        check_bucket(&self.config.bucket).map_err(ConfigError::told)?;
        let dialect = self.dialect();
        let http = self.http_settings().client().map_err(ConfigError::told)?;
        let service = Service::new(http, authorize, self.settings.patience, dialect, bucket_url);
        let client = client(Connector(service.clone()), no_retries());
        let client = client.map_err(|error| ConfigError::Client { why: error.to_string() }.told())?;
        let requests = Requests { service, bucket: self.config.bucket.clone(), bucket_url: bucket_url.to_owned() };
        let store = S3Store::new(client, requests, dialect);
        if store.requests().look().await?.is_none() {
            let message = format!("there is no bucket {} at {bucket_url}: check bucket", self.config.bucket);
            return Err(registry_core::Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(self.over(store))
    }
}

/// Sends requests for a client of `object_store`'s: see [`S3Builder::build_over`].
#[derive(Clone, Debug)]
pub struct Connector(Service);

impl object_store::client::HttpConnector for Connector {
    fn connect(&self, options: &object_store::ClientOptions) -> object_store::Result<object_store::client::HttpClient> {
        self.0.connect(options)
    }
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn check_bucket(bucket: &str) -> Result<(), ConfigError> {
    if bucket.trim().is_empty() {
        return Err(ConfigError::Missing { setting: "bucket", why: "it is where blobs are stored" });
    }
    // Older buckets have names that new ones may not have.
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if bucket.len() < 3 || bucket.len() > 255 || !bucket.bytes().all(good) {
        let why = "a bucket's name has 3 to 63 of a-z, 0-9, dots and hyphens; folders go into storage_path".to_owned();
        return Err(ConfigError::Invalid { setting: "bucket", value: bucket.to_owned(), why });
    }
    Ok(())
}

/// Where the bucket is, without a slash at its end.
fn bucket_url(config: &S3Config, region: &str) -> Result<String, ConfigError> {
    let bucket = &config.bucket;
    let invalid = |setting, value: &str, why: &str| ConfigError::Invalid { setting, value: value.to_owned(), why: why.to_owned() };
    if !region.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
        return Err(invalid("region", region, "a region is called like eu-central-1"));
    }
    let (endpoint, by_path) = match given(&config.endpoint) {
        Some(endpoint) => (endpoint, config.path_style.unwrap_or(true)),
        None => {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            // A certificate for *.s3.region.amazonaws.com is for names without more dots.
            (format!("https://s3.{region}.{domain}"), config.path_style.unwrap_or(bucket.contains('.')))
        }
    };
    let endpoint = endpoint.trim_end_matches('/');
    let Some((scheme @ ("http" | "https"), host)) = endpoint.split_once("://") else {
        return Err(invalid("endpoint", endpoint, "it begins with http:// or https://"));
    };
    let uri = endpoint.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none());
    if uri.is_none() || host.contains('@') {
        return Err(invalid("endpoint", endpoint, "it is no address, such as https://rgw.example"));
    }
    Ok(if by_path { format!("{endpoint}/{bucket}") } else { format!("{scheme}://{bucket}.{host}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: Option<&str>, region: &str, bucket: &str, path_style: Option<bool>) -> Result<String, String> {
        let config = S3Config { endpoint: endpoint.map(ToOwned::to_owned), bucket: bucket.to_owned(), path_style, ..S3Config::default() };
        bucket_url(&config, region).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_hosts_name() {
        let cases = [
            (None, "eu-west-1", "quay", None, "https://quay.s3.eu-west-1.amazonaws.com"),
            (None, "cn-north-1", "quay", None, "https://quay.s3.cn-north-1.amazonaws.com.cn"),
            (None, "eu-west-1", "quay.example", None, "https://s3.eu-west-1.amazonaws.com/quay.example"),
            (None, "eu-west-1", "quay", Some(true), "https://s3.eu-west-1.amazonaws.com/quay"),
            (Some("https://rgw.example:8080/"), "default", "quay", None, "https://rgw.example:8080/quay"),
            (Some("http://rgw.example/s3"), "default", "quay", None, "http://rgw.example/s3/quay"),
            (Some("https://rgw.example"), "default", "quay", Some(false), "https://quay.rgw.example"),
        ];
        for (endpoint, region, bucket, path_style, expected) in cases {
            assert_eq!(url(endpoint, region, bucket, path_style).as_deref(), Ok(expected));
        }
        for bad in ["rgw.example", "ftp://rgw.example", "https://", "https://user@rgw.example", "https://rgw.example/?x"] {
            assert!(url(Some(bad), "default", "quay", None).unwrap_err().starts_with("endpoint = "), "{bad}");
        }
        assert!(url(None, "eu west", "quay", None).unwrap_err().starts_with("region = "));
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        let nothing = |_: &str| None;
        let build = |config: S3Config| S3Builder::new(config).build_with(&nothing).map(drop).map_err(|error| error.to_string());
        let good = || {
            let mut config = S3Config::default();
            (config.bucket, config.access_key, config.secret_key) = ("quay".into(), Some("key".into()), Some("secret".into()));
            config
        };
        assert_eq!(build(good()), Ok(()));
        for (config, expected) in [
            (S3Config { bucket: String::new(), ..good() }, "bucket is missing: it is where blobs are stored"),
            (S3Config { bucket: "a/b".into(), ..good() }, "bucket = \"a/b\": a bucket's name has"),
            (S3Config { secret_key: None, ..good() }, "secret_key is missing: an access key has one"),
            (S3Config { access_key: None, ..good() }, "access_key is missing"),
            (S3Config { sse_kms_key_id: Some("key".into()), ..good() }, "sse is missing"),
            (
                S3Config { profile: Some("nobody".into()), access_key: None, secret_key: None, ..good() },
                "profile = \"nobody\": there is no such profile",
            ),
            (S3Config { ca_file: Some("/nothing".into()), ..good() }, "ca_file = \"/nothing\""),
            (S3Config { proxy: Some("::".into()), ..good() }, "proxy = \"[redacted]\""),
        ] {
            let error = build(config).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn keys_are_looked_for_where_aws_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dir.path().join("credentials");
        std::fs::write(&credentials, "[default]\naws_access_key_id = of-default\naws_secret_access_key = s\n[ci]\naws_access_key_id = of-ci\naws_secret_access_key = s\n").unwrap();
        let file = ("AWS_SHARED_CREDENTIALS_FILE", credentials.display().to_string());
        let environment = [("AWS_ACCESS_KEY_ID", "of-environment".to_owned()), ("AWS_SECRET_ACCESS_KEY", "s".to_owned())];
        let key = |variables: Vec<(&'static str, String)>, config: S3Config| async move {
            let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
            let (provider, _) = credentials::find(&config, &HttpSettings::default(), &get).unwrap();
            provider.get_credential().await.unwrap().key_id.clone()
        };
        let all = [&[file.clone()][..], &environment].concat();
        let given = S3Config { access_key: Some("given".into()), secret_key: Some("s".into()), ..S3Config::default() };
        assert_eq!(key(all.clone(), given).await, "given");
        assert_eq!(key(all.clone(), S3Config::default()).await, "of-environment");
        assert_eq!(key(vec![file.clone()], S3Config::default()).await, "of-default");
        assert_eq!(key(vec![file.clone(), ("AWS_PROFILE", "ci".to_owned())], S3Config::default()).await, "of-ci");
        assert_eq!(key(all, S3Config { profile: Some("ci".into()), ..S3Config::default() }).await, "of-ci");
    }
}
