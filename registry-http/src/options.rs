//! [`HttpOptions`].

use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

/// How the API behaves. The defaults suit a registry that clients reach directly.
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpOptions {
    pub(crate) body_idle_timeout: Duration,
    pub(crate) max_tags_per_push: usize,
    pub(crate) default_page: u32,
    pub(crate) max_page: u32,
    pub(crate) max_in_flight: usize,
    pub(crate) body_memory: u64,
    pub(crate) redirect: Option<Duration>,
    pub(crate) trust_forwarded_headers: bool,
    pub(crate) path_prefix: String,
    pub(crate) namespaces: Vec<String>,
    pub(crate) warnings: Vec<HeaderValue>,
    #[cfg(feature = "auth")]
    pub(crate) auth: Option<crate::auth::Auth>,
    #[cfg(feature = "auth")]
    pub(crate) public_url: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            body_idle_timeout: Duration::from_secs(60),
            max_tags_per_push: 100,
            default_page: 1000,
            max_page: 10_000,
            max_in_flight: usize::MAX,
            body_memory: 64 << 20,
            redirect: None,
            trust_forwarded_headers: false,
            path_prefix: String::new(),
            namespaces: Vec::new(),
            warnings: Vec::new(),
            #[cfg(feature = "auth")]
            auth: None,
            #[cfg(feature = "auth")]
            public_url: None,
        }
    }
}

impl HttpOptions {
    /// How long a client that is sending a body may send nothing, before it is answered 408: 60 seconds by default. What arrived by a `PATCH` is kept.
    pub fn with_body_idle_timeout(mut self, timeout: Duration) -> Self {
        self.body_idle_timeout = timeout;
        self
    }

    /// How many `tag` parameters a manifest may be pushed with, before the answer is 414: 100 by default, at least 10 as the distribution-spec wants.
    pub fn with_max_tags_per_push(mut self, tags: usize) -> Self {
        self.max_tags_per_push = tags.max(10);
        self
    }

    /// How many items a list has when the client does not say, and at most: 1,000 and 10,000 by default. A list that goes on has a `Link`.
    pub fn with_page_sizes(mut self, default: u32, max: u32) -> Self {
        self.max_page = max.max(1);
        self.default_page = default.clamp(1, self.max_page);
        self
    }

    /// How many requests are answered at a time; more get 429 with `Retry-After`. No limit by default.
    pub fn with_max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests.max(1);
        self
    }

    /// How many bytes of manifests are in memory at a time, from when they arrive until they are stored: 64 MiB by default, and never less than one
    /// manifest may have. A push that finds no room for some seconds is answered 503 with `Retry-After`. Blobs are streams and need no room here.
    pub fn with_body_memory(mut self, bytes: u64) -> Self {
        self.body_memory = bytes;
        self
    }

    /// Answers pulls of blobs with 307 to a URL of the store's that is good for `ttl`, where the store has such URLs. Off by default: clients have to reach
    /// the store, and the bytes are not verified on the way.
    pub fn with_redirect(mut self, ttl: Duration) -> Self {
        self.redirect = Some(ttl);
        self
    }

    /// Makes `Location` and `Link` absolute where a reverse proxy says how it was addressed: by `Forwarded` (RFC 7239), or by `X-Forwarded-Proto`,
    /// `X-Forwarded-Host` and `X-Forwarded-Prefix`. Off by default: they are relative then, which works behind any proxy that keeps paths, and nobody can
    /// make the registry point elsewhere. Switch it on only if the proxy removes what clients send in these headers.
    pub fn with_trust_forwarded_headers(mut self, trust: bool) -> Self {
        self.trust_forwarded_headers = trust;
        self
    }

    /// The path under which the router is nested in another, if it is: `Location` and `Link` begin with it.
    #[allow(clippy::needless_pass_by_value, reason = "a value reads better in a chain")]
    pub fn with_path_prefix(mut self, prefix: PathAndQuery) -> Self {
        prefix.path().trim_end_matches('/').clone_into(&mut self.path_prefix);
        self
    }

    /// Upstream registries that this one stands in for. A pull that names one of them in `ns` is answered with `OCI-Namespace` (distribution-spec, "Registry
    /// Proxying"); other values of `ns` are passed over.
    pub fn with_namespaces(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.namespaces = namespaces.into_iter().collect();
        self
    }

    /// Who asks is to say who they are, and does what they may. By default everybody may do everything.
    #[cfg(feature = "auth")]
    pub fn with_auth(mut self, auth: crate::auth::Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// What clients call the registry, such as `https://registry.example.com`: they are sent to `/token` there. By default that is as they ask, by `https` unless they
    /// ask for the loopback without TLS: behind a proxy that speaks TLS the request's own scheme would send their passwords in the clear.
    #[cfg(feature = "auth")]
    pub fn with_public_url(mut self, url: &http::Uri) -> Self {
        self.public_url = Some(url.to_string());
        self
    }

    /// A sentence that every answer carries as `Warning: 299` for clients to show (distribution-spec, "Warnings"). Characters that a header cannot have
    /// are left out, and what goes beyond the 4,096 bytes that all warnings of an answer may have together.
    pub fn with_warning(mut self, text: &str) -> Self {
        let value = self.warning(text);
        self.warnings.extend(value);
        self
    }

    /// A warning as a header, as much of it as there is room for beside those that every answer carries; `None` if that is nothing.
    pub(crate) fn warning(&self, text: &str) -> Option<HeaderValue> {
        let room = 4096_usize.saturating_sub(self.warnings.iter().map(HeaderValue::len).sum());
        let mut value = String::from("299 - \"");
        for c in text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ') {
            if value.len() + 3 > room {
                break;
            }
            if matches!(c, '"' | '\\') {
                value.push('\\');
            }
            value.push(c);
        }
        value.push('"');
        HeaderValue::try_from(value).ok().filter(|value| value.len() <= room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_never_more_than_4096_bytes() {
        let options = HttpOptions::default().with_warning("say \"hi\"\r\nX: y").with_warning(&"\"".repeat(9000)).with_warning("no room");
        assert_eq!(options.warnings[0], "299 - \"say \\\"hi\\\"X: y\"");
        let total: usize = options.warnings.iter().map(HeaderValue::len).sum();
        assert!((4000..=4096).contains(&total), "{total}");
        assert_eq!(options.warnings.len(), 2);
    }

    #[test]
    fn page_sizes_are_never_zero_and_never_beyond_their_limit() {
        let options = HttpOptions::default().with_page_sizes(50, 20);
        assert_eq!((options.default_page, options.max_page), (20, 20));
        let options = HttpOptions::default().with_page_sizes(0, 0);
        assert_eq!((options.default_page, options.max_page), (1, 1));
    }
}
