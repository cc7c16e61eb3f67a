//! Where keys come from when none are given. <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use storage_object::http::HttpSettings;
use storage_object::settings::{given, secret};
use storage_object::{ConfigError, Secret};

use crate::config::S3Config;
use crate::profile::{self, Profile};

/// The keys, or who gets them, and the region that belongs to them.
pub(crate) fn find(
    config: &S3Config,
    http: &HttpSettings,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<(AwsCredentialProvider, String), ConfigError> {
    let variable = |name: &str| get(name).filter(|value| !value.trim().is_empty());
    let fixed = keys(given(&config.access_key), secret(&config.secret_key).map(reveal), secret(&config.session_token).map(reveal))?;
    let in_environment = || keys(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), variable("AWS_SESSION_TOKEN"));
    let (fixed, profile) = match (fixed, given(&config.profile)) {
        // A profile that was asked for counts more than the environment; beside keys it tells the region.
        (fixed, Some(name)) => (fixed, Some(named(&name, get)?)),
        (Some(fixed), None) => (Some(fixed), None),
        (None, None) => match in_environment()? {
            Some(keys) => (Some(keys), profile::read(&variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()), get).ok().flatten()),
            None => match variable("AWS_PROFILE") {
                Some(name) => (None, Some(named(&name, get)?)),
                None => (None, profile::read("default", get)?),
            },
        },
    };
    let region = given(&config.region)
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.as_ref()?.region.clone())
        .or_else(|| amazon_region(&given(&config.endpoint)?).flatten())
        .unwrap_or_else(|| "us-east-1".to_owned());
    let provider = match fixed {
        Some(fixed) => fixed,
        None => without_keys(&region, profile.unwrap_or_default(), given(&config.profile).is_some(), http, &variable)?,
    };
    Ok((provider, region))
}

/// Keys that are given; `None` if none are.
fn keys(key_id: Option<String>, secret_key: Option<String>, token: Option<String>) -> Result<Option<AwsCredentialProvider>, ConfigError> {
    match (key_id, secret_key) {
        (Some(key_id), Some(secret_key)) => {
            let credential = AwsCredential { key_id, secret_key, token };
            Ok(Some(Arc::new(StaticCredentialProvider::new(credential))))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::Missing { setting: "secret_key", why: "an access key has one" }),
        (None, Some(_)) => Err(ConfigError::Missing { setting: "access_key", why: "there is a secret_key, and the two belong together" }),
    }
}

fn reveal(secret: Secret) -> String {
    secret.reveal().to_owned()
}

/// A profile that has to be there.
fn named(name: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<Profile, ConfigError> {
    let missing = || ConfigError::Invalid {
        setting: "profile",
        value: name.to_owned(),
        why: "there is no such profile in ~/.aws/credentials and ~/.aws/config".to_owned(),
    };
    profile::read(name, get)?.ok_or_else(missing)
}

/// By the profile; if it has none, by a web identity, and then by the metadata of container and machine.
fn without_keys(
    region: &str,
    profile: Profile,
    is_asked_for: bool,
    http: &HttpSettings,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<AwsCredentialProvider, ConfigError> {
    if let Some(keys) = keys(profile.access_key, profile.secret_key, profile.session_token)? {
        return Ok(keys);
    }
    if variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some() && variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").is_none() {
        let why = "AWS_CONTAINER_CREDENTIALS_FULL_URI is used with it only";
        return Err(ConfigError::Missing { setting: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", why });
    }
    // The client that only gets keys: what a bucket needs is of no matter to it.
    let mut builder = AmazonS3Builder::new().with_bucket_name("unused").with_region(region).with_client_options(http.client_options()?);
    let web = |profile: Option<String>, name: &str| if is_asked_for { profile } else { variable(name).or(profile) };
    for (key, value) in [
        (AmazonS3ConfigKey::WebIdentityTokenFile, web(profile.web_identity_token_file, "AWS_WEB_IDENTITY_TOKEN_FILE")),
        (AmazonS3ConfigKey::RoleArn, web(profile.role_arn, "AWS_ROLE_ARN")),
        (AmazonS3ConfigKey::RoleSessionName, web(profile.role_session_name, "AWS_ROLE_SESSION_NAME")),
        (AmazonS3ConfigKey::StsEndpoint, variable("AWS_ENDPOINT_URL_STS")),
        (AmazonS3ConfigKey::ContainerCredentialsRelativeUri, variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")),
        (AmazonS3ConfigKey::ContainerCredentialsFullUri, variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")),
        (AmazonS3ConfigKey::ContainerAuthorizationTokenFile, variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")),
        (AmazonS3ConfigKey::MetadataEndpoint, variable("AWS_EC2_METADATA_SERVICE_ENDPOINT")),
    ] {
        if let Some(value) = value {
            builder = builder.with_config(key, value);
        }
    }
    let client = builder.build().map_err(|error| ConfigError::Client { why: error.to_string() })?;
    Ok(Arc::clone(client.credentials()))
}

/// Of an address of Amazon's, the region that is in it: `https://s3.eu-west-1.amazonaws.com`. The outer `None` is for addresses of others.
pub(crate) fn amazon_region(endpoint: &str) -> Option<Option<String>> {
    let host = endpoint.split("://").nth(1)?.split(['/', ':']).next()?;
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let mut labels = name.split('.').skip_while(|label| *label != "s3");
    Some(labels.nth(1).filter(|label| *label != "dualstack").or_else(|| labels.next()).map(ToOwned::to_owned))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use storage_object::http::HttpSettings;

    use super::{amazon_region, find};
    use crate::config::S3Config;

    /// Answers each request by its first line. Its address.
    fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let body = answer(&String::from_utf8(head).unwrap());
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    const KEYS: &str = r#"{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-11-28T11:00:00Z","AccessKeyId":"of-the-machine","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#;

    async fn found(variables: &[(&str, &str)]) -> (String, Option<String>) {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let (provider, _) = find(&S3Config::default(), &HttpSettings::default(), &get).unwrap();
        let credential = provider.get_credential().await.unwrap();
        (credential.key_id.clone(), credential.token.clone())
    }

    /// As <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-roles-for-amazon-ec2.html> has it, with a token first.
    #[tokio::test]
    async fn the_instances_metadata_service_is_asked_last() {
        let address = serve(|head| match head.split(' ').nth(1).unwrap() {
            "/latest/api/token" => "a-token".to_owned(),
            "/latest/meta-data/iam/security-credentials/" => "a-role".to_owned(),
            "/latest/meta-data/iam/security-credentials/a-role" => {
                assert!(head.to_ascii_lowercase().contains("x-aws-ec2-metadata-token: a-token"), "{head}");
                KEYS.to_owned()
            }
            other => panic!("{other}"),
        });
        let url = format!("http://{address}");
        let expected = ("of-the-machine".to_owned(), Some("t".to_owned()));
        assert_eq!(found(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]).await, expected);
    }

    #[tokio::test]
    async fn a_container_asks_the_address_that_it_was_told() {
        let address = serve(|head| {
            assert!(head.starts_with("GET /v1/credentials ") && head.to_ascii_lowercase().contains("authorization: pod-token"), "{head}");
            KEYS.to_owned()
        });
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "pod-token").unwrap();
        let variables = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/v1/credentials")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.path().display().to_string()),
        ];
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(found(&variables).await.0, "of-the-machine");
    }

    #[test]
    fn an_address_of_amazons_tells_the_region() {
        let region = |endpoint| amazon_region(endpoint).map(|region| region.unwrap_or_default());
        assert_eq!(region("https://s3.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("https://s3.dualstack.eu-west-1.amazonaws.com/").as_deref(), Some("eu-west-1"));
        assert_eq!(region("https://s3.cn-north-1.amazonaws.com.cn").as_deref(), Some("cn-north-1"));
        assert_eq!(region("https://s3.amazonaws.com").as_deref(), Some(""));
        assert_eq!(region("https://rgw.example:8080"), None);
    }
}
