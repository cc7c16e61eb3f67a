//! Comparing clocks.

use std::time::{Duration, SystemTime};

use chrono::DateTime;
use http::HeaderMap;
use registry_core::{Error, ErrorKind, Result};

/// By how much they may differ.
const SKEW: Duration = Duration::from_secs(60);

/// Compares this machine's clock with that of the service, by the `Date` of an answer. [`ErrorKind::InvalidInput`] if they differ by more than a minute: what is
/// signed ends by the service's, and uploads are given up by this one. `service` is what to call it, `harm` what comes of it.
pub fn compare_clocks(answer: &HeaderMap, service: &str, harm: &str) -> Result<()> {
    let date = answer.get(http::header::DATE).and_then(|date| date.to_str().ok());
    // A service that does not tell its time may still be used.
    let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { return Ok(()) };
    match skew(SystemTime::now(), theirs.into()) {
        None => Ok(()),
        Some((seconds, word)) => {
            let message = format!("the clock of this machine is {seconds} s {word} {service}'s: set both by a time server, or {harm}");
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
    }
}

/// By how many seconds, and which way, if it is too much.
fn skew(ours: SystemTime, theirs: SystemTime) -> Option<(u64, &'static str)> {
    let (by, word) = match ours.duration_since(theirs) {
        Ok(by) => (by, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    (by > SKEW).then_some((by.as_secs(), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_of() {
        let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(skew(theirs + SKEW, theirs), None);
        assert_eq!(skew(theirs - SKEW, theirs), None);
        assert_eq!(skew(theirs + Duration::from_secs(3600), theirs), Some((3600, "ahead of")));
        assert_eq!(skew(theirs - Duration::from_secs(61), theirs), Some((61, "behind")));
        let headers = HeaderMap::from_iter([(http::header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap())]);
        let error = compare_clocks(&headers, "Swift", "temporary URLs end at the wrong time").unwrap_err();
        assert!(error.message().contains("s ahead of Swift's: set both by a time server, or temporary URLs"), "{error}");
        assert!(compare_clocks(&HeaderMap::new(), "Swift", "").is_ok());
    }
}
