//! What a process that is killed leaves behind.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use registry_core::testing::Rng;
use registry_core::{MetadataStore as _, Reference};

use super::{as_child, child, folder, open, outsider};
use crate::support::{digest, push_blob, push_manifest, repository};

/// What a child pushes as its `number`th: blobs and a manifest.
async fn push(store: &metadata_sql::SqlMetadataStore, number: usize) -> registry_core::Result<()> {
    let name = format!("team/app{}", number % 7);
    let blob = push_blob(store, &name, &format!("layer {number}")).await?;
    push_manifest(store, &name, &format!("manifest {number}"), vec![blob], &[&format!("v{number}")]).await?;
    Ok(())
}

/// Several at once, so that it is killed in the middle of batches; each is said aloud once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run and killed by a_killed_process_loses_nothing_that_was_acknowledged"]
async fn child_that_pushes_until_it_is_killed() {
    let Some(path) = as_child() else { return };
    let store = open(&path).await;
    let first = store.events(0, u32::MAX).await.unwrap().len() * 100;
    let pushing: Vec<_> = (0..8)
        .map(|lane| {
            let store = store.clone();
            tokio::spawn(async move {
                for step in 0.. {
                    let number = first + step * 8 + lane;
                    push(&store, number).await.unwrap();
                    println!("\nacknowledged {number}");
                }
            })
        })
        .collect();
    for lane in pushing {
        lane.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let seed =
        std::env::var("METADATA_SQL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("METADATA_SQL_TEST_SEED={seed}");
    let mut rng = Rng::new(seed);
    let (_folder, path) = folder();
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let mut child = child("sqlite::killing::child_that_pushes_until_it_is_killed", &path);
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, heard) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            for number in lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<usize>().ok()) {
                say.send(number).unwrap();
            }
        });
        // Counted from when it is at work, so that each round kills something.
        acknowledged.push(heard.recv_timeout(Duration::from_secs(60)).unwrap());
        std::thread::sleep(Duration::from_millis(rng.below(400)));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        acknowledged.extend(heard);

        let store = open(&path).await;
        for number in &acknowledged {
            let name = repository(&format!("team/app{}", number % 7));
            let found = store.manifest(&name, &Reference::Tag(format!("v{number}").parse().unwrap())).await.unwrap();
            assert_eq!(found.map(|found| found.digest), Some(digest(format!("manifest {number}"))), "round {round}: manifest {number}");
            assert!(store.blob_link(&name, &digest(format!("layer {number}"))).await.unwrap().is_some(), "round {round}: layer {number}");
        }
        store.close().await;
        nothing_is_torn(&path);
    }
    println!("{} pushes acknowledged in 8 lives", acknowledged.len());
}

/// Each command is all there or not at all.
fn nothing_is_torn(path: &std::path::Path) {
    let outsider = outsider(path);
    let damage: String = outsider.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(damage, "ok");
    for (what, sql) in [
        (
            "a manifest without edges",
            "SELECT COUNT(*) FROM manifests m WHERE NOT EXISTS (SELECT 1 FROM edges e WHERE e.manifest = m.digest)",
        ),
        ("a manifest without a tag", "SELECT COUNT(*) FROM manifests m WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.digest = m.digest)"),
        ("an edge to nothing", "SELECT COUNT(*) FROM edges e WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = e.target)"),
        ("a tag without its history", "SELECT COUNT(*) FROM tags t WHERE NOT EXISTS (SELECT 1 FROM tag_history h WHERE h.name = t.name)"),
        (
            "a manifest without both its events",
            "SELECT COUNT(*) FROM manifests m WHERE (SELECT COUNT(*) FROM events e WHERE e.digest = m.digest) <> 2",
        ),
        (
            "a link to an unknown blob",
            "SELECT COUNT(*) FROM links l WHERE NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = l.digest AND b.size > 0)",
        ),
    ] {
        let count: i64 = outsider.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{what}");
    }
}
