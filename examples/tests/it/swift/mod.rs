//! Zones in a real OpenStack Swift, which `scripts/services/swift` starts.

pub(crate) mod outage;
mod validate;
pub(crate) mod zones;

use std::path::{Path, PathBuf};

use registry_core::{BlobStoreExt as _, Digest};
use storage_swift::{Secret, SwiftBlobStore, SwiftBuilder, SwiftConfig};
use tokio::sync::RwLock;

use crate::block::Block;
use crate::process::Server;
use crate::tools::skip;
use crate::zones::QUICK;

/// Held for writing by who stops Swift.
pub(crate) static SERVICE: RwLock<()> = RwLock::const_new(());

/// The account's key for temporary URLs: whoever sets one, sets this.
const TEMP_URL_KEY: &str = "a key of ours";

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("REGISTRY_TEST_SWIFT_{name}")).ok().filter(|value| !value.is_empty())
}

/// A zone in a container of its own.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    block: Block,
    container: String,
    region: String,
}

impl Zone {
    /// `None`, which is said, if there is no Swift.
    pub(crate) fn new() -> Option<Self> {
        let region = variable("REGION");
        let Some(region) = region else {
            skip("zones in Swift", "REGISTRY_TEST_SWIFT_… is not set");
            return None;
        };
        let container = format!("zone-{}", &registry_core::random_id()[..12]);
        let text = |name: &str| format!("{:?}", variable(name).unwrap());
        let block = Block::new([
            ("name", "\"swift\"".to_owned()),
            ("type", "\"swift\"".to_owned()),
            ("auth_url", text("AUTH_URL")),
            ("username", text("USERNAME")),
            ("password", text("PASSWORD")),
            ("user_domain_name", text("DOMAIN")),
            ("tenant_id", text("PROJECT_ID")),
            ("region", text("REGION")),
            ("container", format!("{container:?}")),
            ("storage_path", "\"/quay\"".to_owned()),
            ("create_container", "true".to_owned()),
        ]);
        Some(Self { block, container, region })
    }

    /// In the region that takes objects of 1 MiB at most, so that blobs have segments soon.
    fn small() -> Option<Self> {
        let zone = Self::new()?;
        let region = variable("SMALL_REGION").unwrap();
        Some(Self { region: region.clone(), ..zone.with("region", &format!("{region:?}")) })
    }

    /// With another value of a key; an empty one takes it away.
    fn with(mut self, key: &'static str, value: &str) -> Self {
        self.block = self.block.with(key, value);
        self
    }

    pub(crate) fn toml(&self) -> String {
        self.block.toml()
    }

    fn builder(&self) -> SwiftBuilder {
        let mut config = SwiftConfig::default();
        config.auth_url = variable("AUTH_URL");
        config.username = variable("USERNAME");
        config.password = variable("PASSWORD").map(Secret::from);
        config.user_domain_name = variable("DOMAIN");
        config.project_id = variable("PROJECT_ID");
        config.region = Some(self.region.clone());
        config.container = self.container.clone();
        config.storage_path = "/quay".to_owned();
        config.temp_url_key = Some(Secret::from(TEMP_URL_KEY));
        config.create_container = true;
        SwiftBuilder::new(config)
    }

    /// What is in it, past the server.
    pub(crate) async fn blobs(&self) -> SwiftBlobStore {
        self.builder().build_blob_store().await.unwrap()
    }

    /// Whether all of this blob is there.
    async fn has(&self, blobs: &SwiftBlobStore, content: &[u8]) -> bool {
        blobs.read_all(&Digest::sha256(content)).await.is_ok_and(|found| found == content)
    }
}

/// Writes a configuration; its path.
pub(crate) fn configure(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("registry.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A server in `dir` with this configuration.
pub(crate) fn start(dir: &Path, configuration: &str) -> Server {
    let path = configure(dir, configuration);
    let args = [&["--admin", "127.0.0.1:0", "--config", path.to_str().unwrap()][..], &QUICK].concat();
    Server::start(&dir.join("data"), &args)
}

/// A directory as a zone.
pub(crate) fn directory(dir: &Path) -> String {
    format!("[[zone]]\nname = \"disk\"\npath = {:?}\nverify_reads = \"always\"\n\n", dir.join("disk"))
}
