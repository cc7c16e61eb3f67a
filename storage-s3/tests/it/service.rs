//! The services that `scripts/services/seaweedfs` and `scripts/services/rgw` start.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore as _;
use object_store::path::Path;
use storage_object::{ListMultiparts as _, ObjectBlobStore, OpenMultipart};
use storage_s3::{Dialect, S3Builder, S3Config, S3Store, Secret};

use crate::proxy::Proxy;
use crate::whole::Blob;

/// S3's smallest part.
pub(crate) const PART: usize = 5 << 20;

/// A variable of a service; without it a test is skipped, or fails where services are required.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not set, and services are required");
        eprintln!("skipped: {name} is not set");
    }
    value
}

/// A folder of a bucket, and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) config: S3Config,
    pub(crate) dialect: Dialect,
    pub(crate) is_rgw: bool,
}

fn place(endpoint: &str, access_key: &str, secret_key: &str) -> Option<Place> {
    let mut config = S3Config::default();
    config.endpoint = Some(variable(endpoint)?);
    config.access_key = variable(access_key);
    config.secret_key = variable(secret_key).map(Secret::from);
    config.bucket = "registry".to_owned();
    config.create_bucket = true;
    config.storage_path = format!("test-{}", registry_core::random_id());
    Some(Place { config, dialect: Dialect::compatible(), is_rgw: endpoint.contains("RGW") })
}

pub(crate) fn seaweedfs() -> Option<Place> {
    place("REGISTRY_TEST_S3_ENDPOINT", "REGISTRY_TEST_S3_ACCESS_KEY", "REGISTRY_TEST_S3_SECRET_KEY")
}

pub(crate) fn radosgw() -> Option<Place> {
    place("REGISTRY_TEST_RGW_S3_ENDPOINT", "REGISTRY_TEST_RGW_ACCESS_KEY", "REGISTRY_TEST_RGW_SECRET_KEY")
}

/// Where the tests of stalls run.
pub(crate) async fn stalling() -> Option<Place> {
    seaweedfs()
}

/// Each of the services that are there.
pub(crate) fn places() -> Vec<Place> {
    [seaweedfs(), radosgw()].into_iter().flatten().collect()
}

impl Place {
    /// Another folder.
    pub(crate) fn elsewhere(&self) -> Self {
        let mut place = self.clone();
        place.config.storage_path = format!("test-{}", registry_core::random_id());
        place
    }

    /// The same by way of a proxy.
    pub(crate) async fn proxied(&self) -> (Proxy, Self) {
        let endpoint = self.config.endpoint.as_deref().unwrap();
        let proxy = Proxy::new(endpoint).await;
        let mut place = self.clone();
        place.config.endpoint = Some(proxy.instead_of(endpoint));
        (proxy, place)
    }

    pub(crate) fn builder(&self) -> S3Builder {
        S3Builder::new(self.config.clone()).with_dialect(self.dialect).with_part_size(PART as u64)
    }

    pub(crate) async fn open(&self) -> ObjectBlobStore {
        self.builder().build_blob_store().await.unwrap()
    }

    pub(crate) async fn open_with(&self, part: u64, idle: Duration, retries: u32) -> ObjectBlobStore {
        let builder = self.builder().with_part_size(part).with_idle_timeout(idle).with_retries(retries, Duration::from_secs(20));
        builder.build_blob_store().await.unwrap()
    }

    /// See [`Blob::check`].
    pub(crate) async fn check(&self, blob: &Blob) -> bool {
        blob.check(&self.open().await, self).await
    }

    pub(crate) fn objects(&self) -> S3Store {
        self.builder().build().unwrap()
    }

    pub(crate) fn folder(&self) -> Path {
        Path::from(self.config.storage_path.as_str())
    }

    pub(crate) fn path(&self, name: &str) -> Path {
        Path::parse(format!("{}/{name}", self.config.storage_path)).unwrap()
    }

    /// Everything in the folder, without the folder's own name.
    pub(crate) async fn names(&self) -> Vec<String> {
        let listed: Vec<_> = self.objects().list(Some(&self.folder())).try_collect().await.unwrap();
        let name = |path: &Path| path.as_ref()[self.config.storage_path.len() + 1..].to_owned();
        listed.iter().map(|meta| name(&meta.location)).collect()
    }

    /// Deletes everything in the folder.
    pub(crate) async fn empty(&self) {
        let store = self.objects();
        let all = store.list(Some(&self.folder())).map_ok(|meta| meta.location).boxed();
        drop(store.delete_stream(all).try_collect::<Vec<_>>().await);
    }

    /// Multipart uploads in it that are neither completed nor aborted.
    pub(crate) async fn multiparts(&self) -> Vec<OpenMultipart> {
        self.objects().list_multiparts(&self.folder()).try_collect().await.unwrap()
    }

    /// Whether none is left, if one waits a little: what was dropped is aborted in its own time.
    pub(crate) async fn nothing_is_open(&self) -> bool {
        for _ in 0..100 {
            if self.multiparts().await.is_empty() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

/// A message without what the service called the request.
pub(crate) fn without_request(message: &str) -> String {
    match message.split_once(" (request ") {
        Some((start, rest)) => format!("{start}{}", rest.split_once(')').unwrap().1),
        None => message.to_owned(),
    }
}
