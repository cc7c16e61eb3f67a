//! Reading.

use futures_util::{StreamExt as _, stream};
use object_store::{GetOptions, GetRange};
use registry_core::blob::{BlobInfo, BlobReader, ByteRange, ByteStream, ReadOptions};
use registry_core::{Digest, Error, ErrorKind, Result};

use crate::error::told;
use crate::shared::{Shared, modified};

pub(crate) async fn stat(shared: &Shared, digest: &Digest) -> Result<BlobInfo> {
    let meta = shared.head(&shared.layout.blob(digest)).await?.ok_or_else(|| Error::not_found(digest))?;
    Ok(BlobInfo::new(*digest, meta.size).with_modified(modified(&meta)))
}

/// No blob has more bytes, and services that count with a sign refuse a range that says so.
const LARGEST: u64 = i64::MAX.cast_unsigned();

/// Opens a blob or a part of it, in one request.
pub(crate) async fn read(shared: &Shared, digest: &Digest, options: &ReadOptions) -> Result<BlobReader> {
    let path = shared.layout.blob(digest);
    let range = match options.range {
        None => None,
        Some(ByteRange::FromTo(first, last)) if last.is_none_or(|last| first <= last && last >= LARGEST) => Some(GetRange::Offset(first)),
        Some(ByteRange::FromTo(first, Some(last))) if first <= last => Some(GetRange::Bounded(first..last + 1)),
        // No service needs to be asked for no bytes at all.
        Some(ByteRange::Last(0) | ByteRange::FromTo(..)) => return Err(unsatisfiable(shared, digest, options).await),
        Some(ByteRange::Last(n)) => Some(GetRange::Suffix(n.min(LARGEST))),
    };
    let got = match shared.objects.get_opts(&path, GetOptions { range: range.clone(), ..GetOptions::default() }).await {
        Ok(got) => got,
        Err(object_store::Error::NotFound { .. }) => return Err(Error::not_found(digest)),
        Err(error) if range.is_some() => {
            // Services have many ways to say that a range is none.
            let refused = unsatisfiable(shared, digest, options).await;
            return Err(if refused.kind() == ErrorKind::Internal { told(error, digest) } else { refused });
        }
        Err(error) => return Err(told(error, digest)),
    };
    let info = BlobInfo::new(*digest, got.meta.size).with_modified(modified(&got.meta));
    let range = options.resolve(digest, info.size)?;
    if got.range != range {
        let message = format!("the service gave bytes {:?} instead of {range:?}", got.range);
        return Err(Error::new(ErrorKind::Unavailable, message).with_key(digest));
    }
    let left = range.end - range.start;
    Ok(BlobReader::new(info, range, checked(got.into_stream(), left, *digest)))
}

/// What is wrong with a range that a service refused; [`ErrorKind::Internal`] if nothing is.
async fn unsatisfiable(shared: &Shared, digest: &Digest, options: &ReadOptions) -> Error {
    match stat(shared, digest).await {
        Ok(info) => match options.resolve(digest, info.size) {
            Ok(_) => Error::new(ErrorKind::Internal, "the range is satisfiable"),
            Err(error) => error,
        },
        Err(error) => error,
    }
}

/// The stream, which ends with an error if it has not exactly so many bytes.
fn checked(stream: futures_util::stream::BoxStream<'static, object_store::Result<bytes::Bytes>>, left: u64, digest: Digest) -> ByteStream {
    let checked = stream::unfold(Some((stream, left)), move |state| async move {
        let (mut stream, left) = state?;
        match stream.next().await {
            Some(Ok(chunk)) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), Some((stream, left))))
            }
            Some(Ok(_)) => Some((Err(Error::new(ErrorKind::Corrupt, "more bytes came than were announced").with_key(digest)), None)),
            Some(Err(error)) => Some((Err(told(error, digest)), None)),
            None if left > 0 => {
                let message = format!("the service's answer ended {left} bytes early");
                Some((Err(Error::new(ErrorKind::Interrupted, message).with_key(digest)), None))
            }
            None => None,
        }
    });
    Box::pin(checked.fuse())
}
