//! Who one is: where keys and credentials come from.

use std::io::Write as _;
use std::process::Command;

use registry_core::BlobStoreExt as _;
use storage_gcs::{GcsBuilder, GcsConfig, Secret};

use crate::blobs::{BUCKET, By, open};
use crate::stand_in::StandIn;

async fn works(config: &GcsConfig) {
    let store = open(config).await;
    let content = bytes::Bytes::from(format!("content {}", registry_core::random_id()));
    let digest = registry_core::Digest::sha256(&content);
    store.put_bytes(&digest, content.clone()).await.unwrap();
    assert_eq!(store.read_all(&digest).await.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_accounts_key_may_be_in_a_file() {
    let stand_in = StandIn::start(BUCKET).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(stand_in.service_account().as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let mut config = By::ServiceAccount.config(&stand_in);
    config.service_account = Some(Secret::from(path));
    works(&config).await;
    // As Google's own tools are told of one.
    config.service_account = None;
    config.application_credentials = Some(path.to_owned());
    works(&config).await;
}

const ENDPOINT: &str = "STORAGE_GCS_ENDPOINT";

#[ignore = "the process that the test below starts, with an environment of its own"]
#[tokio::test]
async fn on_a_machine() {
    let mut config = GcsConfig::from_env();
    (config.bucket, config.endpoint) = (BUCKET.to_owned(), std::env::var(ENDPOINT).ok());
    works(&config).await;
}

/// Where nothing is given, the machine's metadata server is asked, as `GCE_METADATA_HOST` tells Google's tools where it is.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_machines_own_account_is_used() {
    let stand_in = StandIn::start(BUCKET).await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "accounts::on_a_machine", "--nocapture"]);
    // No gcloud's file of whoever runs the tests.
    let home = tempfile::tempdir().unwrap();
    command.env("GCE_METADATA_HOST", stand_in.metadata_host()).env(ENDPOINT, stand_in.url()).env("HOME", home.path());
    command.env_remove("GOOGLE_APPLICATION_CREDENTIALS");
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    assert!(status.success());
    assert!(stand_in.log().iter().any(|(_, target)| target.contains("/computeMetadata/")));
    assert_eq!(stand_in.objects().len(), 1);
}

#[test]
fn what_is_missing_or_makes_no_sense_is_named_and_no_key_is_shown() {
    let config = |change: &dyn Fn(&mut GcsConfig)| {
        let mut config = GcsConfig::default();
        config.bucket = BUCKET.to_owned();
        change(&mut config);
        GcsBuilder::new(config).check().unwrap_err().to_string()
    };
    for (change, expected) in [
        (&(|config: &mut GcsConfig| config.bucket.clear()) as &dyn Fn(&mut GcsConfig), "bucket is missing"),
        (&|config| config.access_key = Some("GOOG".to_owned()), "secret_key is missing: an access key has one"),
        (&|config| config.secret_key = Some("hidden".into()), "access_key is missing"),
        (&|config| config.storage_path = "100%".to_owned(), "storage_path = \"100%\": it may not have"),
        (&|config| config.endpoint = Some("storage.googleapis.com".to_owned()), "endpoint = \"storage.googleapis.com\": it begins with"),
        (&|config| config.service_account = Some("/nothing.json".into()), "service_account = \"/nothing.json\": No such file"),
        (&|config| config.service_account = Some("{ hidden".into()), "service_account = \"(text)\": it is no JSON: line 1, column 3"),
        (
            &|config| config.service_account = Some(r#"{"type":"authorized_user","refresh_token":"hidden"}"#.into()),
            "service_account = \"(text)\": it has no private_key: it is not the key of a service account",
        ),
        (&|config| config.application_credentials = Some("/nothing.json".into()), "application_credentials = "),
    ] {
        let said = config(change);
        assert!(said.starts_with(expected) && !said.contains("hidden"), "{said}");
    }
    let both = config(&|config| {
        (config.access_key, config.secret_key) = (Some("GOOG".to_owned()), Some("hidden".into()));
        config.service_account = Some("{}".into());
    });
    assert_eq!(both, "service_account = \"…\": there are access_key and secret_key too; leave one of the two");
}
