//! `registry config from-quay`: one test an engine.

use crate::process::{registry, texts};

const HEAD: &str = "\
# From Quay's configuration. It holds secrets: only the registry's user should be able to read it.
# What Quay stored there is not looked at; blobs of this registry lie beside it, in folders of their own.
";

const REDIRECT: &str = "
# Quay sends pulls to the storage itself unless FEATURE_PROXY_STORAGE is set.
[http]
redirect = \"10m\"
";

/// What becomes of a configuration of Quay: standard output, standard error, and whether it was a success.
fn converted(yaml: &str) -> (String, String, bool) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.yaml"), yaml).unwrap();
    let output = registry(dir.path(), &["config", "from-quay", "config.yaml"]);
    let (text, errors) = texts(&output);
    (text, errors, output.status.success())
}

/// What becomes of a single location behind a proxying Quay, without what is the same for all.
fn zone(yaml: &str) -> String {
    let (text, errors, good) = converted(&format!("FEATURE_PROXY_STORAGE: true\nDISTRIBUTED_STORAGE_CONFIG:\n{yaml}"));
    assert!(good, "{errors}");
    text.strip_prefix(HEAD).unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Whether this program takes the file as its configuration.
fn is_taken(text: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("registry.toml"), text).unwrap();
    let output = registry(dir.path(), &["--config", "registry.toml", "config", "show"]);
    assert!(output.status.success(), "{}", texts(&output).1);
}

#[test]
fn local_storage_is_a_filesystem_zone() {
    let text = zone("  default:\n    - LocalStorage\n    - storage_path: /datastorage/registry\n");
    assert_eq!(text, "\n[[zone]]\nname = \"default\"\ntype = \"filesystem\"\npath = \"/datastorage/registry\"\n");
    is_taken(&text);
}

#[test]
fn swift_behind_keystone_is_a_swift_zone() {
    let text = zone(
        r#"  Boston:
    - SwiftStorage
    - auth_version: "3"
      auth_url: http://keystone.example:5000/v3
      swift_container: quay-enterprise
      storage_path: /quay
      swift_user: admin
      swift_password: pa${ss}"word
      ca_cert_path:
      temp_url_key: key
      retry_count: 5
      colour: blue
      os_options:
        tenant_id: 0a1b2c
        user_domain_name: Default
        region_name: RegionOne
        endpoint_type: internalURL
"#,
    );
    let expected = r#"
[[zone]]
name = "boston"
type = "swift"
auth_version = 3
auth_url = "http://keystone.example:5000/v3"
container = "quay-enterprise"
storage_path = "/quay"
username = "admin"
password = 'pa$${ss}"word'
temp_url_key = "key"
# Quay's retry_count is not needed: what may pass is tried again.
tenant_id = "0a1b2c"
user_domain_name = "Default"
region = "RegionOne"
interface = "internal"
# Quay's colour was not taken over: there is nothing like it here.
"#;
    assert_eq!(text, expected);
    is_taken(&text);
}

#[test]
fn swift_with_a_log_in_of_its_own_is_a_swift_zone() {
    let text = zone(
        "  rgw:\n    - SwiftStorage\n    - {auth_version: 1.0, auth_url: 'https://rgw.example/auth/v1.0', swift_user: 'quay:swift', swift_password: k, \
         swift_container: quay, storage_path: /datastorage/registry}\n",
    );
    let expected = r#"
[[zone]]
name = "rgw"
type = "swift"
auth_version = 1
auth_url = "https://rgw.example/auth/v1.0"
container = "quay"
storage_path = "/datastorage/registry"
username = "quay:swift"
password = "k"
"#;
    assert_eq!(text, expected);
    is_taken(&text);
}

#[test]
fn amazon_s3_is_an_s3_zone() {
    let text = zone(
        "  ait:\n    - S3Storage\n    - {s3_bucket: quay, storage_path: /quay/ait, s3_access_key: AKIA, s3_secret_key: secret, s3_region: eu-west-1, \
         host: s3.eu-west-1.amazonaws.com, port: 443, maximum_chunk_size_mb: 100}\n",
    );
    let expected = r#"
[[zone]]
name = "ait"
type = "s3"
bucket = "quay"
storage_path = "/quay/ait"
access_key = "AKIA"
secret_key = "secret"
region = "eu-west-1"
endpoint = "https://s3.eu-west-1.amazonaws.com:443"
# Quay's maximum_chunk_size_mb is not needed: the sizes of parts follow from the blob's.
"#;
    assert_eq!(text, expected);
    is_taken(&text);
    let fronted = zone("  cdn: [CloudFrontedS3Storage, {s3_bucket: quay, cloudfront_distribution_domain: cdn.example}]\n");
    assert!(fronted.contains("bucket = \"quay\"\n# Quay's cloudfront_distribution_domain was not taken over"), "{fronted}");
}

#[test]
fn ceph_radosgw_is_an_s3_zone_with_an_endpoint() {
    let parameters =
        "{hostname: rgw.example, port: 8080, is_secure: false, bucket_name: quay, storage_path: /quay, access_key: A, secret_key: S}";
    let expected = r#"
[[zone]]
name = "leo"
type = "s3"
bucket = "quay"
storage_path = "/quay"
access_key = "A"
secret_key = "S"
endpoint = "http://rgw.example:8080"
path_style = true
"#;
    for engine in ["RadosGWStorage", "RHOCSStorage"] {
        let text = zone(&format!("  leo: [{engine}, {parameters}]\n"));
        assert_eq!(text, expected);
        is_taken(&text);
    }
    for (given, endpoint) in [
        ("hostname: rgw.example, is_secure: 'True'", "https://rgw.example"),
        ("hostname: 'rgw.example:8443', port: 443", "https://rgw.example:8443"),
        ("hostname: 'http://rgw.example/ceph/', port: 8080", "http://rgw.example:8080/ceph"),
    ] {
        let text = zone(&format!("  leo: [RadosGWStorage, {{{given}, bucket_name: quay}}]\n"));
        assert!(text.contains(&format!("endpoint = \"{endpoint}\"\n")), "{text}");
    }
    let secure = zone("  leo: [RadosGWStorage, {hostname: rgw.example, bucket_name: quay}]\n");
    assert!(secure.contains("endpoint = \"https://rgw.example\"\n"), "{secure}");
}

#[test]
fn google_cloud_storage_is_a_gcs_zone() {
    let text = zone(
        "  gce:\n    - GoogleCloudStorage\n    - access_key: GOOGXXXX\n      secret_key: S\n      bucket_name: quay\n      storage_path: /datastorage/registry\n",
    );
    let expected = r#"
[[zone]]
name = "gce"
type = "gcs"
bucket = "quay"
storage_path = "/datastorage/registry"
access_key = "GOOGXXXX"
secret_key = "S"
"#;
    assert_eq!(text, expected);
    is_taken(&text);
}

#[test]
fn preference_and_default_locations_are_taken_over() {
    let zones = "DISTRIBUTED_STORAGE_CONFIG:\n  Eins: [LocalStorage, {storage_path: /one}]\n  zwei: [LocalStorage, {storage_path: /two}]\n";
    let expected_zones = "\n[[zone]]\nname = \"eins\"\ntype = \"filesystem\"\npath = \"/one\"\n\n[[zone]]\nname = \"zwei\"\ntype = \"filesystem\"\npath = \"/two\"\n";
    let (text, errors, _) = converted(&format!(
        "{zones}DISTRIBUTED_STORAGE_PREFERENCE: [zwei, Eins]\nDISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: [Eins]\nFEATURE_STORAGE_REPLICATION: true\nAUTHENTICATION_TYPE: Database\n"
    ));
    let policy = "\n# DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS\n[[policy]]\nrepositories = \"**\"\nzones = [\"eins\"]\n";
    assert_eq!(text, format!("{HEAD}storage_preference = [\"zwei\", \"eins\"]\n{REDIRECT}{expected_zones}{policy}"), "{errors}");
    is_taken(&text);
    // Without a preference the default locations are what Quay pushes to.
    let (text, _, _) = converted(&format!("{zones}DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: [zwei]\n"));
    assert!(text.contains("storage_preference = [\"zwei\"]\n"), "{text}");
    assert!(text.contains("Quay was not copying images"), "{text}");
    is_taken(&text);
}

#[test]
fn what_cannot_be_taken_over_is_refused_in_plain_words() {
    let refused = |yaml: &str| {
        let (text, errors, good) = converted(yaml);
        assert!(!good && text.is_empty(), "{text}");
        errors
    };
    let expected = [
        ("AUTHENTICATION_TYPE: Database\n", "config.yaml: there is no DISTRIBUTED_STORAGE_CONFIG in it"),
        (
            "DISTRIBUTED_STORAGE_CONFIG: {a: [AzureStorage, {}]}\n",
            "config.yaml: DISTRIBUTED_STORAGE_CONFIG.a: AzureStorage has no counterpart here; those that have are LocalStorage, SwiftStorage, ",
        ),
        (
            "DISTRIBUTED_STORAGE_CONFIG: {a: [LocalStorage, {}], A: [LocalStorage, {}]}\n",
            "DISTRIBUTED_STORAGE_CONFIG: two locations would be called a here: rename one of them",
        ),
        (
            "DISTRIBUTED_STORAGE_CONFIG: {a: [LocalStorage, {}]}\nDISTRIBUTED_STORAGE_PREFERENCE: [b]\n",
            "DISTRIBUTED_STORAGE_PREFERENCE: there is no \"b\" in DISTRIBUTED_STORAGE_CONFIG",
        ),
        (
            "DISTRIBUTED_STORAGE_CONFIG: {a: [SwiftStorage, {auth_version: three}]}\n",
            "DISTRIBUTED_STORAGE_CONFIG.a.auth_version: \"three\" is not a whole number",
        ),
        (
            "DISTRIBUTED_STORAGE_CONFIG: {a: [SwiftStorage, {swift_password: 12e5}]}\n",
            "DISTRIBUTED_STORAGE_CONFIG.a.swift_password: write it in quotes",
        ),
        (
            "DISTRIBUTED_STORAGE_CONFIG: {a: [SwiftStorage, {os_options: {tenant_id: x, project_id: y}}]}\n",
            "DISTRIBUTED_STORAGE_CONFIG.a: os_options.tenant_id and os_options.project_id are not the same",
        ),
    ];
    for (yaml, expected) in expected {
        let errors = refused(yaml);
        assert!(errors.contains(expected), "{errors}");
    }
    assert!(refused("DISTRIBUTED_STORAGE_CONFIG: [\n").contains("config.yaml: "));
}
