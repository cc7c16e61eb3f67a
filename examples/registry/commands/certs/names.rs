//! [`Name`]: what a server is called by its clients, as a certificate says it.

use std::fmt;
use std::net::IpAddr;

/// A host name or an address. What one holds is safe to print and to paste into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A DNS name in lower case, perhaps with a leading `*.`.
    Host(String),
    /// An IP address.
    Address(IpAddr),
}

impl Name {
    /// Whether a client can be told to connect to it: not to a wildcard.
    pub(super) fn is_one_host(&self) -> bool {
        !matches!(self, Self::Host(host) if host.starts_with("*."))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Several, divided by commas.
pub(super) fn list(names: &[Name]) -> String {
    names.iter().map(Name::to_string).collect::<Vec<_>>().join(", ")
}

/// Reads a host name. Errors say what to write instead.
pub(super) fn host(text: &str) -> Result<Name, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Err(format!("this is an IP address: write --ip {bare}"));
    }
    if text.contains("://") || text.contains('/') {
        return Err("only the name of the host is wanted, without https:// and without a path".to_owned());
    }
    if text.contains(':') {
        return Err("only the name of the host is wanted, without a port: a certificate is for all of them".to_owned());
    }
    if !text.is_ascii() {
        return Err("a certificate has international names in punycode, such as xn--mnchen-3ya.example: write that".to_owned());
    }
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels: Vec<_> = text.strip_prefix("*.").unwrap_or(&text).split('.').collect();
    if text.starts_with("*.") && labels.len() < 2 {
        return Err("clients do not accept a wildcard with a single label behind it".to_owned());
    }
    if text.len() > 253 || labels.iter().any(|label| label.is_empty() || label.len() > 63) {
        return Err("between its dots a host name has 1 to 63 characters, and 253 in all".to_owned());
    }
    // The underscore is none of a host name's characters, but containers are called so, and clients accept it.
    let allowed = |label: &str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !labels.iter().all(|label| allowed(label) && !label.starts_with('-') && !label.ends_with('-')) {
        return Err("a host name has letters, digits and inner hyphens between its dots; a * only as its first label".to_owned());
    }
    if labels.last().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("the last label of a host name is never a number; an IP address is given by --ip".to_owned());
    }
    Ok(Name::Host(text))
}

/// Reads an IP address. Errors say what to write instead.
pub(super) fn address(text: &str) -> Result<Name, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = bare.parse().map_err(|_| "this is no IP address; a host name is given by --host".to_owned())?;
    if address.is_unspecified() {
        return Err("a server listens on it, but no client connects to it: give the address that clients use".to_owned());
    }
    Ok(Name::Address(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_kept_in_lower_case_and_without_the_last_dot() {
        for (text, wanted) in [
            ("Registry.Example.COM", "registry.example.com"),
            ("localhost", "localhost"),
            ("*.Example.com", "*.example.com"),
            ("a.example.", "a.example"),
            ("my_registry", "my_registry"),
            ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
            ("10-0-0-1.example", "10-0-0-1.example"),
        ] {
            assert_eq!(host(text), Ok(Name::Host(wanted.to_owned())));
        }
    }

    #[test]
    fn what_is_no_host_name_is_told_what_to_write_instead() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = format!("{}example", "abcdefg.".repeat(32));
        for (text, wanted) in [
            ("10.0.0.1", "--ip 10.0.0.1"),
            ("fd00::1", "--ip fd00::1"),
            ("[fd00::1]", "--ip fd00::1"),
            ("10.0.0", "--ip"),
            ("https://a.example", "without https://"),
            ("a.example/v2", "without a path"),
            ("a.example:5000", "without a port"),
            ("münchen.example", "punycode"),
            ("*.example", "single label"),
            ("*.", "first label"),
            ("*", "first label"),
            ("a.*.example", "first label"),
            ("*a.example.com", "first label"),
            ("a..example", "1 to 63"),
            (".example", "1 to 63"),
            ("", "1 to 63"),
            (".", "1 to 63"),
            (&long, "1 to 63"),
            (&longer, "253"),
            ("-a.example", "hyphens"),
            ("a-.example", "hyphens"),
            ("a b.example", "letters"),
            ("a.example\n", "letters"),
            ("$(id).example", "letters"),
        ] {
            let told = host(text).expect_err(text);
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }

    #[test]
    fn addresses_are_ones_that_clients_connect_to() {
        assert_eq!(address("10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert_eq!(address("[FD00::1]").unwrap().to_string(), "fd00::1");
        for (text, wanted) in [("a.example", "--host"), ("10.0.0.1:5000", "no IP"), ("0.0.0.0", "clients use"), ("::", "clients use")] {
            let told = address(text).expect_err(text);
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_safe_in_a_shell_and_reads_as_itself(text in "\\PC{0,20}|[a-zA-Z0-9.*_\\-]{0,40}") {
            if let Ok(name) = host(&text) {
                let told = name.to_string();
                prop_assert!(told.trim_start_matches("*.").bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)));
                prop_assert!(!told.starts_with('-'));
                prop_assert_eq!(host(&told), Ok(name));
            }
        }
    }
}
