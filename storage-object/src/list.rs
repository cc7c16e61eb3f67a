//! Listing blobs.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, Peekable};
use futures_util::{StreamExt as _, TryStreamExt as _};
use registry_core::blob::{BlobInfo, ItemStream, ListOptions};
use registry_core::{Algorithm, Digest, Result};

use crate::error::told;
use crate::layout::Layout;
use crate::shared::{Shared, modified};

type Blobs = Pin<Box<Peekable<BoxStream<'static, Result<BlobInfo>>>>>;

/// The blobs, shard by shard; within a shard in the order of their digests, if the service lists keys in order.
///
/// Keys are in the order of shards too, so that there is one listing for each algorithm, however many shards there are. The two are merged.
pub(crate) fn list(shared: &Arc<Shared>, options: ListOptions) -> ItemStream<'static, BlobInfo> {
    let [one, two] = Algorithm::ALL.map(|algorithm| Box::pin(of(shared, algorithm, &options).peekable()));
    let merged = stream::unfold((one, two), |(mut one, mut two): (Blobs, Blobs)| async move {
        let next = match (one.as_mut().peek().await, two.as_mut().peek().await) {
            (Some(Ok(a)), Some(Ok(b))) if (b.digest.shard(), b.digest) < (a.digest.shard(), a.digest) => two.next().await,
            (None, _) => two.next().await,
            _ => one.next().await,
        };
        next.map(|next| (next, (one, two)))
    });
    Box::pin(merged.fuse())
}

/// The blobs of one algorithm.
fn of(shared: &Arc<Shared>, algorithm: Algorithm, options: &ListOptions) -> BoxStream<'static, Result<BlobInfo>> {
    let folder = match options.shard {
        Some(shard) => shared.layout.shard(algorithm, shard),
        None => shared.layout.blobs(algorithm),
    };
    // A digest of the other algorithm comes before all of this one's that are in a later shard, and maybe before some of its own.
    let objects = match options.after {
        Some(after) => shared.objects.list_with_offset(Some(&folder), &shared.layout.before_shard(algorithm, after.shard())),
        None => shared.objects.list(Some(&folder)),
    };
    let options = options.clone();
    let blobs = objects.map_err(move |error| told(error, &folder)).try_filter_map(move |meta| {
        let digest: Option<Digest> = Layout::digest(algorithm, &meta.location).filter(|digest| options.selects(digest));
        std::future::ready(Ok(digest.map(|digest| BlobInfo::new(digest, meta.size).with_modified(modified(&meta)))))
    });
    blobs.boxed()
}
