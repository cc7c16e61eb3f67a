//! What is in the zones, against what is known of it: compared, read, and put right by commands beside a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use registry_core::Digest;
use registry_core::testing::Rng;
use serde_json::Value;

use crate::http::push_blob;
use crate::process::{Server, registry, texts};
use crate::tools::{large, seed};
use crate::zone_life::{ZONES, begin, configuration, kill_after, serve, status, told};
use crate::zones::{blobs, eventually, push_image};

/// The files of a zone's blobs: where each lies.
fn file_of(zone: &Path, digest: &Digest) -> PathBuf {
    zone.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

/// What a job of a command found: what it counted, and how it ended.
#[track_caller]
fn found(dir: &Path, config: &Path, args: &[&str]) -> Value {
    let mut job: Value = serde_json::from_str(&told(dir, config, &[args, &["--json"]].concat())).unwrap();
    assert_eq!(job["state"], "done", "{job}");
    job["counts"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_behind_our_back_is_told_exactly_and_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let (all, few, rotten) = if large() { (2_000, 100, 20) } else { (400, 20, 5) };
    let mut server = serve(dir, &config);
    let [boston, leo, tokyo] = ZONES.map(|zone| dir.join(zone));
    let mut digests = Vec::new();
    for number in 0..all {
        digests.push(push_blob(&server.client(), "team/app", &Rng::new(number).bytes(300)).await.unwrap());
    }
    eventually("all is everywhere", || [&boston, &leo, &tokyo].iter().all(|zone| blobs(zone).len() == digests.len()));
    for digest in &digests[..few] {
        std::fs::remove_file(file_of(&boston, digest)).unwrap();
    }
    // Of which nobody knows, for longer than they are left there.
    let foreign: Vec<_> = (0..few).map(|number| Rng::new(1_000_000 + number as u64).bytes(200)).collect();
    for content in &foreign {
        let file = file_of(&boston, &Digest::sha256(content));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for digest in &digests[few..few + rotten] {
        let file = file_of(&boston, digest);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 8;
        std::fs::write(&file, bytes).unwrap();
    }
    let (all, few, rotten) = (digests.len() as u64, few as u64, rotten as u64);
    let counts = found(dir, &config, &["reconcile", "--zone", "boston"]);
    assert_eq!(counts, serde_json::json!({ "blobs": all + few, "missing": few, "foreign": few }));
    eventually("they were copied back", || digests[..few as usize].iter().all(|digest| file_of(&boston, digest).is_file()));
    eventually("what nobody knows is gone", || blobs(&boston).len() == digests.len());
    let counts = found(dir, &config, &["scrub", "--now", "--zone", "boston"]);
    let good = 300 * (all - rotten);
    assert_eq!(counts, serde_json::json!({ "read": all, "bytes": good, "corrupt": rotten }));
    eventually("they were made again", || {
        digests[few as usize..(few + rotten) as usize]
            .iter()
            .all(|digest| std::fs::read(file_of(&boston, digest)).is_ok_and(|bytes| Digest::sha256(&bytes) == *digest))
    });
    assert_eq!(found(dir, &config, &["scrub", "--now", "--zone", "boston"]), serde_json::json!({ "read": all, "bytes": 300 * all }));
    for zone in ["boston", "leo"] {
        assert_eq!(found(dir, &config, &["reconcile", "--zone", zone]), serde_json::json!({ "blobs": all }), "{zone}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_is_rebuilt_from_the_zones() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let mut server = serve(dir, &config);
    let count = if large() { 2_000 } else { 200 };
    let mut digests = Vec::new();
    for number in 0..count {
        digests.push(push_blob(&server.client(), "team/app", &Rng::new(number).bytes(200)).await.unwrap());
    }
    let manifest = push_image(&server.client(), "team/app", "v1", b"a layer").await;
    let all = digests.len() + 3;
    eventually("all is everywhere", || ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == all));
    // All that a backup of the database without its newest tables would lack, once beside a server and once without.
    lose_the_ledger(dir);
    found_again(dir, &config, &server, &digests, &manifest, all).await;
    server.stop();
    lose_the_ledger(dir);
    let server = serve(dir, &config);
    found_again(dir, &config, &server, &digests, &manifest, all).await;
}

fn lose_the_ledger(dir: &Path) {
    let database = rusqlite::Connection::open(dir.join("data/registry.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute_batch("DELETE FROM placements; DELETE FROM placed_blobs; DELETE FROM zones; DELETE FROM jobs").unwrap();
}

/// Compares all zones, and sees to it that everything can be pulled and every copy is known.
async fn found_again(dir: &Path, config: &Path, server: &Server, digests: &[Digest], manifest: &str, all: usize) {
    told(dir, config, &["reconcile"]);
    for digest in digests {
        server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200);
    }
    assert_eq!(server.client().get("/v2/team/app/manifests/v1").await.expect(200).text(), manifest);
    eventually("every copy is known again", || {
        status(dir, config)["zones"].as_array().unwrap().iter().all(|zone| zone["blobs"] == all && zone["backlog"] == 0)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn two_zones_in_one_place_and_a_wrong_empty_place_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let mut server = serve(dir, &config);
    let digest = push_blob(&server.client(), "team/app", b"content").await.unwrap();
    eventually("all is everywhere", || ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == 1));
    server.stop();
    // The same place pasted twice.
    let text = std::fs::read_to_string(&config).unwrap();
    let pasted = dir.join("pasted.toml");
    std::fs::write(&pasted, text.replace(&format!("{}\"", dir.join("tokyo").display()), &format!("{}\"", dir.join("leo").display())))
        .unwrap();
    let output = registry(dir, &["--listen", "127.0.0.1:0", "--config", pasted.to_str().unwrap()]);
    let (_, errors) = texts(&output);
    assert!(!output.status.success() && errors.contains("leo and tokyo"), "{errors}");
    // Another, empty place.
    let elsewhere = dir.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let wrong = dir.join("wrong.toml");
    std::fs::write(&wrong, text.replace(&format!("{}\"", dir.join("leo").display()), &format!("{}\"", elsewhere.display()))).unwrap();
    let server = serve(dir, &wrong);
    server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200);
    push_blob(&server.client(), "team/app", b"more").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let status = status(dir, &wrong);
    assert_eq!(status["zones"][1]["healthy"], false, "{status}");
    assert_eq!(blobs(&elsewhere).len(), 0, "nothing is copied there");
    assert_eq!(blobs(&dir.join("leo")).len(), 1, "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_over_old_zones_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let mut server = serve(dir, &config);
    for number in 0..5 {
        push_blob(&server.client(), "team/app", &Rng::new(number).bytes(200)).await.unwrap();
    }
    eventually("all is everywhere", || ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == 5));
    server.stop();
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    let server = serve(dir, &config);
    // Somebody pushes before anybody compares.
    for number in 5..10 {
        push_blob(&server.client(), "team/app", &Rng::new(number).bytes(200)).await.unwrap();
    }
    eventually("all is everywhere", || ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == 10));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let output = registry(dir, &["--config", config.to_str().unwrap(), "reconcile"]);
    assert_eq!(output.status.code(), Some(1));
    let (_, errors) = texts(&output);
    assert!(errors.contains("5 of the 10 blobs in the zone are known to nobody: they were left alone"), "{errors}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_they_are_killed_comparing_and_scrubbing_go_on_and_harm_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let mut server = serve(dir, &config);
    let mut digests = Vec::new();
    for number in 0..300 {
        digests.push(push_blob(&server.client(), "team/app", &Rng::new(number).bytes(2_000)).await.unwrap());
    }
    eventually("all is everywhere", || ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == 300));
    let boston = dir.join("boston");
    let mut rng = Rng::new(seed("zone_truth"));
    for round in 0..20 {
        let (gone, rotten) = (digests[round * 3], digests[round * 3 + 1]);
        std::fs::remove_file(file_of(&boston, &gone)).unwrap();
        std::fs::write(file_of(&boston, &rotten), vec![0; 2_000]).unwrap();
        kill_after(begin(&config, &["reconcile", "--zone", "boston"]), Duration::from_millis(rng.below(400)));
        kill_after(begin(&config, &["scrub", "--now", "--zone", "boston"]), Duration::from_millis(rng.below(400)));
        if round % 4 == 0 {
            server.kill();
            server = serve(dir, &config);
        }
        told(dir, &config, &["reconcile", "--zone", "boston"]);
        told(dir, &config, &["scrub", "--now", "--zone", "boston"]);
        let good = |digest: &Digest| std::fs::read(file_of(&boston, digest)).is_ok_and(|bytes| Digest::sha256(&bytes) == *digest);
        // One that the killed scrub had passed by was read by the next.
        eventually("both are good again", || {
            let all = good(&gone) && good(&rotten);
            if !all {
                told(dir, &config, &["scrub", "--now", "--zone", "boston"]);
            }
            all
        });
    }
    for digest in &digests {
        server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200);
    }
    assert!(ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() == 300));
}
