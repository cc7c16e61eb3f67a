//! Temporary URLs: who has one may fetch an object without a token. <https://docs.openstack.org/swift/latest/api/temporary_url_middleware.html>

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use object_store::Result;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::ErrorKind;
use url::Url;

use crate::client::encoded;
use crate::failure::Failure;
use crate::info::Digest;
use crate::store::SwiftStore;

/// Signs `METHOD\nexpires\npath`, in hex.
fn signature(digest: Digest, key: &str, method: &Method, expires: u64, path: &str) -> String {
    fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length.
        let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Vec::new() };
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    }
    let message = format!("{method}\n{expires}\n{path}");
    let bytes = match digest {
        Digest::Sha1 => mac::<Hmac<sha1::Sha1>>(key.as_bytes(), message.as_bytes()),
        Digest::Sha256 => mac::<Hmac<sha2::Sha256>>(key.as_bytes(), message.as_bytes()),
        Digest::Sha512 => mac::<Hmac<sha2::Sha512>>(key.as_bytes(), message.as_bytes()),
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl SwiftStore {
    pub(crate) async fn temp_url(
        &self,
        method: Method,
        path: &Path,
        expires_in: Duration,
        query: &[(String, String)],
    ) -> Result<Url, Failure> {
        let Some(key) = &self.temp_url_key else {
            return Err(Failure::new(ErrorKind::Unsupported, "there is no temp_url_key to sign URLs with"));
        };
        let digest = self.info().await?.temp_url_digest();
        let session = self.client.auth.session(false).await?;
        let unusable =
            |error: &dyn std::fmt::Display| Failure::new(ErrorKind::Internal, format!("the account's address is no URL: {error}"));
        let account = Url::parse(&session.storage_url).map_err(|error| unusable(&error))?;
        // What is signed is the path as the service sees it, not as it is escaped.
        let prefix = percent_encoding::percent_decode_str(account.path()).decode_utf8().map_err(|error| unusable(&error))?;
        let signed = format!("{}/{}/{path}", prefix.trim_end_matches('/'), self.client.container);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let expires = (now + expires_in).as_secs();
        let sig = signature(digest, key.reveal(), &method, expires, &signed);
        let mut url = format!(
            "{}/{}?temp_url_sig={sig}&temp_url_expires={expires}",
            session.storage_url,
            encoded(&self.client.container, Some(path.as_ref()))
        );
        for (name, value) in query {
            match name.as_str() {
                "response-content-disposition" => match file_name(value) {
                    Some(name) => url.extend(["&filename=", &utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()]),
                    None => url.push_str("&inline"),
                },
                // An object has its type, which no parameter changes.
                "response-content-type" if value == "application/octet-stream" => {}
                _ => return Err(Failure::new(ErrorKind::Unsupported, format!("a temporary URL cannot ask for {name}={value}"))),
            }
        }
        Url::parse(&url).map_err(|error| unusable(&error))
    }
}

/// The file's name of `attachment; filename="name"`.
fn file_name(disposition: &str) -> Option<&str> {
    let (_, name) = disposition.split_once("filename=")?;
    let name = name.split(';').next()?.trim().trim_matches('"');
    (!name.is_empty()).then_some(name)
}

#[async_trait]
impl Signer for SwiftStore {
    async fn signed_url(&self, method: Method, path: &Path, expires_in: Duration) -> Result<Url> {
        self.temp_url(method, path, expires_in, &[]).await.map_err(|failure| failure.told(path.as_ref()))
    }

    async fn signed_url_opts(&self, method: Method, path: &Path, expires_in: Duration, options: &SignedUrlOptions) -> Result<Url> {
        if !options.signed_headers.is_empty() {
            return Err(Failure::new(ErrorKind::Unsupported, "temporary URLs cannot demand headers").told(path.as_ref()));
        }
        self.temp_url(method, path, expires_in, &options.extra_query).await.map_err(|failure| failure.told(path.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_documentation() {
        // RFC 2202 and 4231 have the HMACs; this is the form of the message, by the documentation's own recipe.
        let sign = |digest| signature(digest, "mykey", &Method::GET, 1_323_479_485, "/v1/AUTH_account/container/object");
        assert_eq!(sign(Digest::Sha1).len(), 40);
        assert_eq!(sign(Digest::Sha256).len(), 64);
        assert_eq!(sign(Digest::Sha512).len(), 128);
        assert_ne!(
            sign(Digest::Sha256),
            signature(Digest::Sha256, "mykey", &Method::HEAD, 1_323_479_485, "/v1/AUTH_account/container/object")
        );
    }

    #[test]
    fn a_disposition_gives_the_file_its_name() {
        assert_eq!(file_name("attachment; filename=\"a b.txt\"; x=y"), Some("a b.txt"));
        assert_eq!(file_name("inline"), None);
    }
}
