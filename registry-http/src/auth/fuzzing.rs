//! The part of [`crate::fuzzing`] that is about who asks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;

use super::credentials::Credentials;
use super::{Scope, Tokens, htpasswd};

pub(crate) fn users(bytes: &[u8]) {
    htpasswd::fuzz(bytes);
}

pub(crate) fn credentials(headers: &HeaderMap) {
    let _ = Credentials::of(headers);
}

pub(crate) fn scopes(text: &str) {
    for scope in Scope::parse(std::iter::once(text)).into_iter().flatten() {
        let again = Scope::parse(std::iter::once(scope.to_string().as_str()));
        // One without actions that are known is written as nothing that can be read.
        assert!(scope.actions().is_empty() || again == Some(vec![scope]));
    }
}

pub(crate) fn is_good(tokens: &Tokens, token: &str) -> bool {
    tokens.verify(token).is_ok()
}

pub(crate) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode([0; 64]))
}
