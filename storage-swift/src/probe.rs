//! What a probe of Swift tries beyond the way of a blob: the clock, and temporary URLs.

use std::time::Duration;

use http::{Method, StatusCode};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::path::Path;
use registry_core::{Error, ErrorKind, Result};
use storage_object::http::compare_clocks;

use crate::client::{Call, Target, address};
use crate::failure::Failure;
use crate::store::SwiftStore;

/// How long the URL is good that is tried.
const LIFETIME: Duration = Duration::from_secs(60);

impl SwiftStore {
    /// Whether the service's clock and this machine's are about the same. Temporary URLs end by the service's, and uploads are given up by this one.
    pub(crate) async fn try_clock(&self) -> Result<()> {
        let answer = self.client.send(&Call::new(Method::HEAD, Target::Container)).await.map_err(|failure| failure.error)?;
        compare_clocks(answer.headers(), "Swift", "temporary URLs end at the wrong time")
    }

    /// Whether a temporary URL lets its holder in.
    pub(crate) async fn try_temp_url(&self) -> Result<()> {
        let nothing = Path::from("_verify/nothing");
        let url = self.temp_url(Method::GET, &nothing, LIFETIME, &[]).await.map_err(|failure| failure.error)?;
        let what = "GET by a temporary URL";
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() =
            address(url.as_str()).map_err(|why| Error::new(ErrorKind::Internal, format!("{what}: it is no URL: {why}")))?;
        let answer = self.client.http.send(request).await.map_err(|why| Failure::transport(what, &why).error)?;
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
