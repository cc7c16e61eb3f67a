//! `registry validate` for a zone in Swift: what is wrong, and which setting to change, in words that stay.

use super::{SERVICE, TEMP_URL_KEY, Zone, configure, variable};
use crate::process::{registry, texts};
use crate::{old_date, tls_front};

/// The message of a validation that fails, without what differs from run to run.
fn said(zone: &Zone) -> String {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &zone.toml());
    let output = registry(dir.path(), &["--config", "registry.toml", "--data", "data", "--log", "off", "validate"]);
    let (text, errors) = texts(&output);
    assert!(!output.status.success(), "{text}");
    let message = errors.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_else(|| panic!("{errors}"));
    let port = |url: &str| url.trim_end_matches("/v3").rsplit(':').next().unwrap().to_owned();
    let message = message.replace(&zone.container, "CONTAINER").replace(&port(&variable("AUTH_URL").unwrap()), "PORT");
    match message.split_once(" (transaction ") {
        Some((start, rest)) => format!("{start}{}", rest.split_once(')').unwrap().1),
        None => message,
    }
}

const REFUSED: &str = "the log-in is refused. Keystone does not say which is wrong of username, password, user_domain_name and the project (tenant_id or project_name and project_domain_name)";

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_that_is_wrong_is_named() {
    let Some(good) = Zone::new() else { return };
    let _service = SERVICE.read().await;
    let at = "cannot open zone swift in container CONTAINER/quay at http://127.0.0.1:PORT";
    let of = "http://127.0.0.1:PORT/v3";
    let reader = variable("READER").unwrap();
    let stranger = format!("{:?}", variable("STRANGER").unwrap());
    let elsewhere = format!("{:?}", variable("STRANGER_PROJECT").unwrap());
    // Who may only read is told so about a container that is there.
    let there = Zone::new().unwrap();
    there.blobs().await;
    let url = variable("AUTH_URL").unwrap();
    let account = storage_url().await;
    let cases: Vec<(&str, Zone, String)> = vec![
        (
            "URL",
            good.clone().with("auth_url", "\"http://127.0.0.1:9/v3\""),
            "cannot open zone swift in container CONTAINER/quay at http://127.0.0.1:9/v3: logging in at http://127.0.0.1:9/v3: no connection: Connection refused (os error 111); is auth_url right, and can that host be reached from here?".to_owned(),
        ),
        (
            "no URL",
            good.clone().with("auth_url", ""),
            "registry.toml:1: zone: auth_url is missing: it is where to log in, like https://keystone.example:5000/v3".to_owned(),
        ),
        (
            "version",
            good.clone().with("auth_version", "2"),
            "registry.toml:1: zone: auth_version = \"2\": it is 3 for Keystone, or 1; Keystone's version 2 is gone since 2018".to_owned(),
        ),
        (
            "not Keystone",
            good.clone().with("auth_url", &format!("{:?}", url.replace("/v3", "/identity"))),
            format!(
                "{at}/identity: http://127.0.0.1:PORT/identity/v3: there is no Keystone version 3 there (404 Not Found); auth_url is like https://keystone.example:5000/v3, and auth_version = 1 is for other log-ins"
            ),
        ),
        ("password", good.clone().with("password", "\"wrong\""), format!("{at}/v3: {of}: {REFUSED}")),
        ("domain", good.clone().with("user_domain_name", "\"nowhere\""), format!("{at}/v3: {of}: {REFUSED}")),
        ("tenant", good.clone().with("tenant_id", "\"nobody\""), format!("{at}/v3: {of}: {REFUSED}")),
        (
            "no tenant",
            good.clone().with("tenant_id", ""),
            format!(
                "{at}/v3: {of}: the log-in is good, but for no project, so that there is no catalogue: set tenant_id (project_id), or project_name and its domain"
            ),
        ),
        (
            "region",
            good.clone().with("region", "\"RegionX\""),
            format!("{at}/v3: {of}: the catalogue has no region RegionX, only RegionOne, RegionTwo; set region to one of them"),
        ),
        (
            "no region",
            good.clone().with("region", ""),
            format!("{at}/v3: {of}: the catalogue has several regions: RegionOne, RegionTwo; set region to one of them"),
        ),
        (
            "interface",
            good.clone().with("interface", "\"inner\""),
            "registry.toml:1: zone: unknown variant `inner`, expected one of `public`, `internal`, `admin`".to_owned(),
        ),
        (
            "container",
            good.clone().with("create_container", ""),
            format!(
                "{at}/v3: there is no container CONTAINER: check container, or set create_container = true: HEAD container CONTAINER: 404 Not Found"
            ),
        ),
        (
            "somebody else's",
            good.clone()
                .with("username", &stranger)
                .with("tenant_id", "")
                .with("project_name", &elsewhere)
                .with("storage_url", &format!("{account:?}")),
            format!(
                "cannot open zone swift in container CONTAINER/quay at {}: container CONTAINER may not be read by this user: check container and the project, or the container's access list: HEAD container CONTAINER: 403 Forbidden: this user may not; to write it needs a role like member in the project, or a place in the container's write list",
                account
            ),
        ),
        (
            "no write permission",
            there.with("username", &format!("{reader:?}")),
            format!(
                "cannot read or write the identity of zone swift in container CONTAINER/quay at {of}: quay/_meta/zone: PUT CONTAINER/quay/_meta/zone: 403 Forbidden: this user may not; to write it needs a role like member in the project, or a place in the container's write list"
            ),
        ),
        (
            "no CA file",
            good.clone().with("ca_file", "\"/no/such/ca.pem\""),
            "registry.toml:1: zone: ca_file = \"/no/such/ca.pem\": No such file or directory (os error 2)".to_owned(),
        ),
        (
            "key of temporary URLs",
            good.clone().with("temp_url_key", &format!("\"not {TEMP_URL_KEY}\"")),
            "zone swift: temporary URL: Swift does not take URLs that are signed with temp_url_key: give the account that key (`swift post -m Temp-URL-Key:KEY`), which may take a minute to be known everywhere, or correct temp_url_key".to_owned(),
        ),
    ];
    for (what, zone, expected) in cases {
        assert_eq!(said(&zone), expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_each_of_a_log_in_of_version_1() {
    let Some(zone) = Zone::new() else { return };
    let _service = SERVICE.read().await;
    let url = variable("V1_AUTH_URL").unwrap();
    let v1 = ["tenant_id", "user_domain_name", "region"].into_iter().fold(zone, |zone, key| zone.with(key, ""));
    let v1 =
        v1.with("auth_version", "1").with("auth_url", &format!("{url:?}")).with("username", &format!("{:?}", variable("V1_USER").unwrap()));
    let good = v1.clone().with("password", &format!("{:?}", variable("V1_KEY").unwrap()));
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &good.toml());
    let output = registry(dir.path(), &["--config", "registry.toml", "--data", "data", "validate"]);
    let (text, errors) = texts(&output);
    assert!(output.status.success() && text.contains("zone swift: clock") && !text.contains("FAILED"), "{text}{errors}");
    let at = format!("cannot open zone swift in container CONTAINER/quay at {url}");
    assert_eq!(said(&v1), format!("{at}: logging in at {url}: user or key are wrong (username, password)"));
    assert_eq!(said(&good.clone().with("username", "")), "registry.toml:1: zone: username is missing: a log-in of version 1 needs it");
    let wrong = url.replace("/auth/v1.0", "/v3");
    let message = said(&good.with("auth_url", &format!("{wrong:?}")));
    let expected = "; auth_version = 3 is for Keystone, and of version 1 auth_url ends in /auth/v1.0";
    assert!(message.contains("there is no version 1 log-in there (") && message.ends_with(expected), "{message}");
}

/// The account's address in the catalogue, as the URL of a temporary URL has it.
async fn storage_url() -> String {
    use registry_core::BlobStore as _;
    let zone = Zone::new().unwrap();
    let digest = registry_core::Digest::sha256(b"");
    let options = registry_core::blob::DownloadOptions::new(std::time::Duration::from_secs(60));
    let blobs = zone.blobs().await;
    blobs.set_temp_url_key().await.unwrap();
    let url = blobs.download_url(&axum::http::Method::GET, &digest, options).await.unwrap().unwrap().to_string();
    url.split_once(&format!("/{}/", zone.container)).unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told_of() {
    let Some(zone) = Zone::new() else { return };
    let _service = SERVICE.read().await;
    let url = storage_url().await;
    let (authority, account) = url.trim_start_matches("http://").split_once('/').unwrap();
    let behind = old_date::before(authority.to_owned()).await;
    let message = said(&zone.with("storage_url", &format!("\"http://{behind}/{account}\"")));
    let (start, rest) = message.split_once(" s ahead of").unwrap_or_else(|| panic!("{message}"));
    assert!(start.strip_prefix("zone swift: clock: the clock of this machine is ").is_some_and(|s| s.parse::<u64>().is_ok()), "{message}");
    assert_eq!(rest, " Swift's: set both by a time server, or temporary URLs end at the wrong time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_told_of() {
    let Some(zone) = Zone::new() else { return };
    let _service = SERVICE.read().await;
    let url = variable("AUTH_URL").unwrap();
    let secure = tls_front::tls_before(&url, &tls_front::ca(), tls_front::certificate("localhost")).await;
    let port = secure.split([':', '/']).nth(4).unwrap();
    let message = said(&zone.with("auth_url", &format!("\"https://localhost:{port}/v3\""))).replace(port, "TLS");
    assert_eq!(
        message,
        "cannot open zone swift in container CONTAINER/quay at https://localhost:TLS/v3: https://localhost:TLS/v3: its certificate is not trusted (invalid peer certificate: UnknownIssuer); set ca_file to the certificate of its CA"
    );
}
