//! Where clients see the registry, when a reverse proxy says so.

use http::HeaderMap;
use http::header::{FORWARDED, HOST};
use http::request::Parts;

/// What a path has to begin with in `Location` and `Link`: nothing, a prefix, or scheme, host and prefix.
///
/// Whatever of the headers does not have the shape it should have is passed over, and never copied into an answer.
pub(crate) fn base(parts: &Parts, own_prefix: &str) -> String {
    let headers = &parts.headers;
    let standard = headers.get(FORWARDED).and_then(|value| value.to_str().ok()).map(nearest_client);
    let (proto, host) = match standard {
        Some((proto, host)) if proto.is_some() || host.is_some() => (proto, host),
        _ => (first(headers, "x-forwarded-proto").map(str::to_owned), first(headers, "x-forwarded-host").map(str::to_owned)),
    };
    let proto = proto.map(|proto| proto.to_ascii_lowercase()).filter(|proto| proto == "http" || proto == "https");
    let host = host.filter(|host| is_authority(host));
    let prefix = first(headers, "x-forwarded-prefix").map(|prefix| prefix.trim_end_matches('/')).filter(|prefix| is_prefix(prefix));
    let prefix = prefix.unwrap_or(own_prefix);
    if proto.is_none() && host.is_none() {
        return prefix.to_owned();
    }
    match host.or_else(|| own_host(parts)) {
        Some(host) => format!("{}://{host}{prefix}", proto.as_deref().unwrap_or("http")),
        None => prefix.to_owned(),
    }
}

/// The same with scheme and host in any case: as the proxy says, if it is to be believed, or else as the client asked.
#[cfg(feature = "auth")]
pub(crate) fn absolute(parts: &Parts, options: &crate::HttpOptions, is_tls: bool) -> String {
    let prefix = &options.path_prefix;
    if options.trust_forwarded_headers {
        let base = base(parts, prefix);
        if base.starts_with("http") {
            return base;
        }
    }
    if let Some(url) = &options.public_url {
        return format!("{}{prefix}", url.trim_end_matches('/'));
    }
    let Some(host) = own_host(parts) else { return prefix.clone() };
    // Passwords are sent there. Whoever is asked by another name than this machine's without TLS has something in front that speaks it, or is told so.
    let scheme = if is_tls || !is_loopback(&host) { "https" } else { "http" };
    format!("{scheme}://{host}{prefix}")
}

#[cfg(feature = "auth")]
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host that the client asked for, if it is one.
fn own_host(parts: &Parts) -> Option<String> {
    let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).filter(|host| is_authority(host)).map(str::to_owned)
}

/// The first of a comma-separated list: what the proxy nearest to the client said.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// `proto` and `host` of the first element of a `Forwarded` header (RFC 7239, section 4).
fn nearest_client(value: &str) -> (Option<String>, Option<String>) {
    let (mut proto, mut host) = (None, None);
    for pair in pieces(pieces(value, b',').next().unwrap_or_default(), b';') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        match name.trim().to_ascii_lowercase().as_str() {
            "proto" => proto = Some(value.to_owned()),
            "host" => host = Some(value.to_owned()),
            _ => {}
        }
    }
    (proto, host)
}

/// Splits outside of quoted strings.
fn pieces(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|c| {
            let escape = std::mem::take(&mut escaped);
            match c {
                b'\\' if quoted => escaped = !escape,
                b'"' if !escape => quoted = !quoted,
                _ => {}
            }
            c == separator && !quoted
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim())
    })
}

/// A host name or address, with or without port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, tail)) => {
            if address.is_empty() || !address.bytes().all(|c| c.is_ascii_hexdigit() || matches!(c, b':' | b'.')) {
                return false;
            }
            ("v6", tail.strip_prefix(':').or(tail.is_empty().then_some("0")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("0")),
        },
    };
    let name = !host.is_empty() && host.len() <= 253 && host.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
    name && port.is_some_and(|port| port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// A path that begins on this host: `//host` would not.
fn is_prefix(text: &str) -> bool {
    let inner = text.strip_prefix('/').unwrap_or("/");
    text.is_empty() || (!inner.starts_with('/') && inner.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~/".contains(&c)))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn seen(headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().uri("/v2/").header("host", "inner:5000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        base(&request.body(()).unwrap().into_parts().0, "/own")
    }

    #[test]
    fn without_headers_only_the_own_prefix_is_left() {
        assert_eq!(seen(&[]), "/own");
    }

    #[test]
    fn the_standard_header_is_read_and_wins() {
        for value in [
            "proto=https;host=reg.example",
            "for=1.2.3.4; Proto=https; HOST=\"reg.example\"",
            "for=\"[::1]:80\";host=reg.example;proto=https, for=10.0.0.1;host=inner2;proto=http",
            "for=\"a,b;c\";proto=https;host=reg.example",
            "for=\"a\\\",b\";proto=https;host=reg.example",
        ] {
            assert_eq!(
                seen(&[("forwarded", value), ("x-forwarded-host", "other"), ("x-forwarded-proto", "http")]),
                "https://reg.example/own",
                "{value}"
            );
        }
    }

    #[test]
    fn the_other_headers_are_read_from_the_client_s_side() {
        assert_eq!(
            seen(&[("x-forwarded-proto", "https, http"), ("x-forwarded-host", "reg.example:8443, inner2")]),
            "https://reg.example:8443/own"
        );
        assert_eq!(seen(&[("x-forwarded-proto", "https")]), "https://inner:5000/own");
        assert_eq!(seen(&[("x-forwarded-host", "[2001:db8::1]:443")]), "http://[2001:db8::1]:443/own");
        assert_eq!(seen(&[("x-forwarded-prefix", "/registry/")]), "/registry");
        assert_eq!(seen(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "h"), ("x-forwarded-prefix", "/a/b")]), "https://h/a/b");
    }

    #[test]
    fn what_is_no_host_or_prefix_goes_nowhere() {
        for host in ["evil.example/x", "a b", "user@h", "h:", "h:99999", "h:1:2", "", "\"h\"", "[::1", "[]", "h?x", "h#x", "-\\h", "h:+1"] {
            assert_eq!(seen(&[("x-forwarded-host", host)]), "/own", "{host}");
        }
        for proto in ["javascript", "ftp", "https:", ""] {
            assert_eq!(seen(&[("x-forwarded-proto", proto)]), "/own", "{proto}");
        }
        for prefix in ["//evil.example", "evil", "/a?b", "/a b", "/a\"b", "/%2f"] {
            assert_eq!(seen(&[("x-forwarded-prefix", prefix)]), "/own", "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_or_gets_a_control_character_or_space_into_an_answer(
            forwarded in "[ -~]{0,40}", host in "[ -~]{0,20}", proto in "[ -~]{0,8}", prefix in "[ -~]{0,20}",
        ) {
            let base = seen(&[("forwarded", &forwarded), ("x-forwarded-host", &host), ("x-forwarded-proto", &proto), ("x-forwarded-prefix", &prefix)]);
            prop_assert!(base.bytes().all(|c| c.is_ascii_graphic() && !b"<>\"\\,;".contains(&c)), "{}", base);
            prop_assert!(format!("{base}/v2/").parse::<http::Uri>().is_ok(), "{}", base);
            prop_assert!(!base.starts_with("//"));
        }

        #[test]
        fn what_a_proxy_writes_is_read(host in "[a-z]{1,9}(\\.[a-z]{1,5}){0,2}(:[1-9][0-9]{0,3})?", quoted in any::<bool>()) {
            let written = if quoted { format!("for=x;host=\"{host}\";proto=https") } else { format!("proto=https; host={host}") };
            prop_assert_eq!(seen(&[("forwarded", &written)]), format!("https://{host}/own"));
        }
    }
}
