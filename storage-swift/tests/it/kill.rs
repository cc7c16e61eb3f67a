//! A process that uploads is killed at each of its requests that change anything: before and after those that only look, nothing is different.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _};
use storage_swift::{Secret, SwiftBlobStore, SwiftConfig};

use crate::proxy::{At, Fault, Seen};
use crate::service::{before, builder, elsewhere, logged_in, small};
use crate::whole::Blob;

const HOW: &str = "STORAGE_SWIFT_KILL_HOW";
const TOKEN: &str = "STORAGE_SWIFT_KILL_TOKEN";
const STORAGE_URL: &str = "STORAGE_SWIFT_KILL_STORAGE_URL";
const CONTAINER: &str = "STORAGE_SWIFT_KILL_CONTAINER";

const SEGMENT_SIZE: usize = 256 << 10;

fn blob() -> Blob {
    Blob::new(60, 3 * SEGMENT_SIZE + 5, 4)
}

async fn open(config: &SwiftConfig) -> SwiftBlobStore {
    builder(config).with_segment_size(SEGMENT_SIZE as u64).build_blob_store().await.unwrap()
}

#[ignore = "the process that the tests here start and kill"]
#[tokio::test]
async fn child() {
    let variable = |name| std::env::var(name).expect("started by its parent");
    let mut config = SwiftConfig::default();
    config.token = Some(Secret::from(variable(TOKEN)));
    config.storage_url = Some(variable(STORAGE_URL));
    config.container = variable(CONTAINER);
    let (store, blob) = (open(&config).await, blob());
    if variable(HOW) == "put" {
        store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    } else {
        // Put aside in the middle of a segment, so that there is something to tidy up.
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        upload.write(blob.bytes.slice(..SEGMENT_SIZE * 3 / 2)).await.unwrap();
        let token = upload.suspend().await.unwrap();
        let mut upload = store.resume(ResumeOptions::new(token, 2)).await.unwrap();
        upload.write(blob.bytes.slice(SEGMENT_SIZE * 3 / 2..)).await.unwrap();
        upload.commit(&blob.digest).await.unwrap();
    }
    let mut out = std::io::stdout().lock();
    out.write_all(b"#done\n").unwrap();
    out.flush().unwrap();
}

fn start(how: &str, through: &SwiftConfig) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "kill::child", "--nocapture", "--test-threads=1"]);
    command.env(HOW, how).env(TOKEN, through.token.as_ref().unwrap().reveal());
    command.env(STORAGE_URL, through.storage_url.as_ref().unwrap()).env(CONTAINER, &through.container);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum When {
    /// Before the request is passed on.
    Asked,
    /// When the service has done it, before it is told.
    Answered,
}

fn changes_something(seen: &Seen) -> bool {
    !["GET", "HEAD"].contains(&seen.method.as_str())
}

/// Kills the process at its `nth` such request, and sees to it that nothing is torn. The request; `None` if it had come to its end before.
async fn kill_at(nth: usize, when: When, how: &str, config: SwiftConfig) -> Option<Seen> {
    let (store, blob) = (open(&config).await, blob());
    let (proxy, through) = before(&config).await;
    let process = Arc::new(Mutex::new(None::<Child>));
    let kill = {
        let process = Arc::clone(&process);
        Arc::new(move || process.lock().unwrap().as_mut().unwrap().kill().unwrap())
    };
    let changes = AtomicUsize::new(0);
    proxy.plan(move |seen| match when {
        _ if !changes_something(seen) || changes.fetch_add(1, Ordering::Relaxed) + 1 != nth => Fault::None,
        When::Asked => {
            kill();
            Fault::CutRequest(At::Byte(0))
        }
        When::Answered => Fault::Instead(Arc::clone(&kill) as _),
    });
    let mut out = {
        let mut process = process.lock().unwrap();
        let mut child = start(how, &through);
        let out = child.stdout.take().unwrap();
        *process = Some(child);
        out
    };
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        out.read_to_string(&mut said).map(|_| said).unwrap()
    });
    let is_done = said.await.unwrap().contains("#done");
    let status = process.lock().unwrap().as_mut().unwrap().wait().unwrap();
    // What it had sent in full is still done.
    proxy.quiet().await;
    let killed_at = proxy.seen().into_iter().filter(changes_something).nth(nth - 1);
    assert_eq!(status.signal(), killed_at.as_ref().map(|_| 9), "{how}, {nth}, {when:?}");
    assert!(killed_at.is_some() || is_done, "who is not killed comes to its end: {status:?}");
    let is_whole = blob.check(&store, &config).await;
    assert!(is_whole || !is_done, "{how}, {nth}, {when:?}: the commit was reported");
    killed_at
}

/// Kills it at all of its requests. Returns those.
async fn kill_at_each(how: &str, when: When) -> Vec<String> {
    let Some(config) = small() else { return Vec::new() };
    let config = logged_in(config).await;
    let mut killed = Vec::new();
    for batch in 0.. {
        let rounds = (1..=4).map(|n| kill_at(batch * 4 + n, when, how, elsewhere(&config)));
        let seen: Vec<_> = join_all(rounds).await;
        let survived = seen.iter().any(Option::is_none);
        killed.extend(seen.into_iter().flatten().map(|seen| format!("{} {}", seen.method, seen.target)));
        if survived {
            break;
        }
    }
    killed
}

/// Among the requests is each of these steps.
fn all_of(killed: &[String], steps: &[&[&str]]) {
    for step in steps {
        let is_step = |request: &&String| step.iter().all(|part| request.contains(part));
        assert!(killed.is_empty() || killed.iter().any(|request| is_step(&request)), "{step:?} is not among {killed:#?}");
    }
}

const SEGMENT: &[&str] = &["PUT ", "/_segments/", "-0000"];
const MARKER: &[&str] = &["PUT ", "/_commit-"];
const MANIFEST: &[&str] = &["PUT ", "/blobs/", "multipart-manifest=put"];

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_killed_at_any_request_leaves_nothing_or_all() {
    let (asked, answered) = tokio::join!(kill_at_each("put", When::Asked), kill_at_each("put", When::Answered));
    for killed in [asked, answered] {
        all_of(&killed, &[SEGMENT, MARKER, MANIFEST]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_killed_at_any_request_leaves_nothing_or_all() {
    let (asked, answered) = tokio::join!(kill_at_each("commit", When::Asked), kill_at_each("commit", When::Answered));
    for killed in [asked, answered] {
        // Those of who began it, and of who took it up.
        let (first, second) = (&["PUT ", "/_segments/", "/1-0000"], &["PUT ", "/_segments/", "/2-0000"]);
        let (writer, tidied) = (&["PUT ", "/_writer"], &["DELETE ", "/_segments/"]);
        all_of(&killed, &[first, second, writer, MARKER, MANIFEST, tidied]);
    }
}
