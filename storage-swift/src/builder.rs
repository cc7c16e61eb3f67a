//! [`SwiftBuilder`].

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use registry_core::{ErrorKind, Result};
use storage_object::http::{HttpSettings, Patience};
use storage_object::settings::{given, secret};
use storage_object::{Budget, ConfigError, ObjectBlobStore, Promote, Secret};

use crate::auth::{Auth, Credential, Keystone, Legacy, Login, Method as Identity, Name, Owner};
use crate::blobs::SwiftBlobStore;
use crate::client::{Call, Client, Target};
use crate::config::SwiftConfig;
use crate::store::SwiftStore;

/// Makes stores of a [`SwiftConfig`].
#[derive(Clone, Debug)]
pub struct SwiftBuilder {
    config: SwiftConfig,
    budget: Budget,
    part_size: u64,
    http: HttpSettings,
    patience: Patience,
}

fn missing(setting: &'static str, why: &'static str) -> ConfigError {
    ConfigError::Missing { setting, why }
}

impl SwiftBuilder {
    /// From what was read somewhere.
    pub fn new(config: SwiftConfig) -> Self {
        let mut http = HttpSettings::default();
        http.user_agent = concat!("storage-swift/", env!("CARGO_PKG_VERSION"));
        Self { config, budget: Budget::default(), part_size: 8 << 20, http, patience: Patience::default() }
    }

    /// From the environment: see [`SwiftConfig::from_env`].
    pub fn from_env() -> Result<Self, ConfigError> {
        SwiftConfig::from_env().map(Self::new)
    }

    /// The container.
    #[must_use]
    pub fn with_container(mut self, container: impl Into<String>) -> Self {
        self.config.container = container.into();
        self
    }

    /// The folder in the container under which all blobs are.
    #[must_use]
    pub fn with_storage_path(mut self, path: impl Into<String>) -> Self {
        self.config.storage_path = path.into();
        self
    }

    /// Makes the container if it is not there.
    #[must_use]
    pub fn with_create_container(mut self, yes: bool) -> Self {
        self.config.create_container = yes;
        self
    }

    /// The bound on the memory of all uploads, 256 MiB of its own by default. Give a clone of one budget to all stores of a process.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The size of a blob's first segments in bytes, 8 MiB by default; later ones are larger, up to what the cluster allows.
    #[must_use]
    pub fn with_segment_size(mut self, bytes: u64) -> Self {
        self.part_size = bytes.max(1);
        self
    }

    /// Certificates of authorities that are trusted besides the system's and those of `ca_file`, in PEM form.
    #[must_use]
    pub fn with_authorities(mut self, pem: Arc<[u8]>) -> Self {
        self.http.authorities = Some(pem);
        self
    }

    /// How long a connection may take to be made; 5 seconds by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.http.connect_timeout = timeout;
        self
    }

    /// How long nothing may move on a connection that is waited for; 30 seconds by default. There is no limit to how long a request may take in all.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.http.idle_timeout = timeout;
        self
    }

    /// How often, and for how long in all, a request is sent again after a failure that may pass; by default 5 times within 60 seconds.
    #[must_use]
    pub fn with_retries(mut self, retries: u32, budget: Duration) -> Self {
        self.patience = Patience::new(retries, budget);
        self
    }

    /// The container as an [`ObjectStore`](object_store::ObjectStore). Reads the files that the configuration names; asks nothing of the service yet.
    pub fn build(&self) -> Result<SwiftStore, ConfigError> {
        let config = &self.config;
        if config.container.trim().is_empty() {
            return Err(missing("container", "it is where blobs are stored"));
        }
        if config.container.contains('/') || config.container.len() > 256 {
            let why = "a container's name has no slash and at most 256 bytes; folders go into storage_path".to_owned();
            return Err(ConfigError::Invalid { setting: "container", value: config.container.clone(), why });
        }
        let http = self.http_settings().client()?;
        let auth = Auth::new(login(config)?, &http);
        let client = Client { auth, http, container: config.container.clone(), patience: self.patience };
        Ok(SwiftStore::new(client, secret(&config.temp_url_key)))
    }

    /// The container as a blob store: logs in, reads the cluster's limits, and looks whether the container is there, or makes it if that is configured.
    ///
    /// The error's message says in plain words what is wrong and which setting to change. [`ErrorKind::InvalidInput`] if that is the configuration's fault for sure.
    pub async fn build_blob_store(&self) -> Result<SwiftBlobStore> {
        let store = self.build().map_err(ConfigError::told)?.with_plain_deletes();
        self.find_container(&store).await?;
        let info = store.info().await.map_err(|failure| failure.error)?.clone();
        if !info.has_large_objects {
            let message = "this Swift has no static large objects: its operators have to enable the middleware slo";
            return Err(registry_core::Error::new(ErrorKind::Unsupported, message));
        }
        let has_urls = store.temp_url_key.is_some();
        let store = Arc::new(store);
        let mut builder = ObjectBlobStore::builder(Arc::clone(&store))
            .with_storage_path(self.config.storage_path.clone())
            .with_promote(Promote::Manifest(Arc::clone(&store) as _))
            .with_part_size(self.part_size.min(info.max_file_size))
            .with_max_part_size(info.max_file_size)
            .with_max_parts(info.max_segments)
            .with_budget(self.budget.clone())
            .with_list_is_hint(true);
        if has_urls {
            builder = builder.with_signer(Arc::clone(&store) as _);
        }
        Ok(SwiftBlobStore::over(builder.build(), (*store).clone()))
    }

    async fn find_container(&self, store: &SwiftStore) -> Result<()> {
        let container = &store.client.container;
        match store.client.send(&Call::new(Method::HEAD, Target::Container)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_missing() && self.config.create_container => {
                let made = store.client.send(&Call::new(Method::PUT, Target::Container)).await;
                made.map(drop).map_err(|failure| match failure.error.kind() {
                    ErrorKind::Denied => {
                        let message = format!("container {container} is not there, and this user may not make it");
                        registry_core::Error::new(ErrorKind::Denied, message).with_source(failure.error)
                    }
                    _ => failure.error,
                })
            }
            Err(failure) if failure.is_missing() => {
                let message = format!("there is no container {container}: check container, or set create_container = true");
                Err(registry_core::Error::new(ErrorKind::InvalidInput, message).with_source(failure.error))
            }
            Err(failure) if failure.status == Some(http::StatusCode::FORBIDDEN) => {
                let message = format!(
                    "container {container} may not be read by this user: check container and the project, or the container's access list"
                );
                Err(registry_core::Error::new(ErrorKind::Denied, message).with_source(failure.error))
            }
            Err(failure) => Err(failure.error),
        }
    }

    fn http_settings(&self) -> HttpSettings {
        let (config, mut http) = (&self.config, self.http.clone());
        (http.ca_file, http.proxy) = (config.ca_file.clone(), config.proxy.clone());
        (http.client_cert_file, http.client_key_file) = (config.client_cert_file.clone(), config.client_key_file.clone());
        http
    }
}

/// Who to be, and where to log in.
fn login(config: &SwiftConfig) -> Result<Login, ConfigError> {
    let (auth_url, storage_url, token) = (given(&config.auth_url), given(&config.storage_url), secret(&config.token));
    for (setting, url) in [("auth_url", &auth_url), ("storage_url", &storage_url)] {
        if let Some(value) = url.as_ref().filter(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            let why = "it begins with http:// or https://".to_owned();
            return Err(ConfigError::Invalid { setting, value: value.clone(), why });
        }
    }
    // A password, or an application credential, is better than a token, which ends.
    let renewable = secret(&config.password).is_some() || secret(&config.application_credential_secret).is_some();
    let token = token.filter(|_| !renewable);
    if let (Some(token), Some(storage_url)) = (&token, &storage_url) {
        return Ok(Login::Ready { token: token.clone(), storage_url: storage_url.clone() });
    }
    let url = auth_url.ok_or_else(|| missing("auth_url", "it is where to log in, like https://keystone.example:5000/v3"))?;
    match config.auth_version.unwrap_or(3) {
        1 => {
            let user = given(&config.username).ok_or_else(|| missing("username", "a log-in of version 1 needs it"))?;
            let key = secret(&config.password).ok_or_else(|| missing("password", "a log-in of version 1 needs it: it is the key"))?;
            Ok(Login::Legacy(Legacy { url, user, key, storage_url }))
        }
        3 => Ok(Login::Keystone(keystone(config, &url, token, storage_url)?)),
        version => {
            let why = "it is 3 for Keystone, or 1; Keystone's version 2 is gone since 2018".to_owned();
            Err(ConfigError::Invalid { setting: "auth_version", value: version.to_string(), why })
        }
    }
}

fn keystone(config: &SwiftConfig, url: &str, token: Option<Secret>, storage_url: Option<String>) -> Result<Keystone, ConfigError> {
    let domain = |name: &Option<String>, id: &Option<String>| given(id).map(Owner::Id).or_else(|| given(name).map(Owner::Name));
    let user_domain = domain(&config.user_domain_name, &config.user_domain_id);
    let default = || Owner::Id("default".to_owned());
    let user = given(&config.user_id)
        .map(Name::Id)
        .or_else(|| Some(Name::Named { name: given(&config.username)?, domain: user_domain.clone().unwrap_or_else(default) }));
    let no_user = || missing("username", "Keystone asks who one is (or user_id, or application_credential_id)");
    let method = if let Some(id) = given(&config.application_credential_id) {
        let why = "an application credential has one";
        let secret = secret(&config.application_credential_secret).ok_or_else(|| missing("application_credential_secret", why))?;
        Identity::ApplicationCredential { credential: Credential::Id(id), secret }
    } else if let Some(name) = given(&config.application_credential_name) {
        let why = "an application credential has one";
        let secret = secret(&config.application_credential_secret).ok_or_else(|| missing("application_credential_secret", why))?;
        Identity::ApplicationCredential { credential: Credential::Named { name, user: user.ok_or_else(no_user)? }, secret }
    } else if let Some(token) = token {
        Identity::Token(token)
    } else {
        let user = user.ok_or_else(no_user)?;
        Identity::Password { user, password: secret(&config.password).ok_or_else(|| missing("password", "Keystone asks for it"))? }
    };
    let project = given(&config.project_id).map(Name::Id).or_else(|| {
        let domain = domain(&config.project_domain_name, &config.project_domain_id);
        Some(Name::Named { name: given(&config.project_name)?, domain: domain.or_else(|| user_domain.clone()).unwrap_or_else(default) })
    });
    // An application credential is for the project that it was made in, and may not name one.
    let project = project.filter(|_| !matches!(method, Identity::ApplicationCredential { .. }));
    let url = url.trim_end_matches('/');
    if url.ends_with("/v2.0") {
        let why = "Keystone's version 2 is gone since 2018; the address of version 3 ends in /v3".to_owned();
        return Err(ConfigError::Invalid { setting: "auth_url", value: url.to_owned(), why });
    }
    Ok(Keystone {
        url: if url.ends_with("/v3") { url.to_owned() } else { format!("{url}/v3") },
        method,
        project,
        region: given(&config.region),
        interface: config.interface,
        service_type: given(&config.service_type).unwrap_or_else(|| "object-store".to_owned()),
        storage_url,
    })
}
