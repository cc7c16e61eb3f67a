//! The suite of [`BlobStore`](registry_core::BlobStore), on each service.

use std::sync::Arc;

use registry_core::testing::blob_store::{self, Fixture};

use crate::service::{self, Place};

/// Empties the folder when a case is over: RadosGW has it all in memory.
struct Emptied(Place);

impl Drop for Emptied {
    fn drop(&mut self) {
        let place = self.0.clone();
        tokio::spawn(async move { place.empty().await });
    }
}

async fn fixture(place: Place) -> Fixture {
    let place = Arc::new(place.elsewhere());
    let emptied = Emptied((*place).clone());
    let open = move || {
        let place = Arc::clone(&place);
        async move { Arc::new(place.open().await) as Arc<dyn registry_core::BlobStore> }
    };
    Fixture::new(open().await).with_reopen(open).with_guard(emptied)
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_seaweedfs_conform() {
    let Some(place) = service::seaweedfs() else { return };
    blob_store::check(move || fixture(place.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_radosgw_conform() {
    let Some(place) = service::radosgw() else { return };
    blob_store::check(move || fixture(place.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_too_large_for_one_copy_conform() {
    for mut place in service::places() {
        place.dialect.copy_limit = 1 << 20;
        blob_store::check(move || fixture(place.clone())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_where_there_are_no_part_copies_conform() {
    for mut place in service::places() {
        (place.dialect.part_copies, place.dialect.bulk_deletes) = (false, false);
        blob_store::check(move || fixture(place.clone())).await;
    }
}
