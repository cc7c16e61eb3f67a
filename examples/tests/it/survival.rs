//! What was acknowledged is there after kill -9, and two processes over one data directory do not get in each other's way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry_core::Digest;
use registry_core::testing::Rng;
use tempfile::tempdir;

use crate::server::{Server, request};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn manifest(layer: &Digest, size: usize) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{0}","size":{size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{0}","size":{size}}}]}}"#,
        layer
    )
}

/// Everything a server answered 201 to: path and digest.
type Journal = Arc<Mutex<Vec<(String, Digest)>>>;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pushes an image as Docker does, in pieces when it is large, until the server is gone.
async fn push_one(address: &str, rng: &mut Rng, name: &str, journal: &Journal) -> Result<(), Failure> {
    let length = if rng.chance(0.2) { 300_000 + rng.below(2_000_000) } else { rng.below(5_000) };
    let content = rng.bytes(usize::try_from(length)?);
    let digest = Digest::sha256(&content);
    let mut location = request(address, "POST", &format!("/v2/{name}/blobs/uploads/"), &[], "").await?.location();
    let pieces = 1 + usize::try_from(rng.below(3))?;
    for piece in content.chunks(content.len() / pieces + 1) {
        let answer = request(address, "PATCH", &location, &[], piece.to_vec()).await?;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        location = answer.location();
    }
    let answer = request(address, "PUT", &format!("{location}?digest={digest}"), &[], "").await?;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    journal.lock().unwrap().push((format!("/v2/{name}/blobs/{digest}"), digest));
    let bytes = manifest(&digest, content.len());
    let tag = format!("t{}", rng.next_u64());
    let path = format!("/v2/{name}/manifests/{tag}");
    let answer = request(address, "PUT", &path, &[("content-type", MANIFEST.to_owned())], bytes.clone()).await?;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    journal.lock().unwrap().push((path, Digest::sha256(bytes.as_bytes())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let large = std::env::var_os("REGISTRY_TEST_LARGE").is_some();
    let rounds = if large { 50 } else { 8 };
    let seed = std::env::var("REGISTRY_TEST_SEED").map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    println!("REGISTRY_TEST_SEED={seed}, {rounds} rounds");
    let (data, journal, mut rng) = (tempdir().unwrap(), Journal::default(), Rng::new(seed));
    let mut checked = 0;
    for round in 0..rounds {
        let server = Server::start(data.path()).await;
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (address, journal) = (server.address.clone(), Arc::clone(&journal));
                let mut rng = Rng::new(rng.next_u64());
                tokio::spawn(async move { while push_one(&address, &mut rng, &format!("kill/c{client}"), &journal).await.is_ok() {} })
            })
            .collect();
        // An upload left in the middle, to be resumed after the kill where its status says.
        let half = rng.bytes(100_000);
        let upload = request(&server.address, "POST", "/v2/kill/resumed/blobs/uploads/", &[], "").await.unwrap();
        let upload = request(&server.address, "PATCH", &upload.location(), &[], half[..60_000].to_vec()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1 + rng.below(2_000))).await;
        drop(server);
        for client in clients {
            client.await.unwrap();
        }

        let server = Server::start(data.path()).await;
        let acknowledged = journal.lock().unwrap().clone();
        // All of the last rounds, and a sample of the earlier ones.
        let from = acknowledged.len().saturating_sub(400);
        for (path, digest) in acknowledged[from..].iter().chain(acknowledged[..from].iter().step_by(37)) {
            let answer = request(&server.address, "GET", path, &[], "").await.unwrap();
            assert_eq!((answer.status.as_u16(), Digest::sha256(&answer.body)), (200, *digest), "seed {seed}, round {round}: {path}");
            checked += 1;
        }
        // Nothing torn is visible: whatever has a tag is whole.
        for client in 0..4 {
            let list = request(&server.address, "GET", &format!("/v2/kill/c{client}/tags/list?n=20"), &[], "").await.unwrap();
            let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
            for tag in list["tags"].as_array().into_iter().flatten() {
                let path = format!("/v2/kill/c{client}/manifests/{}", tag.as_str().unwrap());
                let found = request(&server.address, "GET", &path, &[], "").await.unwrap();
                let found: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
                let layer: Digest = found["config"]["digest"].as_str().unwrap().parse().unwrap();
                let blob = request(&server.address, "GET", &format!("/v2/kill/c{client}/blobs/{layer}"), &[], "").await.unwrap();
                assert_eq!(Digest::sha256(&blob.body), layer, "seed {seed}, round {round}: {path}");
            }
        }
        let status = request(&server.address, "GET", &upload.location(), &[], "").await.unwrap();
        assert_eq!((status.status.as_u16(), status.headers["range"].to_str().unwrap()), (204, "0-59999"), "seed {seed}, round {round}");
        let digest = Digest::sha256(&half);
        let last = format!("{}?digest={digest}", status.location());
        let range = ("content-range", "60000-99999".to_owned());
        let answer = request(&server.address, "PUT", &last, &[range], half[60_000..].to_vec()).await.unwrap();
        assert_eq!(answer.status, 201, "seed {seed}, round {round}: {:?}", answer.body);
        journal.lock().unwrap().push((format!("/v2/kill/resumed/blobs/{digest}"), digest));
    }
    println!("{} acknowledged, {checked} times found", journal.lock().unwrap().len());
    assert!(checked > rounds * 4, "hardly anything was pushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_alternate_the_patches_of_one_upload() {
    let data = tempdir().unwrap();
    let servers = [Server::start(data.path()).await, Server::start(data.path()).await];
    let content = Rng::new(7).bytes(700_000);
    let mut location = request(&servers[0].address, "POST", "/v2/two/blobs/uploads/", &[], "").await.unwrap().location();
    for (n, piece) in content.chunks(100_000).enumerate() {
        let range = ("content-range", format!("{}-{}", n * 100_000, n * 100_000 + piece.len() - 1));
        let answer = request(&servers[(n + 1) % 2].address, "PATCH", &location, &[range], piece.to_vec()).await.unwrap();
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        location = answer.location();
    }
    let digest = Digest::sha256(&content);
    let answer = request(&servers[1].address, "PUT", &format!("{location}?digest={digest}"), &[], "").await.unwrap();
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    for server in &servers {
        let answer = request(&server.address, "GET", &format!("/v2/two/blobs/{digest}"), &[], "").await.unwrap();
        assert_eq!(Digest::sha256(&answer.body), digest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_racing_patches_in_two_processes_exactly_one_wins() {
    let data = tempdir().unwrap();
    let servers = [Server::start(data.path()).await, Server::start(data.path()).await];
    for round in 0..20 {
        let location = request(&servers[0].address, "POST", "/v2/race/blobs/uploads/", &[], "").await.unwrap().location();
        let contents = [Rng::new(round * 2).bytes(400_000), Rng::new(round * 2 + 1).bytes(400_000)];
        let range = || [("content-range", "0-399999".to_owned())];
        let (first, second) = (range(), range());
        let (a, b) = tokio::join!(
            request(&servers[0].address, "PATCH", &location, &first, contents[0].clone()),
            request(&servers[1].address, "PATCH", &location, &second, contents[1].clone()),
        );
        let statuses = [a.unwrap().status.as_u16(), b.unwrap().status.as_u16()];
        let winner = statuses.iter().position(|status| *status == 202).unwrap_or_else(|| panic!("nobody won: {statuses:?}"));
        assert_eq!(statuses[1 - winner], 416, "round {round}: {statuses:?}");
        let digest = Digest::sha256(&contents[winner]);
        let answer = request(&servers[0].address, "PUT", &format!("{location}?digest={digest}"), &[], "").await.unwrap();
        assert_eq!(answer.status, 201, "the winner's bytes are what is stored: {:?}", answer.body);
    }
}
