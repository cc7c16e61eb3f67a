//! `registry validate` for zones in object stores: what is wrong, and which setting to change, in words that stay.

use super::{Kind, Zone};
use crate::block::Block;
use crate::process::{registry, texts};
use crate::proxy::Fault;
use crate::swift::configure;
use crate::{old_date, tls_front};

/// The message of a validation that fails, without what differs from run to run.
fn said(zone: &Zone, block: &Block) -> String {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &block.toml());
    let output = registry(dir.path(), &["--config", "registry.toml", "--data", "data", "--log", "off", "validate"]);
    let (text, errors) = texts(&output);
    assert!(!output.status.success(), "{text}");
    let message = errors.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_else(|| panic!("{errors}"));
    let mut message = message.replace(zone.proxy.address().as_str(), "SERVICE");
    if !zone.s3.storage_path.is_empty() {
        message = message.replace(&zone.s3.storage_path, "FOLDER");
    }
    while let Some((start, rest)) = message.split_once(" (request ") {
        message = format!("{start}{}", rest.split_once(')').unwrap().1);
    }
    message
}

const AT: &str = "cannot open zone far in bucket registry/FOLDER at http://SERVICE";

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_of_a_zone_in_s3_that_is_wrong_is_named() {
    for kind in [Kind::SeaweedFs, Kind::RadosGw] {
        let Some(zone) = Zone::new(kind).await else { continue };
        let good = || zone.block.clone();
        let cases = [
            (
                good().with_text("endpoint", "http://127.0.0.1:9"),
                "cannot open zone far in bucket registry/FOLDER at http://127.0.0.1:9: GET /registry: no connection: Connection refused (os error 111)",
            ),
            (
                good().with_text("access_key", "AKIANOBODY"),
                "AT: GET /registry: 403 Forbidden InvalidAccessKeyId: that access key is not known there: check access_key, and whether endpoint is the right service",
            ),
            (
                good().with_text("secret_key", "wrong"),
                "AT: GET /registry: 403 Forbidden SignatureDoesNotMatch: check secret_key; a wrong region, or a proxy that changes headers, has the same effect",
            ),
            (
                good().with_text("bucket", "nobodys-bucket").with("create_bucket", ""),
                "cannot open zone far in bucket nobodys-bucket/FOLDER at http://SERVICE: there is no bucket nobodys-bucket at http://SERVICE/nobodys-bucket: check bucket and endpoint, or set create_bucket = true",
            ),
            (good().with("bucket", ""), "registry.toml:1: zone: bucket is missing: it is where blobs are stored"),
            (good().with("secret_key", ""), "registry.toml:1: zone: secret_key is missing: an access key has one"),
            (good().with_text("region", "eu west"), "registry.toml:1: zone: region = \"eu west\": a region is called like eu-central-1"),
            (
                good().with_text("ca_file", "/no/such/ca.pem"),
                "registry.toml:1: zone: ca_file = \"/no/such/ca.pem\": No such file or directory (os error 2)",
            ),
        ];
        for (block, expected) in cases {
            assert_eq!(said(&zone, &block), expected.replace("AT:", &format!("{AT}:")), "{kind:?}");
        }
    }
}

/// What no server here says by itself: as Amazon's documentation has it.
#[tokio::test(flavor = "multi_thread")]
async fn so_is_what_amazon_says_of_regions_clocks_and_rights() {
    let Some(zone) = Zone::new(Kind::SeaweedFs).await else { return };
    let cases = [
        (
            "400 Bad Request",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region></Error>",
            "400 Bad Request AuthorizationHeaderMalformed: the bucket is in region eu-west-1: set region to that",
        ),
        (
            "403 Forbidden",
            "<Error><Code>RequestTimeTooSkewed</Code></Error>",
            "403 Forbidden RequestTimeTooSkewed: the clock of this machine, or the service's, is wrong: set both by a time server",
        ),
        (
            "403 Forbidden",
            "<Error><Code>AccessDenied</Code></Error>",
            "403 Forbidden AccessDenied: whoever has these keys may not do that; it needs the permission s3:ListBucket",
        ),
    ];
    for (head, body, expected) in cases {
        zone.proxy.plan(move |_| Fault::Answer(head, body));
        assert_eq!(said(&zone, &zone.block), format!("{AT}: GET /registry: {expected}"));
    }
    let denied = Fault::Answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>");
    zone.proxy.plan(move |seen| if seen.method == "PUT" { denied.clone() } else { Fault::None });
    let expected = "cannot read or write the identity of zone far in bucket registry/FOLDER at http://SERVICE: FOLDER/_meta/zone: PUT /registry/FOLDER/_meta/zone: 403 Forbidden AccessDenied: whoever has these keys may not do that; it needs the permission s3:PutObject";
    assert_eq!(said(&zone, &zone.block), expected);
    let denied = Fault::Answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>");
    zone.proxy.plan(move |seen| if seen.method == "DELETE" && seen.target.contains("uploadId") { denied.clone() } else { Fault::None });
    let message = said(&zone, &zone.block);
    assert!(message.starts_with("zone far: multipart upload: DELETE /registry/FOLDER/_verify/"), "{message}");
    assert!(message.ends_with("it needs the permission s3:AbortMultipartUpload"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_and_a_certificate_that_is_not_trusted_are_told_of() {
    for kind in [Kind::SeaweedFs, Kind::RadosGw] {
        let Some(zone) = Zone::new(kind).await else { continue };
        let old = old_date::before(zone.proxy.address()).await;
        let message = said(&zone, &zone.block.clone().with_text("endpoint", &format!("http://{old}")));
        let (start, rest) = message.split_once(" s ahead of").unwrap_or_else(|| panic!("{message}"));
        let seconds = start.strip_prefix("zone far: clock: the clock of this machine is ").unwrap_or_else(|| panic!("{message}"));
        assert!(seconds.parse::<u64>().is_ok(), "{message}");
        assert_eq!(rest, " S3's: set both by a time server, or requests are refused once it is a quarter of an hour");
    }
    let Some(zone) = Zone::new(Kind::SeaweedFs).await else { return };
    let ca = tls_front::ca();
    let url = tls_front::tls_before(&format!("http://{}", zone.proxy.address()), &ca, tls_front::certificate("localhost")).await;
    let message = said(&zone, &zone.block.clone().with_text("endpoint", &url)).replace(&url, "https://TLS");
    assert_eq!(
        message,
        "cannot open zone far in bucket registry/FOLDER at https://TLS: GET /registry: https://TLS: its certificate is not trusted (invalid peer certificate: UnknownIssuer); set ca_file to the certificate of its CA"
    );
    // Trusted for all that is connected to.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    configure(dir.path(), &zone.block.clone().with_text("endpoint", &url).toml());
    let output = registry(dir.path(), &["--config", "registry.toml", "--data", "data", "--ca-file", "ca.pem", "validate"]);
    assert!(output.status.success(), "{}", texts(&output).1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_of_a_zone_at_google_that_is_wrong_is_named() {
    let zone = Zone::new(Kind::GoogleKeys).await.unwrap();
    let at = "cannot open zone far in bucket quay-enterprise/datastorage/registry at http://SERVICE";
    let stand_in = zone.stand_in.as_ref().unwrap();
    let good = || zone.block.clone();
    let cases = [
        (
            good().with_text("secret_key", "wrong"),
            format!("{at}: GET /quay-enterprise: 403 Forbidden SignatureDoesNotMatch: check secret_key; a wrong region, or a proxy that changes headers, has the same effect"),
        ),
        (
            good().with_text("bucket", "nobodys"),
            "cannot open zone far in bucket nobodys/datastorage/registry at http://SERVICE: there is no bucket nobodys at http://SERVICE/nobodys: check bucket".to_owned(),
        ),
        (good().with("secret_key", ""), "registry.toml:1: zone: secret_key is missing: an access key has one".to_owned()),
        (
            good().with("access_key", "").with("secret_key", "").with_text("service_account", "/nothing.json"),
            "registry.toml:1: zone: service_account = \"/nothing.json\": No such file or directory (os error 2)".to_owned(),
        ),
        (
            good().with("access_key", "").with("secret_key", "").with("service_account", "'{\"type\": \"authorized_user\"}'"),
            "registry.toml:1: zone: service_account = \"(text)\": it has no private_key: it is not the key of a service account".to_owned(),
        ),
    ];
    for (block, expected) in cases {
        assert_eq!(said(&zone, &block), expected);
    }
    stand_in.set_clock_skew(-3600);
    let skewed = "403 Forbidden RequestTimeTooSkewed: the clock of this machine, or the service's, is wrong: set both by a time server";
    assert_eq!(said(&zone, &good()), format!("{at}: GET /quay-enterprise: {skewed}"));
    stand_in.set_clock_skew(0);
    stand_in.deny(true);
    let denied = "403 Forbidden AccessDenied: whoever has these keys may not do that; it needs the permission storage.objects.list";
    assert_eq!(said(&zone, &good()), format!("{at}: GET /quay-enterprise: {denied}"));
    stand_in.stop().await;
    let message = said(&zone, &good());
    assert!(message.starts_with(&format!("{at}: GET /quay-enterprise: ")), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_right_passes() {
    for kind in Kind::ALL {
        let Some(zone) = Zone::new(kind).await else { continue };
        let dir = tempfile::tempdir().unwrap();
        configure(dir.path(), &zone.block.toml());
        let output = registry(dir.path(), &["--config", "registry.toml", "--data", "data", "validate"]);
        let (text, errors) = texts(&output);
        assert!(output.status.success() && !text.contains("FAILED"), "{text}{errors}");
        for step in ["clock", "multipart upload", "signed URL"] {
            assert!(text.contains(&format!("zone far: {step}")), "{text}");
        }
    }
}
