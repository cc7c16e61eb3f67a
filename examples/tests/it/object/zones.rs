//! The server with one zone in each of them.

use std::time::Duration;

use registry_core::Digest;
use registry_core::testing::Rng;

use super::{Kind, Zone, has};
use crate::http::begin_upload;
use crate::image::Layout;
use crate::proxy::{Fault, Seen};
use crate::swift::start;
use crate::swift::zones::pushes_and_pulls;
use crate::tools::have;

/// Reads of what was staged.
fn reads(seen: &[Seen]) -> usize {
    let is_read = |seen: &&Seen| {
        let target = seen.target.replace("%2F", "/").replace("%5F", "_").replace("%2D", "-");
        seen.method == "GET" && target.contains("/_uploads/") && !target.contains('?') && !target.ends_with("/_writer")
    };
    seen.iter().filter(is_read).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_to_each_and_pulls_from_it_through_the_server_or_by_a_redirect() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 1, &[0, 1, 70_000, 20 << 20]);
    layout.finish();
    for kind in Kind::ALL {
        let Some(zone) = Zone::new(kind).await else { continue };
        let here = dir.path().join(format!("{kind:?}"));
        std::fs::create_dir_all(&here).unwrap();
        pushes_and_pulls(&here, &zone.block.toml(), &source, "-Signature=").await;
    }
}

/// What was acknowledged before the server was killed is not sent again, and not read again: the second process goes on behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_killed_server_had_is_resumed_by_a_second_one_without_reading_what_is_staged() {
    for kind in Kind::ALL {
        let Some(zone) = Zone::new(kind).await else { continue };
        let dir = tempfile::tempdir().unwrap();
        let content = Rng::new(2).bytes(25 << 20);
        let digest = Digest::sha256(&content);
        let mut server = start(dir.path(), &zone.block.toml());
        let location = begin_upload(&server.client(), "app").await.unwrap();
        let path = location.splitn(4, '/').nth(3).map_or(location.clone(), |rest| format!("/{rest}"));
        let path = if location.starts_with('/') { location.clone() } else { path };
        let first = server.client().send("PATCH", &path, &[("Content-Range", "0-12582911")], &content[..12 << 20]).await.expect(202);
        let path = first.header("location").to_owned();
        // In the middle of the next request.
        let mut started = server.client().begin("PATCH", &path, &[], Some(13 << 20)).await.unwrap();
        started.write(&content[12 << 20..20 << 20]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();

        zone.proxy.plan(|_| Fault::None);
        let server = start(dir.path(), &zone.block.toml());
        let status = server.client().get(&path).await.expect(204);
        assert_eq!(status.offset(), 12 << 20);
        let path = status.header("location").to_owned();
        let patched = server.client().send("PATCH", &path, &[], &content[12 << 20..24 << 20]).await.expect(202);
        // Both pieces are full parts: none is taken back into memory.
        assert_eq!(reads(&zone.proxy.seen()), 0, "{kind:?}: {:?}", zone.proxy.seen());
        let path = patched.header("location").to_owned();
        let query = if path.contains('?') { '&' } else { '?' };
        server.client().send("PUT", &format!("{path}{query}digest={digest}"), &[], &content[24 << 20..]).await.expect(201);
        assert!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == content);
        assert!(has(&zone.blobs().await, &content).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_and_too_large_for_one_copy_is_moved_by_parts() {
    for kind in [Kind::SeaweedFs, Kind::RadosGw] {
        let Some(zone) = Zone::new(kind).await else { continue };
        let dir = tempfile::tempdir().unwrap();
        let server = start(dir.path(), &zone.block.clone().with_text("copy_limit", "8MiB").toml());
        let content = Rng::new(3).bytes(30 << 20);
        let digest = Digest::sha256(&content);
        let location = begin_upload(&server.client(), "app").await.unwrap();
        let patched = server.client().send("PATCH", &location, &[], &content).await.expect(202);
        zone.proxy.plan(|_| Fault::None);
        let path = patched.header("location").to_owned();
        let query = if path.contains('?') { '&' } else { '?' };
        server.client().send("PUT", &format!("{path}{query}digest={digest}"), &[], &[]).await.expect(201);
        let seen = zone.proxy.seen();
        let copies = seen.iter().filter(|seen| !seen.header("x-amz-copy-source-range").is_empty()).count();
        assert_eq!((copies, reads(&seen)), (4, 0), "{kind:?}: {seen:#?}");
        assert!(has(&zone.blobs().await, &content).await);
    }
}
