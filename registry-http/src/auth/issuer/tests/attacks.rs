//! What is refused, and as what.

use TokenRefused::{BadSignature, Malformed, TooLong, UnknownKey, Unsupported, UnusableGroups, UnusableUser, WrongAudience, WrongIssuer};
use aws_lc_rs::hmac;

use super::*;

#[tokio::test]
async fn a_claim_that_is_wrong_is_told_by_its_name() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    let table = [
        ("iss", json!("https://issuer.example/"), WrongIssuer),
        ("iss", json!("HTTPS://issuer.example"), WrongIssuer),
        ("iss", json!("https://evil.example"), WrongIssuer),
        ("iss", json!(""), WrongIssuer),
        ("iss", json!([ISS]), Malformed),
        ("iss", json!(null), Malformed),
        ("aud", json!("other"), WrongAudience),
        ("aud", json!("REGISTRY.example"), WrongAudience),
        ("aud", json!("registry.example registry.example"), WrongAudience),
        ("aud", json!(["other", "registry.example."]), WrongAudience),
        ("aud", json!([]), WrongAudience),
        ("aud", json!(""), WrongAudience),
        ("aud", json!([AUDIENCE, 1]), Malformed),
        ("aud", json!([[AUDIENCE]]), Malformed),
        ("aud", json!({ AUDIENCE: true }), Malformed),
        ("aud", json!(null), Malformed),
        ("sub", json!(""), UnusableUser),
        ("sub", json!(null), UnusableUser),
        ("sub", json!(0), UnusableUser),
        ("sub", json!(["jane"]), UnusableUser),
        ("sub", json!("jane\n"), UnusableUser),
        ("sub", json!("ja\0ne"), UnusableUser),
        ("sub", json!("jane\u{85}"), UnusableUser),
        ("sub", json!("é".repeat(128)), UnusableUser),
        ("groups", json!([""]), UnusableGroups),
        ("groups", json!(""), UnusableGroups),
        ("groups", json!(["a", 1]), UnusableGroups),
        ("groups", json!({ "a": 1 }), UnusableGroups),
        ("groups", json!(["a\u{7f}"]), UnusableGroups),
        ("groups", json!(["x".repeat(256)]), UnusableGroups),
    ];
    for (claim, value, refused) in table {
        let outcome = filed.verify(&signer.token(&header("EdDSA", "k"), &claims_with(claim, value.clone()))).await;
        assert_eq!(outcome, Err(refused), "{claim} = {value}");
    }
    for (claim, refused) in [("iss", WrongIssuer), ("aud", WrongAudience), ("sub", UnusableUser)] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(filed.verify(&signer.token(&header("EdDSA", "k"), &claims)).await, Err(refused), "no {claim}");
    }
    assert!(filed.verify(&signer.token(&header("EdDSA", "k"), &claims_with("sub", "x".repeat(255).into()))).await.is_ok());
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused_however_none_is_spelt() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    for none in
        ["none", "None", "NONE", "nOnE", "none ", "", "null", "eddsa", "EDDSA", "es256", "HS256", "HS384", "HS512", "ES512", "RSA-OAEP"]
    {
        let message = format!("{}.{}", b64(header(none, "k").to_string()), b64(claims().to_string()));
        for token in [format!("{message}."), signer.token(&header(none, "k"), &claims())] {
            assert_eq!(filed.verify(&token).await, Err(Unsupported), "{none:?}");
        }
    }
    for other in [json!(null), json!(["EdDSA"]), json!(0), json!({ "alg": "EdDSA" })] {
        let token = signer.token(&json!({ "alg": other, "kid": "k" }), &claims());
        assert_eq!(filed.verify(&token).await, Err(Malformed), "{other}");
    }
    assert_eq!(filed.verify(&signer.token(&json!({ "kid": "k" }), &claims())).await, Err(Malformed));
}

#[tokio::test]
async fn a_public_key_is_no_secret_to_sign_with() {
    let Signer::Rsa(rsa) = &*RSA else { unreachable!() };
    let jwk = RSA.jwk("k");
    let filed = Filed::new(std::slice::from_ref(&jwk));
    let public = rsa.public_key().as_ref();
    for secret in [public, jwk["n"].as_str().unwrap().as_bytes(), set(std::slice::from_ref(&jwk)).as_bytes(), b""] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        for algorithm in ["HS256", "RS256", "PS256"] {
            let message = format!("{}.{}", b64(header(algorithm, "k").to_string()), b64(claims().to_string()));
            let token = format!("{message}.{}", b64(hmac::sign(&secret, message.as_bytes())));
            let refused = if algorithm == "HS256" { Unsupported } else { BadSignature };
            assert_eq!(filed.verify(&token).await, Err(refused));
        }
    }
}

#[tokio::test]
async fn a_key_is_not_taken_for_one_of_another_kind() {
    let p256 = Signer::p256();
    let filed = Filed::new(&[p256.jwk("k"), RSA.jwk("rsa")]);
    assert_eq!(filed.verify(&RSA.token(&header("RS256", "k"), &claims())).await, Err(UnknownKey));
    assert_eq!(filed.verify(&p256.token(&header("ES256", "rsa"), &claims())).await, Err(UnknownKey));
    assert_eq!(filed.verify(&p256.token(&header("ES384", "k"), &claims())).await, Err(UnknownKey));
    assert_eq!(filed.verify(&RSA.token(&json!({ "alg": "ES256" }), &claims())).await, Err(BadSignature));
}

#[tokio::test]
async fn a_key_in_the_token_itself_is_nobody_s() {
    let (signer, evil) = (Signer::ed(), Signer::ed());
    let filed = Filed::new(&[signer.jwk("k")]);
    for (name, value) in
        [("jwk", evil.jwk("k")), ("jku", json!("http://127.0.0.1:9/keys")), ("x5u", json!("http://127.0.0.1:9/")), ("x5c", json!(["AA"]))]
    {
        let mut header = header("EdDSA", "k");
        header[name] = value;
        assert_eq!(filed.verify(&evil.token(&header, &claims())).await, Err(BadSignature), "{name}");
    }
}

#[tokio::test]
async fn a_key_id_is_only_ever_compared() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k"), signer.jwk("")]);
    for kid in ["../../../../dev/null", "/dev/null", "k\0", "K", " k", "' or 1=1 --", "http://127.0.0.1:9/", "k.", "*", &"k".repeat(9000)] {
        assert_eq!(filed.verify(&signer.token(&header("EdDSA", kid), &claims())).await, Err(UnknownKey), "{kid:?}");
    }
    for kid in [json!(null), json!(1), json!(["k"]), json!({})] {
        let token = signer.token(&json!({ "alg": "EdDSA", "kid": kid }), &claims());
        assert_eq!(filed.verify(&token).await, Err(Malformed), "{kid}");
    }
    assert!(filed.verify(&signer.token(&header("EdDSA", ""), &claims())).await.is_ok());
}

#[tokio::test]
async fn what_has_to_be_understood_is_refused() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null)] {
        let token = signer.token(&json!({ "alg": "EdDSA", "kid": "k", "crit": crit, "b64": false }), &claims());
        assert_eq!(filed.verify(&token).await, Err(Unsupported), "{crit}");
    }
}

#[tokio::test]
async fn a_token_that_was_changed_is_refused() {
    let (signer, evil) = (Signer::ed(), Signer::ed());
    let filed = Filed::new(&[signer.jwk("k"), signer.jwk("other")]);
    let good = signer.token(&header("EdDSA", "k"), &claims());
    assert!(filed.verify(&good).await.is_ok());
    let parts: Vec<_> = good.split('.').collect();
    let with = |at: usize, part: &str| {
        let mut parts = parts.clone();
        parts[at] = part;
        parts.join(".")
    };
    let short = &parts[2][..parts[2].len() - 2];
    let padded = format!("{}==", parts[2]);
    let table = [
        (with(0, &b64(header("EdDSA", "other").to_string())), BadSignature),
        (with(1, &b64(claims_with("sub", "admin".into()).to_string())), BadSignature),
        (with(1, &b64(claims_with("exp", json!(*NOW + 7200)).to_string())), BadSignature),
        (with(2, &b64(evil.sign("", parts[..2].join(".").as_bytes()))), BadSignature),
        (with(2, &b64([0; 64])), BadSignature),
        (with(2, ""), BadSignature),
        (with(2, short), BadSignature),
        (with(2, &padded), Malformed),
        (evil.token(&header("EdDSA", "k"), &claims()), BadSignature),
        (parts[..2].join("."), Malformed),
        (parts[0].to_owned(), Malformed),
        (parts.concat(), Malformed),
        (format!("{good}."), Malformed),
        (format!("{good}.{}", parts[2]), Malformed),
        (format!(".{good}"), Malformed),
        (format!(" {good}"), Malformed),
        (format!("{good}\n"), Malformed),
        (good.replace('.', ".\0"), Malformed),
        (with(0, ""), Malformed),
        (with(1, ""), Malformed),
        (with(1, "!!!!"), Malformed),
        (with(1, "++//"), Malformed),
        (with(1, "é"), Malformed),
        (String::new(), Malformed),
        ("..".to_owned(), Malformed),
    ];
    for (token, refused) in table {
        assert_eq!(filed.verify(&token).await, Err(refused), "{token}");
    }
}

#[tokio::test]
async fn zero_signatures_of_curves_are_refused() {
    let (p256, p384) = (Signer::p256(), Signer::p384());
    let filed = Filed::new(&[p256.jwk("a"), p384.jwk("b")]);
    for (algorithm, kid, bytes) in [("ES256", "a", 64), ("ES384", "b", 96)] {
        let message = format!("{}.{}", b64(header(algorithm, kid).to_string()), b64(claims().to_string()));
        assert_eq!(filed.verify(&format!("{message}.{}", b64(vec![0; bytes]))).await, Err(BadSignature));
    }
}

#[tokio::test]
async fn strange_json_is_malformed() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    let header = header("EdDSA", "k").to_string();
    let claims = claims().to_string();
    let open = claims.trim_end_matches('}');
    for payload in [
        "",
        "null",
        "[]",
        "1",
        "\"text\"",
        "{",
        "\u{feff}{}",
        &format!("{open}, \"sub\": \"admin\"}}"),
        &format!("{open}, \"s\\u0075b\": \"admin\"}}"),
        &format!("{open}, \"iss\": \"{ISS}\"}}"),
        &format!("{open}, \"deep\": {}{}}}", "[".repeat(5000), "]".repeat(5000)),
        &format!("{open}, \"deep\": {}", "{\"a\":".repeat(1500)),
        &format!("{open}, \"huge\": 1e999}}"),
        &format!("{claims}{claims}"),
        &format!("[{claims}]"),
    ] {
        let outcome = filed.verify(&signer.token_of(&header, payload)).await;
        assert_eq!(outcome, Err(Malformed), "{payload}");
    }
    for header in
        ["{\"alg\":\"none\",\"alg\":\"EdDSA\",\"kid\":\"k\"}", "{\"alg\":\"EdDSA\",\"kid\":\"k\",\"kid\":\"k\"}", "[\"EdDSA\"]", "{}"]
    {
        assert_eq!(filed.verify(&signer.token_of(header, &claims)).await, Err(Malformed), "{header}");
    }
    // Numbers without a limit are no trouble where they do not count.
    let huge = format!("{open}, \"huge\": {}, \"more\": -0.0}}", "9".repeat(300));
    assert!(filed.verify(&signer.token_of(&header, &huge)).await.is_ok());
}

#[tokio::test]
async fn a_token_may_have_16_kib_and_no_more() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    let of = |bytes: usize| signer.token(&header("EdDSA", "k"), &claims_with("x", "x".repeat(bytes).into()));
    let room = (0..16 << 10).rev().find(|bytes| of(*bytes).len() <= 16 << 10).unwrap();
    assert!(filed.verify(&of(room)).await.is_ok());
    assert_eq!(filed.verify(&of(room + 2)).await, Err(TooLong));
    assert_eq!(filed.verify(&of(20 << 10)).await, Err(TooLong));
}

#[tokio::test]
async fn what_a_client_is_told_has_nothing_of_the_token_in_it() {
    let signer = Signer::ed();
    let filed = Filed::new(&[signer.jwk("k")]);
    for token in [
        "s3cret",
        "s3cret.s3cret.s3cret",
        &signer.token(&header("s3cret", "s3cret"), &claims()),
        &signer.token(&header("EdDSA", "s3cret"), &claims()),
    ] {
        let refused = filed.verify(token).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("s3cret"));
    }
}
