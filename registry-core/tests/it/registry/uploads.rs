//! Uploads: whole, in parts, interrupted, raced for, abandoned.

use super::*;

#[tokio::test]
async fn content_with_another_digest_changes_nothing_and_the_upload_lives() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (right, wrong) = (Digest::sha256(b"hello"), Digest::sha256(b"hellO"));
    let error = registry.push_blob(&name, &wrong, None, once("hello".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestInvalid);
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("hel".into())).await.unwrap();
    let error = registry.finish_upload(&key, &wrong, None, Some(once("lo".into()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestInvalid);
    for digest in [right, wrong] {
        assert_eq!(registry.blob_info(&name, &digest).await.unwrap_err().kind(), ErrorKind::BlobUnknown);
        assert!(!fixture.blobs.contains(&digest).await.unwrap());
    }
    // The same request again, with the digest put right.
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 3);
    registry.append(&key, Some(3), once("lo".into())).await.unwrap();
    assert_eq!(registry.finish_upload(&key, &wrong, Some(5), None).await.unwrap_err().kind(), ErrorKind::DigestInvalid);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 5);
    registry.finish_upload(&key, &right, Some(5), None).await.unwrap();
    assert_eq!(registry.blob_info(&name, &right).await.unwrap().size, 5);
}

#[tokio::test]
async fn bytes_out_of_order_are_refused_with_the_right_offset_and_the_upload_lives() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, Some(0), once("abc".into())).await.unwrap();
    for start in [0, 2, 4, u64::MAX] {
        let error = registry.append(&key, Some(start), once("x".into())).await.unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::RangeInvalid, Some(3)));
        let error = registry.finish_upload(&key, &Digest::sha256(b"abcx"), Some(start), Some(once("x".into()))).await.unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::RangeInvalid, Some(3)));
    }
    registry.finish_upload(&key, &Digest::sha256(b"abcdef"), Some(3), Some(once("def".into()))).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_cut_off_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    let error = registry.append(&key, None, chunks(vec![Ok("abc".into()), Err(interrupted())])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 3);
    let cut = chunks(vec![Ok("de".into()), Err(interrupted())]);
    let digest = Digest::sha256(b"abcdef");
    assert_eq!(registry.finish_upload(&key, &digest, None, Some(cut)).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 5);
    registry.finish_upload(&key, &digest, Some(5), Some(once("f".into()))).await.unwrap();
}

#[tokio::test]
async fn a_body_that_lies_about_its_length_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    let too_long = || Error::new(ErrorKind::SizeInvalid, "more than was declared");
    let error = registry.append(&key, None, chunks(vec![Ok("abc".into()), Err(too_long())])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SizeInvalid);
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 0);
    registry.append(&key, Some(0), once("ab".into())).await.unwrap();
    registry.append(&key, Some(2), chunks(vec![Ok("xyz".into()), Err(too_long())])).await.unwrap_err();
    assert_eq!(registry.upload_status(&key).await.unwrap().offset, 2);
    registry.finish_upload(&key, &Digest::sha256(b"abc"), Some(2), Some(once("c".into()))).await.unwrap();
}

#[tokio::test]
async fn finishing_again_what_was_finished_succeeds_and_other_digests_do_not() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("abc".into())).await.unwrap();
    let digest = Digest::sha256(b"abc");
    for _ in 0..3 {
        assert_eq!(registry.finish_upload(&key, &digest, Some(3), None).await.unwrap().size, 3);
    }
    assert_eq!(registry.finish_upload(&key, &Digest::sha256(b""), None, None).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    assert_eq!(registry.append(&key, None, once("x".into())).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    assert_eq!(registry.upload_status(&key).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
}

#[tokio::test]
async fn every_way_to_upload_takes_sha512_announced_or_not() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let of = |content: &[u8]| Digest::of(Algorithm::Sha512, content);
    registry.push_blob(&name, &of(b"one"), None, once("one".into())).await.unwrap();
    for (algorithm, content) in [(Algorithm::Sha256, "two"), (Algorithm::Sha512, "three")] {
        let key = registry.start_upload(&name, "", algorithm).await.unwrap();
        registry.append(&key, None, once(content.into())).await.unwrap();
        registry.finish_upload(&key, &of(content.as_bytes()), None, None).await.unwrap();
    }
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.finish_upload(&key, &of(b"four"), None, Some(once("four".into()))).await.unwrap();
    for content in ["one", "two", "three", "four"] {
        assert_eq!(registry.blob(&name, &of(content.as_bytes()), None).await.unwrap().collect().await.unwrap(), content);
    }
}

#[tokio::test]
async fn an_empty_blob_can_be_pushed_in_every_way() {
    for way in 0..3 {
        let fixture = Fixture::new();
        let (registry, name, digest) = (fixture.registry(), repo("a"), Digest::sha256(b""));
        if way == 0 {
            registry.push_blob(&name, &digest, Some(0), once(Bytes::new())).await.unwrap();
        } else {
            let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
            if way == 2 {
                registry.append(&key, Some(0), once(Bytes::new())).await.unwrap();
            }
            registry.finish_upload(&key, &digest, None, None).await.unwrap();
        }
        assert!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository_and_its_owner() {
    let fixture = Fixture::new();
    let registry = fixture.registry();
    let key = registry.start_upload(&repo("a"), "alice", Algorithm::Sha256).await.unwrap();
    for (repository, owner) in [("b", "alice"), ("a", "bob"), ("a", "")] {
        let mut other = key.clone();
        (other.repository, other.owner) = (repo(repository), owner.to_owned());
        assert_eq!(registry.upload_status(&other).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
        assert_eq!(registry.append(&other, None, once("x".into())).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
        assert_eq!(registry.cancel_upload(&other).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    }
    registry.append(&key, None, once("x".into())).await.unwrap();
    registry.cancel_upload(&key).await.unwrap();
    assert_eq!(registry.upload_status(&key).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    let later = registry_core::Timestamp::from_millis(i64::MAX);
    assert_eq!(fixture.blobs.uploads(later).count().await, 0, "a cancelled upload's bytes are dropped");
}

#[tokio::test]
async fn of_two_requests_for_one_offset_exactly_one_wins() {
    let fixture = Fixture::new();
    let (registry, other, name) = (fixture.registry(), fixture.registry(), repo("a"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("base ".into())).await.unwrap();
    // The first request has begun to arrive when the second takes over.
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    send.send(Ok(Bytes::from("late"))).unwrap();
    let slow: ByteStream = Box::pin(futures_util::stream::unfold(receive, |mut r| async { r.recv().await.map(|item| (item, r)) }));
    let first = tokio::spawn({
        let (registry, key) = (registry.clone(), key.clone());
        async move { registry.append(&key, Some(5), slow).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.append(&key, Some(5), once("won".into())).await.unwrap();
    send.send(Ok(Bytes::from(" part"))).unwrap();
    drop(send);
    let error = first.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::RangeInvalid, Some(8)));
    registry.finish_upload(&key, &Digest::sha256(b"base won"), Some(8), None).await.unwrap();
}

#[tokio::test]
async fn a_push_whose_client_hangs_up_at_the_end_is_still_whole() {
    let fixture = Fixture::new();
    let (registry, name, digest) = (fixture.registry(), repo("a"), Digest::sha256(b"abc"));
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&key, None, once("abc".into())).await.unwrap();
    {
        let mut finish = Box::pin(registry.finish_upload(&key, &digest, None, None));
        // The request is dropped at its first await: its work goes on by itself.
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(finish.as_mut().poll(cx).is_pending())).await;
        assert!(first);
    }
    for _ in 0..1000 {
        if registry.blob_info(&name, &digest).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the commit was left half done");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_takes_longer_than_the_expiry_is_not_taken_for_abandoned() {
    let clock: Arc<dyn registry_core::Clock> = Arc::new(registry_core::testing::TokioClock::default());
    let blobs = MemoryBlobStore::default().with_clock(Arc::clone(&clock));
    let metadata = MemoryMetadataStore::with_clock(Arc::clone(&clock));
    let registry = Registry::builder(Arc::new(blobs), Arc::new(metadata)).clock(clock).build();
    let (name, hour) = (repo("a"), Duration::from_secs(3600));
    let collector = tokio::spawn({
        let registry = registry.clone();
        async move {
            loop {
                registry.collect_garbage(&GcOptions::default()).await.unwrap();
                tokio::time::sleep(hour).await;
            }
        }
    });
    let slow = |from: u8, n: u8| -> ByteStream {
        Box::pin(futures_util::stream::iter(from..from + n).then(move |byte| async move {
            tokio::time::sleep(hour).await;
            Ok(Bytes::from(vec![byte]))
        }))
    };
    let key = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    assert_eq!(registry.append(&key, Some(0), slow(0, 100)).await.unwrap().offset, 100);
    let digest = Digest::sha256(&(0..200).collect::<Vec<u8>>());
    registry.finish_upload(&key, &digest, Some(100), Some(slow(100, 100))).await.unwrap();
    assert_eq!(registry.blob(&name, &digest, None).await.unwrap().collect().await.unwrap().len(), 200);
    collector.abort();
}

#[tokio::test]
async fn abandoned_uploads_are_dropped_and_live_ones_are_not() {
    let clock = Arc::new(ManualClock::new(registry_core::Clock::now(&registry_core::SystemClock)));
    let blobs = MemoryBlobStore::default().with_clock(Arc::clone(&clock) as _);
    let metadata = MemoryMetadataStore::with_clock(Arc::clone(&clock) as _);
    let registry = Registry::builder(Arc::new(blobs), Arc::new(metadata)).clock(Arc::clone(&clock) as _).build();
    let name = repo("a");
    let old = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&old, None, once("old".into())).await.unwrap();
    clock.advance(Duration::from_secs(47 * 3600));
    let live = registry.start_upload(&name, "", Algorithm::Sha256).await.unwrap();
    registry.append(&live, None, once("live".into())).await.unwrap();
    clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(registry.collect_garbage(&GcOptions::default()).await.unwrap().uploads, 1);
    assert_eq!(registry.upload_status(&old).await.unwrap_err().kind(), ErrorKind::UploadUnknown);
    registry.finish_upload(&live, &Digest::sha256(b"live"), Some(4), None).await.unwrap();
}
