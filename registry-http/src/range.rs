//! `Range` of a pull and `Content-Range` of a push.

use registry_core::blob::ByteRange;

/// Reads a `Range` header (RFC 9110, section 14.2). `None`: there is nothing to honour, and the whole blob is the right answer: another unit, more than
/// one range, or no range at all.
///
/// `500-0` is read as a range that no blob has: the RFC would have it ignored, the conformance suite of the distribution-spec wants 416.
pub(crate) fn parse_range(value: &str) -> Option<ByteRange> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    Some(match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => ByteRange::Last(number(last)?),
        (false, true) => ByteRange::FromTo(number(first)?, None),
        (false, false) => ByteRange::FromTo(number(first)?, Some(number(last)?)),
    })
}

/// Digits. Numbers beyond 64 bits are as good as the largest: no blob is that long.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Where a pushed chunk begins, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// Reads the `Content-Range` of a chunk; `None` if it is none.
///
/// The distribution-spec has `<start>-<end>`, both included. Also read, since they mean nothing else: HTTP's own `bytes <start>-<end>/<length or *>`, and
/// `bytes=` in front. Docker's client announces an empty chunk at offset *n* as `n-(n-1)`.
pub(crate) fn parse_content_range(value: &str) -> Option<Chunk> {
    let mut text = value.trim();
    if let Some(unit) = text.get(..5).filter(|unit| unit.eq_ignore_ascii_case("bytes")) {
        text = text[unit.len()..].strip_prefix(['=', ' '])?.trim_start();
    }
    if let Some((range, length)) = text.split_once('/') {
        if length != "*" {
            exact(length)?;
        }
        text = range;
    }
    let (start, end) = text.split_once('-')?;
    let start = exact(start)?;
    let after = if start == 0 && end == "-1" { 0 } else { exact(end)?.checked_add(1)? };
    Some(Chunk { start, len: after.checked_sub(start)? })
}

fn exact(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_are_read() {
        assert_eq!(parse_range("bytes=500-1499"), Some(ByteRange::FromTo(500, Some(1499))));
        assert_eq!(parse_range("bytes=500-"), Some(ByteRange::FromTo(500, None)));
        assert_eq!(parse_range("bytes=-500"), Some(ByteRange::Last(500)));
        assert_eq!(parse_range("Bytes = 0 - 0 "), Some(ByteRange::FromTo(0, Some(0))));
        assert_eq!(parse_range("bytes=99999999999999999999-"), Some(ByteRange::FromTo(u64::MAX, None)));
    }

    #[test]
    fn anything_else_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-2,5-6",
            "bytes=1-2,",
            "items=0-5",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes 1-2",
            "bytes=0x1-2",
        ] {
            assert_eq!(parse_range(value), None, "{value}");
        }
    }

    #[test]
    fn chunks_are_read_in_the_forms_that_clients_send() {
        let chunk = Some(Chunk { start: 5, len: 5 });
        for value in ["5-9", " 5-9 ", "bytes 5-9/*", "bytes 5-9/10", "bytes=5-9", "bytes=5-9/*"] {
            assert_eq!(parse_content_range(value), chunk, "{value}");
        }
        assert_eq!(parse_content_range("0-0"), Some(Chunk { start: 0, len: 1 }));
        assert_eq!(parse_content_range("0--1"), Some(Chunk { start: 0, len: 0 }));
        assert_eq!(parse_content_range("7-6"), Some(Chunk { start: 7, len: 0 }));
    }

    #[test]
    fn chunks_that_make_no_sense_are_none() {
        for value in [
            "",
            "5",
            "5-",
            "-5",
            "9-5",
            "a-b",
            "5-9-",
            "5-9/x",
            "bytes5-9",
            "+5-9",
            "5 - 9",
            "5-18446744073709551615",
            "99999999999999999999-5",
            "5--1",
        ] {
            assert_eq!(parse_content_range(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in ".*") {
            let _ = parse_range(&value);
            let _ = parse_range(&format!("bytes={value}"));
            let _ = parse_content_range(&value);
        }

        #[test]
        fn a_range_selects_the_bytes_that_a_slow_model_selects(first in 0u64..40, last in 0u64..40, size in 0u64..30, form in 0..3) {
            let (value, model): (String, Vec<u64>) = match form {
                0 => (format!("bytes={first}-{last}"), (0..size).filter(|i| *i >= first && *i <= last).collect()),
                1 => (format!("bytes={first}-"), (0..size).filter(|i| *i >= first).collect()),
                _ => (format!("bytes=-{last}"), (0..size).filter(|i| i + last >= size).collect()),
            };
            let selected = parse_range(&value).unwrap().resolve(size).map(|range| range.collect::<Vec<_>>());
            prop_assert_eq!(selected.unwrap_or_default(), model);
        }

        #[test]
        fn a_written_chunk_is_read_back(start in 0..u64::MAX / 2, len in 1..u64::MAX / 2) {
            prop_assert_eq!(parse_content_range(&format!("{start}-{}", start + len - 1)), Some(Chunk { start, len }));
        }
    }
}
