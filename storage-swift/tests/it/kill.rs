//! A process that uploads is killed at each of its requests that change anything: before and after those that only look, nothing is different.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _};
use storage_swift::{Secret, SwiftBlobStore, SwiftConfig};

use crate::killing::{self, DONE, When, all_of};
use crate::proxy::Seen;
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
    writeln!(out, "{DONE}").unwrap();
    out.flush().unwrap();
}

fn start(how: &str, through: &SwiftConfig) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "kill::child", "--nocapture", "--test-threads=1"]);
    command.env(HOW, how).env(TOKEN, through.token.as_ref().unwrap().reveal());
    command.env(STORAGE_URL, through.storage_url.as_ref().unwrap()).env(CONTAINER, &through.container);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Kills the process at its `nth` request that changes anything, and sees to it that nothing is torn.
async fn kill_at(nth: usize, when: When, how: &str, config: SwiftConfig) -> Option<Seen> {
    let (store, blob) = (open(&config).await, blob());
    let (proxy, through) = before(&config).await;
    let (killed_at, is_done) = killing::kill_at(nth, when, &proxy, || start(how, &through)).await;
    let is_whole = blob.check(&store, &config).await;
    assert!(is_whole || !is_done, "{how}, {nth}, {when:?}: the commit was reported");
    killed_at
}

/// Kills it at all of its requests, and sees to it that these steps are among them.
async fn kill_at_each(how: &str, when: When, steps: &[&[&str]]) {
    let Some(config) = small() else { return };
    let config = logged_in(config).await;
    let killed = killing::kill_at_each(|nth| kill_at(nth, when, how, elsewhere(&config))).await;
    all_of(&killed, steps);
}

const SEGMENT: &[&str] = &["PUT ", "/_segments/", "-0000"];
const MARKER: &[&str] = &["PUT ", "/_commit-"];
const MANIFEST: &[&str] = &["PUT ", "/blobs/", "multipart-manifest=put"];

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_killed_at_any_request_leaves_nothing_or_all() {
    let steps = [SEGMENT, MARKER, MANIFEST];
    tokio::join!(kill_at_each("put", When::Asked, &steps), kill_at_each("put", When::Answered, &steps));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_killed_at_any_request_leaves_nothing_or_all() {
    // Those of who began it, and of who took it up.
    let (first, second): (&[_], &[_]) = (&["PUT ", "/_segments/", "/1-0000"], &["PUT ", "/_segments/", "/2-0000"]);
    let (writer, tidied): (&[_], &[_]) = (&["PUT ", "/_writer"], &["DELETE ", "/_segments/"]);
    let steps = [first, second, writer, MARKER, MANIFEST, tidied];
    tokio::join!(kill_at_each("commit", When::Asked, &steps), kill_at_each("commit", When::Answered, &steps));
}
