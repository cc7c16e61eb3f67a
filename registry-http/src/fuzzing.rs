//! What `fuzz/` calls: parsers that nobody else needs from outside.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue};

use crate::auth::{TokenOptions, Tokens};

/// Whatever a header, a query or the users' file can be.
pub fn parse(bytes: &[u8]) {
    crate::auth::fuzzing::users(bytes);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        for name in ["authorization", "forwarded", "x-forwarded-host", "host"] {
            headers.insert(name, value.clone());
        }
        crate::auth::fuzzing::credentials(&headers);
        let mut request = http::Request::new(());
        *request.headers_mut() = headers;
        let (parts, ()) = request.into_parts();
        let base = crate::forwarded::base(&parts, "");
        assert!(!base.contains(['\r', '\n', '"', ' ']), "{base:?}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = crate::range::parse_range(text);
    if let Some(chunk) = crate::range::parse_content_range(text) {
        assert!(chunk.len > 0 && chunk.start.checked_add(chunk.len).is_some());
    }
    let _ = crate::query::Query::parse(Some(text)).is_ok();
    crate::auth::fuzzing::scopes(text);
    let split = crate::route::split(text);
    for method in [http::Method::GET, http::Method::PUT] {
        let _ = split.target(&method).is_ok();
    }
}

/// A token that nobody issued: it is refused.
///
/// # Panics
///
/// If it is not.
pub fn token(bytes: &[u8]) {
    static TOKENS: OnceLock<Arc<Tokens>> = OnceLock::new();
    let tokens = TOKENS.get_or_init(|| {
        let keys = std::env::temp_dir().join(format!("fuzz-token-keys-{}", std::process::id()));
        Arc::new(Tokens::open(keys, TokenOptions::default()).expect("keys can be made"))
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(!crate::auth::fuzzing::is_good(tokens, text), "{text}");
    // With a header and claims of the fuzzer's own: what is behind base64.
    if let Some((header, claims)) = text.split_once('\n') {
        assert!(!crate::auth::fuzzing::is_good(tokens, &crate::auth::fuzzing::unsigned(header, claims)), "{text}");
    }
}
