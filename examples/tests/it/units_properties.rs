//! Durations and sizes of the configuration are read as they are written, and nothing else is read.

use std::time::Duration;

use proptest::prelude::*;

use crate::units::{parse_duration, parse_size};

proptest! {
    #[test]
    fn a_duration_is_the_sum_of_its_parts(parts in proptest::collection::vec((0..1000_u64, 0..6_usize), 1..5)) {
        let units = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let text: String = parts.iter().map(|(number, unit)| format!("{number}{}", units[*unit].0)).collect();
        let millis = parts.iter().map(|(number, unit)| number * units[*unit].1).sum();
        prop_assert_eq!(parse_duration(&text), Some(Duration::from_millis(millis)));
    }

    #[test]
    fn a_size_is_its_number_times_its_unit(number in 0..4096_u64, unit in 0..9_usize) {
        let (name, factor) = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1_u64 << 40), ("kb", 1000), ("MB", 1_000_000),
            ("GB", 1_000_000_000), ("tb", 1_000_000_000_000)][unit];
        prop_assert_eq!(parse_size(&format!("{number}{name}")), Some(number * factor));
        prop_assert_eq!(parse_size(&format!(" {number} {name} ")), Some(number * factor));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,20}") {
        parse_duration(&text);
        parse_size(&text);
    }

    #[test]
    fn a_number_without_a_unit_is_no_duration(number in 1..u64::MAX) {
        prop_assert_eq!(parse_duration(&number.to_string()), None);
        prop_assert_eq!(parse_size(&number.to_string()), Some(number));
    }
}

#[test]
fn what_overflows_or_lacks_a_part_is_refused() {
    for text in ["", " ", "h", "1", "-1s", "1.5h", "1x", "1h30", "99999999999999999999s", "18446744073709551615w"] {
        assert_eq!(parse_duration(text), None, "{text:?}");
    }
    for text in ["", "MiB", "-1", "+1", "1.5MiB", "1 MiB x", "16777216TiB", "1XB"] {
        assert_eq!(parse_size(text), None, "{text:?}");
    }
}
