//! On a real S3: the SeaweedFS that `scripts/services/seaweedfs` starts. Skipped where there is none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use registry_core::blob::{BlobUpload, DownloadOptions, ResumeOptions, WriteOptions};
use registry_core::testing::Rng;
use registry_core::testing::blob_store::{self, Fixture};
use registry_core::{BlobStore, BlobStoreExt as _, Clock as _, Digest, SystemClock, Timestamp};
use storage_object::{ObjectBlobStore, Promote};

/// S3's smallest part.
const PART: u64 = 5 << 20;

/// A variable of the service; without it a test is skipped, or fails where services are required.
fn variable(name: &str) -> Option<String> {
    let name = format!("REGISTRY_TEST_S3_{name}");
    let value = std::env::var(&name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("REGISTRY_TEST_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not set, and services are required");
        eprintln!("skipped: {name} is not set");
    }
    value
}

/// A client of its own, as each process has one.
fn s3() -> Option<AmazonS3> {
    let builder = AmazonS3Builder::new()
        .with_endpoint(variable("ENDPOINT")?)
        .with_access_key_id(variable("ACCESS_KEY")?)
        .with_secret_access_key(variable("SECRET_KEY")?)
        .with_bucket_name(variable("BUCKET")?)
        .with_region("us-east-1")
        .with_virtual_hosted_style_request(false)
        .with_allow_http(true);
    Some(builder.build().unwrap())
}

fn store(folder: &str, copied: u64) -> Option<ObjectBlobStore> {
    let s3 = Arc::new(s3()?);
    let builder = ObjectBlobStore::builder(Arc::clone(&s3)).with_storage_path(folder).with_part_size(PART);
    Some(builder.with_promote(Promote::Copy { limit: copied }).with_signer(s3).build())
}

/// A folder that nobody else uses.
fn new_folder() -> String {
    format!("test-{}", registry_core::random_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_s3_conform() {
    if s3().is_none() {
        return;
    }
    for copied in [5 << 30, 1 << 20] {
        blob_store::check(move || async move {
            let folder = new_folder();
            let open = move || {
                let store = store(&folder, copied).unwrap();
                async move { Arc::new(store) as Arc<dyn BlobStore> }
            };
            Fixture::new(open().await).with_reopen(open)
        })
        .await;
    }
}

fn content(seed: u64, len: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(Rng::new(seed).bytes(len));
    (Digest::sha256(&bytes), bytes)
}

async fn write(upload: &mut dyn BlobUpload, bytes: &Bytes) {
    for chunk in bytes.chunks(1_000_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
}

async fn keys(folder: &str) -> Vec<String> {
    let listed: Vec<_> = s3().unwrap().list(Some(&Path::from(folder))).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

/// The multipart uploads that were begun and neither completed nor aborted, as S3 lists them.
async fn open_multiparts(folder: &str) -> usize {
    let query = SignedUrlOptions::default().with_query([("uploads", ""), ("prefix", folder)]);
    let url = s3().unwrap().signed_url_opts(http::Method::GET, &Path::default(), Duration::from_secs(60), &query).await.unwrap();
    let answer = reqwest::get(url.as_str()).await.unwrap().error_for_status().unwrap().text().await.unwrap();
    assert!(answer.contains("ListMultipartUploadsResult"), "{answer}");
    answer.matches("<UploadId>").count()
}

async fn nothing_is_open(folder: &str) -> bool {
    for _ in 0..100 {
        if open_multiparts(folder).await == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_many_parts_goes_on_in_another_process_and_leaves_nothing() {
    let folder = new_folder();
    let Some(one) = store(&folder, 5 << 30) else { return };
    let (digest, bytes) = content(1, (37 << 20) + 3);
    // The whole of it is copied by the service; of what lies in two pieces not.
    for split in [bytes.len(), 21 << 20] {
        let mut upload = one.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        write(&mut *upload, &bytes.slice(..split)).await;
        assert_eq!(open_multiparts(&folder).await, 1, "it is on its way in parts");
        let token = upload.suspend().await.unwrap();
        let two = store(&folder, 5 << 30).unwrap();
        let mut upload = two.resume(ResumeOptions::new(token, 2)).await.unwrap();
        assert_eq!(upload.offset(), split as u64);
        write(&mut *upload, &bytes.slice(split..)).await;
        upload.commit(&digest).await.unwrap();
        assert!(one.read_all(&digest).await.unwrap() == bytes);
        assert_eq!(keys(&folder).await.len(), 1, "the blob and nothing else");
        assert!(nothing_is_open(&folder).await);
        one.delete(&digest).await.unwrap();
        assert_eq!(keys(&folder).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_found_and_discarded() {
    let folder = new_folder();
    let Some(one) = store(&folder, 5 << 30) else { return };
    let (digest, bytes) = content(2, (12 << 20) + 3);
    one.put_bytes(&digest, bytes.clone()).await.unwrap();
    let mut suspended = one.begin(WriteOptions::default()).await.unwrap();
    write(&mut *suspended, &bytes).await;
    suspended.suspend().await.unwrap();
    let mut dropped = one.begin(WriteOptions::default()).await.unwrap();
    write(&mut *dropped, &bytes).await;
    drop(dropped);
    let wrong = one.put_bytes(&content(3, 7).0, bytes.clone()).await;
    assert_eq!(wrong.unwrap_err().kind(), registry_core::ErrorKind::DigestInvalid);
    assert!(nothing_is_open(&folder).await);

    let two = store(&folder, 5 << 30).unwrap();
    let end_of_time = Timestamp::from_millis(253_402_300_799_000);
    let hour_ago = Timestamp::from_millis(SystemClock.now().as_millis() - 3_600_000);
    assert!(two.uploads(hour_ago).try_collect::<Vec<_>>().await.unwrap().is_empty());
    let left: Vec<_> = two.uploads(end_of_time).try_collect().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].size, Some(bytes.len() as u64));
    two.discard(&left[0].id).await.unwrap();
    assert!(two.uploads(end_of_time).try_collect::<Vec<_>>().await.unwrap().is_empty());
    assert_eq!(keys(&folder).await.len(), 1, "the blob stays");
    assert!(two.read_all(&digest).await.unwrap() == bytes);
    two.delete(&digest).await.unwrap();
    assert_eq!(keys(&folder).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_download_url_needs_no_key() {
    let folder = new_folder();
    let Some(store) = store(&folder, 5 << 30) else { return };
    let (digest, bytes) = content(4, (7 << 20) + 3);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let mut options = DownloadOptions::new(Duration::from_secs(60));
    options.content_type = Some("application/x-of-ours".to_owned());
    let url = store.download_url(&http::Method::GET, &digest, options).await.unwrap().unwrap().to_string();
    let http = reqwest::Client::new();
    let answer = http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    assert_eq!(answer.headers()["content-type"], "application/x-of-ours");
    assert!(answer.bytes().await.unwrap() == bytes);
    let part = http.get(&url).header("Range", "bytes=5-9").send().await.unwrap();
    assert_eq!(part.bytes().await.unwrap(), bytes[5..10]);
    let forged = url.replace("X-Amz-Signature=", "X-Amz-Signature=0");
    assert!(!http.get(&forged).send().await.unwrap().status().is_success());
    s3().unwrap().delete(&keys(&folder).await[0].as_str().into()).await.unwrap();
}
