//! [`Bearer`]: requests with a token.

use std::fmt;

use async_trait::async_trait;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;
use storage_s3::Authorize;

/// Shows a token that is good at the moment.
pub(crate) struct Bearer(pub(crate) GcpCredentialProvider);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

#[async_trait]
impl Authorize for Bearer {
    async fn authorize(&self, request: &mut HttpRequest, _sha256: Option<[u8; 32]>) -> Result<(), String> {
        let credential = self.0.get_credential().await.map_err(|error| {
            format!(
                "no token for Google Cloud Storage: {error}; set service_account, or access_key and secret_key, or see to the credentials of this machine"
            )
        })?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", credential.bearer))
            .map_err(|_| "the token for Google Cloud Storage cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }
}
