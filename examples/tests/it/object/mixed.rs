//! One registry over a directory, Swift, S3, RadosGW and Google Cloud Storage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use registry_core::{BlobStore, BlobStoreExt as _, Digest};
use storage_fs::FsBlobStore;

use super::{Kind, Zone};
use crate::clients::{assert_same, copy};
use crate::http::push_blob;
use crate::image::{self, Layout};
use crate::swift::outage::{self, layer, push_all};
use crate::swift::{self, SERVICE, directory, start};
use crate::tools::have;

/// All five, and how to look into each past the server.
struct Five {
    text: String,
    swift: swift::Zone,
    /// Kept for their proxies.
    s3: Zone,
    rgw: Zone,
    gcs: Zone,
}

impl Five {
    /// `None`, which is said, if one cannot be had.
    async fn new(dir: &std::path::Path) -> Option<Self> {
        let swift = swift::Zone::new()?;
        let s3 = Zone::new(Kind::SeaweedFs).await?.named("ait");
        let rgw = Zone::new(Kind::RadosGw).await?.named("rgw");
        let gcs = Zone::new(Kind::GoogleKeys).await?.named("gce");
        let text = [directory(dir), swift.toml(), s3.block.toml(), rgw.block.toml(), gcs.block.toml()].concat();
        Some(Self { text, swift, s3, rgw, gcs })
    }

    async fn stores(&self, dir: &std::path::Path) -> Vec<(&'static str, Arc<dyn BlobStore>)> {
        vec![
            ("disk", Arc::new(FsBlobStore::builder(dir.join("disk")).build().await.unwrap())),
            ("swift", Arc::new(self.swift.blobs().await)),
            ("ait", Arc::new(self.s3.blobs().await)),
            ("rgw", Arc::new(self.rgw.blobs().await)),
            ("gce", Arc::new(self.gcs.blobs().await)),
        ]
    }
}

/// Waits until each of the zones has these bytes, all of them.
async fn all_have(stores: &[(&'static str, Arc<dyn BlobStore>)], content: &[u8]) {
    let (digest, deadline) = (Digest::sha256(content), Instant::now() + Duration::from_secs(120));
    for (name, store) in stores {
        while !store.read_all(&digest).await.is_ok_and(|found| found == content) {
            assert!(Instant::now() < deadline, "{digest} is not in {name}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_push_ends_byte_identical_in_all_five_and_a_pull_prefers_the_zone_that_is_named() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(five) = Five::new(dir.path()).await else { return };
    let _service = SERVICE.read().await;
    let source = dir.path().join("source");
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 1, &[0, 1, 70_000, 20 << 20]);
    layout.finish();
    let mut server = start(dir.path(), &format!("storage_preference = [\"disk\"]\n{}", five.text));
    copy(&format!("oci:{}:v1", source.display()), &format!("docker://{}/app:v1", server.address));
    let stores = five.stores(dir.path()).await;
    for name in image::blobs(&source) {
        all_have(&stores, &std::fs::read(source.join("blobs/sha256").join(name)).unwrap()).await;
    }
    server.stop();
    // The directory was closest until here.
    for (zone, name) in [(&five.gcs, "gce"), (&five.rgw, "rgw"), (&five.s3, "ait")] {
        let mut server = start(dir.path(), &format!("storage_preference = [{name:?}]\n{}", five.text));
        let back = dir.path().join(format!("back-{name}"));
        let all = [&five.gcs, &five.rgw, &five.s3];
        all.iter().for_each(|zone| zone.proxy.plan(|_| crate::proxy::Fault::None));
        copy(&format!("docker://{}/app:v1", server.address), &format!("oci:{}:v1", back.display()));
        assert_same(&source, &back);
        let reads = |zone: &Zone| zone.proxy.seen().iter().filter(|seen| seen.method == "GET" && seen.target.contains("/blobs")).count();
        assert!(reads(zone) >= 4, "{name}: {:?}", zone.proxy.seen());
        assert!(all.iter().all(|other| other.kind == zone.kind || reads(other) == 0), "only {name} is read from");
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_the_five_are_stopped_in_mid_push_and_have_all_of_it_when_they_are_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(five) = Five::new(dir.path()).await else { return };
    let _service = SERVICE.write().await;
    // The two that are stopped are the closest: pushes have to do without them.
    let server = start(dir.path(), &format!("storage_preference = [\"swift\", \"gce\"]\n{}", five.text));
    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let pushers: Vec<_> = (0..3).map(|_| tokio::spawn(push_all(server.client(), Arc::clone(&next), Arc::clone(&done)))).collect();
    let stand_in = five.gcs.stand_in.as_ref().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = outage::Back;
    outage::proxy("stop-proxy");
    stand_in.stop().await;
    let before = next.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(60);
    while next.load(Ordering::Relaxed) < before + 20 {
        assert!(Instant::now() < deadline, "pushes do not go on without the two");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(back);
    stand_in.start_again();
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::Relaxed);
    let stores = five.stores(dir.path()).await;
    for pusher in pushers {
        for n in pusher.await.unwrap() {
            all_have(&stores, &layer(n)).await;
            let found = server.client().get(&format!("/v2/app/blobs/{}", Digest::sha256(&layer(n)))).await.expect(200);
            assert!(found.body == layer(n));
        }
    }
}

/// A zone that lies: its bytes are others than were stored, of the right length and with the right ETag.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_a_zone_has_changed_are_never_served_as_a_blob_and_are_replaced_from_the_other_zone() {
    let dir = tempfile::tempdir().unwrap();
    let zone = Zone::new(Kind::Google).await.unwrap();
    let server = start(dir.path(), &format!("storage_preference = [\"far\"]\n{}{}", zone.block.toml(), directory(dir.path())));
    let content = layer(7);
    let digest = push_blob(&server.client(), "app", &content).await.unwrap();
    let far: Arc<dyn BlobStore> = Arc::new(zone.blobs().await);
    let disk: Arc<dyn BlobStore> = Arc::new(FsBlobStore::builder(dir.path().join("disk")).build().await.unwrap());
    all_have(&[("far", Arc::clone(&far)), ("disk", disk)], &content).await;
    let stand_in = zone.stand_in.as_ref().unwrap();
    let key = stand_in.objects().into_iter().find(|key| key.contains(&digest.hex())).unwrap();
    stand_in.corrupt(&key);
    assert!(far.read_all(&digest).await.unwrap() != content, "the test itself");
    let deadline = Instant::now() + Duration::from_secs(60);
    let path = format!("/v2/app/blobs/{digest}");
    loop {
        // One that notices at its end what it has sent breaks off.
        match server.client().try_send("GET", &path, &[], &[]).await {
            Ok(answer) if answer.status == 200 => break assert!(answer.body == content, "a wrong byte was served"),
            _ => assert!(Instant::now() < deadline, "the other zone has it"),
        }
    }
    all_have(&[("far", far)], &content).await;
}
