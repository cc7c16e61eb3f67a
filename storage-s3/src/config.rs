//! [`S3Config`]: everything that can be set.

use serde::Deserialize;
use storage_object::Secret;

/// How objects are encrypted on the service's side. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum Encryption {
    /// With keys of S3's own.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of KMS.
    #[serde(rename = "aws:kms")]
    Kms,
    /// Twice, with a key of KMS.
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl Encryption {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
            Self::KmsDsse => "aws:kms:dsse",
        }
    }
}

/// How to reach and use a bucket. What is empty counts as not given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The folder in it under which everything is.
    pub storage_path: String,
    /// Make the bucket if it is not there.
    pub create_bucket: bool,
    /// The access key. Without one, keys are looked for as AWS's own tools do it: in the environment, in the profile, by a web identity, from the container's and
    /// from the instance's metadata, in that order.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<Secret>,
    /// The token of keys that end.
    pub session_token: Option<Secret>,
    /// A profile in AWS's files, instead of keys. It counts more than what the environment says; the one that `AWS_PROFILE` names counts less.
    pub profile: Option<String>,
    /// The region; by default that of the environment or the profile, or else `us-east-1`.
    pub region: Option<String>,
    /// The service's address, such as `https://rgw.example`; Amazon S3 in the region by default.
    pub endpoint: Option<String>,
    /// Whether the bucket is in the path of addresses, and not in the name of their host; by default it is where there is an `endpoint`.
    pub path_style: Option<bool>,
    /// How the service encrypts objects; by default as the bucket says.
    pub sse: Option<Encryption>,
    /// The key for that, of KMS; by default the bucket's, or the account's.
    pub sse_kms_key_id: Option<String>,
    /// The most bytes that the service copies in one request, if it is another number than [`Dialect`](crate::Dialect) has; more goes by parts.
    pub copy_limit: Option<u64>,
    /// A PEM file with certificates that are trusted too.
    pub ca_file: Option<String>,
    /// A PEM file with the certificate to show to servers that ask for one; may have the key as well.
    pub client_cert_file: Option<String>,
    /// A PEM file with that certificate's key.
    pub client_key_file: Option<String>,
    /// A proxy for all requests: `http://host:port`, or with a user and a password.
    pub proxy: Option<Secret>,
}

impl S3Config {
    /// What the environment says of endpoint, region and certificates, by the names that AWS's tools use; keys are looked for in it anyway. The bucket is not among
    /// them. <https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html>
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same from whatever answers like an environment.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| get(name).filter(|value| !value.trim().is_empty()));
        Self {
            endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            ca_file: first(&["AWS_CA_BUNDLE"]),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_the_aws_tools_are_understood() {
        let variables = [
            ("AWS_ENDPOINT_URL", "http://any.example"),
            ("AWS_ENDPOINT_URL_S3", "http://s3.example"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_PROFILE", "ci"),
            ("AWS_CA_BUNDLE", "/ca.pem"),
        ];
        let config =
            S3Config::from_variables(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()));
        assert_eq!(config.endpoint.as_deref(), Some("http://s3.example"));
        assert_eq!(config.region.as_deref(), Some("eu-west-1"));
        // Keys in the environment count more than this one.
        assert_eq!((config.profile, config.ca_file.as_deref()), (None, Some("/ca.pem")));
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = S3Config { secret_key: Some("hidden".into()), session_token: Some("hidden".into()), ..S3Config::default() };
        assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
    }
}
