//! What operators see without asking: events in a file, and the dashboard over the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use registry_core::Digest;
use serde_json::Value;

use crate::process::{Server, registry, texts};
use crate::zones::{QUICK, blobs, eventually, push_image};

/// A server of two zones in which copies were made, and one was found to be wrong and then gone, and made again each time.
async fn eventful(data: &Path, events: &Path) -> (Server, Digest) {
    let more = ["--admin", "127.0.0.1:0", "--replication-events", events.to_str().unwrap(), "--gc-grace", "0s", "--gc-trash-delay", "0s"];
    let server = Server::start(data, &[&QUICK[..], &more, &["--gc-interval", "1s"]].concat());
    let layer = [7; 2000];
    push_image(&server.client(), "team/app", "v1", &layer).await;
    let (local, remote) = (data.join("local"), data.join("remote"));
    eventually("it is in both", || blobs(&remote).len() == 3);
    let digest = Digest::sha256(&layer);
    let told = |kind: &str| std::fs::read_to_string(events).unwrap().matches(&format!("registry.replication.{kind}\"")).count();
    let file = local.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
    let mut rotten = layer;
    rotten[3] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, rotten).unwrap();
    let output = registry(data.parent().unwrap(), &["scrub", "--zone", "local", "--now", "--no-wait", "--data", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", texts(&output).1);
    eventually("it was made again", || told("repaired") == 1);
    std::fs::remove_file(&file).unwrap();
    let pulled = server.client().get(&format!("/v2/team/app/blobs/{digest}")).await;
    assert_eq!(pulled.expect(200).body, layer);
    eventually("it was made again", || told("repaired") == 2);
    (server, digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_appended_to_a_file_as_cloudevents() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let (mut server, digest) = eventful(&dir.path().join("data"), &file).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = ["replicated", "replicated", "replicated", "corrupt", "repaired", "missing", "repaired"]
        .map(|kind| format!("registry.replication.{kind}"));
    assert_eq!(kinds, expected);
    let ids: BTreeSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    for event in &events {
        assert_eq!((&event["specversion"], &event["source"]), (&"1.0".into(), &"/registry".into()), "{event}");
        assert_eq!(event["subject"], event["data"]["zone"], "{event}");
        chrono::DateTime::parse_from_rfc3339(event["time"].as_str().unwrap()).unwrap();
    }
    let corrupt = &events[3]["data"];
    assert_eq!((&corrupt["zone"], &corrupt["digest"]), (&"local".into(), &digest.to_string().into()));
    assert!(corrupt["reason"].as_str().unwrap().starts_with("its 2000 bytes have the digest sha256:"), "{corrupt}");
    // It may be moved away at any time, and goes on after a restart.
    std::fs::rename(&file, dir.path().join("events.1")).unwrap();
    push_image(&server.client(), "team/app", "v2", b"more").await;
    eventually("it goes on in a new file", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("replicated")));
    server.stop();
    let output = registry(dir.path(), &["serve", "--replication-events", "/nowhere/at/all", "--data", "data"]);
    let (_, errors) = texts(&output);
    assert!(!output.status.success() && errors.contains("cannot write events to /nowhere/at/all"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_events_stops_nothing_and_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--replication-events", "/dev/full"];
    let mut server = Server::start(&dir.path().join("data"), &[&QUICK[..], &more].concat());
    for number in 0..20 {
        push_image(&server.client(), "team/app", &format!("v{number}"), &[number; 100]).await;
    }
    eventually("all is copied", || blobs(&dir.path().join("data/remote")).len() == 41);
    eventually("that is logged", || server.log().contains("could not write events"));
    server.stop();
}

/// Each metric with the labels that it has.
fn counted(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::<_, BTreeSet<_>>::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.trim().to_owned());
        metrics.entry(name.to_owned()).or_default().extend(names);
    }
    metrics
}

/// All queries in a dashboard.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(query) if name == "expr" || name == "definition" => found.push(query.clone()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// The metrics in a query, and the labels that it asks of them.
fn asked(query: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c| !is_of_a_name(c));
    let names = words.filter(|word| word.starts_with("registry_") || word.starts_with("process_")).map(str::to_owned).collect();
    let mut labels = BTreeSet::new();
    for (open, close, divider) in [("{", '}', Some('=')), ("by (", ')', None), ("values(", ')', None)] {
        for part in query.split(open).skip(1) {
            let (inside, _) = part.split_once(close).unwrap();
            for label in inside.split(',').skip(usize::from(open == "values(")) {
                let name = divider.map_or(label, |divider| label.split(divider).next().unwrap());
                labels.insert(name.trim_end_matches('!').trim().to_owned());
            }
        }
    }
    (names, labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_what_is_counted_and_leaves_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = eventful(&dir.path().join("data"), &dir.path().join("events.jsonl")).await;
    // Work that fails, and a blob that is collected.
    let obstacle = dir.path().join("data/remote/blobs/sha256").join(&Digest::sha256(b"fails").hex()[..2]);
    std::fs::write(&obstacle, "").unwrap();
    push_image(&server.client(), "team/app", "v2", b"fails").await;
    crate::http::push_blob(&server.client(), "team/app", b"nobody needs this").await.unwrap();
    let mut metrics = BTreeMap::new();
    for _ in 0..300 {
        metrics = counted(&server.admin().get("/metrics").await.expect(200).text());
        if metrics.contains_key("registry_gc_deleted_blobs_total") && metrics.contains_key("registry_replication_failures_total") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let dashboard = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana.json")).unwrap();
    let (mut found, mut shown) = (Vec::new(), BTreeSet::new());
    queries(&serde_json::from_str(&dashboard).unwrap(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for query in &found {
        let (names, labels) = asked(query);
        assert_eq!(names.len(), 1, "{query}");
        for name in names {
            let has = metrics.get(&name).unwrap_or_else(|| panic!("{name} is not counted; there are {:?}", metrics.keys()));
            for label in &labels {
                // Prometheus adds that one itself.
                assert!(label == "instance" || has.contains(label), "{name} has no label {label}, only {has:?}: {query}");
            }
            shown.insert(name);
        }
    }
    for name in metrics.keys().filter(|name| !name.ends_with("_sum") && !name.ends_with("_count")) {
        assert!(shown.contains(name), "{name} is not in the dashboard");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_keep_to_a_zones_limit_and_pulls_do_not_wait_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let zones = "[[zone]]\nname = \"local\"\n[[zone]]\nname = \"remote\"\nwrite_limit = \"1MiB\"\nbackground_share = \"0.5\"\n";
    let config = dir.path().join("registry.toml");
    std::fs::write(&config, format!("storage_preference = [\"local\"]\n{zones}")).unwrap();
    let server = Server::start(&dir.path().join("data"), &[&QUICK[..], &["--config", config.to_str().unwrap()]].concat());
    let layer = registry_core::testing::Rng::new(1).bytes(2 << 20);
    let begun = std::time::Instant::now();
    push_image(&server.client(), "team/app", "v1", &layer).await;
    let digest = Digest::sha256(&layer);
    assert_eq!(server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200).body, layer);
    assert!(begun.elapsed().as_secs() < 3, "pushes and pulls are the other zone's: {:?}", begun.elapsed());
    eventually("it is copied", || blobs(&dir.path().join("data/remote")).len() == 3);
    let took = begun.elapsed().as_secs_f64();
    assert!((3.5..20.0).contains(&took), "2 MiB at 512 KiB/s took {took} s");
}
