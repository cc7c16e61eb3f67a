//! Version 1: TempAuth of Swift, RadosGW. <https://docs.openstack.org/swift/latest/overview_auth.html>

use std::time::Duration;

use http::{HeaderValue, Method};
use registry_core::ErrorKind;
use storage_object::Secret;
use storage_object::http::Http;

use super::{Session, request, unreachable};
use crate::failure::{Failure, told_of};

/// A log-in by two headers.
#[derive(Debug)]
pub(crate) struct Legacy {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) key: Secret,
    pub(crate) storage_url: Option<String>,
}

impl Legacy {
    pub(crate) async fn log_in(&self, http: &Http) -> Result<Session, Failure> {
        let what = format!("logging in at {}", self.url);
        let mut request = request(Method::GET, &self.url, String::new())?;
        for (name, value) in [("X-Auth-User", self.user.as_str()), ("X-Auth-Key", self.key.reveal())] {
            let unusable = |_| Failure::new(ErrorKind::InvalidInput, format!("{what}: username or password cannot be sent in a header"));
            request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(unusable)?);
        }
        let answer = http.send(request).await.map_err(|why| unreachable(&self.url, &why))?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        match answer.status().as_u16() {
            200..=299 => {}
            401 | 403 => {
                let message = format!("{what}: user or key are wrong (username, password)");
                return Err(Failure::new(ErrorKind::Denied, told_of(message, header("X-Trans-Id"))));
            }
            // Swift itself says 412 to an address that is none of its own.
            300 | 400 | 404 | 405 | 412 => {
                let message = format!(
                    "{what}: there is no version 1 log-in there ({}); auth_version = 3 is for Keystone, and of version 1 auth_url ends in /auth/v1.0",
                    answer.status()
                );
                return Err(Failure::new(ErrorKind::InvalidInput, told_of(message, header("X-Trans-Id"))));
            }
            _ => return Err(Failure::answered(&what, answer.status(), header("X-Trans-Id"), "", None)),
        }
        let token = header("X-Auth-Token").or_else(|| header("X-Storage-Token"));
        let (Some(token), Some(url)) = (token, self.storage_url.as_deref().or_else(|| header("X-Storage-Url"))) else {
            let message = format!("{what}: the answer has no X-Auth-Token or no X-Storage-Url; is auth_url the right address?");
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        };
        let lifetime = header("X-Auth-Token-Expires").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        Session::new(token, url, lifetime)
    }
}
