//! A service that stops in the middle, and one that is only slow. For the tests of each crate that speaks HTTP to one; what it is, its `service` tells.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use registry_core::{BlobStore, BlobStoreExt as _, ErrorKind, Result};

use crate::proxy::{At, Fault, Seen, first};
use crate::service::{Place, stalling};
use crate::whole::Blob;

const IDLE: Duration = Duration::from_secs(1);

/// In parts of 64 MiB, so that each blob here is one request.
async fn open(place: &Place, idle: Duration, retries: u32) -> impl BlobStore + use<> {
    place.open_with(64 << 20, idle, retries).await
}

async fn patient(place: &Place) -> impl BlobStore + use<> {
    open(place, Duration::from_secs(30), 5).await
}

async fn impatient(place: &Place) -> impl BlobStore + use<> {
    open(place, IDLE, 1).await
}

/// Too much for what lies between a client and a service that takes nothing in: the kernel has up to 4 MiB of what was sent.
fn blob(seed: u64) -> Blob {
    Blob::of_one_object(seed, 12 << 20)
}

async fn within_a_minute<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it hangs")
}

fn is_too_late<T: std::fmt::Debug>(outcome: Result<T>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_no_more_in_or_does_not_answer_is_given_up_and_tried_again() {
    let Some(place) = stalling().await else { return };
    let stalls = [Fault::StallRequest(At::Byte(0)), Fault::StallRequest(At::MiddleOfBody), Fault::StallAnswer(At::Byte(0))];
    let rounds = stalls.into_iter().enumerate().map(|(n, stall)| {
        let (place, blob) = (place.elsewhere(), blob(20 + n as u64));
        async move {
            // Makes what is not there yet.
            drop(patient(&place).await);
            let (mut proxy, through) = place.proxied().await;
            let store = impatient(&through).await;
            let is_put = |seen: &Seen| seen.method == "PUT";
            proxy.plan(first(usize::MAX, is_put, stall.clone()));
            is_too_late(within_a_minute(store.put_bytes(&blob.digest, blob.bytes.clone())).await);
            assert_eq!(proxy.seen().len(), 2, "it was tried again, once");
            proxy.plan(first(1, is_put, stall));
            within_a_minute(store.put_bytes(&blob.digest, blob.bytes.clone())).await.unwrap();
            proxy.down().await;
            assert!(place.check(&blob).await);
        }
    });
    futures_util::future::join_all(rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_stalls_goes_on_where_it_was_or_ends() {
    let Some(place) = stalling().await else { return };
    let blob = blob(30);
    patient(&place).await.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    let stalls = [Fault::StallAnswer(At::Byte(0)), Fault::StallAnswer(At::EndOfHead(0)), Fault::StallAnswer(At::MiddleOfBody)];
    let rounds = stalls.into_iter().map(|stall| {
        let (place, blob) = (&place, &blob);
        async move {
            let (proxy, through) = place.proxied().await;
            let store = impatient(&through).await;
            proxy.plan(first(1, |_| true, stall.clone()));
            assert!(within_a_minute(store.read_all(&blob.digest)).await.unwrap() == blob.bytes);
            // No second answer gets anywhere.
            proxy.plan(move |seen| if seen.number == 1 { stall.clone() } else { Fault::StallAnswer(At::EndOfHead(0)) });
            is_too_late(within_a_minute(store.read_all(&blob.digest)).await);
            proxy.plan(|_| Fault::StallAnswer(At::Byte(0)));
            is_too_late(within_a_minute(store.read_all(&blob.digest)).await);
            assert_eq!(proxy.seen().len(), 2, "it was tried again, once");
        }
    });
    futures_util::future::join_all(rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_is_not_given_up_however_long_it_takes() {
    let Some(place) = stalling().await else { return };
    let (proxy, through) = place.proxied().await;
    let idle = Duration::from_secs(2);
    let store = open(&through, idle, 0).await;
    // 10 MB/s: what the kernel has taken in is under way for less than half a second.
    proxy.plan(|_| Fault::Slow(512 << 10));
    let blob = Blob::of_one_object(31, 48 << 20);
    let began = Instant::now();
    store.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    let put = began.elapsed();
    assert!(store.read_all(&blob.digest).await.unwrap() == blob.bytes);
    let got = began.elapsed() - put;
    assert!(put > 2 * idle && got > 2 * idle, "{put:?}, {got:?}");
}

/// Who reads takes longer over each piece than nothing may move, and the connection breaks after each megabyte: no budget is used up.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_not_cut_off_and_a_long_read_goes_on_however_often_it_breaks() {
    let Some(place) = stalling().await else { return };
    let blob = blob(32);
    patient(&place).await.put_bytes(&blob.digest, blob.bytes.clone()).await.unwrap();
    let (proxy, through) = place.proxied().await;
    let store = open(&through, IDLE, 0).await;
    proxy.plan(|_| Fault::None);
    let mut reader = store.read(&blob.digest, Default::default()).await.unwrap();
    let mut found = Vec::new();
    let mut pauses = 0;
    while let Some(chunk) = reader.stream.next().await {
        found.extend_from_slice(&chunk.unwrap());
        if found.len() > (pauses + 1) * (4 << 20) && pauses < 2 {
            tokio::time::sleep(3 * IDLE / 2).await;
            pauses += 1;
        }
    }
    assert!(found == blob.bytes && proxy.seen().len() == 1 && pauses == 2, "{:?}", proxy.seen());
    proxy.plan(|_| Fault::CutAnswer(At::Byte(1 << 20)));
    assert!(store.read_all(&blob.digest).await.unwrap() == blob.bytes);
    assert!(proxy.seen().len() >= 12, "{}", proxy.seen().len());
}
