//! Several zones: what is pushed is copied, the closest is asked first, and one that is away is passed over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_core::testing::Rng;

use crate::http::{Client, push_blob, push_manifest};
use crate::image::MANIFEST;
use crate::process::{Server, command, registry, texts};

/// Times that suit a test.
pub(crate) const QUICK: [&str; 4] = ["--replication-probe-interval", "300ms", "--replication-poll-interval", "300ms"];

/// Tries until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The blobs of a zone as they lie there: names and bytes.
pub(crate) fn blobs(zone: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let files = entries(&zone.join("blobs/sha256")).into_iter().flat_map(|shard| entries(&shard));
    files.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(file).unwrap())).collect()
}

/// Pushes an image of one layer; the bytes of its manifest.
pub(crate) async fn push_image(client: &Client, repository: &str, tag: &str, layer: &[u8]) -> String {
    let manifest = push_layer(client, repository, layer).await;
    push_manifest(client, repository, tag, manifest.as_bytes()).await.unwrap();
    manifest
}

/// Pushes all of an image but the manifest, and returns that.
pub(crate) async fn push_layer(client: &Client, repository: &str, layer: &[u8]) -> String {
    let config = push_blob(client, repository, b"{}").await.unwrap();
    let digest = push_blob(client, repository, layer).await.unwrap();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{}}}]}}"#,
        layer.len()
    )
}

/// The value of a metric; 0 if it was never counted.
pub(crate) async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.admin().get("/metrics").await.expect(200).text();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

/// A server with two zones in its data directory, an admin listener and these variables.
fn start_with(data: &Path, variables: &[(&str, &str)]) -> Server {
    let mut command = command("registry");
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(data).args(QUICK).envs(variables.iter().copied());
    Server::spawn(command, data.parent().unwrap())
}

#[tokio::test]
async fn what_is_pushed_to_a_server_with_nothing_configured_is_copied_to_its_second_zone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &["--admin", "127.0.0.1:0"]);
    let manifest = push_image(&server.client(), "team/app", "v1", &Rng::new(1).bytes(3_000_000)).await;
    let (local, remote) = (data.join("local"), data.join("remote"));
    eventually("three blobs in both zones", || blobs(&remote).len() == 3);
    assert_eq!(blobs(&local), blobs(&remote));
    assert!(server.welcome.contains("local, remote"), "{}", server.welcome);
    assert_eq!(metric(&server, r#"registry_replication_copies_total{zone="remote",task="copy"}"#).await, 3.0);
    assert_eq!(metric(&server, r#"registry_replication_time_to_replica_seconds_count{zone="remote"}"#).await, 3.0);
    let digest = Digest::sha256(manifest.as_bytes());
    server.client().get(&format!("/v2/team/app/manifests/{digest}")).await.expect(200);
    server.stop();
    assert!(!data.join("registry.db-wal").metadata().is_ok_and(|wal| wal.len() > 0), "the database was closed in order");
    // Everything is still there afterwards, in both.
    let server = Server::start(&data, &[]);
    assert_eq!(server.client().get("/v2/team/app/manifests/v1").await.expect(200).text(), manifest);
    for (name, content) in blobs(&local).into_iter().filter(|(name, _)| *name != digest.hex()) {
        assert!(server.client().get(&format!("/v2/team/app/blobs/sha256:{name}")).await.expect(200).body == content);
    }
}

#[tokio::test]
async fn the_preference_says_which_zone_is_written_to_and_read_from_first() {
    let quay = "QUAY_DISTRIBUTED_STORAGE_PREFERENCE";
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[], "local"),
        (&[("REGISTRY_STORAGE_PREFERENCE", "remote,local")], "remote"),
        (&[("REGISTRY_STORAGE_PREFERENCE", "remote local")], "remote"),
        (&[(quay, "remote, local")], "remote"),
        (&[("REGISTRY_STORAGE_PREFERENCE", "local"), (quay, "remote")], "local"),
    ];
    for (variables, first) in cases {
        let dir = tempfile::tempdir().unwrap();
        let server = start_with(&dir.path().join("data"), variables);
        let digest = push_blob(&server.client(), "app", b"content").await.unwrap();
        let second = if first == "local" { "remote" } else { "local" };
        eventually("a copy in the other zone", || blobs(&dir.path().join("data").join(second)).len() == 1);
        for _ in 0..3 {
            assert_eq!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body, b"content");
        }
        let reads = |zone: &str| format!("registry_replication_reads_total{{zone=\"{zone}\"}}");
        assert!(metric(&server, &reads(first)).await >= 3.0, "{variables:?}");
        assert_eq!(metric(&server, &reads(second)).await, 0.0, "{variables:?}");
    }
}

#[tokio::test]
async fn the_closest_zone_may_be_the_quickest_and_a_slow_one_have_a_rival() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let args = ["--admin", "127.0.0.1:0", "--closest", "measured", "--hedge-after", "100ms"];
    let server = Server::start(&data, &[&args[..], &QUICK].concat());
    let content = Rng::new(3).bytes(2_000_000);
    let digest = push_blob(&server.client(), "app", &content).await.unwrap();
    eventually("it is in both zones", || blobs(&data.join("local")).len() == 1 && blobs(&data.join("remote")).len() == 1);
    for _ in 0..20 {
        assert!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == content);
    }
    let mut reads = 0.0;
    for zone in ["local", "remote"] {
        reads += metric(&server, &format!("registry_replication_reads_total{{zone=\"{zone}\"}}")).await;
    }
    assert!(reads >= 20.0, "{reads}");
}

#[tokio::test]
async fn a_zone_that_is_away_at_the_start_is_passed_over_and_filled_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (data, there) = (dir.path().join("data"), dir.path().join("there"));
    // No directory can be made below a file.
    let parent = dir.path().join("parent");
    std::fs::write(&parent, "").unwrap();
    let away = format!("name=away,path={}", parent.join("zone").display());
    let here = format!("name=here,path={}", there.display());
    let args = ["--admin", "127.0.0.1:0", "--zone", away.as_str(), "--zone", here.as_str()];
    let server = Server::start(&data, &[&args[..], &QUICK].concat());
    assert!(server.log().contains("away"), "{}", server.log());
    let content = Rng::new(2).bytes(1_000_000);
    let digest = push_blob(&server.client(), "app", &content).await.unwrap();
    assert!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == content);
    assert_eq!(server.admin().get("/readyz").await.expect(200).text(), "ready\n");

    std::fs::remove_file(&parent).unwrap();
    eventually("the zone that came is filled", || blobs(&parent.join("zone")).len() == 1);
    assert_eq!(blobs(&there), blobs(&parent.join("zone")));
}

#[tokio::test]
async fn a_zone_whose_directory_goes_away_is_passed_over_never_made_anew_and_catches_up_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (local, remote, away) = (data.join("local"), data.join("remote"), dir.path().join("away"));
    let args = [&["--admin", "127.0.0.1:0"][..], &QUICK].concat();
    let mut server = Server::start(&data, &args);
    push_image(&server.client(), "app", "v1", b"before").await;
    eventually("the first image is copied", || blobs(&remote).len() == 3);

    // The zone that is the closest, so that both pushes and pulls have to do without it.
    std::fs::rename(&local, &away).unwrap();
    let breaker = r#"registry_zone_breaker_open{zone="local"}"#;
    let deadline = Instant::now() + Duration::from_secs(30);
    while metric(&server, breaker).await < 1.0 {
        assert!(Instant::now() < deadline, "nobody notices that it is away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    push_image(&server.client(), "app", "v2", b"meanwhile").await;
    for tag in ["v1", "v2"] {
        server.client().get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
    }
    let layer = Digest::sha256(b"before");
    assert_eq!(server.client().get(&format!("/v2/app/blobs/{layer}")).await.expect(200).body, b"before");
    assert_eq!(server.admin().get("/readyz").await.expect(200).text(), "ready\n");
    assert!(!local.exists(), "a zone that was seen before is not made anew");
    // Nor by a start, and not in an empty mount point either.
    server.stop();
    std::fs::create_dir(&local).unwrap();
    let server = Server::start(&data, &args);
    assert_eq!(server.client().get(&format!("/v2/app/blobs/{layer}")).await.expect(200).body, b"before");
    assert_eq!(std::fs::read_dir(&local).unwrap().count(), 0);

    std::fs::remove_dir(&local).unwrap();
    std::fs::rename(&away, &local).unwrap();
    eventually("the zone has caught up", || blobs(&local).len() == 5);
    assert_eq!(blobs(&local), blobs(&remote));
}

#[tokio::test]
async fn a_zone_in_whose_place_is_another_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &QUICK);
    push_blob(&server.client(), "app", b"one").await.unwrap();
    eventually("it is copied", || blobs(&data.join("remote")).len() == 1);
    server.stop();
    // The other registry's zone of the same name.
    let mut other = Server::start(&dir.path().join("other"), &[]);
    other.stop();
    std::fs::rename(data.join("remote"), dir.path().join("gone")).unwrap();
    std::fs::rename(dir.path().join("other/remote"), data.join("remote")).unwrap();
    let server = Server::start(&data, &QUICK);
    let digest = push_blob(&server.client(), "app", b"two").await.unwrap();
    server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(blobs(&data.join("remote")).len(), 0, "nothing is written to a zone that is another");
    let output = registry(dir.path(), &["status", "--data", data.to_str().unwrap()]);
    let (text, errors) = texts(&output);
    let line = text.lines().find(|line| line.starts_with("remote")).unwrap_or_else(|| panic!("{text}{errors}"));
    assert!(line.contains("no") && line.contains("another zone than before"), "{text}");
}

#[test]
fn one_place_under_two_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let start = |one: &str, two: &str| {
        let (one, two) = (format!("name=one,path={one}"), format!("name=two,path={two}"));
        let output = registry(dir.path(), &["--listen", "127.0.0.1:0", "--zone", &one, "--zone", &two]);
        (output.status.code(), texts(&output).1)
    };
    let (code, errors) = start("./zone", "zone/");
    assert!(code == Some(2) && errors.contains("the zones one and two are the same place"), "{errors}");
    std::os::unix::fs::symlink("zone", dir.path().join("link")).unwrap();
    std::fs::create_dir(dir.path().join("zone")).unwrap();
    let (code, errors) = start("zone", "link");
    assert!(code == Some(1) && errors.contains("the zones one and two are the same place"), "{errors}");
    assert!(errors.contains("a place of its own"), "{errors}");
}

#[tokio::test]
async fn what_was_stored_in_one_zone_is_served_and_copied_when_there_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &["--zone", "name=local"]);
    let manifest = push_image(&server.client(), "app", "v1", b"a layer").await;
    server.stop();
    assert!(!data.join("remote").exists(), "one zone is one zone");

    // A command that was given another configuration than the server by mistake changes nothing.
    let output = registry(dir.path(), &["status", "--data", data.to_str().unwrap()]);
    let errors = texts(&output).1;
    assert!(output.status.code() == Some(1) && errors.contains("is served from with one zone, local"), "{errors}");
    assert!(registry(dir.path(), &["validate", "--data", data.to_str().unwrap()]).status.success());
    Server::start(&data, &["--zone", "name=local"]).stop();

    let mut server = Server::start(&data, &[]);
    assert_eq!(server.client().get("/v2/app/manifests/v1").await.expect(200).text(), manifest);
    let layer = Digest::sha256(b"a layer");
    assert_eq!(server.client().get(&format!("/v2/app/blobs/{layer}")).await.expect(200).body, b"a layer");
    eventually("what was there is copied", || blobs(&data.join("remote")).len() == 3);
    assert_eq!(blobs(&data.join("local")), blobs(&data.join("remote")));
    server.stop();

    // And with one again, whichever: the ledger goes on.
    let server = Server::start(&data, &["--zone", "name=remote"]);
    assert_eq!(server.client().get(&format!("/v2/app/blobs/{layer}")).await.expect(200).body, b"a layer");
    drop(server);
    let output = registry(dir.path(), &["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap(), "--zone", "name=new"]);
    let errors = texts(&output).1;
    assert!(output.status.code() == Some(1) && errors.contains("used with: local, remote"), "{errors}");
}
