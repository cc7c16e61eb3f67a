//! Entity tags: `ETag`, `If-None-Match`, `If-Range`.
//!
//! The entity tag of content is its digest in quotes, and strong: the digest names the bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderValue;
use http::header::{HeaderMap, IF_NONE_MATCH, IF_RANGE};
use registry_core::Digest;
use std::fmt::Write as _;

/// A digest as the values of `ETag` and `Docker-Content-Digest`, which share their bytes.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    quoted: Bytes,
}

impl Tagged {
    pub(crate) fn new(digest: &Digest) -> Self {
        let mut text = BytesMut::with_capacity(digest.algorithm().as_str().len() + digest.as_bytes().len() * 2 + 3);
        text.put_u8(b'"');
        // Writing to memory cannot fail.
        let _ = write!(text, "{digest}");
        text.put_u8(b'"');
        Self { quoted: text.freeze() }
    }

    pub(crate) fn etag(&self) -> HeaderValue {
        value(self.quoted.clone())
    }

    pub(crate) fn digest(&self) -> HeaderValue {
        value(self.quoted.slice(1..self.quoted.len() - 1))
    }

    /// Whether the client says that it has this content: then it is told 304. The comparison is weak (RFC 9110, section 13.1.2).
    pub(crate) fn none_match(&self, headers: &HeaderMap) -> bool {
        headers.get_all(IF_NONE_MATCH).iter().any(|list| matches(list.as_bytes(), &self.quoted))
    }

    /// Whether a `Range` is to be honoured: `If-Range`, if given, has to be this very content (RFC 9110, section 13.1.5). A date never is, since there is
    /// no `Last-Modified`.
    pub(crate) fn range_applies(&self, headers: &HeaderMap) -> bool {
        headers.get(IF_RANGE).is_none_or(|value| value.as_bytes().trim_ascii() == &*self.quoted)
    }
}

fn value(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a list of entity tags has this one. A list that breaks off in nonsense has what came before.
fn matches(list: &[u8], wanted: &[u8]) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        rest = rest.trim_ascii_start();
        rest = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(end) = rest.get(1..).and_then(|tail| tail.iter().position(|c| *c == b'"')) else { return false };
        if rest[0] != b'"' {
            return false;
        }
        let (tag, tail) = rest.split_at(end + 2);
        if tag == wanted {
            return true;
        }
        match tail.trim_ascii_start().strip_prefix(b",") {
            Some(tail) => rest = tail,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(list: &str) -> bool {
        matches(list.as_bytes(), b"\"b\"")
    }

    #[test]
    fn lists_stars_and_weak_tags_match() {
        for list in ["\"b\"", "*", " * ", "W/\"b\"", "\"a\", \"b\"", "\"a\",W/\"b\" , \"c\"", "\"a,b\", \"b\"", "\"\", \"b\""] {
            assert!(has(list), "{list}");
        }
    }

    #[test]
    fn other_tags_and_nonsense_do_not_match() {
        for list in ["", "b", "\"a\"", "\"b", "b\"", "\"a\" \"b\"", "x\"b\"", "\"B\"", "w/\"b\"", "\"a,\"b\"", "\"", ","] {
            assert!(!has(list), "{list}");
        }
    }

    #[test]
    fn etag_and_digest_header_name_the_same_digest() {
        let digest = Digest::of(registry_core::Algorithm::Sha512, b"x");
        let tagged = Tagged::new(&digest);
        assert_eq!(tagged.digest().to_str().ok(), Some(digest.to_string().as_str()));
        assert_eq!(tagged.etag().to_str().ok(), Some(format!("\"{digest}\"").as_str()));
    }

    proptest! {
        #[test]
        fn no_list_panics(list in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = matches(&list, b"\"b\"");
        }

        #[test]
        fn a_list_has_exactly_the_tags_that_were_written(tags in prop::collection::vec("[ab,]{0,2}", 0..5), weak in any::<bool>()) {
            let list: Vec<String> = tags.iter().map(|tag| format!("{}\"{tag}\"", if weak { "W/" } else { "" })).collect();
            prop_assert_eq!(has(&list.join(", ")), tags.iter().any(|tag| tag == "b"));
        }
    }
}
