//! What a client is told that has to log in: `WWW-Authenticate`.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>, RFC 6750 section 3, RFC 7617 section 2.

use std::fmt::Write as _;

use http::HeaderValue;
use http::request::Parts;

use super::{Auth, Scope};
use crate::forwarded;
use crate::options::HttpOptions;
use crate::serve::ConnectionInfo;

/// What is wrong with the token that was shown (RFC 6750, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// None was shown.
    None,
    InvalidToken,
    InsufficientScope,
}

/// The header: where a token for this is to be had; without tokens, that a password is needed.
pub(super) fn challenge(auth: &Auth, options: &HttpOptions, parts: &Parts, scope: Option<&Scope>, problem: Problem) -> HeaderValue {
    let Some(tokens) = &auth.tokens else { return basic() };
    let mut value = format!("Bearer realm=\"{}\",service=\"{}\"", realm(options, parts), quoted(tokens.service()));
    if let Some(scope) = scope {
        // Writing to memory cannot fail.
        let _ = write!(value, ",scope=\"{scope}\"");
    }
    match problem {
        Problem::None => {}
        Problem::InvalidToken => value.push_str(",error=\"invalid_token\""),
        Problem::InsufficientScope => value.push_str(",error=\"insufficient_scope\""),
    }
    HeaderValue::try_from(value).unwrap_or_else(|_| basic())
}

/// What whoever asks for tokens is told.
pub(super) fn basic() -> HeaderValue {
    HeaderValue::from_static("Basic realm=\"registry\",charset=\"UTF-8\"")
}

/// Where tokens are to be had, as the client calls this server: it may be reached by several names.
fn realm(options: &HttpOptions, parts: &Parts) -> String {
    let is_tls = parts.extensions.get::<ConnectionInfo>().is_some_and(|info| info.is_tls);
    format!("{}/token", forwarded::absolute(parts, options, is_tls))
}

fn quoted(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')).collect()
}
