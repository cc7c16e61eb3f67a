//! Where things are below the root.

use registry_core::{Algorithm, Digest, random_id};

/// The version of what is described in the crate's documentation.
pub(crate) const VERSION: u32 = 1;

pub(crate) const FORMAT: &str = "format";
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const UPLOADS: &str = "uploads";
pub(crate) const META: &str = "_meta";

/// The file of a blob.
pub(crate) fn blob(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}/{}/{}/{hex}", digest.algorithm(), &hex[..2])
}

/// The directory that blobs of this algorithm and first byte are in.
pub(crate) fn shard(algorithm: Algorithm, shard: u8) -> String {
    format!("{BLOBS}/{algorithm}/{shard:02x}")
}

/// The directory of all shards of an algorithm.
pub(crate) fn algorithm(algorithm: Algorithm) -> String {
    format!("{BLOBS}/{algorithm}")
}

/// The blob that a file in a shard's directory is; `None` for names that are not ours.
pub(crate) fn digest_of(algorithm: Algorithm, shard: u8, name: &str) -> Option<Digest> {
    let digest: Digest = format!("{algorithm}:{name}").parse().ok()?;
    (digest.shard() == shard).then_some(digest)
}

/// The file that a named object is. One flat directory, a `/` of the name as `+`: an object `a` and an object `a/b` can both be there.
pub(crate) fn object(name: &str) -> String {
    format!("{META}/{}", name.replace('/', "+"))
}

/// The object that a file in `_meta/` is, if it is one.
pub(crate) fn object_of(file: &str) -> Option<String> {
    let name = file.replace('+', "/");
    registry_core::blob::check_object_name(&name).ok().map(|()| name)
}

/// A file in `uploads/`.
pub(crate) fn upload(name: &str) -> String {
    format!("{UPLOADS}/{name}")
}

/// A name for a file that is nobody's to resume: what it becomes, or is dropped for, is decided by who created it.
pub(crate) fn temporary(purpose: &str) -> String {
    format!("{}.{purpose}", random_id())
}

/// Whether this can be a file of ours in `uploads/`: 32 hex digits, a dot, and a few harmless characters. No path gets past this.
pub(crate) fn is_upload_name(name: &str) -> bool {
    let Some((id, rest)) = name.split_at_checked(32) else { return false };
    let harmless = |c: u8| c.is_ascii_digit() || c.is_ascii_lowercase() || c == b'.';
    is_id(id) && rest.len() > 1 && rest.len() <= 100 && rest.starts_with('.') && rest.bytes().all(harmless)
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of an upload's staged file: `<id>.<epoch>`, and where it was taken up from a token, `<id>.<epoch>.<token's epoch>.<token's offset>`.
///
/// The last two say which bytes of the file a token vouches for: a file that was taken up from another token may have the same length and other bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) id: String,
    pub(crate) epoch: u64,
    /// Epoch and offset of the token that the file was taken up from.
    pub(crate) from: Option<(u64, u64)>,
}

impl Staged {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { id: random_id(), epoch, from: None }
    }

    /// The file's name in `uploads/`.
    pub(crate) fn name(&self) -> String {
        match self.from {
            None => format!("{}.{}", self.id, self.epoch),
            Some((epoch, offset)) => format!("{}.{}.{epoch}.{offset}", self.id, self.epoch),
        }
    }

    pub(crate) fn path(&self) -> String {
        upload(&self.name())
    }

    /// Reads a name; `None` if it is none.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let id = parts.next().filter(|id| is_id(id))?.to_owned();
        let numbers: Vec<u64> = parts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let parsed = match numbers[..] {
            [epoch] => Self { id, epoch, from: None },
            [epoch, from, offset] => Self { id, epoch, from: Some((from, offset)) },
            _ => return None,
        };
        // One spelling only: no `+1`, no `01`.
        (parsed.name() == name).then_some(parsed)
    }

    /// What `epoch` calls the file when it takes the upload up from this one's token at `offset`.
    pub(crate) fn taken_up(&self, epoch: u64, offset: u64) -> Self {
        Self { id: self.id.clone(), epoch, from: Some((self.epoch, offset)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_blob_lies_under_its_algorithm_and_first_byte() {
        let digest = Digest::sha256(b"");
        let path = blob(&digest);
        assert_eq!(path, format!("blobs/sha256/e3/{}", digest.hex()));
        assert!(path.starts_with(&shard(digest.algorithm(), digest.shard())));
        assert_eq!(digest_of(Algorithm::Sha256, 0xe3, &digest.hex()), Some(digest));
    }

    #[test]
    fn foreign_files_in_a_shard_are_no_blobs() {
        let hex = Digest::sha256(b"").hex();
        for (shard, name) in
            [(0xe4, hex.as_str()), (0xe3, "README"), (0xe3, &hex[..62]), (0xe3, &hex.to_uppercase()), (0xe3, ".."), (0xe3, "")]
        {
            assert_eq!(digest_of(Algorithm::Sha256, shard, name), None, "{shard:x} {name}");
        }
        assert_eq!(digest_of(Algorithm::Sha512, 0xe3, &hex), None);
    }

    #[test]
    fn a_staged_name_reads_back_and_has_one_spelling() {
        let first = Staged { id: ID.to_owned(), epoch: 7, from: None };
        let second = first.taken_up(u64::MAX, 1 << 40);
        for staged in [&first, &second] {
            assert_eq!(Staged::parse(&staged.name()).as_ref(), Some(staged));
            assert!(is_upload_name(&staged.name()));
        }
        for name in
            ["", ID, "x.1", &format!("{ID}.01"), &format!("{ID}.+1"), &format!("{ID}.1.2"), &format!("{ID}.1.2.3.4"), &format!("{ID}.put")]
        {
            assert_eq!(Staged::parse(name), None, "{name}");
        }
    }

    #[test]
    fn no_path_passes_for_the_name_of_an_upload() {
        assert!(is_upload_name(&temporary("put")));
        for name in
            ["", ".", "..", ID, &format!("{ID}."), &format!("{ID}./x"), &format!("{ID}.1/../../x"), "../format", &format!("{ID}.\0"), "ä"]
        {
            assert!(!is_upload_name(name), "{name:?}");
        }
        assert!(!is_upload_name(&format!("{ID}.{}", "9".repeat(200))));
    }

    #[test]
    fn objects_with_a_common_prefix_do_not_collide() {
        assert_eq!(object("zone"), "_meta/zone");
        assert_ne!(object("a/b"), object("a"));
        assert_eq!(object_of("a+b").as_deref(), Some("a/b"));
        assert_eq!(object_of(".hidden"), None);
        assert_eq!(object_of("A"), None);
    }
}
