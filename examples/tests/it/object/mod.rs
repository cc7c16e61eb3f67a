//! Zones in object stores that speak S3's protocol, or one like it: SeaweedFS, Ceph RadosGW, and the stand-in for Google Cloud Storage.

mod mixed;
mod outage;
mod validate;
mod zones;

use futures_util::TryStreamExt as _;
use object_store::ObjectStore as _;
use object_store::path::Path as ObjectPath;
use registry_core::{BlobStoreExt as _, Digest};
use storage_gcs::{GcsBuilder, GcsConfig};
use storage_object::{ListMultiparts as _, ObjectBlobStore, OpenMultipart};
use storage_s3::{S3Builder, S3Config, S3Store, Secret};

use crate::block::Block;
use crate::gcs_stand_in::StandIn;
use crate::proxy::Proxy;
use crate::tools::skip;
use tokio::sync::{RwLock, RwLockReadGuard};

/// Held for writing by who stops RadosGW's gateway.
static RADOSGW: RwLock<()> = RwLock::const_new(());

const BUCKET: &str = "quay-enterprise";

/// Where a zone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SeaweedFs,
    RadosGw,
    /// Google Cloud Storage, with a service account's key.
    Google,
    /// The same with interoperability keys.
    GoogleKeys,
}

impl Kind {
    const ALL: [Self; 4] = [Self::SeaweedFs, Self::RadosGw, Self::Google, Self::GoogleKeys];
}

/// A zone in a folder of its own, with a proxy on the way to it.
struct Zone {
    kind: Kind,
    block: Block,
    proxy: Proxy,
    s3: S3Config,
    gcs: GcsConfig,
    stand_in: Option<StandIn>,
    /// Nobody stops it meanwhile.
    _undisturbed: Option<RwLockReadGuard<'static, ()>>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("REGISTRY_TEST_{name}")).ok().filter(|value| !value.is_empty())
}

fn text(value: &str) -> String {
    format!("{value:?}")
}

impl Zone {
    /// `None`, which is said, if there is no such service.
    async fn new(kind: Kind) -> Option<Self> {
        let undisturbed = if kind == Kind::RadosGw { Some(RADOSGW.read().await) } else { None };
        Some(Self { _undisturbed: undisturbed, ..Self::unguarded(kind).await? })
    }

    /// The same for who stops the service.
    async fn unguarded(kind: Kind) -> Option<Self> {
        match kind {
            Kind::SeaweedFs => Self::s3(kind, "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY").await,
            Kind::RadosGw => Self::s3(kind, "RGW_S3_ENDPOINT", "RGW_ACCESS_KEY", "RGW_SECRET_KEY").await,
            Kind::Google | Kind::GoogleKeys => Some(Self::google(kind).await),
        }
    }

    async fn s3(kind: Kind, endpoint: &str, access_key: &str, secret_key: &str) -> Option<Self> {
        let Some(endpoint) = variable(endpoint) else {
            skip(&format!("zones in {kind:?}"), &format!("REGISTRY_TEST_{endpoint} is not set"));
            return None;
        };
        let mut s3 = S3Config::default();
        (s3.access_key, s3.secret_key) = (variable(access_key), variable(secret_key).map(Secret::from));
        (s3.bucket, s3.create_bucket) = ("registry".to_owned(), true);
        s3.storage_path = format!("quay/{}", registry_core::random_id());
        let proxy = Proxy::new(&endpoint).await;
        let block = Block::new([
            ("name", text("far")),
            ("type", text("s3")),
            ("endpoint", text(&proxy.instead_of(&endpoint))),
            ("bucket", text(&s3.bucket)),
            ("create_bucket", "true".to_owned()),
            ("storage_path", text(&format!("/{}", s3.storage_path))),
            ("access_key", text(&variable(access_key).unwrap())),
            ("secret_key", text(&variable(secret_key).unwrap())),
        ]);
        s3.endpoint = Some(endpoint);
        Some(Self { kind, block, proxy, s3, gcs: GcsConfig::default(), stand_in: None, _undisturbed: None })
    }

    async fn google(kind: Kind) -> Self {
        let stand_in = StandIn::start(BUCKET).await;
        let mut gcs = GcsConfig::default();
        (gcs.bucket, gcs.endpoint, gcs.storage_path) = (BUCKET.to_owned(), Some(stand_in.url()), "/datastorage/registry".to_owned());
        let proxy = Proxy::new(&stand_in.url()).await;
        let mut block = Block::new([
            ("name", text("far")),
            ("type", text("gcs")),
            ("endpoint", text(&proxy.instead_of(&stand_in.url()))),
            ("bucket", text(BUCKET)),
            ("storage_path", text(&gcs.storage_path)),
        ]);
        if kind == Kind::GoogleKeys {
            (gcs.access_key, gcs.secret_key) = (Some(stand_in.access_key().to_owned()), Some(Secret::from(stand_in.secret_key())));
            block = block.with_text("access_key", stand_in.access_key()).with_text("secret_key", stand_in.secret_key());
        } else {
            gcs.service_account = Some(Secret::from(stand_in.service_account()));
            block = block.with("service_account", &format!("'''{}'''", stand_in.service_account()));
        }
        Self { kind, block, proxy, s3: S3Config::default(), gcs, stand_in: Some(stand_in), _undisturbed: None }
    }

    fn named(mut self, name: &str) -> Self {
        self.block = self.block.with_text("name", name);
        self
    }

    fn s3_store(&self) -> S3Store {
        S3Builder::new(self.s3.clone()).build().unwrap()
    }

    /// Everything in the folder of one in S3, without the folder's name.
    async fn names(&self) -> Vec<String> {
        let folder = ObjectPath::from(self.s3.storage_path.as_str());
        let listed: Vec<_> = self.s3_store().list(Some(&folder)).try_collect().await.unwrap();
        listed.iter().map(|meta| meta.location.as_ref()[self.s3.storage_path.len() + 1..].to_owned()).collect()
    }

    /// Multipart uploads there that are neither completed nor aborted.
    async fn open_multiparts(&self) -> Vec<OpenMultipart> {
        self.s3_store().list_multiparts(&ObjectPath::from(self.s3.storage_path.as_str())).try_collect().await.unwrap()
    }

    /// What is in it, past the server and the proxy.
    async fn blobs(&self) -> ObjectBlobStore {
        match self.kind {
            Kind::SeaweedFs | Kind::RadosGw => S3Builder::new(self.s3.clone()).build_blob_store().await.unwrap(),
            Kind::Google | Kind::GoogleKeys => GcsBuilder::new(self.gcs.clone()).build_blob_store().await.unwrap(),
        }
    }
}

/// Whether all of this blob is there.
async fn has(blobs: &ObjectBlobStore, content: &[u8]) -> bool {
    blobs.read_all(&Digest::sha256(content)).await.is_ok_and(|found| found == content)
}
