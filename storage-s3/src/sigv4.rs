//! [`SigV4`]: requests signed with keys of AWS's kind.

use async_trait::async_trait;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;

use crate::service::Authorize;

/// Signs with the keys that are good at the moment.
#[derive(Debug)]
pub(crate) struct SigV4 {
    pub(crate) credentials: AwsCredentialProvider,
    pub(crate) region: String,
    /// Whether the signature is over the body too. It need not be where TLS protects it.
    pub(crate) signs_bodies: bool,
}

#[async_trait]
impl Authorize for SigV4 {
    fn signs_bodies(&self) -> bool {
        self.signs_bodies
    }

    async fn authorize(&self, request: &mut HttpRequest, sha256: Option<[u8; 32]>) -> Result<(), String> {
        let credential = self.credentials.get_credential().await.map_err(|error| {
            format!("no keys to sign with: {}; set access_key and secret_key, or see to the keys of this machine", chain(&error))
        })?;
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region).with_sign_payload(self.signs_bodies);
        authorizer.try_authorize(request, sha256.as_ref().map(<[u8; 32]>::as_slice)).map_err(|error| error.to_string())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No server here looks at the region of a signature, so the header is looked at.
    #[tokio::test]
    async fn the_region_is_part_of_the_signature() {
        let credential =
            object_store::aws::AwsCredential { key_id: "key".into(), secret_key: "secret".into(), token: Some("token".into()) };
        for region in ["us-east-1", "eu-central-1"] {
            let credentials = std::sync::Arc::new(object_store::StaticCredentialProvider::new(object_store::aws::AwsCredential {
                key_id: credential.key_id.clone(),
                secret_key: credential.secret_key.clone(),
                token: credential.token.clone(),
            }));
            let signer = SigV4 { credentials, region: region.to_owned(), signs_bodies: false };
            let mut request = http::Request::put("https://bucket.s3.example/key")
                .body(object_store::client::HttpRequestBody::from(vec![1, 2, 3]))
                .unwrap();
            signer.authorize(&mut request, None).await.unwrap();
            let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
            assert!(
                header("authorization").contains(&format!(
                    "/{region}/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
                )),
                "{}",
                header("authorization")
            );
            assert_eq!(header("x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
            assert_eq!(header("x-amz-security-token"), "token");
        }
    }
}
