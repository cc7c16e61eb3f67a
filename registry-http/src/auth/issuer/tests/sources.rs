//! How keys are fetched, and what happens if they cannot be.

use std::time::Duration;

use registry_core::{Error, ErrorKind};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::service::{Answer, Service};
use super::*;

fn issuer(service: &Service) -> Arc<Issuer> {
    Arc::new(builder(KeySource::JwksUrl(service.url())).build().unwrap())
}

fn token(signer: &Signer, kid: &str) -> String {
    signer.token(&header("EdDSA", kid), &claims())
}

async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

fn unavailable(outcome: Result<Result<Verified, TokenRefused>>) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.retry_after().is_some());
    error
}

#[tokio::test]
async fn keys_are_fetched_with_the_first_token_and_then_kept() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Json(set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    assert_eq!(service.requests(), 0);
    for _ in 0..5 {
        assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    }
    pass(599).await;
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn tokens_that_are_refused_for_what_they_say_cause_no_request() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Json(set(&[]))).await;
    let issuer = issuer(&service);
    for claims in [claims_with("iss", "other".into()), claims_with("aud", "other".into()), claims_with("exp", json!(1))] {
        assert!(issuer.verify(&signer.token(&header("EdDSA", "k"), &claims)).await.unwrap().is_err());
    }
    assert_eq!(service.requests(), 0);
}

#[tokio::test]
async fn a_new_key_is_found_at_once_but_half_a_minute_after_the_last_request() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let service = Service::start(Answer::Json(set(&[old.jwk("old")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&old, "old")).await.unwrap().is_ok());
    service.answers(Answer::Json(set(&[old.jwk("old"), new.jwk("new")])));
    assert_eq!(issuer.verify(&token(&new, "new")).await.unwrap(), Err(TokenRefused::UnknownKey));
    assert_eq!(service.requests(), 1);
    pass(30).await;
    assert!(issuer.verify(&token(&new, "new")).await.unwrap().is_ok());
    assert!(issuer.verify(&token(&old, "old")).await.unwrap().is_ok());
    assert_eq!(service.requests(), 2);
}

#[tokio::test]
async fn a_new_key_is_found_by_a_token_that_does_not_name_it() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let service = Service::start(Answer::Json(set(&[old.jwk("old")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&old, "old")).await.unwrap().is_ok());
    service.answers(Answer::Json(set(&[new.jwk("new")])));
    pass(30).await;
    assert!(issuer.verify(&new.token(&json!({ "alg": "EdDSA" }), &claims())).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_storm_of_unknown_keys_is_one_request() {
    let (signer, evil) = (Signer::ed(), Signer::ed());
    let service = Service::start(Answer::Json(set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    pass(31).await;
    service.answers(Answer::Late(Duration::from_millis(500), set(&[signer.jwk("k")])));
    let storm: Vec<_> = (0..200)
        .map(|i| {
            let (issuer, token) = (Arc::clone(&issuer), token(&evil, &i.to_string()));
            tokio::spawn(async move { issuer.verify(&token).await.unwrap() })
        })
        .collect();
    // Who has a good key does not wait for it.
    tokio::time::timeout(Duration::from_millis(400), issuer.verify(&token(&signer, "k"))).await.unwrap().unwrap().unwrap();
    for one in storm {
        assert_eq!(one.await.unwrap(), Err(TokenRefused::UnknownKey));
    }
    assert_eq!(service.requests(), 2);
}

#[tokio::test]
async fn a_crowd_at_the_start_is_one_request_too() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Late(Duration::from_millis(50), set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            let (issuer, token) = (Arc::clone(&issuer), token(&signer, "k"));
            tokio::spawn(async move { issuer.verify(&token).await.unwrap() })
        })
        .collect();
    for one in crowd {
        assert!(one.await.unwrap().is_ok());
    }
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn who_goes_away_while_keys_are_fetched_does_not_stop_that() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Late(Duration::from_millis(100), set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    let token = token(&signer, "k");
    assert!(tokio::time::timeout(Duration::from_millis(20), issuer.verify(&token)).await.is_err());
    assert!(issuer.verify(&token).await.unwrap().is_ok());
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn keys_are_renewed_behind_a_request_that_has_the_old_ones() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let service = Service::start(Answer::Json(set(&[old.jwk("k")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&old, "k")).await.unwrap().is_ok());
    pass(601).await;
    service.answers(Answer::Late(Duration::from_millis(500), set(&[new.jwk("k")])));
    for _ in 0..10 {
        let outcome = tokio::time::timeout(Duration::from_millis(400), issuer.verify(&token(&old, "k"))).await;
        assert!(outcome.unwrap().unwrap().is_ok());
    }
    while issuer.verify(&token(&old, "k")).await.unwrap().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(issuer.verify(&token(&new, "k")).await.unwrap().is_ok());
    assert_eq!(service.requests(), 2);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_while_nobody_asked_is_not_good_once_more() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let service = Service::start(Answer::Json(set(&[old.jwk("old")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&old, "old")).await.unwrap().is_ok());
    service.answers(Answer::Json(set(&[new.jwk("new")])));
    pass(1200).await;
    assert_eq!(issuer.verify(&token(&old, "old")).await.unwrap(), Err(TokenRefused::UnknownKey));
}

#[tokio::test]
async fn an_issuer_that_withdraws_all_keys_has_none() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Json(set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    service.answers(Answer::Json(set(&[])));
    pass(1200).await;
    let error = unavailable(issuer.verify(&token(&signer, "k")).await);
    assert!(error.to_string().contains("there is none that can be used"), "{error}");
}

#[tokio::test]
async fn keys_are_good_for_a_day_while_their_source_is_away_and_no_longer() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Json(set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    service.answers(Answer::Raw("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()));
    for _ in 0..23 {
        pass(3600).await;
        assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    }
    assert_eq!(service.requests(), 24);
    pass(3600).await;
    unavailable(issuer.verify(&token(&signer, "k")).await);
    service.answers(Answer::Json(set(&[signer.jwk("k")])));
    pass(5).await;
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
}

#[tokio::test]
async fn without_keys_a_token_is_neither_good_nor_bad_whatever_the_source_answers() {
    let signer = Signer::ed();
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{\"keys\":[]}";
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "k" });
    for (answer, why) in [
        (Answer::Raw(redirect.to_owned()), "302 Found, which is not followed"),
        (Answer::Raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()), "404 Not Found"),
        (Answer::Raw("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()), "204"),
        (Answer::Raw("SSH-2.0-OpenSSH\r\n".to_owned()), "/keys"),
        (Answer::Raw(String::new()), "/keys"),
        (Answer::Raw(long.to_owned()), "/keys"),
        (Answer::Endless, "more than 1 MiB"),
        (Answer::Json(" ".repeat((1 << 20) + 1)), "more than 1 MiB"),
        (Answer::Json("<html>".to_owned()), "no JSON Web Key Set"),
        (Answer::Json(set(&[secret])), "none that can be used"),
    ] {
        let service = Service::start(answer.clone()).await;
        let issuer = issuer(&service);
        let error = unavailable(issuer.verify(&token(&signer, "k")).await);
        assert!(error.to_string().contains(why), "{answer:?}: {error}");
        // The next one hears the same, without a request; a while later it is tried again.
        assert_eq!(unavailable(issuer.verify(&token(&signer, "k")).await).to_string(), error.to_string());
        assert_eq!(service.requests(), 1, "{answer:?}");
        service.answers(Answer::Json(set(&[signer.jwk("k")])));
        pass(5).await;
        assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_source_that_nobody_listens_at_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    drop(listener);
    let issuer = builder(KeySource::JwksUrl(url)).build().unwrap();
    let error = unavailable(issuer.verify(&token(&Signer::ed(), "k")).await);
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_is_given_up_after_ten_seconds() {
    let service = Service::start(Answer::Nothing).await;
    let began = tokio::time::Instant::now();
    unavailable(issuer(&service).verify(&token(&Signer::ed(), "k")).await);
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_source_that_hangs_keeps_nobody_who_has_a_good_key() {
    let signer = Signer::ed();
    let service = Service::start(Answer::Json(set(&[signer.jwk("k")]))).await;
    let issuer = issuer(&service);
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
    service.answers(Answer::Nothing);
    pass(700).await;
    for _ in 0..20 {
        let outcome = tokio::time::timeout(Duration::from_millis(500), issuer.verify(&token(&signer, "k"))).await;
        assert!(outcome.unwrap().unwrap().is_ok());
    }
}

#[tokio::test]
async fn discovery_is_followed_to_the_keys_of_this_issuer_only() {
    let signer = Signer::ed();
    let keys = Service::start(Answer::Json(set(&[signer.jwk("k")]))).await;
    let table = [
        (json!({ "issuer": ISS, "jwks_uri": keys.url(), "more": [1] }), None),
        (json!({ "issuer": "https://issuer.example/", "jwks_uri": keys.url() }), Some("another issuer")),
        (json!({ "issuer": ISS, "jwks_uri": "http://issuer.example/keys" }), Some("jwks_uri: with http")),
        (json!({ "issuer": ISS, "jwks_uri": "file:///etc/passwd" }), Some("jwks_uri: ")),
        (json!({ "issuer": ISS }), Some("no provider's configuration")),
        (json!([]), Some("no provider's configuration")),
    ];
    for (configuration, why) in table {
        let provider = Service::start(Answer::Json(configuration.to_string())).await;
        let url = format!("{}/.well-known/openid-configuration", provider.origin);
        let issuer = builder(KeySource::Discovery(url)).build().unwrap();
        let outcome = issuer.verify(&token(&signer, "k")).await;
        match why {
            None => assert!(outcome.unwrap().is_ok()),
            Some(why) => {
                let error = unavailable(outcome);
                assert!(error.to_string().contains(why), "{error}");
            }
        }
    }
    assert_eq!(keys.requests(), 1);
}

#[tokio::test]
async fn a_ca_of_one_s_own_is_trusted_if_it_is_configured() {
    let signer = Signer::ed();
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let service = Service::start_tls(Answer::Json(set(&[signer.jwk("k")])), TlsAcceptor::from(Arc::new(tls))).await;
    let error = unavailable(issuer(&service).verify(&token(&signer, "k")).await);
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(service.requests(), 0);
    let trusting = builder(KeySource::JwksUrl(service.url())).with_ca(certified.cert.pem()).build().unwrap();
    assert!(trusting.verify(&token(&signer, "k")).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_file_is_read_again_after_a_second_and_keys_that_are_gone_from_it_are_not_used_again() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let filed = Filed::new(&[old.jwk("old")]);
    assert!(filed.verify(&token(&old, "old")).await.is_ok());
    std::fs::write(filed.file.path(), set(&[new.jwk("new")])).unwrap();
    assert!(filed.verify(&token(&old, "old")).await.is_ok());
    pass(1).await;
    assert_eq!(filed.verify(&token(&old, "old")).await, Err(TokenRefused::UnknownKey));
    assert!(filed.verify(&token(&new, "new")).await.is_ok());
    // Half of it, as it is while somebody writes it.
    std::fs::write(filed.file.path(), "{\"keys\":[{\"kty\"").unwrap();
    pass(1).await;
    assert!(filed.verify(&token(&new, "new")).await.is_ok());
    std::fs::remove_file(filed.file.path()).unwrap();
    pass(1).await;
    assert!(filed.verify(&token(&new, "new")).await.is_ok());
    std::fs::write(filed.file.path(), set(&[])).unwrap();
    pass(1).await;
    unavailable(filed.issuer.verify(&token(&new, "new")).await);
}

#[tokio::test]
async fn a_file_that_is_not_there_or_too_long_is_unavailable_and_found_when_it_comes() {
    let signer = Signer::ed();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let issuer = builder(KeySource::JwksFile(path.clone())).build().unwrap();
    let error = unavailable(issuer.verify(&token(&signer, "k")).await);
    assert!(error.to_string().contains("keys.json"), "{error}");
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    pass(1).await;
    let error = unavailable(issuer.verify(&token(&signer, "k")).await);
    assert!(error.to_string().contains("more than 1 MiB"), "{error}");
    std::fs::write(&path, set(&[signer.jwk("k")])).unwrap();
    pass(1).await;
    assert!(issuer.verify(&token(&signer, "k")).await.unwrap().is_ok());
}
