//! Until when a service's certificate is valid.

use std::time::Duration;

use chrono::{DateTime, Utc};
use registry_core::{Error, ErrorKind, Result};
use x509_parser::parse_x509_certificate;

/// So long before its end it is told of: who renews by hand needs some days, and who lets it be done has it done by then.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// [`ErrorKind::InvalidInput`] if the certificate (in DER) ends within a week.
pub(super) fn check(der: &[u8], now: DateTime<Utc>) -> Result<()> {
    let unreadable = |why: String| Error::new(ErrorKind::InvalidInput, format!("the service's certificate cannot be read: {why}"));
    let (_, certificate) = parse_x509_certificate(der).map_err(|error| unreadable(error.to_string()))?;
    let end = certificate.validity().not_after.timestamp();
    let end = DateTime::from_timestamp(end, 0).ok_or_else(|| unreadable("its end is no time".to_owned()))?;
    let left = end - now;
    if left.to_std().is_ok_and(|left| left > SOON) {
        return Ok(());
    }
    let message = format!(
        "the service's certificate ends in {} days, on {}: renew it, or all requests fail from then on",
        left.num_days(),
        end.format("%Y-%m-%d at %H:%M UTC")
    );
    Err(Error::new(ErrorKind::InvalidInput, message))
}
