//! Listing blobs.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use registry_core::blob::{BlobInfo, ItemStream, ListOptions};
use registry_core::{Algorithm, Digest};

use crate::error::told;
use crate::layout::Layout;
use crate::shared::{Shared, modified};

/// The blobs, shard by shard; within a shard in the order of their digests, if the service lists keys in order.
pub(crate) fn list(shared: &Arc<Shared>, options: ListOptions) -> ItemStream<'static, BlobInfo> {
    let shared = Arc::clone(shared);
    let folders = options.shards().into_iter().flat_map(|shard| Algorithm::ALL.map(|algorithm| (algorithm, shard)));
    let folders = folders.filter(move |(algorithm, shard)| {
        // All of an algorithm's digests come before the next one's.
        options.after.is_none_or(|after: Digest| (after.shard(), after.algorithm()) <= (*shard, *algorithm))
    });
    let listed = stream::iter(folders.collect::<Vec<_>>()).flat_map(move |(algorithm, shard)| {
        let folder = shared.layout.shard(algorithm, shard);
        let after = options.after.filter(|after| after.algorithm() == algorithm && after.shard() == shard);
        let objects = match after {
            Some(after) => shared.objects.list_with_offset(Some(&folder), &shared.layout.blob(&after)),
            None => shared.objects.list(Some(&folder)),
        };
        let options = options.clone();
        objects.map_err(move |error| told(error, &folder)).try_filter_map(move |meta| {
            let digest = Layout::digest(algorithm, &meta.location).filter(|digest| options.selects(digest));
            std::future::ready(Ok(digest.map(|digest| BlobInfo::new(digest, meta.size).with_modified(modified(&meta)))))
        })
    });
    Box::pin(listed)
}
