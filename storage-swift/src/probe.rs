//! What a probe of Swift tries beyond the way of a blob: the clock, and temporary URLs.

use std::time::{Duration, SystemTime};

use chrono::DateTime;
use http::{Method, StatusCode};
use object_store::path::Path;
use registry_core::{Error, ErrorKind, Result};

use crate::client::{Call, Target};
use crate::failure::Failure;
use crate::store::SwiftStore;

/// By how much the clocks may differ.
const SKEW: Duration = Duration::from_secs(60);

impl SwiftStore {
    /// Whether the service's clock and this machine's are about the same. Temporary URLs end by the service's, and uploads are given up by this one.
    pub(crate) async fn try_clock(&self) -> Result<()> {
        let answer = self.client.send(&Call::new(Method::HEAD, Target::Container)).await.map_err(|failure| failure.error)?;
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        // A service that does not tell its time may still be used.
        let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { return Ok(()) };
        match skew(SystemTime::now(), theirs.into()) {
            None => Ok(()),
            Some(told) => Err(Error::new(ErrorKind::InvalidInput, told)),
        }
    }

    /// Whether a temporary URL lets its holder in.
    pub(crate) async fn try_temp_url(&self) -> Result<()> {
        let nothing = Path::from("_verify/nothing");
        let url = self.temp_url(Method::GET, &nothing, SKEW, &[]).await.map_err(|failure| failure.error)?;
        let what = "GET by a temporary URL";
        let request = self.client.http.get(url).timeout(self.client.patience.idle);
        let answer = request.send().await.map_err(|error| Failure::transport(what, error).error)?;
        match answer.status() {
            // It was let in, and there is nothing.
            StatusCode::NOT_FOUND => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = "Swift does not take URLs that are signed with temp_url_key: give the account that key \
                               (`swift post -m Temp-URL-Key:KEY`), which may take a minute to be known everywhere, or correct temp_url_key";
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            status => Err(Error::new(ErrorKind::Unavailable, format!("{what}: {status}"))),
        }
    }
}

/// In words, if it is too much.
fn skew(ours: SystemTime, theirs: SystemTime) -> Option<String> {
    let (by, word) = match ours.duration_since(theirs) {
        Ok(by) => (by, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let told = || {
        let seconds = by.as_secs();
        format!(
            "the clock of this machine is {seconds} s {word} Swift's: set both by a time server, or temporary URLs end at the wrong time"
        )
    };
    (by > SKEW).then(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_of() {
        let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(skew(theirs + SKEW, theirs), None);
        assert_eq!(skew(theirs - SKEW, theirs), None);
        let ahead = skew(theirs + Duration::from_secs(3600), theirs).unwrap();
        assert!(ahead.starts_with("the clock of this machine is 3600 s ahead of Swift's"), "{ahead}");
        let behind = skew(theirs - Duration::from_secs(61), theirs).unwrap();
        assert!(behind.starts_with("the clock of this machine is 61 s behind Swift's"), "{behind}");
    }
}
