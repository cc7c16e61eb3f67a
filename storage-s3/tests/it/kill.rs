//! A process that uploads is killed at each of its requests that change anything: before and after those that only look, nothing is different.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _};

use crate::proxy::{At, Fault, Seen};
use crate::service::{self, PART, Place};
use crate::whole::Blob;

const HOW: &str = "STORAGE_S3_KILL_HOW";
const SERVICE: &str = "STORAGE_S3_KILL_SERVICE";
const ENDPOINT: &str = "STORAGE_S3_KILL_ENDPOINT";
const FOLDER: &str = "STORAGE_S3_KILL_FOLDER";

fn blob() -> Blob {
    Blob::new(60, 2 * PART + PART / 2)
}

#[ignore = "the process that the tests here start and kill"]
#[tokio::test]
async fn child() {
    let variable = |name| std::env::var(name).expect("started by its parent");
    let mut place = if variable(SERVICE) == "rgw" { service::radosgw() } else { service::seaweedfs() }.unwrap();
    (place.config.endpoint, place.config.storage_path) = (Some(variable(ENDPOINT)), variable(FOLDER));
    let (store, blob) = (place.open().await, blob());
    if variable(HOW) == "put" {
        store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    } else {
        // Put aside twice: with a piece that stays, and one that is taken back.
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        upload.write(blob.bytes.slice(..PART)).await.unwrap();
        let token = upload.suspend().await.unwrap();
        let mut upload = store.resume(ResumeOptions::new(token, 2)).await.unwrap();
        upload.write(blob.bytes.slice(PART..PART * 3 / 2)).await.unwrap();
        let token = upload.suspend().await.unwrap();
        let mut upload = store.resume(ResumeOptions::new(token, 3)).await.unwrap();
        upload.write(blob.bytes.slice(PART * 3 / 2..)).await.unwrap();
        upload.commit(&blob.digest).await.unwrap();
    }
    let mut out = std::io::stdout().lock();
    out.write_all(b"#done\n").unwrap();
    out.flush().unwrap();
}

fn start(how: &str, through: &Place) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "kill::child", "--nocapture", "--test-threads=1"]);
    command.env(HOW, how).env(SERVICE, if through.is_rgw { "rgw" } else { "seaweedfs" });
    command.env(ENDPOINT, through.config.endpoint.as_ref().unwrap()).env(FOLDER, &through.config.storage_path);
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
async fn kill_at(nth: usize, when: When, how: &str, place: Place) -> Option<Seen> {
    let (store, blob) = (place.open().await, blob());
    let (proxy, through) = place.proxied().await;
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
    let is_whole = blob.check(&store, &place).await;
    assert!(is_whole || !is_done, "{how}, {nth}, {when:?}: the commit was reported");
    killed_at
}

/// Kills it at all of its requests. Returns those.
async fn kill_at_each(place: &Place, how: &str, when: When) -> Vec<String> {
    let mut killed = Vec::new();
    for batch in 0.. {
        let rounds = (1..=4).map(|n| kill_at(batch * 4 + n, when, how, place.elsewhere()));
        let seen: Vec<_> = join_all(rounds).await;
        let survived = seen.iter().any(Option::is_none);
        killed
            .extend(seen.into_iter().flatten().map(|seen| format!("{} {} {}", seen.method, seen.target, seen.header("x-amz-copy-source"))));
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
        assert!(killed.iter().any(|request| is_step(&request)), "{step:?} is not among {killed:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_killed_at_any_request_leaves_nothing_or_all() {
    for place in service::places() {
        for when in [When::Asked, When::Answered] {
            let killed = kill_at_each(&place, "put", when).await;
            all_of(&killed, &[&["POST ", "/blobs/", "?uploads"], &["PUT ", "/blobs/", "partNumber="], &["POST ", "/blobs/", "?uploadId="]]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_killed_at_any_request_leaves_nothing_or_all() {
    for place in service::places() {
        for when in [When::Asked, When::Answered] {
            let killed = kill_at_each(&place, "commit", when).await;
            // Of those who began it and took it up: pieces, in one request and in several; what they are put together by; and what is tidied up.
            let (first, second, third) =
                (&["PUT ", "/_uploads/", "/1-0000"], &["PUT ", "/_uploads/", "/2-0000"], &["POST ", "/_uploads/", "/3-0000", "?uploadId="]);
            let (writer, copied) = (&["PUT ", "/_writer"], &["PUT ", "/blobs/", "partNumber=", "/_uploads/"]);
            all_of(&killed, &[first, second, third, writer, copied, &["POST ", "/blobs/", "?uploadId="], &["POST ", "?delete"]]);
        }
    }
}
