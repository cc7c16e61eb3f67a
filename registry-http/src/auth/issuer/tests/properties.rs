//! What holds for any token.

use proptest::prelude::*;

use super::*;

static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::ed);
static FILED: LazyLock<Filed> = LazyLock::new(|| Filed::new(&[SIGNER.jwk("k")]));
static GOOD: LazyLock<String> = LazyLock::new(|| SIGNER.token(&header("EdDSA", "k"), &claims_with("groups", json!(["a"]))));

/// With one runtime for all: what fetches keys has to live as long as they do.
fn verify(token: &str) -> Result<Verified, TokenRefused> {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
    FILED.issuer.claims_to_be_mine(token);
    RUNTIME.block_on(FILED.verify(token))
}

#[test]
fn no_token_of_which_a_character_was_changed_or_left_out_is_accepted() {
    assert!(verify(&GOOD).is_ok());
    for at in 0..GOOD.len() {
        let (before, after) = GOOD.split_at(at);
        assert!(verify(&format!("{before}{}", &after[1..])).is_err(), "{at}");
        for other in ['A', 'B', '_', 'z', '.', '=', '+', ' ', '\0', 'é'] {
            if !after.starts_with(other) {
                assert!(verify(&format!("{before}{other}{}", &after[1..])).is_err(), "{at}: {other}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_token_of_which_a_bit_was_changed_is_accepted(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
        let mut bytes = GOOD.clone().into_bytes();
        bytes[at.index(GOOD.len())] ^= 1 << bit;
        prop_assert!(verify(&String::from_utf8(bytes).unwrap()).is_err());
    }

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        prop_assert!(verify(&text).is_err());
    }

    #[test]
    fn no_signed_bytes_panic(header in prop::collection::vec(any::<u8>(), 0..80), payload in prop::collection::vec(any::<u8>(), 0..80)) {
        let message = format!("{}.{}", b64(header), b64(payload));
        let token = format!("{message}.{}", b64(SIGNER.sign("", message.as_bytes())));
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn no_value_of_a_claim_panics_or_becomes_another_s_name(
        claim in prop::sample::select(vec!["iss", "aud", "exp", "nbf", "iat", "sub", "groups"]),
        value in prop_oneof!["-?[0-9]{1,30}(\\.[0-9]{1,3})?(e-?[0-9]{1,3})?", "\"[ -!#-\\[\\]-~]{0,20}\"", "[\\[\\]{}\":,0a]{0,20}", "null|true|\\[\"a\"\\]"],
    ) {
        let mut claims = claims_with("groups", json!([]));
        claims.as_object_mut().unwrap().remove(claim);
        let claims = claims.to_string();
        let payload = format!("{}, \"{claim}\": {value}}}", claims.trim_end_matches('}'));
        if let Ok(verified) = verify(&SIGNER.token_of(&header("EdDSA", "k").to_string(), &payload)) {
            prop_assert!(verified.identity.name().starts_with("ext:"));
            prop_assert!(verified.identity.groups().iter().all(|group| group.starts_with("ext:")));
        }
    }
}
