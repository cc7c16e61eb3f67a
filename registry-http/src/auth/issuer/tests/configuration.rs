//! What can be configured, and what a mistake is told as.

use super::*;
use crate::auth::issuer::source;

fn told(builder: IssuerBuilder) -> String {
    builder.build().map(|_| String::new()).unwrap_or_else(|error| error.to_string())
}

fn file() -> KeySource {
    KeySource::JwksFile("keys.json".into())
}

#[test]
fn a_name_is_a_short_word_that_cannot_run_into_what_follows_it() {
    for (name, good) in [
        ("k8s", true),
        ("git-hub", true),
        ("", false),
        ("a:b", false),
        ("A", false),
        ("a b", false),
        ("é", false),
        (&*"a".repeat(33), false),
    ] {
        let why = told(Issuer::builder(name, ISS, file()).with_audience("a"));
        assert_eq!(why.is_empty(), good, "{name}: {why}");
        assert!(good || why.starts_with("name = "), "{why}");
    }
}

#[test]
fn audience_issuer_and_claims_are_needed() {
    assert_eq!(told(Issuer::builder("a", ISS, file())), "audience = \"\": without one, a token that is for somebody else would do");
    assert!(told(builder(file()).with_audience("")).starts_with("audience = "));
    assert!(told(Issuer::builder("a", "", file()).with_audience("a")).starts_with("iss = "));
    assert!(told(builder(file()).with_user_claim("")).starts_with("user_claim = "));
    assert!(told(builder(file()).with_groups_claim("a\n")).starts_with("groups_claim = "));
    assert!(told(builder(KeySource::JwksFile("".into()))).starts_with("jwks_file = "));
    assert_eq!(told(builder(file())), "");
}

#[test]
fn addresses_are_https_or_of_this_machine() {
    for (url, good) in [
        ("https://issuer.example/keys", true),
        ("http://127.0.0.1:8080/keys", true),
        ("http://127.9.9.9/keys", true),
        ("http://[::1]:8080/keys", true),
        ("http://issuer.example/keys", false),
        ("http://localhost/keys", false),
        ("http://127.0.0.1.evil.example/keys", false),
        ("http://10.0.0.1/keys", false),
        ("http://[::ffff:10.0.0.1]/keys", false),
        ("file:///etc/passwd", false),
        ("ftp://127.0.0.1/", false),
        ("data:application/json,{}", false),
        ("/keys", false),
        ("", false),
    ] {
        let why = told(builder(KeySource::JwksUrl(url.to_owned())));
        assert_eq!(why.is_empty(), good, "{url}: {why}");
        assert!(good || why.starts_with("jwks_url = "), "{why}");
    }
    // A provider that is far away has no business here.
    assert!(source::address("http://127.0.0.1/keys", false).is_err());
    let why = told(builder(KeySource::JwksUrl("https://jane:s3cret@issuer.example/".to_owned())));
    assert!(why.contains("user or password") && !why.contains("s3cret"), "{why}");
    assert_eq!(told(builder(KeySource::Discovery(format!("{ISS}/.well-known/openid-configuration")))), "");
    assert!(told(builder(KeySource::Discovery(ISS.to_owned()))).contains("it has to end with"));
}

#[test]
fn a_ca_is_in_pem_form_and_for_addresses() {
    let url = KeySource::JwksUrl(format!("{ISS}/keys"));
    for pem in ["", "no certificate"] {
        assert!(told(builder(url.clone()).with_ca(pem)).contains("no certificate in PEM form"));
    }
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let why = told(builder(url).with_ca(broken));
    assert!(why.starts_with("no HTTPS client can be made"), "{why}");
    assert!(told(builder(file()).with_ca(broken)).starts_with("ca = "));
}
