//! A process that uploads is killed at each of its requests that change anything: before and after those that only look, nothing is different.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use registry_core::blob::{ResumeOptions, WriteOptions};
use registry_core::{BlobStore as _, BlobStoreExt as _};

use crate::killing::{self, DONE, When, all_of};
use crate::proxy::Seen;
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
    writeln!(out, "{DONE}").unwrap();
    out.flush().unwrap();
}

fn start(how: &str, through: &Place) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "kill::child", "--nocapture", "--test-threads=1"]);
    command.env(HOW, how).env(SERVICE, if through.is_rgw { "rgw" } else { "seaweedfs" });
    command.env(ENDPOINT, through.config.endpoint.as_ref().unwrap()).env(FOLDER, &through.config.storage_path);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Kills the process at its `nth` request that changes anything, and sees to it that nothing is torn.
async fn kill_at(nth: usize, when: When, how: &str, place: Place) -> Option<Seen> {
    let (store, blob) = (place.open().await, blob());
    let (proxy, through) = place.proxied().await;
    let (killed_at, is_done) = killing::kill_at(nth, when, &proxy, || start(how, &through)).await;
    let is_whole = blob.check(&store, &place).await;
    assert!(is_whole || !is_done, "{how}, {nth}, {when:?}: the commit was reported");
    killed_at
}

async fn kill_at_each(place: &Place, how: &str, when: When) -> Vec<String> {
    killing::kill_at_each(|nth| kill_at(nth, when, how, place.elsewhere())).await
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
            let (writer, copied) = (&["PUT ", "/_writer"], &["PUT ", "/blobs/", "partNumber="]);
            all_of(&killed, &[first, second, third, writer, copied, &["POST ", "/blobs/", "?uploadId="], &["POST ", "?delete"]]);
        }
    }
}
