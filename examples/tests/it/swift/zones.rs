//! Pushes and pulls, copies, and repair.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use registry_core::Digest;
use registry_core::testing::Rng;

use super::{SERVICE, TEMP_URL_KEY, Zone, directory, start};
use crate::clients::{assert_same, copy};
use crate::http::push_blob;
use crate::image::Layout;
use crate::tools::have;
use crate::zones::{blobs, eventually, push_image};

/// Over this one zone: skopeo pushes the image in `source` and pulls it, through the server and by redirects to URLs that have `signed` in them.
pub(crate) async fn pushes_and_pulls(dir: &Path, zone: &str, source: &Path, signed: &str) {
    for (redirect, status) in [("", 200), ("[http]\nredirect = \"10m\"\n", 307)] {
        let mut server = start(dir, &format!("{redirect}{zone}"));
        let remote = format!("docker://{}/app:v1", server.address);
        let back = dir.join(format!("back-{status}"));
        copy(&format!("oci:{}:v1", source.display()), &remote);
        copy(&remote, &format!("oci:{}:v1", back.display()));
        assert_same(source, &back);
        let content = Rng::new(1).bytes(100_000);
        let digest = push_blob(&server.client(), "app", &content).await.unwrap();
        let answer = server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(status);
        if status == 307 {
            let url = answer.header("location").to_owned();
            assert!(url.contains(signed), "{url}");
            let found = reqwest::get(&url).await.unwrap();
            assert!(found.status() == 200 && found.bytes().await.unwrap() == content);
        } else {
            assert!(answer.body == content);
        }
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_to_swift_and_pulls_from_it_through_the_server_or_by_a_redirect() {
    let Some(zone) = Zone::new() else { return };
    if !have("skopeo") {
        return;
    }
    let _service = SERVICE.read().await;
    let zone = zone.with("temp_url_key", &format!("{TEMP_URL_KEY:?}"));
    zone.blobs().await.set_temp_url_key().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 1, &[0, 1, 70_000, 20 << 20]);
    layout.finish();
    pushes_and_pulls(dir.path(), &zone.toml(), &source, "temp_url_sig=").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_to_a_directory_is_copied_to_swift_and_the_other_way_round() {
    let Some(zone) = Zone::small() else { return };
    let _service = SERVICE.read().await;
    for closest in ["disk", "swift"] {
        let dir = tempfile::tempdir().unwrap();
        let zone = zone.clone().with("storage_path", &format!("\"/quay/{closest}\""));
        let text = format!("storage_preference = [{closest:?}]\n{}{}", directory(dir.path()), zone.toml());
        let mut server = start(dir.path(), &text);
        // One that is an object, and one that has segments.
        for (tag, size) in [("small", 5000), ("large", (3 << 20) + 5)] {
            push_image(&server.client(), "app", tag, &Rng::new(size).bytes(usize::try_from(size).unwrap())).await;
        }
        let disk = dir.path().join("disk");
        eventually("all of it is in the directory", || blobs(&disk).len() == 5);
        let store = zone.builder().with_storage_path(format!("/quay/{closest}")).build_blob_store().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        for content in blobs(&disk).values() {
            while !zone.has(&store, content).await {
                assert!(Instant::now() < deadline, "not copied to Swift");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        for name in ["swift", "disk"] {
            eventually("the server knows of it", || {
                let args = ["--config", "registry.toml", "--data", "data", "status", "app:large", "--json"];
                let output = crate::process::registry(dir.path(), &args);
                let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                let zones = status["zones"].as_array().cloned().unwrap_or_default();
                zones.iter().any(|zone| zone["name"] == name && zone["complete"] == true)
            });
        }
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_deleted_behind_our_back_is_never_served_short_and_repaired_from_the_other_zone() {
    let Some(zone) = Zone::small() else { return };
    let _service = SERVICE.read().await;
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &format!("storage_preference = [\"swift\"]\n{}{}", zone.toml(), directory(dir.path())));
    let content = Rng::new(4).bytes((3 << 20) + 5);
    let digest = push_blob(&server.client(), "app", &content).await.unwrap();
    eventually("it is copied", || blobs(&dir.path().join("disk")).len() == 1);
    let store = zone.blobs().await;
    let objects = zone.builder().build().unwrap();
    // Missing at the end, it is found out by length in the middle of an answer; at the beginning, by a refusal.
    for which in [usize::MAX, 0] {
        let folder = ObjectPath::from("quay/_segments");
        let mut segments: Vec<_> = objects.list(Some(&folder)).try_collect().await.unwrap();
        segments.retain(|meta| meta.location.filename().is_some_and(|name| !name.starts_with('_')));
        // Those of the latest upload: what it replaced is for clean-up.
        let upload = |meta: &object_store::ObjectMeta| meta.location.as_ref().rsplit_once('/').unwrap().0.to_owned();
        let latest = upload(segments.iter().max_by_key(|meta| meta.last_modified).unwrap());
        let mut segments: Vec<_> = segments.into_iter().filter(|meta| upload(meta) == latest).map(|meta| meta.location).collect();
        segments.sort();
        assert!(segments.len() >= 3, "{segments:?}");
        objects.delete(&segments[which.min(segments.len() - 1)]).await.unwrap();
        assert!(!zone.has(&store, &content).await);
        let found = server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
        assert!(found.body == content, "the other zone has it");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !zone.has(&store, &content).await {
            assert!(Instant::now() < deadline, "it is not repaired");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(Digest::sha256(&server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body), digest);
    }
}
