//! Query strings: `application/x-www-form-urlencoded`, read strictly and written for `Link`.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Code, Failure};
use crate::route::decode;

/// The parameters of a request. Unknown ones are nobody's business.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads a query; a broken escape is refused.
    pub(crate) fn parse(raw: Option<&'a str>) -> Result<Self, Failure> {
        let Some(raw) = raw else { return Ok(Self::default()) };
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (unescape(key), unescape(value)) {
                (Some(key), Some(value)) => pairs.push((key, value)),
                _ => {
                    return Err(Failure::bad_parameter("the query is not percent-encoded UTF-8"));
                }
            }
        }
        Ok(Self(pairs))
    }

    /// All values of a parameter, in order.
    pub(crate) fn all<'s>(&'s self, key: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| &**value)
    }

    /// The value of a parameter; an empty one counts as absent. Two different ones are refused with `code`: guessing which was meant would be wrong half
    /// of the time.
    pub(crate) fn one<'s>(&'s self, key: &'s str, code: Code) -> Result<Option<&'s str>, Failure> {
        let mut values = self.all(key).filter(|value| !value.is_empty());
        let first = values.next();
        if values.any(|other| Some(other) != first) {
            let message = format!("the parameter {key} is given twice, with different values");
            return Err(Failure::new(code, message).with_status(http::StatusCode::BAD_REQUEST));
        }
        Ok(first)
    }
}

fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('+') {
        return decode(raw);
    }
    let spaced = raw.replace('+', " ");
    decode(&spaced).map(|text| Cow::Owned(text.into_owned()))
}

/// Writes a text so that it can stand as a value in a query.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_found_decoded_and_in_order() {
        let query = Query::parse(Some("tag=a&n=10&tag=b%2Bc&&last=x+y&flag")).unwrap();
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b+c"]);
        assert_eq!(query.one("n", Code::Unsupported).ok(), Some(Some("10")));
        assert_eq!(query.one("last", Code::Unsupported).ok(), Some(Some("x y")));
        assert_eq!(query.one("flag", Code::Unsupported).ok(), Some(None));
        assert_eq!(query.one("none", Code::Unsupported).ok(), Some(None));
    }

    #[test]
    fn a_parameter_given_twice_has_to_agree_with_itself() {
        let query = Query::parse(Some("digest=a&digest=a&from=x&from=y")).unwrap();
        assert_eq!(query.one("digest", Code::Unsupported).ok(), Some(Some("a")));
        assert!(query.one("from", Code::Unsupported).is_err());
    }

    #[test]
    fn broken_escapes_are_refused() {
        for raw in ["a=%", "a=%4", "a=%zz", "%=1", "a=%ff"] {
            assert!(Query::parse(Some(raw)).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in ".*") {
            let _ = Query::parse(Some(&raw)).is_ok();
        }

        #[test]
        fn what_is_escaped_is_read_back(key in "[a-z]{1,5}", value in ".+") {
            let raw = format!("{key}={}", Escaped(&value));
            prop_assert!(raw.is_ascii());
            let query = Query::parse(Some(&raw)).unwrap();
            prop_assert_eq!(query.one(&key, Code::Unsupported).ok().flatten(), Some(value.as_str()));
        }
    }
}
