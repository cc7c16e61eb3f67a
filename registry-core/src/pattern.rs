//! [`RepositoryPattern`]: rules for some repositories.

use std::fmt;
use std::str::FromStr;

/// Which repositories a rule is for: a pattern of their names.
///
/// Parts are divided by `/`. `*` stands for any characters within a part; a part `**` stands for any number of parts, none included. So `prod/**` is
/// `prod` and everything below it, `*/app` is `team/app` and not `a/team/app`, and `**` is everything.
///
/// ```
/// use registry_core::RepositoryPattern;
///
/// let pattern: RepositoryPattern = "prod/**".parse().unwrap();
/// assert!(pattern.matches("prod/web/front") && !pattern.matches("production/web"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPattern(String);

/// Why a text is no [`RepositoryPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternError;

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern is parts of a-z 0-9 . _ - and *, divided by /, with ** only as a part of its own")
    }
}

impl std::error::Error for PatternError {}

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_' | b'-' | b'*');
        let part = |part: &str| !part.is_empty() && part.bytes().all(good) && (part == "**" || !part.contains("**"));
        if text.len() <= 255 && text.split('/').all(part) { Ok(Self(text.to_owned())) } else { Err(PatternError) }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RepositoryPattern {
    /// Every repository: `**`.
    pub fn all() -> Self {
        Self("**".to_owned())
    }

    /// Whether this is the name of such a repository.
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<_> = self.0.split('/').collect();
        let name: Vec<_> = name.split('/').collect();
        // Which numbers of parts of the name the pattern so far may stand for: no more than (parts × parts) steps, whatever the pattern.
        let mut reachable = vec![false; name.len() + 1];
        reachable[0] = true;
        for part in pattern {
            let mut next = vec![false; name.len() + 1];
            for at in 0..=name.len() {
                if part == "**" {
                    next[at] = reachable[at] || (at > 0 && next[at - 1]);
                } else if at > 0 {
                    next[at] = reachable[at - 1] && part_matches(part.as_bytes(), name[at - 1].as_bytes());
                }
            }
            reachable = next;
        }
        reachable[name.len()]
    }
}

/// The usual wildcard match, going back to the last star only.
fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> RepositoryPattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_by_parts() {
        let table = [
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("prod/**", "prod", true),
            ("prod/**", "prod/a/b", true),
            ("prod/**", "production", false),
            ("*/app", "team/app", true),
            ("*/app", "a/team/app", false),
            ("**/app", "a/team/app", true),
            ("**/app", "app", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/b/c/z/y", false),
            ("web-*", "web-front", true),
            ("web-*", "web-front/x", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a", "a/b", false),
        ];
        for (text, name, expected) in table {
            assert_eq!(pattern(text).matches(name), expected, "{text} and {name}");
        }
        // Not exponential.
        let (long, name) = (["**/a"; 40].join("/"), ["b"; 120].join("/"));
        assert!(!pattern(&long).matches(&name));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "/a", "a/", "a//b", "A", "a b", "a**", "**a/b", "ä"] {
            assert_eq!(text.parse::<RepositoryPattern>(), Err(PatternError), "{text}");
        }
    }
}
