//! A zone in Amazon S3, or in another service that speaks its protocol, such as Ceph RadosGW.

use storage_s3::S3Config;

use super::super::keys::{Key, Keys, Table};
use super::super::origin::ConfigError;
use super::super::settings::Kind;
use super::remote::{self, CONNECTION, Connection, secret, text};
use super::{HEAD, TAIL, ZONE};

/// Its keys.
pub(super) const TABLE: Table = Table { groups: &[HEAD, SERVICE, CONNECTION, TAIL], ..ZONE };

/// Whether the bucket is in the path of addresses.
pub(super) const PATH_STYLE: &str = "path_style";

/// What [`S3Config`] has.
const SERVICE: &[Key] = &[
    text("bucket", "The bucket that holds the blobs."),
    text("storage_path", "The folder in it under which everything of this zone is."),
    text("endpoint", "The service's address, such as https://rgw.example; Amazon S3 in the region when empty."),
    text("region", "The region; of the environment or the profile, or else us-east-1, when empty."),
    text(
        "access_key",
        "The access key. When empty, keys are looked for as the aws command does: environment, profile, web identity, machine.",
    ),
    secret("secret_key", "Its secret."),
    secret("session_token", "The token of keys that end."),
    text("profile", "A profile in ~/.aws/credentials and ~/.aws/config, instead of keys."),
    Key {
        name: PATH_STYLE,
        kind: Kind::Switch,
        default: "true",
        help: "Whether the bucket is in the path of addresses, and not in their host's name; if not given, it is where there is an endpoint.",
    },
    Key {
        name: "create_bucket",
        kind: Kind::Switch,
        default: "false",
        help: "Make the bucket if it is not there and this zone is used for the first time.",
    },
    text("sse", "How the service encrypts what it stores: AES256, aws:kms or aws:kms:dsse; as the bucket says when empty."),
    text("sse_kms_key_id", "The key for that, of KMS."),
    Key {
        name: "copy_limit",
        kind: Kind::Size,
        default: "",
        help: "The largest object that the service copies in one request; larger ones go by parts. 256MiB for Amazon, or else 5GiB, when empty.",
    },
    text("ca_file", "A PEM file with certificates of authorities to trust too."),
    text("client_cert_file", "A PEM file with a certificate to show to servers that want one."),
    text("client_key_file", "A PEM file with its key, if that is not in the same file."),
    secret("proxy", "A proxy for all requests, such as http://proxy.example:3128."),
];

/// A bucket of S3's kind.
#[derive(Clone, Debug)]
pub(crate) struct S3 {
    /// Where it is and who may use it.
    pub(crate) config: S3Config,
    /// How its client behaves.
    pub(crate) connection: Connection,
}

impl S3 {
    pub(super) fn read(keys: &Keys) -> Result<Self, ConfigError> {
        let mut config: S3Config = remote::read(keys, SERVICE)?;
        if !keys.is_given(PATH_STYLE) {
            config.path_style = None;
        }
        // What is missing, and files that are not there, are known without asking anybody.
        storage_s3::S3Builder::new(config.clone()).build().map_err(|error| remote::wrong(keys, error))?;
        Ok(Self { config, connection: Connection::read(keys)? })
    }

    fn address(&self) -> String {
        let region = self.config.region.as_deref().map_or(String::new(), |region| format!(" in {region}"));
        self.config.endpoint.clone().unwrap_or_else(|| format!("Amazon S3{region}"))
    }

    /// `bucket quay/folder at https://rgw.example`
    pub(super) fn place(&self) -> String {
        remote::place("bucket", &self.config.bucket, &self.config.storage_path, self.address().trim_end_matches('/'))
    }
}
