//! What users see of the server: its start, its answers, its commands and its admin listener.

use serde_json::Value;

use crate::http::{Client, push_blob, push_manifest};
use crate::process::{Server, command, registry, texts};

#[tokio::test]
async fn with_nothing_given_it_serves_and_says_how_to_push_a_first_image() {
    let dir = tempfile::tempdir().unwrap();
    // Another port than 5000, which may be taken on this machine; everything else as it comes.
    let mut plain = command("registry");
    plain.current_dir(dir.path()).env("REGISTRY_LISTEN", "127.0.0.1:0");
    let mut server = Server::spawn(plain, &dir.path().join("logs"));
    let base = server.client().get("/v2/").await.expect(200);
    assert_eq!(base.header("docker-distribution-api-version"), "registry/2.0");
    for wanted in [
        format!("skopeo copy --dest-tls-verify=false docker-archive:image.tar docker://{}/", server.address),
        format!("podman push --tls-verify=false alpine {}/alpine", server.address),
        format!("curl http://{}/v2/_catalog", server.address),
        "./data".to_owned(),
    ] {
        assert!(server.welcome.contains(&wanted), "{wanted:?} is not in\n{}", server.welcome);
    }
    let there = |path: &str| dir.path().join("data").join(path);
    assert!(there("registry.db").is_file() && there("local/blobs").is_dir() && there("remote/blobs").is_dir());
    push_blob(&server.client(), "a/first", b"content").await.unwrap();
    server.stop();
}

#[tokio::test]
async fn each_request_is_logged_with_the_id_that_its_answer_carries() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"), &["--log-format", "json"]);
    let answer = server.client().get("/v2/").await;
    let id = answer.header("x-request-id").to_owned();
    assert!(!id.is_empty());
    server.stop();
    let log = server.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("every line of the log is JSON")).collect();
    let line = lines.iter().find(|line| line["message"] == "answered").expect("the request is logged");
    assert_eq!(line["span"]["request_id"], id.as_str(), "{line}");
    assert_eq!(line["status"], 200);
}

#[tokio::test]
async fn what_was_pushed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]);
    let digest = push_blob(&server.client(), "team/app", b"a layer").await.unwrap();
    server.stop();
    let server = Server::start(&data, &[]);
    assert_eq!(server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200).body, b"a layer");
}

#[tokio::test]
async fn read_only_serves_pulls_and_refuses_pushes_and_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data, &[]);
    let digest = push_blob(&server.client(), "app", b"content").await.unwrap();
    server.stop();
    let server = Server::start(&data, &["--read-only"]);
    let client = server.client();
    let blob = format!("/v2/app/blobs/{digest}");
    assert_eq!(client.get(&blob).await.expect(200).body, b"content");
    for (method, path) in [("POST", "/v2/app/blobs/uploads/"), ("PUT", "/v2/app/manifests/latest"), ("DELETE", blob.as_str())] {
        let answer = client.send(method, path, &[("Content-Type", crate::image::MANIFEST)], b"").await;
        assert!((400..500).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        assert!(answer.text().contains("read-only"), "{method} {path}: {}", answer.text());
    }
    client.get(&blob).await.expect(200);
    assert!(server.welcome.contains("read-only"), "{}", server.welcome);
}

#[tokio::test]
async fn gc_and_status_work_beside_a_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let client = server.client();
    let kept = push_blob(&client, "app", b"{}").await.unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{0}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{kept}","size":2}},"layers":[]}}"#,
        crate::image::MANIFEST
    );
    push_manifest(&client, "app", "v1", manifest.as_bytes()).await.unwrap();
    let loose = push_blob(&client, "app", b"nobody needs this").await.unwrap();
    let path = data.to_str().unwrap();
    let status = run_json(dir.path(), &["status", "--json", "--data", path]);
    assert_eq!((&status["repositories"], &status["blobs"]), (&1.into(), &3.into()), "{status}");

    // Within the grace period nothing goes.
    let report = run_json(dir.path(), &["gc", "--dry-run", "--json", "--data", path]);
    assert_eq!((&report["links"], &report["blobs"]), (&0.into(), &0.into()), "{report}");
    let now = ["--gc-grace", "0", "--gc-trash-delay", "0", "--data", path];
    let report = run_json(dir.path(), &[&["gc", "--dry-run", "--json"][..], &now].concat());
    assert_eq!((&report["links"], &report["blobs"], &report["bytes"]), (&1.into(), &1.into(), &17.into()), "{report}");
    client.get(&format!("/v2/app/blobs/{loose}")).await.expect(200);

    let report = run_json(dir.path(), &[&["gc", "--json"][..], &now].concat());
    assert_eq!((&report["links"], &report["deleted"], &report["bytes"]), (&1.into(), &1.into(), &17.into()), "{report}");
    client.get(&format!("/v2/app/blobs/{loose}")).await.expect(404);
    assert_eq!(client.get(&format!("/v2/app/blobs/{kept}")).await.expect(200).body, b"{}");
    client.get("/v2/app/manifests/v1").await.expect(200);
    // And it can be pushed again.
    push_blob(&client, "app", b"nobody needs this").await.unwrap();
    client.get(&format!("/v2/app/blobs/{loose}")).await.expect(200);
}

fn run_json(dir: &std::path::Path, args: &[&str]) -> Value {
    let output = registry(dir, args);
    let (text, errors) = texts(&output);
    assert!(output.status.success(), "{errors}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn garbage_is_collected_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--gc-interval", "300ms", "--gc-grace", "0", "--gc-trash-delay", "0"]);
    let client = server.client();
    let digest = push_blob(&client, "app", b"nobody needs this").await.unwrap();
    let path = format!("/v2/app/blobs/{digest}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while client.get(&path).await.status != 404 {
        assert!(std::time::Instant::now() < deadline, "it is still there");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_admin_listener_tells_of_health_readiness_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--admin", "127.0.0.1:0", "--zone", "name=local"]);
    let admin = server.admin();
    assert_eq!(admin.get("/healthz").await.expect(200).text(), "ok\n");
    assert_eq!(admin.get("/readyz").await.expect(200).text(), "ready\n");
    server.client().get("/v2/").await.expect(200);
    let metrics = admin.get("/metrics").await.expect(200).text();
    for wanted in ["registry_http_requests_total{", "process_cpu_seconds_total ", "process_resident_memory_bytes "] {
        assert!(metrics.contains(wanted), "{wanted} is not in\n{metrics}");
    }
    let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
    assert!(value("process_resident_memory_bytes") > 1e6);
    // The admin listener is not the registry, and the registry not the admin listener.
    admin.get("/v2/").await.expect(404);
    server.client().get("/metrics").await.expect(404);
    // With its only zone's disk away it is not ready, though the process is alive.
    std::fs::rename(data.join("local/blobs"), data.join("local/gone")).unwrap();
    std::fs::write(data.join("local/blobs"), "no directory").unwrap();
    let answer = admin.get("/readyz").await;
    assert!(answer.status == 503 && answer.text().starts_with("not ready: "), "{} {}", answer.status, answer.text());
    admin.get("/healthz").await.expect(200);
}

#[test]
fn an_address_that_is_taken_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cases =
        [(vec!["--listen", &address], "listen", "--listen"), (vec!["--listen", "127.0.0.1:0", "--admin", &address], "admin", "--admin")];
    for (args, key, flag) in cases {
        let output = registry(dir.path(), &args);
        let (_, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(&format!("{key}: cannot listen on {address}")), "{errors}");
        assert!(errors.contains(&format!("choose another address with {flag}")), "{errors}");
        assert!(!dir.path().join("data").exists(), "nothing is made before the address is had");
    }
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let output = registry(dir.path(), &["--listen", "127.0.0.1:0", "--data", "file/data"]);
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot make the data directory file/data") && errors.contains("--data DIR"), "{errors}");
}

#[test]
fn a_zone_whose_disk_is_not_mounted_is_refused_and_not_taken_for_empty() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let zone = dir.path().join("disk");
    let zone_flag = format!("name=local,path={}", zone.display());
    let args = ["--zone", zone_flag.as_str()];
    Server::start(&data, &args).stop();
    // As an empty mount point.
    std::fs::rename(&zone, dir.path().join("unmounted")).unwrap();
    std::fs::create_dir(&zone).unwrap();
    let start = |args: &[&str]| {
        let output = registry(dir.path(), &[&["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], args].concat());
        assert_eq!(output.status.code(), Some(1));
        texts(&output).1
    };
    let errors = start(&args);
    assert!(errors.contains("its directory holds no zone: is its disk mounted?") && errors.contains("remove its line from"), "{errors}");
    assert_eq!(std::fs::read_dir(&zone).unwrap().count(), 0, "nothing is made in it");
    // As another zone's disk.
    std::fs::remove_dir_all(&zone).unwrap();
    Server::start(&dir.path().join("other"), &args).stop();
    let errors = start(&args);
    assert!(errors.contains("holds another zone than before"), "{errors}");
    // Under another name, and at another place.
    let renamed = format!("name=other,path={}", dir.path().join("unmounted").display());
    let errors = start(&["--zone", &renamed]);
    assert!(errors.contains("holds a zone that calls itself local"), "{errors}");
    let elsewhere = format!("name=new,path={}", dir.path().join("new").display());
    let errors = start(&["--zone", &elsewhere]);
    assert!(errors.contains("is not the one that this data directory was used with: local"), "{errors}");
    // With its disk back it serves again.
    let back = format!("name=local,path={}", dir.path().join("unmounted").display());
    Server::start(&data, &["--zone", &back]).stop();
}

#[test]
fn two_servers_over_one_new_directory_agree_on_the_zone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::thread::scope(|scope| {
        let servers: Vec<_> = (0..4).map(|_| scope.spawn(|| Server::start(&data, &[]))).collect();
        for server in servers {
            server.join().unwrap();
        }
    });
    Server::start(&data, &[]).stop();
}

#[test]
fn validate_names_each_step_and_the_one_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let output = registry(dir.path(), &["validate", "--zone", "name=local"]);
    let (text, errors) = texts(&output);
    assert!(output.status.success(), "{errors}");
    for step in
        ["database: answers", "zone local: write", "zone local: read", "zone local: range", "zone local: list", "zone local: delete"]
    {
        assert!(text.lines().any(|line| line.starts_with(step) && line.ends_with("ok")), "{step}:\n{text}");
    }
    let json = run_json(dir.path(), &["validate", "--json", "--zone", "name=local"]);
    assert!(json["steps"].as_array().unwrap().iter().all(|step| step["problem"].is_null()), "{json}");

    std::fs::remove_dir_all(dir.path().join("data/local/uploads")).unwrap();
    std::fs::write(dir.path().join("data/local/uploads"), "no directory").unwrap();
    let output = registry(dir.path(), &["validate", "--zone", "name=local"]);
    let (_, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot open zone local in ./data/local") && errors.contains("uploads"), "{errors}");
}

#[test]
fn commands_on_a_directory_without_a_registry_say_so_and_make_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["status"][..], &["status", "--failures"], &["status", "app:v1"], &["replay"], &["gc"], &["gc", "--dry-run"]] {
        let output = registry(dir.path(), command);
        let (_, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("there is no registry in ./data") && errors.contains("--data DIR"), "{errors}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn help_has_examples_and_exit_codes_and_every_command_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (help, _) = texts(&registry(dir.path(), &["--help"]));
    for wanted in
        ["Examples:", "registry config example > registry.toml", "Exit codes:", "--gc-interval", "REGISTRY_GC_INTERVAL", "[default: 24h]"]
    {
        assert!(help.contains(wanted), "{wanted} is not in\n{help}");
    }
    for command in ["serve", "validate", "status", "replay", "gc", "config"] {
        let output = registry(dir.path(), &[command, "--help"]);
        assert!(output.status.success() && texts(&output).0.contains("Usage: registry"), "{command}");
    }
    let output = registry(dir.path(), &["--lisen", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("--listen"), "a wrong flag is told the right one");
}

/// The hint at the start is worth nothing if the address in it is not one to connect to.
#[tokio::test]
async fn a_server_on_all_addresses_names_one_that_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = command("registry");
    all.current_dir(dir.path()).args(["--listen", "0.0.0.0:0", "--allow-plain-http"]);
    let server = Server::spawn(all, dir.path());
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    Client::new(&server.address).get("/v2/").await.expect(200);
}

#[test]
fn other_machines_are_not_served_without_tls_unless_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (args, key) in [(&["--listen", "0.0.0.0:0"][..], "listen"), (&["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"], "admin")] {
        let output = registry(dir.path(), args);
        let (_, error) = texts(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            error.contains(&format!("{key}: 0.0.0.0:")) && error.contains("--allow-plain-http") && error.contains("registry certs"),
            "{error}"
        );
        assert!(!dir.path().join("data").exists(), "nothing was begun");
    }
}
