//! Durations as `24h` and sizes as `4MiB`.

use std::time::Duration;

/// Units of time in milliseconds, largest first.
const TIME: [(&str, u64); 6] = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes.
const SIZE: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// What a duration looks like, for error messages.
pub(crate) const DURATION_HINT: &str = "a number with ms, s, m, h, d or w, such as \"30s\", \"24h\" or \"1h30m\"; \"0\" is none";

/// What a size looks like, for error messages.
pub(crate) const SIZE_HINT: &str = "a number with B, KiB, MiB, GiB or TiB (or KB, MB, … of a thousand), such as \"4MiB\"";

/// Reads `1h30m`. Every number needs its unit, but for a lone `0`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, unit, tail) = number_and_unit(rest)?;
        let (_, factor) = TIME.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = tail.trim_start();
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// The same for a flag of a command.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| DURATION_HINT.to_owned())
}

/// Reads `4MiB`, or a plain number of bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(bytes) = text.parse() {
        return text.starts_with(|c: char| c.is_ascii_digit()).then_some(bytes);
    }
    let (number, unit, tail) = number_and_unit(text)?;
    let (_, factor) = SIZE.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    tail.is_empty().then(|| number.checked_mul(*factor)).flatten()
}

/// Splits `90s tail` into the number, the letters behind it, and the rest.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, tail))
}
