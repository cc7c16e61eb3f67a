//! Large objects, in a region whose limit for one object is 1 MiB.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{MultipartUpload as _, ObjectStoreExt as _};
use registry_core::blob::{ByteRange, DownloadOptions, ReadOptions, ResumeOptions, WriteOptions};
use registry_core::testing::Rng;
use registry_core::{BlobStore as _, BlobStoreExt as _, Digest, ErrorKind};
use storage_swift::Secret;

use crate::blobs_support::content;
use crate::service::{self, builder, names};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_mebibytes_go_up_in_segments_and_leave_none() {
    let Some(mut config) = service::small() else { return };
    config.temp_url_key = Some(Secret::from("a key of ours"));
    let store = builder(&config).build_blob_store().await.unwrap();
    let bytes = Bytes::from(Rng::new(7).bytes((50 << 20) + 3));
    let digest = Digest::sha256(&bytes);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let segments = names(&config).await.iter().filter(|name| name.starts_with("_segments/")).count();
    assert_eq!(segments, 52, "51 segments and a marker");
    assert_eq!(store.stat(&digest).await.unwrap().size, bytes.len() as u64);
    assert!(store.read_all(&digest).await.unwrap() == bytes);
    for range in [0..1, (1 << 20) - 1..(1 << 20) + 1, (3 << 20) + 5..(9 << 20), (50 << 20)..(50 << 20) + 3] {
        let options = ReadOptions::default().with_range(ByteRange::FromTo(range.start as u64, Some(range.end as u64 - 1)));
        let read = store.read(&digest, options).await.unwrap().collect().await.unwrap();
        assert!(read == bytes[range.clone()], "{range:?}");
    }
    store.set_temp_url_key().await.unwrap();
    let options = DownloadOptions::new(std::time::Duration::from_secs(60));
    let url = store.download_url(&http::Method::GET, &digest, options).await.unwrap().unwrap();
    assert!(reqwest::get(url.to_string()).await.unwrap().bytes().await.unwrap() == bytes);
    store.delete(&digest).await.unwrap();
    assert_eq!(names(&config).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_large_object_is_refused_where_it_would_be_too_large_for_one() {
    let Some(config) = service::small() else { return };
    service::open(&config).await;
    let objects = builder(&config).build().unwrap();
    let (from, to) = (Path::from("from"), Path::from("to"));
    let mut upload = objects.put_multipart(&from).await.unwrap();
    for _ in 0..2 {
        upload.put_part(vec![1; 1 << 20].into()).await.unwrap();
    }
    upload.complete().await.unwrap();
    let refused = objects.copy(&from, &to).await;
    assert!(matches!(refused, Err(object_store::Error::NotSupported { .. })), "{refused:?}");
    assert_eq!(names(&config).await, ["from"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_becomes_a_blob_where_it_is_and_a_second_one_replaces_it() {
    let Some(config) = service::small() else { return };
    let store = builder(&config).build_blob_store().await.unwrap();
    let bytes = Bytes::from(Rng::new(8).bytes((5 << 20) + 3));
    let digest = Digest::sha256(&bytes);
    for _ in 0..2 {
        let mut upload = store.begin(WriteOptions::default().with_epoch(1)).await.unwrap();
        upload.write(bytes.slice(..3 << 20)).await.unwrap();
        let token = upload.suspend().await.unwrap();
        let other = builder(&config).build_blob_store().await.unwrap();
        let mut upload = other.resume(ResumeOptions::new(token, 2)).await.unwrap();
        upload.write(bytes.slice(3 << 20..)).await.unwrap();
        upload.commit(&digest).await.unwrap();
        assert!(store.read_all(&digest).await.unwrap() == bytes);
    }
    // The first one's pieces are nobody's any more.
    let left: Vec<_> = store.uploads(registry_core::Timestamp::from_millis(253_402_300_799_000)).try_collect().await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    store.discard(&left[0].id).await.unwrap();
    assert!(store.read_all(&digest).await.unwrap() == bytes);
    store.delete(&digest).await.unwrap();
    assert_eq!(names(&config).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_gone_is_never_served_short() {
    let Some(config) = service::small() else { return };
    let store = builder(&config).build_blob_store().await.unwrap();
    let bytes = Bytes::from(Rng::new(9).bytes((4 << 20) + 3));
    let digest = Digest::sha256(&bytes);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let segments: Vec<_> =
        names(&config).await.into_iter().filter(|name| name.starts_with("_segments/") && !name.contains("_commit")).collect();
    for gone in [segments.last().unwrap(), &segments[0]] {
        let objects = builder(&config).build().unwrap();
        object_store::ObjectStoreExt::delete(&objects, &Path::from(gone.as_str())).await.unwrap();
        let read = match store.read(&digest, ReadOptions::default()).await {
            Ok(reader) => reader.collect().await,
            Err(error) => Err(error),
        };
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "a blob without {gone} is not whole");
    }
    // Pushing again heals.
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    assert!(store.read_all(&digest).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_temporary_url_needs_no_token() {
    for config in [service::small(), service::tempauth(), service::rgw()] {
        let Some(mut config) = config else { continue };
        config.temp_url_key = Some(Secret::from("a key of ours"));
        let store = builder(&config).build_blob_store().await.unwrap();
        store.set_temp_url_key().await.unwrap();
        let bytes = Bytes::from(Rng::new(10).bytes((2 << 20) + 3));
        let digest = Digest::sha256(&bytes);
        store.put_bytes(&digest, bytes.clone()).await.unwrap();
        let mut options = DownloadOptions::new(std::time::Duration::from_secs(60));
        options.content_disposition = Some("attachment; filename=\"a layer.tar\"".to_owned());
        options.content_type = Some("application/octet-stream".to_owned());
        let url = store.download_url(&http::Method::GET, &digest, options).await.unwrap().unwrap().to_string();
        let http = reqwest::Client::new();
        let read = http.get(&url).send().await.unwrap();
        assert_eq!(read.status(), 200, "{url}");
        let disposition = read.headers()["content-disposition"].to_str().unwrap();
        assert!(disposition.contains("a layer.tar") || disposition.contains("a%20layer.tar"), "{disposition}");
        // RadosGW knows SHA-1 only; Swift is given better.
        let signature = url.split_once("temp_url_sig=").unwrap().1.split('&').next().unwrap();
        assert_eq!(signature.len(), if config.auth_url == service::rgw().unwrap().auth_url { 40 } else { 64 });
        assert!(read.bytes().await.unwrap() == bytes);
        let part = http.get(&url).header("Range", "bytes=5-9").send().await.unwrap();
        assert_eq!(part.bytes().await.unwrap(), bytes[5..10]);
        // A client is not sent to a URL that is refused.
        let mut other = config.clone();
        other.temp_url_key = Some(Secret::from("not the account's"));
        let other = builder(&other).build_blob_store().await.unwrap();
        let none = other.download_url(&http::Method::GET, &digest, DownloadOptions::new(std::time::Duration::from_secs(60))).await.unwrap();
        assert_eq!(none, None);
        let forged = url.replace("temp_url_sig=", "temp_url_sig=0");
        assert!(!http.get(&forged).send().await.unwrap().status().is_success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_temporary_urls_may_be_the_containers() {
    let Some(config) = service::keystone() else { return };
    let mut config = service::logged_in(config).await;
    config.temp_url_key = Some(Secret::from("of the container alone"));
    let store = service::open(&config).await;
    let url = format!("{}/{}", config.storage_url.as_deref().unwrap(), config.container);
    let request = reqwest::Client::new().post(url).header("X-Auth-Token", config.token.as_ref().unwrap().reveal());
    let answer =
        request.header("X-Container-Meta-Temp-URL-Key", "of the container alone").header("Content-Length", 0).send().await.unwrap();
    assert!(answer.status().is_success());
    let (digest, bytes) = content(12, 1000);
    store.put_bytes(&digest, bytes.clone()).await.unwrap();
    let options = DownloadOptions::new(std::time::Duration::from_secs(60));
    let url = store.download_url(&http::Method::GET, &digest, options).await.unwrap().unwrap();
    assert_eq!(reqwest::get(url.to_string()).await.unwrap().bytes().await.unwrap(), bytes);
}
