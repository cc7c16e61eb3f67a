//! What a suspended upload's token says of its pieces.

use bytes::Bytes;
use registry_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::layout::is_upload_id;
use crate::promote::Piece;

const VERSION: u32 = 1;

/// The store's own part of an [`UploadToken`](registry_core::blob::UploadToken).
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    id: String,
    /// Epoch, number, bytes, ETag.
    pieces: Vec<(u64, u32, u64, String)>,
}

pub(crate) fn encode(id: &str, pieces: &[Piece]) -> Result<Bytes> {
    let pieces = pieces.iter().map(|piece| (piece.epoch, piece.number, piece.size, piece.e_tag.clone())).collect();
    let note = Note { version: VERSION, id: id.to_owned(), pieces };
    serde_json::to_vec(&note).map(Bytes::from).map_err(|error| Error::new(ErrorKind::Internal, "encoding a token").with_source(error))
}

/// The upload's id and pieces. [`ErrorKind::UploadUnknown`] if another store, or a newer release, wrote it.
pub(crate) fn decode(bytes: &[u8], offset: u64) -> Result<(String, Vec<Piece>)> {
    let unknown = || Error::new(ErrorKind::UploadUnknown, "the upload's token is not one of this store");
    let note: Note = serde_json::from_slice(bytes).map_err(|error| unknown().with_source(error))?;
    let pieces: Vec<_> = note.pieces.into_iter().map(|(epoch, number, size, e_tag)| Piece { epoch, number, size, e_tag }).collect();
    let size = pieces.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.size));
    if note.version != VERSION || !is_upload_id(&note.id) || size != Some(offset) {
        return Err(unknown());
    }
    Ok((note.id, pieces))
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::promote::Piece;

    #[test]
    fn a_token_of_as_many_pieces_as_there_may_be_fits() {
        let piece = |number| Piece { epoch: 7, number, size: 64 << 20, e_tag: "d41d8cd98f00b204e9800998ecf8427e".to_owned() };
        let pieces: Vec<_> = (0..1000).map(piece).collect();
        let id = registry_core::random_id();
        let note = encode(&id, &pieces).unwrap();
        assert!(note.len() < 60 << 10, "{}", note.len());
        assert_eq!(decode(&note, 1000 * (64 << 20)).unwrap(), (id, pieces));
        assert!(decode(&note, 7).is_err(), "its pieces have another length than the token says");
    }

    #[test]
    fn what_is_no_token_is_an_unknown_upload() {
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"version":2,"id":"00000000000000000000000000000000","pieces":[]}"#,
            br#"{"version":1,"id":"../x","pieces":[]}"#,
        ] {
            assert_eq!(decode(bad, 0).unwrap_err().kind(), registry_core::ErrorKind::UploadUnknown);
        }
    }
}
