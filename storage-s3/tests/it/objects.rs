//! [`S3Store`](storage_s3::S3Store) as an [`ObjectStore`](object_store::ObjectStore): `object_store`'s own suite.

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore as _, integration};
use storage_s3::S3Store;

use crate::service;

/// What of the suite is left out, and why: `put_opts` and `copy_if_not_exists` (conditional writes are not the same everywhere, and not supported), `list_paginated` and
/// `response_extensions` (for another trait, and for clients over `object_store`'s own HTTP connector).
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_an_object_store() {
    type Part = fn(S3Store) -> BoxFuture<'static, ()>;
    // Each begins with nothing.
    let parts: [Part; 7] = [
        |store| Box::pin(async move { integration::list_uses_directories_correctly(&store).await }),
        |store| Box::pin(async move { integration::list_with_delimiter(&store).await }),
        |store| Box::pin(async move { integration::list_with_offset_exclusivity(&store).await }),
        |store| Box::pin(async move { integration::get_opts(&store).await }),
        |store| Box::pin(async move { integration::rename_and_copy(&store).await }),
        |store| Box::pin(async move { drop(integration::get_nonexistent_object(&store, None).await.unwrap_err()) }),
        |store| Box::pin(async move { integration::stream_get(&store).await }),
    ];
    for mut place in service::places() {
        // It wants all of a bucket.
        place.config.bucket = format!("suite-{}", &registry_core::random_id()[..12]);
        place.open().await;
        let store = place.objects();
        if place.is_rgw {
            // SeaweedFS, asked for what is behind the key `a`, leaves out all that is in the folder `a`.
            integration::put_get_delete_list(&store).await;
        } else {
            // RadosGW has hyphens for the underscores in names of metadata.
            integration::put_get_attributes(&store).await;
        }
        for part in parts {
            part(store.clone()).await;
            let left = store.list(None).map_ok(|meta| meta.location).boxed();
            store.delete_stream(left).try_collect::<Vec<_>>().await.unwrap();
        }
        integration::multipart(&store, &store).await;
        integration::multipart_put_part_out_of_order(&store, &store).await;
        integration::multipart_out_of_order(&store).await;
        integration::multipart_race_condition(&store, true).await;
    }
}
