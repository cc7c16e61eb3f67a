//! What the commands tell of zones and images, and what they do about failures.

use std::path::Path;

use registry_core::Digest;
use serde_json::Value;

use crate::http::{push_blob, push_manifest};
use crate::process::{Server, registry, texts};
use crate::zones::{QUICK, blobs, eventually, push_image};

/// What a command prints.
#[track_caller]
fn told(data: &Path, args: &[&str]) -> String {
    let output = registry(data.parent().unwrap(), &[args, &["--data", data.to_str().unwrap()]].concat());
    let (text, errors) = texts(&output);
    assert!(output.status.success(), "{args:?}: {errors}");
    text
}

#[track_caller]
fn json(data: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&told(data, &[args, &["--json"]].concat())).unwrap()
}

#[tokio::test]
async fn status_tells_how_each_zone_is_and_where_an_image_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let manifest = push_image(&server.client(), "team/app", "v1", &[7; 100_000]).await;
    let digest = Digest::sha256(manifest.as_bytes());
    eventually("the image is complete", || {
        json(&data, &["status", "team/app:v1"])["zones"].as_array().unwrap().iter().all(|zone| zone["complete"] == true)
    });
    let status = json(&data, &["status"]);
    let bytes = 100_002 + manifest.len() as u64;
    assert_eq!((&status["repositories"], &status["blobs"], &status["bytes"]), (&1.into(), &3.into(), &bytes.into()), "{status}");
    for (zone, name) in status["zones"].as_array().unwrap().iter().zip(["local", "remote"]) {
        assert_eq!((&zone["name"], &zone["healthy"], &zone["backlog"]), (&name.into(), &true.into(), &0.into()), "{zone}");
        assert_eq!((&zone["blobs"], &zone["bytes"]), (&3.into(), &bytes.into()), "{zone}");
        assert!(zone["last_error"].is_null() && zone["oldest_unconverged_seconds"].is_null(), "{zone}");
    }
    let text = told(&data, &["status"]);
    for name in ["local", "remote"] {
        let cells: Vec<_> = text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect();
        assert_eq!(cells[1..4], ["active", "yes", "3"], "{text}");
    }

    // By digest as well, and for an index all that is below it.
    let image = json(&data, &["status", &format!("team/app@{digest}")]);
    assert_eq!((&image["digest"], &image["blobs"]), (&digest.to_string().into(), &3.into()), "{image}");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
        crate::image::MANIFEST,
        manifest.len()
    );
    let headers = [("Content-Type", "application/vnd.oci.image.index.v1+json")];
    server.client().send("PUT", "/v2/team/app/manifests/all", &headers, index.as_bytes()).await.expect(201);
    eventually("the index is complete", || {
        let image = json(&data, &["status", "team/app:all"]);
        assert_eq!(image["blobs"], 4, "{image}");
        image["zones"].as_array().unwrap().iter().all(|zone| zone["complete"] == true && zone["present"] == 4)
    });
    let text = told(&data, &["status", "team/app:all"]);
    assert!(text.contains("yes, 4 of 4") && !text.contains("missing"), "{text}");

    for (image, wanted) in [
        ("team/app:v2", "no such manifest"),
        ("other:v1", "no such manifest"),
        ("Team/app", "is no image"),
        ("127.0.0.1:5000/app:v1", "is no image"),
    ] {
        let output = registry(dir.path(), &["status", image, "--data", data.to_str().unwrap()]);
        let errors = texts(&output).1;
        assert!(output.status.code() == Some(1) && errors.contains(wanted), "{image}: {errors}");
    }
}

#[tokio::test]
async fn failed_copies_are_told_with_reasons_and_can_be_tried_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &QUICK);
    let content = b"what cannot be copied";
    let digest = Digest::sha256(content);
    // A file where the directory of the blob's shard would be.
    let obstacle = data.join("remote/blobs/sha256").join(&digest.hex()[..2]);
    std::fs::write(&obstacle, "").unwrap();
    push_blob(&server.client(), "app", b"{}").await.unwrap();
    push_blob(&server.client(), "app", content).await.unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{0}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{digest}","size":{1}}},"layers":[]}}"#,
        crate::image::MANIFEST,
        content.len()
    );
    push_manifest(&server.client(), "app", "v1", manifest.as_bytes()).await.unwrap();

    let failures = || json(&data, &["status", "--failures"])["failures"].as_array().unwrap().clone();
    eventually("the failure is told", || !failures().is_empty());
    let failure = failures().remove(0);
    assert_eq!((&failure["zone"], &failure["digest"]), (&"remote".into(), &digest.to_string().into()), "{failure}");
    assert!(failure["attempts"].as_u64().unwrap() >= 1 && !failure["error"].as_str().unwrap().is_empty(), "{failure}");
    assert!(told(&data, &["status", "--failures"]).contains(&digest.to_string()));
    eventually("the rest is copied", || blobs(&data.join("remote")).len() == 2);
    let remote = json(&data, &["status"])["zones"][1].clone();
    assert!(remote["backlog"] == 1 && remote["failing"] == 1, "{remote}");
    assert!(
        remote["oldest_unconverged_seconds"].as_f64().is_some() && remote["last_error"].as_str().unwrap().contains(&digest.to_string()),
        "{remote}"
    );
    let image = json(&data, &["status", "app:v1"]);
    let (local, remote) = (&image["zones"][0], &image["zones"][1]);
    assert!(local["complete"] == true && remote["complete"] == false && remote["present"] == 1, "{image}");
    assert_eq!(remote["missing"], serde_json::json!([digest.to_string()]));
    let text = told(&data, &["status", "app:v1"]);
    assert!(text.contains("no, 1 of 2") && text.contains("missing in remote:") && text.contains(&digest.to_string()), "{text}");

    std::fs::remove_file(&obstacle).unwrap();
    let output = registry(dir.path(), &["replay", "nowhere", "--data", data.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && texts(&output).1.contains("the zones are local, remote"));
    assert!(json(&data, &["replay", "remote"])["due"].as_u64().unwrap() <= 1);
    eventually("it is copied", || blobs(&data.join("remote")).len() == 3);
    eventually("nothing has failed any more", || failures().is_empty());
    assert_eq!(told(&data, &["status", "--failures"]), "Nothing has failed.\n");
    assert_eq!(json(&data, &["replay"])["due"], 0);
}

#[tokio::test]
async fn gc_deletes_from_every_zone_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]);
    push_blob(&server.client(), "app", b"nobody needs this").await.unwrap();
    eventually("it is copied", || blobs(&data.join("remote")).len() == 1);
    server.stop();
    let report = json(&data, &["gc", "--gc-grace", "0", "--gc-trash-delay", "0"]);
    assert_eq!(report["deleted"], 1, "{report}");
    assert_eq!((blobs(&data.join("local")).len(), blobs(&data.join("remote")).len()), (0, 0));
}

#[test]
fn validate_tries_every_zone_and_says_which_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = told(&data, &["validate"]);
    for zone in ["local", "remote"] {
        for step in ["open", "write", "read", "delete"] {
            let step = format!("zone {zone}: {step}");
            assert!(text.lines().any(|line| line.starts_with(&step) && line.ends_with("ok")), "{step}:\n{text}");
        }
    }
    std::fs::remove_dir_all(data.join("remote/uploads")).unwrap();
    std::fs::write(data.join("remote/uploads"), "no directory").unwrap();
    let output = registry(dir.path(), &["validate", "--data", data.to_str().unwrap()]);
    let (text, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(text.contains("zone local: delete") && errors.contains("zone remote: ") && errors.contains("uploads"), "{text}{errors}");
    // One alone, and one that there is not.
    let text = told(&data, &["validate", "local"]);
    assert!(text.contains("zone local: delete") && !text.contains("remote"), "{text}");
    let (_, errors) = texts(&registry(dir.path(), &["validate", "nowhere", "--data", data.to_str().unwrap()]));
    assert!(errors.contains("the zones are local, remote"), "{errors}");
    // One that was seen and is gone is not made anew.
    Server::start(&data, &[]).stop();
    std::fs::rename(data.join("local"), data.join("away")).unwrap();
    let output = registry(dir.path(), &["validate", "--data", data.to_str().unwrap()]);
    let (_, errors) = texts(&output);
    assert!(
        output.status.code() == Some(1) && errors.contains("zone local: open: ") && errors.contains("is its disk mounted?"),
        "{errors}"
    );
    assert!(!data.join("local").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_waited_for_by_a_command_and_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[&QUICK[..], &["--admin", "127.0.0.1:0"]].concat());
    push_image(&server.client(), "team/app", "v1", &[1; 1000]).await;
    let waited = json(&data, &["wait", "team/app:v1", "--timeout", "60s"]);
    assert!(waited["zones"].as_array().unwrap().iter().all(|zone| zone["complete"] == true), "{waited}");
    let ask = async |query: &str| {
        let answer = server.admin().get(&format!("/replication/wait?{query}")).await;
        (answer.status, serde_json::from_slice::<Value>(&answer.body).unwrap_or_default())
    };
    let (status, answer) = ask("image=team/app:v1&zone=remote&timeout=60s").await;
    assert_eq!((status, &answer["blobs"]), (200, &3.into()), "{answer}");
    // What cannot be copied is waited for, and no longer than that.
    let layer = [2; 1000];
    let obstacle = data.join("remote/blobs/sha256").join(&Digest::sha256(&layer).hex()[..2]);
    std::fs::write(&obstacle, "").unwrap();
    let started = std::time::Instant::now();
    push_image(&server.client(), "team/app", "v2", &layer).await;
    let (status, answer) = ask("image=team/app:v2&timeout=1s").await;
    assert_eq!(status, 504, "{answer}");
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    let (status, answer) = ask("image=team/app:v2&zone=local&timeout=60s").await;
    assert_eq!(status, 200, "{answer}");
    let output = registry(dir.path(), &["wait", "team/app:v2", "--zone", "remote", "--timeout", "1s", "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("team/app:v2 is not there after 1s"), "{}", texts(&output).1);
    for (query, expected) in [
        ("image=team/app:v3", 404),
        ("image=nothing/at:all", 404),
        ("image=Team:x", 400),
        ("image=team/app:v1&zone=nowhere", 400),
        ("image=team/app:v1&timeout=soon", 400),
        ("image=team/app:v1&timeout=99999999999999999999w", 400),
        ("image=team/app:v1&timeout=0", 200),
        ("image=team/app:v2&timeout=0", 504),
        ("", 400),
        ("zone=local", 400),
        ("image=%00&zone=%FF%FE", 400),
        ("image=team/app:v1&image=team/app:v2", 400),
        ("image=../../etc/passwd", 400),
    ] {
        assert_eq!(ask(query).await.0, expected, "{query}");
    }
    // It can be copied again, and who waits is told.
    let waiting = ask("image=team/app:v2&zone=remote&timeout=60s");
    let back = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        std::fs::remove_file(&obstacle).unwrap();
    };
    let ((status, answer), ()) = tokio::join!(waiting, back);
    assert_eq!(status, 200, "{answer}");
}
