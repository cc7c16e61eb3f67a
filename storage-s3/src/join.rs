//! Putting objects together on the service's side.

use std::ops::Range;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use registry_core::{Error, ErrorKind};
use storage_object::CopyParts;

use crate::store::{S3Store, generic, known};

/// Bytes that are copied as one part, if nothing speaks for more: enough of them are under way at a time, and each is done soon.
const PART: u64 = 128 << 20;

/// Parts that are copied at a time.
const AT_ONCE: usize = 8;

/// The fewest bytes of a part that is not the last.
const LEAST: u64 = 5 << 20;

/// The most parts of an object.
const MOST: u64 = 10_000;

/// The ranges to copy: of each source as many as it takes, of about the same size, so that none is too small for a part.
fn parts(sources: &[(Path, Range<u64>)], limit: u64) -> Vec<(Path, Range<u64>)> {
    let all: u64 = sources.iter().map(|(_, range)| range.end - range.start).sum();
    // Each source may end in a part that is not full.
    let even = all.div_ceil(MOST.saturating_sub(sources.len() as u64).max(1));
    let part = PART.max(even).min(limit.max(LEAST));
    let of_source = |(path, range): &(Path, Range<u64>)| {
        let len = range.end - range.start;
        let count = len.div_ceil(part).min((len / LEAST).max(1));
        let (path, start) = (path.clone(), range.start);
        let cut = move |n: u64| start + u64::try_from(u128::from(len) * u128::from(n) / u128::from(count)).unwrap_or(len);
        (0..count).map(move |n| (path.clone(), cut(n)..cut(n + 1))).collect::<Vec<_>>()
    };
    sources.iter().flat_map(of_source).collect()
}

#[async_trait]
impl CopyParts for S3Store {
    async fn join(&self, sources: &[(Path, Range<u64>)], to: &Path) -> object_store::Result<()> {
        let id = self.create_multipart(to).await?;
        let parts = parts(sources, self.dialect().copy_limit);
        let count = parts.len();
        let copies = stream::iter(parts.into_iter().enumerate()).map(|(n, (from, range))| {
            let id = &id;
            async move { self.requests().copy_part((&from, range), to, id, n + 1).await }
        });
        let copied: Result<Vec<_>, Error> = copies.buffered(AT_ONCE).try_collect().await;
        let outcome = match copied {
            Ok(copied) if copied.len() == count => {
                let parts = copied.into_iter().map(|e_tag| PartId { content_id: e_tag }).collect();
                match self.complete_multipart(to, &id, parts).await {
                    Ok(_) => return Ok(()),
                    Err(error) => known(error),
                }
            }
            Ok(_) => Error::new(ErrorKind::Internal, "parts are missing"),
            Err(error) => error,
        };
        if let Err(error) = self.abort_multipart(to, &id).await {
            tracing::info!(path = %to, %error, "could not abort a multipart upload; it is left for the clean-up of abandoned uploads");
        }
        // Services without part copies say so in several ways: that there is no such thing, or that the request makes no sense. Cloudflare's R2 wants all parts but the
        // last to be of one length, which what comes from several sources is not. RadosGW does not find a source whose key
        // has a percent sign in it.
        match outcome.kind() {
            ErrorKind::Unsupported | ErrorKind::Internal | ErrorKind::NotFound => {
                Err(object_store::Error::NotSupported { source: Box::new(outcome) })
            }
            _ => Err(generic(outcome)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_neither_too_small_nor_too_large_nor_too_many() {
        let source = |name: &str, len: u64| (Path::from(name), 0..len);
        for (lens, limit) in [
            (vec![8 << 20, 3], 5 << 30),
            (vec![600 << 20], 5 << 30),
            (vec![(128 << 20) + 1, 7], 5 << 30),
            (vec![5 << 40], 5 << 30),
            (vec![20 << 30, 8 << 20, 1], 256 << 20),
            (vec![12 << 20], 5 << 20),
        ] {
            let sources: Vec<_> = lens.iter().enumerate().map(|(n, len)| source(&format!("{n}"), *len)).collect();
            let parts = parts(&sources, limit);
            assert!(parts.len() as u64 <= MOST, "{lens:?}: {}", parts.len());
            let sizes: Vec<_> = parts.iter().map(|(_, range)| range.end - range.start).collect();
            assert!(sizes[..sizes.len() - 1].iter().all(|size| *size >= LEAST), "{lens:?}: {sizes:?}");
            assert!(sizes.iter().all(|size| *size <= limit.max(2 * LEAST)), "{lens:?}: {sizes:?}");
            // End to end.
            for (path, whole) in &sources {
                let mut next = 0;
                for (_, range) in parts.iter().filter(|(of, _)| of == path) {
                    assert_eq!(range.start, next);
                    next = range.end;
                }
                assert_eq!(next, whole.end);
            }
        }
    }
}
