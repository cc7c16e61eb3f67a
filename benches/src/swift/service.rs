//! A container of our own in the Swift that the environment names, and `curl` to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use benches::measure::Result;
use storage_swift::{Secret, SwiftBlobStore, SwiftBuilder, SwiftConfig};
use tokio::io::AsyncWriteExt as _;

/// The container, and a token for it.
pub(crate) struct Service {
    token: String,
    storage_url: String,
    container: String,
    folder: tempfile::TempDir,
}

fn variable(name: &str) -> Result<String> {
    let name = format!("REGISTRY_TEST_SWIFT_{name}");
    std::env::var(&name).map_err(|_| format!("{name} is not set: eval \"$(scripts/services/swift up)\"").into())
}

impl Service {
    /// Logs in at Keystone, as both sides will be known, and makes the container.
    pub(crate) async fn new(folder: &Path) -> Result<Self> {
        let region = variable("REGION")?;
        let login = serde_json::json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": variable("USERNAME")?, "password": variable("PASSWORD")?, "domain": {"name": variable("DOMAIN")?},
            }}},
            "scope": {"project": {"id": variable("PROJECT_ID")?}},
        }});
        let url = format!("{}/auth/tokens", variable("AUTH_URL")?);
        let mut curl = command();
        curl.args(["-i", "-H", "Content-Type: application/json", "-d", "@-", &url]);
        let (_, answer) = run(curl, &login.to_string()).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("Keystone's answer has no body")?;
        let field = |line: &str| {
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("x-subject-token")).map(|(_, v)| v.trim().to_owned())
        };
        let token = head.lines().find_map(field).ok_or("Keystone gave no token")?;
        let body: serde_json::Value = serde_json::from_str(body)?;
        let services = body["token"]["catalog"].as_array().into_iter().flatten().filter(|service| service["type"] == "object-store");
        let mut endpoints = services.flat_map(|service| service["endpoints"].as_array().into_iter().flatten());
        let endpoint = endpoints.find(|endpoint| endpoint["interface"] == "public" && endpoint["region"] == region.as_str());
        let storage_url = endpoint.and_then(|endpoint| endpoint["url"].as_str()).ok_or("the catalogue has no Swift")?.to_owned();
        let container = format!("bench-{}", &registry_core::random_id()[..12]);
        let folder = tempfile::Builder::new().prefix("swift-").tempdir_in(folder)?;
        let service = Self { token, storage_url, container, folder };
        service.curl(&["-X", "PUT"], "").await?;
        Ok(service)
    }

    /// A store in a folder of the container.
    pub(crate) async fn store(&self, folder: &str, segment_size: u64) -> Result<SwiftBlobStore> {
        let mut config = SwiftConfig::default();
        config.token = Some(Secret::from(self.token.as_str()));
        config.storage_url = Some(self.storage_url.clone());
        config.container = self.container.clone();
        config.storage_path = folder.to_owned();
        Ok(SwiftBuilder::new(config).with_segment_size(segment_size).build_blob_store().await?)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `curl` for a key in the container; how long that took, with the start of the process.
    pub(crate) async fn curl(&self, arguments: &[&str], key: &str) -> Result<Duration> {
        let mut curl = command();
        curl.args(arguments).args(["-K", "-"]).arg(format!("{}/{}/{key}", self.storage_url, self.container));
        let (took, _) = run(curl, &format!("header = \"X-Auth-Token: {}\"\n", self.token)).await?;
        Ok(took)
    }

    /// Removes the container, which has to be empty.
    pub(crate) async fn remove(self) -> Result<()> {
        self.curl(&["-X", "DELETE"], "").await.map(drop)
    }
}

fn command() -> tokio::process::Command {
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sS", "--fail", "--noproxy", "*"]);
    curl
}

/// Runs it, with this on its standard input.
async fn run(mut command: tokio::process::Command, input: &str) -> Result<(Duration, String)> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let took = start.elapsed();
    if !output.status.success() {
        return Err(format!("curl failed: {}", output.status).into());
    }
    Ok((took, String::from_utf8(output.stdout)?))
}
