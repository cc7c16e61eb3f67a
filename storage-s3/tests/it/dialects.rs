//! What servers of S3's protocol answer differently: whatever it is, it is right. What these servers do not do themselves is put in their mouths by the proxy.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, Error, GetOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
use registry_core::{BlobStore as _, BlobStoreExt as _, ErrorKind};
use storage_object::{CopyParts as _, ListMultiparts as _};
use storage_s3::S3Store;

use crate::blobs_support::content;
use crate::proxy::{At, Fault, Seen, first};
use crate::service::{self, PART};

fn payload(seed: u64, len: usize) -> PutPayload {
    content(seed, len).1.into()
}

async fn read(store: &S3Store, path: &Path) -> bytes::Bytes {
    store.get(path).await.unwrap().bytes().await.unwrap()
}

fn is_complete(seen: &Seen) -> bool {
    seen.method == "POST" && seen.target.contains("uploadId=")
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_listed_by_another_process_and_each_counts_once_however_often_it_was_sent() {
    for place in service::places() {
        place.open().await;
        let (one, two, path) = (place.objects(), place.objects(), place.path("a"));
        let id = one.create_multipart(&path).await.unwrap();
        assert_eq!(two.stored_parts(&path, &id).await.unwrap().unwrap().size, 0);
        for _ in 0..2 {
            one.put_part(&path, &id, 0, payload(2, PART + 5)).await.unwrap();
        }
        let first = one.put_part(&path, &id, 0, payload(2, PART + 5)).await.unwrap();
        let second = two.put_part(&path, &id, 1, payload(3, 7)).await.unwrap();
        let stored = two.stored_parts(&path, &id).await.unwrap().unwrap();
        assert_eq!(stored.size, (PART + 5 + 7) as u64);
        assert!(stored.modified.is_some());
        two.complete_multipart(&path, &id, vec![first, second]).await.unwrap();
        assert_eq!(read(&one, &path).await, [content(2, PART + 5).1, content(3, 7).1].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_and_uploads_than_a_page_has_are_listed() {
    for place in service::places() {
        place.open().await;
        let (store, path) = (place.objects(), place.path("many"));
        let ids: Vec<_> = stream::iter(0..1005)
            .map(|n| {
                let (store, path) = (store.clone(), place.path(&format!("uploads/{}", n % 700)));
                async move { (path.clone(), store.create_multipart(&path).await.unwrap()) }
            })
            .buffer_unordered(16)
            .collect()
            .await;
        let folder = place.path("uploads");
        let mut listed: Vec<_> = store.list_multiparts(&folder).map_ok(|open| (open.path, open.id)).try_collect().await.unwrap();
        let mut expected = ids.clone();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        let id = store.create_multipart(&path).await.unwrap();
        stream::iter(0..1005)
            .map(|n| {
                let (store, path, id) = (&store, &path, &id);
                async move { store.put_part(path, id, n, PutPayload::from_static(b"seven b")).await.unwrap() }
            })
            .buffer_unordered(16)
            .collect::<Vec<_>>()
            .await;
        assert_eq!(store.stored_parts(&path, &id).await.unwrap().unwrap().size, 7 * 1005);
        for (path, id) in ids.into_iter().chain([(path, id)]) {
            store.abort_multipart(&path, &id).await.unwrap();
        }
        assert!(place.multiparts().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_gone_is_gone_whatever_that_is_called() {
    for place in service::places() {
        place.open().await;
        let (store, path) = (place.objects(), place.path("gone"));
        let id = store.create_multipart(&path).await.unwrap();
        let part = store.put_part(&path, &id, 0, payload(1, 100)).await.unwrap();
        for _ in 0..2 {
            store.abort_multipart(&path, &id).await.unwrap();
            assert_eq!(store.stored_parts(&path, &id).await.unwrap(), None);
        }
        let outcome = store.put_part(&path, &id, 0, payload(1, 100)).await;
        assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
        // RadosGW says that somebody else is at it.
        let outcome = store.complete_multipart(&path, &id, vec![part]).await.unwrap_err();
        assert!(matches!(outcome, Error::NotFound { .. }) || outcome.to_string().contains("already in progress"), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_complete_may_be_lost_or_say_that_there_is_nothing_to_complete() {
    for place in service::places() {
        place.open().await;
        let (proxy, through) = place.proxied().await;
        let store = through.objects();
        let no_upload = Fault::Answer("404 Not Found", "<?xml version=\"1.0\"?><Error><Code>NoSuchUpload</Code></Error>");
        // As it is, and as AWS and Garage say it the second time.
        for (n, second) in [Fault::None, no_upload.clone()].into_iter().enumerate() {
            let path = place.path(&format!("lost-{n}"));
            let id = store.create_multipart(&path).await.unwrap();
            let mut parts = Vec::new();
            for (n, len) in [PART, 1000].into_iter().enumerate() {
                parts.push(store.put_part(&path, &id, n, payload(n as u64, len)).await.unwrap());
            }
            let count = std::sync::atomic::AtomicUsize::new(0);
            proxy.plan(move |seen| match count.load(std::sync::atomic::Ordering::Relaxed) {
                _ if !is_complete(seen) => Fault::None,
                0 => {
                    count.store(1, std::sync::atomic::Ordering::Relaxed);
                    Fault::CutAnswer(At::Byte(0))
                }
                _ => second.clone(),
            });
            let put = store.complete_multipart(&path, &id, parts).await.unwrap();
            assert_eq!(proxy.seen().iter().filter(|seen| is_complete(seen)).count(), 2);
            assert!(put.e_tag.is_some_and(|e_tag| e_tag.trim_matches('"').len() > 30), "RadosGW tells none by itself");
            assert_eq!(read(&store, &path).await.len(), PART + 1000);
        }
        // What is there is another object: it was not completed.
        let path = place.path("other");
        store.put(&path, payload(8, 100)).await.unwrap();
        let id = store.create_multipart(&path).await.unwrap();
        let part = store.put_part(&path, &id, 0, payload(9, 100)).await.unwrap();
        proxy.plan(move |seen| if is_complete(seen) { no_upload.clone() } else { Fault::None });
        let outcome = store.complete_multipart(&path, &id, vec![part]).await;
        assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
        assert_eq!(read(&store, &path).await, content(8, 100).1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_200_is_an_error() {
    for place in service::places() {
        place.open().await;
        let (proxy, through) = place.proxied().await;
        let (store, path) = (through.objects(), place.path("copied"));
        store.put(&path, payload(1, 100)).await.unwrap();
        let to = place.path("copy");
        let late = |code: &'static str| Fault::Answer("200 OK\r\nContent-Type: application/xml", code);
        let is_copy = |seen: &Seen| !seen.header("x-amz-copy-source").is_empty();
        // What passes is tried again.
        proxy.plan(first(1, is_copy, late("<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>")));
        store.copy(&path, &to).await.unwrap();
        assert_eq!(proxy.seen().iter().filter(|seen| is_copy(seen)).count(), 2);
        store.delete(&to).await.unwrap();
        // So is what says nothing of a copy.
        proxy.plan(first(1, is_copy, late("")));
        store.copy(&path, &to).await.unwrap();
        assert_eq!(proxy.seen().iter().filter(|seen| is_copy(seen)).count(), 2);
        store.delete(&to).await.unwrap();
        proxy.plan(first(1, is_copy, late("  \n<Error><Code>AccessDenied</Code></Error>")));
        store.copy(&path, &to).await.unwrap_err();
        assert!(matches!(store.head(&to).await, Err(Error::NotFound { .. })), "it was not copied");
        let id = store.create_multipart(&to).await.unwrap();
        let part = store.put_part(&to, &id, 0, payload(2, 100)).await.unwrap();
        proxy.plan(first(1, is_complete, late("<Error><Code>SlowDown</Code></Error>")));
        store.complete_multipart(&to, &id, vec![part]).await.unwrap();
        assert_eq!(read(&store, &to).await, content(2, 100).1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_part_before_the_last_is_refused_as_it_is_not_made_here() {
    for place in service::places() {
        place.open().await;
        let (store, path) = (place.objects(), place.path("small"));
        let id = store.create_multipart(&path).await.unwrap();
        let mut parts = Vec::new();
        for n in 0..2 {
            parts.push(store.put_part(&path, &id, n, payload(n as u64, 1000)).await.unwrap());
        }
        let error = store.complete_multipart(&path, &id, parts).await.unwrap_err();
        assert!(error.to_string().contains("EntityTooSmall"), "{error}");
        store.abort_multipart(&path, &id).await.unwrap();
        // A blob store has parts of 5 MiB at least, whatever it was told.
        let blobs = place.builder().with_part_size(1).build_blob_store().await.unwrap();
        let (digest, bytes) = content(10, (11 << 20) + 1);
        blobs.put_bytes(&digest, bytes.clone()).await.unwrap();
        assert!(blobs.read_all(&digest).await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_in_one_request_and_in_no_parts() {
    for place in service::places() {
        let (proxy, through) = place.proxied().await;
        let store = through.open().await;
        proxy.plan(|_| Fault::None);
        let empty = content(0, 0).0;
        store.put_bytes(&empty, bytes::Bytes::new()).await.unwrap();
        let mut upload = store.begin(registry_core::blob::WriteOptions::default()).await.unwrap();
        upload.commit(&empty).await.unwrap();
        assert!(proxy.seen().iter().all(|seen| !seen.target.contains("uploads")), "{:?}", proxy.seen());
        assert!(store.read_all(&empty).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_put_together_from_parts_of_others() {
    for mut place in service::places() {
        place.dialect.copy_limit = 6 << 20;
        place.open().await;
        let (store, from, small, to) = (place.objects(), place.path("from"), place.path("a key+with odd ü"), place.path("to"));
        store.put(&from, payload(1, 14 << 20)).await.unwrap();
        store.put(&small, payload(2, 1000)).await.unwrap();
        let sources = [(from.clone(), 1..13 << 20), (small.clone(), 5..900)];
        store.join(&sources, &to).await.unwrap();
        let expected = [content(1, 14 << 20).1.slice(1..13 << 20), content(2, 1000).1.slice(5..900)].concat();
        assert!(read(&store, &to).await == expected);
        // One that is not there: nothing is left of it.
        let outcome = store.join(&[(place.path("nothing"), 0..10)], &place.path("nowhere")).await;
        assert!(outcome.is_err());
        assert!(matches!(store.head(&place.path("nowhere")).await, Err(Error::NotFound { .. })));
        assert!(place.nothing_is_open().await);
    }
}

/// Garage refuses part copies of what is below 5 MiB, others have none at all: then what was staged is read and written.
#[tokio::test(flavor = "multi_thread")]
async fn where_part_copies_are_refused_the_bytes_are_read_and_written() {
    for place in service::places() {
        for refusal in ["501 Not Implemented\r\n", "400 Bad Request\r\n"] {
            let (proxy, mut through) = place.elsewhere().proxied().await;
            through.dialect.copy_limit = 6 << 20;
            let store = through.open().await;
            let refused = Fault::Answer(refusal.trim_end(), "<Error><Code>InvalidArgument</Code></Error>");
            proxy.plan(move |seen| if seen.header("x-amz-copy-source-range").is_empty() { Fault::None } else { refused.clone() });
            let (digest, bytes) = content(20, 12 << 20);
            let mut upload = store.begin(registry_core::blob::WriteOptions::default()).await.unwrap();
            upload.write(bytes.clone()).await.unwrap();
            upload.commit(&digest).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            assert_eq!(through.names().await.len(), 1);
            assert!(through.nothing_is_open().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_refused_and_never_ignored() {
    for place in service::places() {
        place.open().await;
        let (store, path) = (place.objects(), place.path("only-once"));
        let outcome = store.put_opts(&path, payload(1, 10), PutMode::Create.into()).await;
        assert!(matches!(outcome, Err(Error::NotSupported { .. })), "{outcome:?}");
        store.put(&path, payload(1, 10)).await.unwrap();
        let outcome = store.copy_opts(&path, &place.path("to"), CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() }).await;
        assert!(matches!(outcome, Err(Error::NotSupported { .. })), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_objects_than_a_page_has_are_listed_and_deleted() {
    for mut place in service::places() {
        place.open().await;
        for bulk_deletes in [true, false] {
            place.dialect.bulk_deletes = bulk_deletes;
            let store = place.objects();
            let paths: Vec<_> = (0..1005).map(|n| place.path(&format!("many/{n:04}"))).collect();
            stream::iter(&paths)
                .map(|path| store.put(path, PutPayload::from_static(b"x")))
                .buffer_unordered(16)
                .try_collect::<Vec<_>>()
                .await
                .unwrap();
            let listed: Vec<_> = store.list(Some(&place.path("many"))).map_ok(|meta| meta.location).try_collect().await.unwrap();
            assert!(listed == paths, "all of them, and in order");
            let rest: Vec<_> = store.list_with_offset(Some(&place.path("many")), &paths[999]).try_collect().await.unwrap();
            assert_eq!(rest.len(), 5);
            let deleted = store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
            assert_eq!(deleted.try_collect::<Vec<_>>().await.unwrap().len(), 1005);
            assert!(place.names().await.is_empty());
        }
    }
}

/// What is signed is the body too, where there is no TLS: what arrives as something else is refused, and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_as_something_else_is_not_kept_and_is_sent_again() {
    for place in service::places() {
        let (proxy, through) = place.proxied().await;
        let store = through.open().await;
        for len in [1000, PART + 1000] {
            let (digest, bytes) = content(len as u64, len);
            proxy.plan(first(1, |seen| seen.method == "PUT", Fault::FlipBit));
            store.put_bytes(&digest, bytes.clone()).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            store.delete(&digest).await.unwrap();
            proxy.plan(|seen| if seen.method == "PUT" { Fault::FlipBit } else { Fault::None });
            let retries = through.builder().with_retries(1, std::time::Duration::from_secs(20)).build_blob_store().await.unwrap();
            assert!(retries.put_bytes(&digest, bytes.clone()).await.is_err());
            proxy.plan(|_| Fault::None);
            assert_eq!(store.stat(&digest).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_not_taken_for_one_without_the_object() {
    for mut place in service::places() {
        place.config.bucket = format!("nobody-{}", &registry_core::random_id()[..8]);
        let store = place.objects();
        let error = store.get_opts(&Path::from("x"), GetOptions::default()).await.unwrap_err();
        assert!(!matches!(error, Error::NotFound { .. }) && error.to_string().contains("there is no such bucket there"), "{error}");
    }
}

/// This SeaweedFS has no key to encrypt with, and says so by 500: what is asked of it is what counts.
#[tokio::test(flavor = "multi_thread")]
async fn encryption_that_is_set_is_asked_for_with_each_object() {
    let Some(place) = service::seaweedfs() else { return };
    let (proxy, mut through) = place.proxied().await;
    through.config.sse = Some(storage_s3::Encryption::Kms);
    through.config.sse_kms_key_id = Some("a-key".to_owned());
    let store = through.builder().with_retries(0, std::time::Duration::ZERO).build_blob_store().await.unwrap();
    proxy.plan(|_| Fault::None);
    for len in [1000, PART + 1000] {
        let (digest, bytes) = content(len as u64, len);
        drop(store.put_bytes(&digest, bytes).await);
    }
    let is_asked = |seen: &Seen| {
        seen.header("x-amz-server-side-encryption") == "aws:kms" && seen.header("x-amz-server-side-encryption-aws-kms-key-id") == "a-key"
    };
    let is_begun = |seen: &&Seen| {
        (seen.method == "PUT" && !seen.target.contains("partNumber=")) || (seen.method == "POST" && seen.target.contains("?uploads"))
    };
    let seen = proxy.seen();
    let begun: Vec<_> = seen.iter().filter(is_begun).collect();
    assert!(begun.len() == 2 && begun.into_iter().all(is_asked), "{seen:#?}");
}

/// What only Amazon is sent by default. SeaweedFS compares these checksums, RadosGW takes and forgets them.
#[tokio::test(flavor = "multi_thread")]
async fn checksums_are_sent_and_compared_where_the_dialect_has_them() {
    for mut place in service::places() {
        place.dialect = storage_s3::Dialect::amazon();
        place.dialect.copy_limit = 6 << 20;
        let (proxy, through) = place.proxied().await;
        let store = through.open().await;
        proxy.plan(|_| Fault::None);
        for len in [1000, 2 * PART + 1000] {
            let (digest, bytes) = content(len as u64, len);
            store.put_bytes(&digest, bytes.clone()).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            store.delete(&digest).await.unwrap();
            // Staged, and put together from parts, which have no checksums of ours.
            let mut upload = store.begin(registry_core::blob::WriteOptions::default()).await.unwrap();
            upload.write(bytes.clone()).await.unwrap();
            upload.commit(&digest).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            store.delete(&digest).await.unwrap();
        }
        let is_sent = |seen: &Seen| seen.method == "PUT" && seen.header("x-amz-copy-source").is_empty();
        let sent: Vec<_> = proxy.seen().into_iter().filter(is_sent).collect();
        assert!(sent.iter().all(|seen| !seen.header("x-amz-checksum-crc64nvme").is_empty() && seen.header("content-md5").is_empty()));
        if !place.is_rgw {
            let (digest, bytes) = content(7, 1000);
            proxy.plan(first(1, |seen| seen.method == "PUT", Fault::FlipBit));
            store.put_bytes(&digest, bytes.clone()).await.unwrap();
            assert!(store.read_all(&digest).await.unwrap() == bytes);
            assert_eq!(proxy.seen().iter().filter(|seen| seen.method == "PUT").count(), 2, "it was refused, and sent again");
        }
    }
}

/// A gateway in front of the service that has lost its way to it says 404 too.
#[tokio::test(flavor = "multi_thread")]
async fn a_404_that_is_not_the_services_is_not_taken_for_a_missing_blob() {
    for place in service::places() {
        let (proxy, through) = place.proxied().await;
        let store = through.builder().with_retries(0, std::time::Duration::ZERO).build_blob_store().await.unwrap();
        let (digest, bytes) = content(1, 100);
        store.put_bytes(&digest, bytes.clone()).await.unwrap();
        proxy.plan(|_| Fault::Answer("404 Not Found\r\nContent-Type: text/plain", "404 page not found"));
        let outcomes =
            [store.read_all(&digest).await.map(drop), store.put_bytes(&digest, bytes.clone()).await.map(drop), store.delete(&digest).await];
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        // An answer to HEAD has no body.
        proxy.plan(|seen| {
            let body = if seen.method == "HEAD" { "" } else { "404 page not found" };
            Fault::Answer("404 Not Found", body)
        });
        assert_eq!(store.stat(&digest).await.unwrap_err().kind(), ErrorKind::Unavailable);
        proxy.plan(|_| Fault::None);
        assert!(store.read_all(&digest).await.unwrap() == bytes);
        assert_eq!(store.stat(&content(2, 1).0).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// Cloudflare's R2 wants parts of one length, which several pieces have not: they are read and written.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_a_service_does_not_put_together_are_read_and_written() {
    for place in service::places() {
        let (proxy, mut through) = place.proxied().await;
        through.dialect.copy_limit = 6 << 20;
        let store = through.open().await;
        let refused = Fault::Answer("400 Bad Request", "<Error><Code>InvalidPart</Code></Error>");
        proxy.plan(first(1, |seen| is_complete(seen) && seen.target.contains("/blobs/"), refused));
        let (digest, bytes) = content(21, 12 << 20);
        let mut upload = store.begin(registry_core::blob::WriteOptions::default()).await.unwrap();
        upload.write(bytes.clone()).await.unwrap();
        upload.commit(&digest).await.unwrap();
        assert!(store.read_all(&digest).await.unwrap() == bytes);
        assert!(through.nothing_is_open().await);
    }
}

/// Amazon says 200, and of each object that it did not delete that it did not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_deleted_among_many_is_told_of() {
    let Some(place) = service::seaweedfs() else { return };
    place.open().await;
    let (proxy, through) = place.proxied().await;
    let store = through.objects();
    let denied = "<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>";
    proxy.plan(move |_| Fault::Answer("200 OK", denied));
    let paths = stream::iter([Ok(place.path("a")), Ok(place.path("b"))]).boxed();
    let error = store.delete_stream(paths).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }) && error.to_string().contains("s3:DeleteObject"), "{error}");
}
