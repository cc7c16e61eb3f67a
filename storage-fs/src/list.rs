//! Listing blobs, one shard in memory at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use registry_core::blob::{BlobInfo, ItemStream, ListOptions};
use registry_core::{Algorithm, Digest, Result};

use crate::layout;
use crate::shared::{Shared, blob_info, failed, pages};

/// Blobs looked at in one go.
const BATCH: usize = 512;

struct Walk {
    options: ListOptions,
    shards: std::vec::IntoIter<u8>,
    /// Those of the current shard that are yet to be looked at.
    digests: VecDeque<Digest>,
}

pub(crate) fn list(shared: &Arc<Shared>, options: ListOptions) -> ItemStream<'static, BlobInfo> {
    let shards = options.shards().into_iter();
    pages(shared, Walk { options, shards, digests: VecDeque::new() }, |shared, mut walk| {
        loop {
            while walk.digests.is_empty() {
                let Some(shard) = walk.shards.next() else { return Ok(None) };
                walk.digests = names(shared, shard, &walk.options)?.into();
            }
            let batch = walk.digests.len().min(BATCH);
            let infos = look(shared, walk.digests.drain(..batch))?;
            if !infos.is_empty() {
                return Ok(Some((infos, walk)));
            }
        }
    })
}

/// The digests of a shard that are asked for, in order.
fn names(shared: &Shared, shard: u8, options: &ListOptions) -> Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for algorithm in Algorithm::ALL {
        let path = layout::shard(algorithm, shard);
        let names = shared.sys.names(&path).map_err(|error| failed(&error, "listing blobs").with_key(&path))?;
        let first = digests.len();
        digests.extend(names.iter().filter_map(|name| layout::digest_of(algorithm, shard, name)).filter(|digest| options.selects(digest)));
        // Algorithms come in the order of digests.
        digests[first..].sort_unstable();
    }
    Ok(digests)
}

fn look(shared: &Shared, digests: impl Iterator<Item = Digest>) -> Result<Vec<BlobInfo>> {
    let mut infos = Vec::new();
    for digest in digests {
        // What was deleted meanwhile, or is no file, is no blob.
        let meta = shared.sys.stat(&layout::blob(&digest)).map_err(|error| failed(&error, "listing blobs").with_key(digest))?;
        infos.extend(meta.and_then(|meta| blob_info(&digest, &meta).ok()));
    }
    Ok(infos)
}
