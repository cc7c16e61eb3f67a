//! [`Credentials`]: what an `Authorization` header says.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Password;

/// Some clients leave the padding out.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The longest header that is looked at, in bytes: a token of 16 KiB fits, in either scheme.
const LONGEST: usize = 24 << 10;

/// What a client shows of who it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Nothing.
    None,
    /// A name and a password (RFC 7617).
    Basic(String, Password),
    /// A token (RFC 6750).
    Bearer(Password),
    /// Something that cannot be read.
    Malformed,
}

impl Credentials {
    /// Those of a request. Two headers are none that could be relied on.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::None };
        match value.to_str() {
            Ok(text) if values.next().is_none() && text.len() <= LONGEST => Self::parse(text),
            _ => Self::Malformed,
        }
    }

    fn parse(text: &str) -> Self {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let sane = !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_graphic());
            return if sane { Self::Bearer(Password::new(rest)) } else { Self::Malformed };
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::basic(rest).unwrap_or(Self::Malformed);
        }
        Self::Malformed
    }

    fn basic(encoded: &str) -> Option<Self> {
        let text = String::from_utf8(LENIENT.decode(encoded).ok()?).ok()?;
        let (name, password) = text.split_once(':')?;
        // Docker's client sends an empty name and password where it has none.
        if name.is_empty() && password.is_empty() {
            return Some(Self::None);
        }
        Some(Self::Basic(name.to_owned(), Password::new(password)))
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Credentials {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(text.as_bytes()).unwrap());
        Credentials::of(&headers)
    }

    #[test]
    fn both_schemes_are_read_in_any_case() {
        let alice = Credentials::Basic("alice".into(), Password::new("open:sesame"));
        assert_eq!(of(&format!("Basic {}", STANDARD.encode("alice:open:sesame"))), alice);
        assert_eq!(of(&format!("bAsIc   {}", STANDARD_NO_PAD.encode("alice:open:sesame"))), alice);
        assert_eq!(of("Bearer a.b.c"), Credentials::Bearer(Password::new("a.b.c")));
        assert_eq!(of("BEARER a.b.c "), Credentials::Bearer(Password::new("a.b.c")));
        assert_eq!(of(&format!("Basic {}", STANDARD.encode(":"))), Credentials::None);
        assert_eq!(Credentials::of(&HeaderMap::new()), Credentials::None);
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        let long = format!("Bearer {}", "a".repeat(LONGEST));
        for text in
            ["", "Basic", "Basic !", "Bearer", "Bearer ", "Bearer a b", "Digest x", "alice:secret", "Basic YWxpY2U=", "Basic gDo=", &long]
        {
            assert_eq!(of(text), Credentials::Malformed, "{text}");
        }
        let mut two = HeaderMap::new();
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        two.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(Credentials::of(&two), Credentials::Malformed);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let printed = format!("{:?}{:?}", of(&format!("Basic {}", STANDARD.encode("alice:sesame"))), of("Bearer sesame"));
        assert!(!printed.contains("sesame"), "{printed}");
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(AUTHORIZATION, value);
            }
            let _ = Credentials::of(&headers);
        }

        #[test]
        fn a_name_and_any_password_come_back(name in "[^:]{1,20}", password in ".{1,40}") {
            let header = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            prop_assert_eq!(of(&header), Credentials::Basic(name, Password::new(password)));
        }
    }
}
