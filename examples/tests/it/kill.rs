//! `kill -9` while clients push. They keep a journal of what was acknowledged; after each restart all of it is there, nothing torn is visible, and what was
//! interrupted goes on.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry_core::Digest;
use registry_core::testing::Rng;
use serde_json::json;
use tokio::task::JoinSet;

use crate::http::{Client, begin_upload, push_blob, push_manifest};
use crate::image::MANIFEST;
use crate::process::{Server, registry, texts};
use crate::tools::{large, seed};
use crate::zones::{blobs, eventually};

/// Clients that push at once, each to a repository of its own.
const CLIENTS: u64 = 5;

/// A blob that can be made again from its seed.
#[derive(Clone, Copy, Debug)]
struct Blob {
    client: u64,
    seed: u64,
    len: usize,
    digest: Digest,
}

impl Blob {
    fn content(&self) -> Vec<u8> {
        Rng::new(self.seed).bytes(self.len)
    }
}

fn repository(client: u64) -> String {
    format!("team/app-{client}")
}

/// An upload of many parts, as far as its client knows.
#[derive(Clone, Debug)]
struct Upload {
    blob: Blob,
    location: String,
    acknowledged: u64,
    sent: u64,
    finishing: bool,
}

/// What a tag may point to: what it was last acknowledged to, and what was sent since.
#[derive(Debug, Default)]
struct Tag {
    acknowledged: Option<Digest>,
    sent: Vec<Digest>,
}

#[derive(Debug, Default)]
struct Journal {
    blobs: Vec<Blob>,
    /// Sent, not acknowledged: may be there, whole, or not.
    unsure: Vec<Blob>,
    uploads: HashMap<u64, Upload>,
    manifests: Vec<(u64, Digest, String)>,
    unsure_manifests: Vec<(u64, Digest)>,
    tags: HashMap<(u64, &'static str), Tag>,
}

struct Pusher {
    id: u64,
    client: Client,
    journal: Arc<Mutex<Journal>>,
    rng: Rng,
    mine: Vec<Blob>,
    /// Its server lives on, but the round is over.
    enough: Arc<AtomicBool>,
}

impl Pusher {
    /// Pushes until the server is gone.
    async fn run(mut self) {
        while !self.enough.load(Ordering::Relaxed) {
            if let Err(error) = self.push_something().await {
                // An answer that refuses is not what a kill looks like.
                assert_ne!(error.kind(), io::ErrorKind::Other, "a push was refused: {error}");
                return;
            }
        }
    }

    fn blob(&mut self, len: u64) -> (Blob, Vec<u8>) {
        let (seed, len) = (self.rng.next_u64(), 1 + usize::try_from(self.rng.below(len)).unwrap());
        let content = Rng::new(seed).bytes(len);
        (Blob { client: self.id, seed, len, digest: Digest::sha256(&content) }, content)
    }

    fn note<T>(&self, work: impl FnOnce(&mut Journal) -> T) -> T {
        work(&mut self.journal.lock().unwrap())
    }

    async fn push_something(&mut self) -> io::Result<()> {
        let repository = repository(self.id);
        match self.rng.below(10) {
            0..3 => {
                let (blob, content) = self.blob(20_000);
                self.note(|journal| journal.unsure.push(blob));
                let path = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
                wanted(self.client.try_send("POST", &path, &[], &content).await?, 201)?;
                self.acknowledged(blob);
            }
            3..5 => {
                let (blob, content) = self.blob(1_500_000);
                self.note(|journal| journal.unsure.push(blob));
                push_blob(&self.client, &repository, &content).await?;
                self.acknowledged(blob);
            }
            5..7 => self.push_in_parts().await?,
            _ if self.mine.is_empty() => {}
            _ => self.push_manifest().await?,
        }
        Ok(())
    }

    fn acknowledged(&mut self, blob: Blob) {
        self.mine.push(blob);
        self.note(|journal| {
            journal.unsure.retain(|other| other.seed != blob.seed);
            journal.blobs.push(blob);
        });
    }

    async fn push_in_parts(&mut self) -> io::Result<()> {
        let (blob, content) = self.blob(4_000_000);
        let location = begin_upload(&self.client, &repository(self.id)).await?;
        let upload = Upload { blob, location: location.clone(), acknowledged: 0, sent: 0, finishing: false };
        self.note(|journal| journal.uploads.insert(blob.seed, upload));
        let with =
            |pusher: &Self, change: &dyn Fn(&mut Upload)| pusher.note(|journal| change(journal.uploads.get_mut(&blob.seed).unwrap()));
        let mut start = 0;
        // The last part comes with the PUT, or nothing does.
        let tail = if self.rng.chance(0.5) { 0 } else { blob.len / 5 };
        while start < blob.len - tail {
            let end = (start + 1 + usize::try_from(self.rng.below(1_200_000)).unwrap()).max(2).min(blob.len - tail);
            with(self, &|upload| upload.sent = end as u64);
            let range = format!("{start}-{}", end - 1);
            wanted(self.client.try_send("PATCH", &location, &[("Content-Range", &range)], &content[start..end]).await?, 202)?;
            with(self, &|upload| upload.acknowledged = end as u64);
            start = end;
        }
        with(self, &|upload| (upload.finishing, upload.sent) = (true, blob.len as u64));
        wanted(self.client.try_send("PUT", &format!("{location}?digest={}", blob.digest), &[], &content[start..]).await?, 201)?;
        self.note(|journal| journal.uploads.remove(&blob.seed));
        self.acknowledged(blob);
        Ok(())
    }

    async fn push_manifest(&mut self) -> io::Result<()> {
        let describe =
            |blob: &Blob| json!({ "mediaType": "application/octet-stream", "digest": blob.digest.to_string(), "size": blob.len });
        let mut pick = || self.mine[usize::try_from(self.rng.below(self.mine.len() as u64)).unwrap()];
        let (config, layers) = (describe(&pick()), [describe(&pick()), describe(&pick())]);
        let n = self.rng.next_u64();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, "annotations": { "n": n.to_string() } })
                .to_string();
        let (id, digest, tag) = (self.id, Digest::sha256(manifest.as_bytes()), ["latest", "v1", "v2"][usize::try_from(n % 3).unwrap()]);
        self.note(|journal| {
            journal.tags.entry((id, tag)).or_default().sent.push(digest);
            journal.unsure_manifests.push((id, digest));
        });
        push_manifest(&self.client, &repository(id), tag, manifest.as_bytes()).await?;
        self.note(|journal| {
            *journal.tags.entry((id, tag)).or_default() = Tag { acknowledged: Some(digest), sent: Vec::new() };
            journal.unsure_manifests.retain(|(_, other)| *other != digest);
            journal.manifests.push((id, digest, manifest));
        });
        Ok(())
    }
}

fn wanted(answer: crate::http::Answer, status: u16) -> io::Result<crate::http::Answer> {
    if answer.status == status {
        Ok(answer)
    } else {
        Err(io::Error::other(format!("{} instead of {status}: {}", answer.status, answer.text())))
    }
}

/// The blob is there with its bytes.
async fn holds(client: &Client, client_id: u64, digest: &str) {
    let answer = client.get(&format!("/v2/{}/blobs/{digest}", repository(client_id))).await;
    assert_eq!(answer.status, 200, "{digest}: {}", answer.text());
    assert_eq!(Digest::sha256(&answer.body).to_string(), digest);
}

/// A manifest that is there is whole, and so is everything that it names.
async fn holds_manifest(client: &Client, client_id: u64, reference: &str) -> Option<Digest> {
    let answer = client.get(&format!("/v2/{}/manifests/{reference}", repository(client_id))).await;
    if answer.status == 404 {
        return None;
    }
    let answer = answer.expect(200);
    let digest = Digest::sha256(&answer.body);
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    let manifest: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    for descriptor in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        holds(client, client_id, descriptor["digest"].as_str().unwrap()).await;
    }
    Some(digest)
}

/// Checks what the last round left, and makes its unfinished uploads blobs.
async fn check(client: &Client, journal: &mut Journal, checked: usize, rng: &mut Rng) {
    let recent = &journal.blobs[checked..];
    let older = (0..20.min(checked)).map(|_| &journal.blobs[usize::try_from(rng.below(checked as u64)).unwrap()]);
    for blob in recent.iter().chain(older) {
        holds(client, blob.client, &blob.digest.to_string()).await;
    }
    for blob in journal.unsure.drain(..) {
        let answer = client.get(&format!("/v2/{}/blobs/{}", repository(blob.client), blob.digest)).await;
        assert!(answer.status == 404 || answer.status == 200 && answer.body == blob.content(), "{blob:?}: {}", answer.status);
    }
    for (id, digest, manifest) in &journal.manifests {
        let path = format!("/v2/{}/manifests/{digest}", repository(*id));
        assert_eq!(client.get(&path).await.expect(200).text(), *manifest);
    }
    for (id, digest) in journal.unsure_manifests.drain(..) {
        assert!(holds_manifest(client, id, &digest.to_string()).await.is_none_or(|found| found == digest));
    }
    for ((id, name), tag) in &mut journal.tags {
        let found = holds_manifest(client, *id, name).await;
        assert!(found == tag.acknowledged || found.is_some_and(|found| tag.sent.contains(&found)), "{name} of {id}: {found:?}, {tag:?}");
        *tag = Tag { acknowledged: found, sent: Vec::new() };
    }
    for (_, upload) in std::mem::take(&mut journal.uploads) {
        go_on(client, &upload).await;
        journal.blobs.push(upload.blob);
    }
}

/// Takes an interrupted upload to its end.
async fn go_on(client: &Client, upload: &Upload) {
    let (blob, content) = (upload.blob, upload.blob.content());
    let status = client.get(&upload.location).await;
    if status.status == 204 {
        let offset = status.offset();
        assert!((upload.acknowledged..=upload.sent).contains(&offset), "{offset} of {upload:?}");
        let rest = &content[usize::try_from(offset).unwrap()..];
        let path = format!("{}?digest={}", upload.location, blob.digest);
        let answer = if rest.len() > 10 {
            let (one, two) = rest.split_at(rest.len() / 2);
            let range = format!("{offset}-{}", offset + one.len() as u64 - 1);
            let answer = client.send("PATCH", &upload.location, &[("Content-Range", &range)], one).await;
            if answer.status == 202 { client.send("PUT", &path, &[], two).await } else { answer }
        } else {
            client.send("PUT", &path, &[], rest).await
        };
        // Killed after its bytes had become the blob and before the session knew: the client begins again.
        if upload.finishing && answer.status == 404 {
            push_blob(client, &repository(blob.client), &content).await.unwrap();
        } else {
            answer.expect(201);
        }
    } else {
        // Only an upload whose end was under way may be over.
        assert!(upload.finishing && status.status == 404, "{}: {upload:?}", status.status);
    }
    holds(client, blob.client, &blob.digest.to_string()).await;
}

/// Every file under a digest has that digest.
fn nothing_torn(blobs: &Path) -> usize {
    let files = |dir: &Path| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut count = 0;
    for file in files(&blobs.join("sha256")).iter().flat_map(|shard| files(shard)) {
        let content = std::fs::read(&file).unwrap();
        assert_eq!(Digest::sha256(&content).hex(), file.file_name().unwrap().to_str().unwrap());
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_keeps_all_that_it_acknowledged() {
    let mut rng = Rng::new(seed("killed_at_any_moment_it_keeps_all_that_it_acknowledged"));
    let rounds = if large() { 50 } else { 8 };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let journal = Arc::new(Mutex::new(Journal::default()));
    let mut server = Server::start(&data, &["--log", "warn", "--replication-lease", "3s"]);
    let mut checked = 0;
    for round in 0..rounds {
        let mut clients = JoinSet::new();
        for id in 0..CLIENTS {
            let mine = journal.lock().unwrap().blobs.iter().filter(|blob| blob.client == id).copied().collect();
            let (client, rng) = (server.client(), Rng::new(rng.next_u64()));
            let pusher = Pusher { id, client, journal: Arc::clone(&journal), rng, mine, enough: Arc::default() };
            clients.spawn(pusher.run());
        }
        let pause = 1 + rng.below(2000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.kill();
        clients.join_all().await;
        server = Server::start(&data, &["--log", "warn", "--replication-lease", "3s"]);
        let mut now = std::mem::take(&mut *journal.lock().unwrap());
        let interrupted = now.uploads.len();
        check(&server.client(), &mut now, checked, &mut rng).await;
        checked = now.blobs.len();
        println!(
            "round {round}: killed after {pause} ms; {checked} blobs, {} manifests, {interrupted} uploads taken up",
            now.manifests.len()
        );
        *journal.lock().unwrap() = now;
    }
    let mut now = std::mem::take(&mut *journal.lock().unwrap());
    assert!(checked > rounds && !now.manifests.is_empty(), "hardly anything was pushed");
    check(&server.client(), &mut now, 0, &mut rng).await;
    let (local, remote) = (data.join("local"), data.join("remote"));
    eventually("all that was acknowledged is copied", || {
        let copied = blobs(&remote);
        now.blobs.iter().all(|blob| copied.contains_key(&blob.digest.hex()))
    });
    server.stop();
    assert!(nothing_torn(&local.join("blobs")) >= now.blobs.len() && nothing_torn(&remote.join("blobs")) >= now.blobs.len());
    the_zones_end_the_same(dir.path(), &data, now.manifests.len());
}

/// What was on its way when somebody was killed, and never acknowledged, may lie in one of the zones: nobody holds it. It goes when the leases of the dead
/// are over.
fn the_zones_end_the_same(dir: &Path, data: &Path, at_least: usize) {
    let (local, remote) = (data.join("local"), data.join("remote"));
    let collect = ["gc", "--gc-grace", "0", "--gc-trash-delay", "0", "--data", data.to_str().unwrap()];
    eventually("the zones are the same", || {
        let output = registry(dir, &collect);
        assert!(output.status.success(), "{}", texts(&output).1);
        blobs(&local) == blobs(&remote) && blobs(&local).len() > at_least
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_over_the_same_zones_either_or_both_are_killed_and_nothing_acknowledged_is_lost() {
    let mut rng = Rng::new(seed("of_two_servers_over_the_same_zones_either_or_both_are_killed_and_nothing_acknowledged_is_lost"));
    let rounds = if large() { 50 } else { 6 };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || Server::start(&data, &["--log", "warn", "--replication-lease", "3s", "--replication-poll-interval", "200ms"]);
    let journal = Arc::new(Mutex::new(Journal::default()));
    let mut servers = [start(), start()];
    let (mut checked, mut killed) = (0, [0, 0]);
    for round in 0..rounds {
        let mut clients = JoinSet::new();
        let enough = Arc::new(AtomicBool::new(false));
        for id in 0..CLIENTS {
            let mine = journal.lock().unwrap().blobs.iter().filter(|blob| blob.client == id).copied().collect();
            let client = servers[usize::try_from((id + round) % 2).unwrap()].client();
            let rng = Rng::new(rng.next_u64());
            clients.spawn(Pusher { id, client, journal: Arc::clone(&journal), rng, mine, enough: Arc::clone(&enough) }.run());
        }
        tokio::time::sleep(Duration::from_millis(1 + rng.below(1500))).await;
        // One, the other, or both.
        let victims = 1 + rng.below(3);
        for (n, server) in servers.iter_mut().enumerate().filter(|(n, _)| victims & (1 << n) != 0) {
            server.kill();
            killed[n] += 1;
        }
        enough.store(true, Ordering::Relaxed);
        clients.join_all().await;
        for (_, server) in servers.iter_mut().enumerate().filter(|(n, _)| victims & (1 << n) != 0) {
            *server = start();
        }
        let mut now = std::mem::take(&mut *journal.lock().unwrap());
        check(&servers[usize::try_from(round % 2).unwrap()].client(), &mut now, checked, &mut rng).await;
        checked = now.blobs.len();
        println!("round {round}: {checked} blobs, {} manifests", now.manifests.len());
        *journal.lock().unwrap() = now;
    }
    assert!(killed.iter().all(|count| *count > 0), "{killed:?}");
    let mut now = std::mem::take(&mut *journal.lock().unwrap());
    for server in &servers {
        check(&server.client(), &mut now, 0, &mut rng).await;
    }
    eventually("all that was acknowledged is copied", || {
        let (local, remote) = (blobs(&data.join("local")), blobs(&data.join("remote")));
        now.blobs.iter().all(|blob| local.contains_key(&blob.digest.hex()) && remote.contains_key(&blob.digest.hex()))
    });
    for server in &mut servers {
        server.stop();
    }
    assert!(nothing_torn(&data.join("local/blobs")) >= now.blobs.len() && nothing_torn(&data.join("remote/blobs")) >= now.blobs.len());
    the_zones_end_the_same(dir.path(), &data, now.manifests.len());
}
