//! Hashes of what is sent.

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use md5::Md5;
use object_store::client::HttpRequestBody;
use sha2::{Digest as _, Sha256};

/// From here on a hash is not made on the threads that serve everybody.
const LONG: usize = 256 << 10;

/// Those of a body that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) md5: Option<[u8; 16]>,
    pub(crate) sha256: Option<[u8; 32]>,
}

/// Makes them.
pub(crate) async fn of(body: HttpRequestBody, md5: bool, sha256: bool) -> Hashes {
    if !md5 && !sha256 {
        return Hashes::default();
    }
    if body.content_length() < LONG {
        return of_now(body, md5, sha256);
    }
    // It only ends otherwise if the process does.
    tokio::task::spawn_blocking(move || of_now(body, md5, sha256)).await.unwrap_or_default()
}

fn of_now(mut body: HttpRequestBody, md5: bool, sha256: bool) -> Hashes {
    let (mut md5, mut sha256) = (md5.then(Md5::new), sha256.then(Sha256::new));
    // All of it is in memory: it never waits.
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        for piece in frame.data_ref().map_or(&[][..], |data| &data[..]).chunks(64 << 10) {
            if let Some(md5) = &mut md5 {
                md5.update(piece);
            }
            if let Some(sha256) = &mut sha256 {
                sha256.update(piece);
            }
        }
    }
    Hashes { md5: md5.map(|md5| md5.finalize().into()), sha256: sha256.map(|sha256| sha256.finalize().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_in_pieces_has_the_hashes_of_all_of_it() {
        let payload: object_store::PutPayload =
            [bytes::Bytes::from_static(b"a"), bytes::Bytes::new(), bytes::Bytes::from_static(b"bc")].into_iter().collect();
        let expected = |bytes: &[u8]| Hashes { md5: Some(Md5::digest(bytes).into()), sha256: Some(Sha256::digest(bytes).into()) };
        assert_eq!(of(payload.into(), true, true).await, expected(b"abc"));
        let long = vec![7; LONG + 1];
        assert_eq!(of(long.clone().into(), true, true).await, expected(&long));
        assert_eq!(of(long.into(), false, false).await, Hashes::default());
    }
}
