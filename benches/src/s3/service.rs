//! A folder of our own in the bucket that the environment names, and `rclone` to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::measure::Result;
use registry_core::BlobStore;
use storage_s3::{S3Builder, S3Config, Secret};
use tokio::process::Command;

/// A service, and who we are there.
pub(crate) struct Service {
    /// What it is called.
    pub(crate) name: &'static str,
    pub(crate) endpoint: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) bucket: String,
    /// The folder in the bucket.
    folder: String,
    /// What is in the command lines of its processes.
    pub(crate) processes: Vec<String>,
    keeps_all_in_memory: bool,
    /// Whether anything can be there.
    is_used: AtomicBool,
    files: tempfile::TempDir,
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: eval \"$(scripts/services/seaweedfs up)\"").into())
}

impl Service {
    /// SeaweedFS, and RadosGW if it is there.
    pub(crate) fn all(files: &Path) -> Result<Vec<Self>> {
        let folder = format!("bench-{}", &registry_core::random_id()[..12]);
        let files = || tempfile::Builder::new().prefix("s3-").tempdir_in(files);
        let endpoint = variable("REGISTRY_TEST_S3_ENDPOINT")?;
        let port = endpoint.rsplit(':').next().unwrap_or_default();
        let mut all = vec![Self {
            name: "SeaweedFS",
            access_key: variable("REGISTRY_TEST_S3_ACCESS_KEY")?,
            secret_key: variable("REGISTRY_TEST_S3_SECRET_KEY")?,
            bucket: variable("REGISTRY_TEST_S3_BUCKET")?,
            folder: folder.clone(),
            processes: vec![format!("-s3.port={port}\0")],
            endpoint,
            keeps_all_in_memory: false,
            is_used: AtomicBool::new(false),
            files: files()?,
        }];
        if let Ok(endpoint) = std::env::var("REGISTRY_TEST_RGW_S3_ENDPOINT") {
            all.push(Self {
                name: "RadosGW",
                access_key: variable("REGISTRY_TEST_RGW_ACCESS_KEY")?,
                secret_key: variable("REGISTRY_TEST_RGW_SECRET_KEY")?,
                bucket: folder.clone(),
                folder,
                processes: vec!["radosgw\0-f\0".to_owned(), "ceph-osd\0-f\0".to_owned()],
                endpoint,
                keeps_all_in_memory: true,
                is_used: AtomicBool::new(false),
                files: files()?,
            });
        }
        Ok(all)
    }

    /// Whether it keeps more than a little.
    pub(crate) fn has_room(&self) -> bool {
        !self.keeps_all_in_memory
    }

    /// The folder in the bucket that is a store's.
    pub(crate) fn storage_path(&self, name: &str) -> String {
        self.is_used.store(true, Ordering::Relaxed);
        format!("{}/{name}", self.folder)
    }

    /// A store in a folder of ours.
    pub(crate) async fn store(&self, name: &str) -> Result<Arc<dyn BlobStore>> {
        let mut config = S3Config::default();
        config.endpoint = Some(self.endpoint.clone());
        config.access_key = Some(self.access_key.clone());
        config.secret_key = Some(Secret::from(self.secret_key.as_str()));
        config.bucket.clone_from(&self.bucket);
        config.storage_path = self.storage_path(name);
        config.create_bucket = true;
        Ok(Arc::new(S3Builder::new(config).build_blob_store().await?))
    }

    /// A file of ours.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// What `rclone` calls a key in our folder.
    pub(crate) fn remote(&self, key: &str) -> String {
        format!("s3:{}/{}/{key}", self.bucket, self.folder)
    }

    /// Runs `rclone`, with this file as its standard input; how long that took, with the start of the process.
    pub(crate) async fn rclone(&self, arguments: &[&str], input: Option<&Path>) -> Result<Duration> {
        let mut rclone = Command::new("rclone");
        rclone.args(["--config", "/dev/null", "--quiet"]).args(arguments).stdout(Stdio::null()).kill_on_drop(true);
        rclone.stdin(input.map_or_else(|| Ok(Stdio::null()), |input| File::open(input).map(Stdio::from))?);
        let config = [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("FORCE_PATH_STYLE", "true"),
            ("REGION", "us-east-1"),
            ("ENDPOINT", &self.endpoint),
            ("ACCESS_KEY_ID", &self.access_key),
            ("SECRET_ACCESS_KEY", &self.secret_key),
            ("NO_CHECK_BUCKET", "true"),
            // As large as ours, and as many at a time, which is its default.
            ("CHUNK_SIZE", "8Mi"),
            ("UPLOAD_CONCURRENCY", "4"),
        ];
        // Whatever else this machine's keys and certificates are.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            rclone.env_remove(name);
        }
        rclone.envs(config.map(|(name, value)| (format!("RCLONE_CONFIG_S3_{name}"), value))).env("NO_PROXY", "*");
        let start = Instant::now();
        let status = rclone.status().await.map_err(|error| format!("cannot start rclone: {error}"))?;
        let took = start.elapsed();
        if status.success() { Ok(took) } else { Err(format!("rclone {}: {status}", arguments.join(" ")).into()) }
    }

    /// Removes all that was written.
    pub(crate) async fn remove(self) -> Result<()> {
        if !self.is_used.load(Ordering::Relaxed) {
            return Ok(());
        }
        let all = if self.bucket == self.folder { format!("s3:{}", self.bucket) } else { format!("s3:{}/{}", self.bucket, self.folder) };
        self.rclone(&["purge", "--transfers", "16", &all], None).await.map(drop)
    }
}
