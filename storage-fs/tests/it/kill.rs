//! A process that writes without end is killed, again and again, at any moment.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use registry_core::blob::{ResumeOptions, UploadToken, WriteOptions};
use registry_core::testing::Rng;
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest};
use storage_fs::{Durability, FsBlobStore};

use super::{all_whole, content, drop_leftovers, frames, scratch};

const ROOT: &str = "STORAGE_FS_KILL_ROOT";
const SEED: &str = "STORAGE_FS_KILL_SEED";

/// Lengths below, at and above what is written in one go.
const LENGTHS: [usize; 5] = [0, 4096, 300_000, 700_000, 2_000_000];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Tells the parent, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("#{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn open(root: &std::path::Path) -> FsBlobStore {
    FsBlobStore::builder(root).durability(Durability::ProcessCrash).build().await.unwrap()
}

#[ignore = "the process that `killed_at_any_moment…` starts and kills"]
#[test]
fn child() {
    let root = std::path::PathBuf::from(std::env::var_os(ROOT).expect("started by its parent"));
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let store = open(&root).await;
        say("ready");
        let puts = tokio::spawn(put_for_ever(store.clone(), seed));
        let uploads = tokio::spawn(upload_for_ever(store, seed + 1));
        drop((puts.await, uploads.await));
    });
}

async fn put_for_ever(store: FsBlobStore, seed: u64) {
    let mut rng = Rng::new(seed);
    loop {
        let len = LENGTHS[usize::try_from(rng.below(5)).unwrap()];
        let content = content(rng.next_u64(), len);
        let digest = Digest::sha256(&content);
        // The empty blob comes again and again: from here on until the acknowledgement it may be there or not.
        say(&format!("putting {digest}"));
        store.put(&digest, WriteOptions::default(), frames(&content)).await.unwrap();
        say(&format!("put {digest}"));
        if rng.chance(0.1) {
            // Said before, so that a kill in between is no lost acknowledgement.
            say(&format!("deleting {digest}"));
            store.delete(&digest).await.unwrap();
            say(&format!("deleted {digest}"));
        }
    }
}

/// Each upload goes through several tokens; what a token covers can be made again from its seed.
async fn upload_for_ever(store: FsBlobStore, seed: u64) {
    let mut rng = Rng::new(seed);
    loop {
        let seed = rng.next_u64();
        let whole = content(seed, 1_500_000);
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        let mut at = 0;
        for epoch in 2.. {
            let end = (at + usize::try_from(rng.below(600_000)).unwrap()).min(whole.len());
            upload.write(whole.slice(at..end)).await.unwrap();
            at = end;
            if at == whole.len() {
                let digest = Digest::sha256(&whole);
                say(&format!("committing {seed}"));
                upload.commit(&digest).await.unwrap();
                say(&format!("put {digest}"));
                break;
            }
            let token = upload.suspend().await.unwrap();
            say(&format!("token {seed} {epoch} {}", hex(&token.encode().unwrap())));
            upload = store.resume(ResumeOptions::new(token, epoch)).await.unwrap();
        }
    }
}

/// Starts a child, kills it, and gives back what it said.
fn run_and_kill(root: &std::path::Path, seed: u64, alive: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(ROOT, root)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.by_ref().any(|line| line.unwrap().ends_with("#ready"));
    assert!(started, "the child opened its store");
    // Read on while it lives, or it would stop at a full pipe.
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(alive);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "it was alive until it was killed");
    reader.join().unwrap().into_iter().filter_map(|line| line.strip_prefix('#').map(str::to_owned)).collect()
}

#[derive(Default)]
struct Told {
    put: HashMap<Digest, bool>,
    /// The last token of the upload that was being written, if it was not being committed.
    token: Option<(u64, u64, UploadToken)>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["put", digest] => drop(self.put.insert(digest.parse().unwrap(), true)),
            ["putting" | "deleting", digest] => drop(self.put.remove(&digest.parse().unwrap())),
            ["deleted", digest] => drop(self.put.insert(digest.parse().unwrap(), false)),
            ["token", seed, epoch, token] => {
                let token = UploadToken::decode(&unhex(token)).unwrap();
                self.token = Some((seed.parse().unwrap(), epoch.parse().unwrap(), token));
            }
            ["committing", seed] if self.token.as_ref().is_some_and(|(of, ..)| of.to_string() == seed) => self.token = None,
            ["committing", _] => {}
            _ => panic!("the child said {line:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_has_all_it_acknowledged_and_nothing_torn() {
    let dir = scratch();
    let root = dir.path().join("store");
    let (mut told, mut rng) = (Told::default(), Rng::new(4711));
    let (mut resumed, mut leftovers) = (0, 0);
    // At least so many rounds, and as many more as it takes on this machine until kills have met what they are meant to meet.
    for round in 0..400 {
        if round >= 25 && resumed > 3 && leftovers > 3 {
            break;
        }
        told.token = None;
        let alive = Duration::from_micros(1000 + rng.below(150_000));
        for line in run_and_kill(&root, 1000 + round * 2, alive) {
            told.hear(&line);
        }
        let store = open(&root).await;
        let listed = all_whole(&store).await;
        for (digest, there) in &told.put {
            assert_eq!(listed.contains(digest), *there, "round {round}: {digest} was acknowledged to be there: {there}");
        }
        if let Some((seed, epoch, token)) = told.token.take() {
            // The child had taken it up as `epoch`, and may have written more.
            let whole = content(seed, 1_500_000);
            let at = usize::try_from(token.offset).unwrap();
            let mut upload = store.resume(ResumeOptions::new(token, epoch + 1)).await.unwrap();
            upload.write(whole.slice(at..)).await.unwrap();
            let digest = Digest::sha256(&whole);
            upload.commit(&digest).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == whole);
            told.put.insert(digest, true);
            resumed += 1;
        }
        leftovers += drop_leftovers(&store, &root).await;
        // Room for the next rounds.
        for digest in told.put.drain().filter_map(|(digest, there)| there.then_some(digest)) {
            store.delete(&digest).await.unwrap();
        }
        for digest in all_whole(&store).await {
            store.delete(&digest).await.unwrap();
        }
    }
    assert!(resumed > 3, "uploads were taken up after a kill: {resumed}");
    assert!(leftovers > 3, "kills left files that were found: {leftovers}");
}
